"""What every format of a table becomes: rows of kernels, and the rows that were left out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...lowering.kernels import Kernel

REASONS = (
    "failed",
    "missing",
    "malformed",
    "not finite",
    "negative",
    "zero",
    "out of range",
    "unknown type",
    "duplicated",
    "contradictory",
)

"""Why a row is left out. `failed` rows have no time, as their measurement failed; `missing` is any
other cell that is empty."""

TOLERANCE = 0.2
"""Times of one kernel that differ by more contradict each other; by less, their median counts."""

GREATEST_SIZE = 1 << 20
SMALL_KERNEL = 7
"""Networks run kernels up to this size on maps of any size, at the end of small images."""

LATENCY_MS = (1e-6, 1e6)
"""From a nanosecond to a thousand seconds."""


class BadRow(NamedTuple):
    """A row that was left out: its line in the file, one of REASONS, and what is wrong."""

    line: int
    reason: str
    detail: str

    def __str__(self) -> str:
        """Return it as messages name it."""
        return f"line {self.line}: {self.detail} ({self.reason})"


class Entry(NamedTuple):
    """A row as it was read: the kernels that took `latency_ms` together."""

    line: int
    kernels: tuple[Kernel, ...]
    latency_ms: float


class Written(NamedTuple):
    """What a file holds: its rows, and by operator how many its format cannot say."""

    rows: int
    left_out: dict[str, int]


class RowError(ValueError):
    """A row makes no sense; `reason` is one of REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason

    def at(self, line: int) -> BadRow:
        """Return the row that it is about."""
        return BadRow(line, self.reason, str(self))


@dataclass(frozen=True)
class KernelTable:
    """Measured rows. A row is one kernel, or a block of kernels whose sum was measured.

    Attributes:
        kernels: the kernels of all rows, in order.
        seconds: what each row took [rows].
        rows: the row of each kernel [kernels], ascending.
        bad: the rows of the file that were left out, by line.
        merged: rows of the file that repeat a kernel and went into its median.
    """

    kernels: tuple[Kernel, ...]
    seconds: NDArray[np.float64]
    rows: NDArray[np.int64]
    bad: tuple[BadRow, ...] = ()
    merged: int = 0

    @property
    def of(self) -> str:
        """`kernels`, or `blocks` where a row holds several kernels."""
        return "kernels" if len(self.kernels) == len(self.seconds) else "blocks"

    @property
    def failed(self) -> int:
        """Rows without a time: their measurement failed."""
        return self.counts().get("failed", 0)

    def counts(self) -> dict[str, int]:
        """Return how many rows were left out, by reason."""
        found = Counter(row.reason for row in self.bad)
        return {reason: found[reason] for reason in REASONS if found[reason]}

    @cached_property
    def blocks(self) -> tuple[tuple[Kernel, ...], ...]:
        """The kernels of each row."""
        ends = np.cumsum(np.bincount(self.rows, minlength=len(self.seconds))).tolist()
        starts = [0, *ends[:-1]]
        return tuple(self.kernels[a:b] for a, b in zip(starts, ends, strict=True))


def table_of(
    rows: Iterable[tuple[tuple[Kernel, ...], float]],
    bad: tuple[BadRow, ...] = (),
    merged: int = 0,
) -> KernelTable:
    """Return a table of rows, each the kernels and the seconds that they took together."""
    pairs = list(rows)
    kernels = tuple(kernel for row, _ in pairs for kernel in row)
    counts = [len(row) for row, _ in pairs]
    seconds = np.array([time_s for _, time_s in pairs], dtype=np.float64)
    return KernelTable(kernels, seconds, np.repeat(np.arange(len(pairs)), counts), bad, merged)


def median_of_repeats(rows: Iterable[tuple[tuple[Kernel, ...], float]]) -> KernelTable:
    """Return a table that holds each row once, with the median of its times.

    The same kernel takes different times in different networks, as what it finds in the caches
    differs; the median is the time to expect, where the least would be that of the luckiest.
    """
    times: dict[tuple[Kernel, ...], list[float]] = {}
    for kernels, time_s in rows:
        times.setdefault(kernels, []).append(time_s)
    merged = sum(len(found) - 1 for found in times.values())
    return table_of(((k, float(np.median(found))) for k, found in times.items()), merged=merged)


def sort_out(read: Iterable[Entry | BadRow]) -> KernelTable:
    """Return the rows that can be trusted, each kernel once, in the order of the file.

    A repeated row with the same time is a duplicate, and left out. Times of one kernel within
    TOLERANCE are repeated measurements: their median counts. Where they differ by more, nothing
    says which is right, and all of them are left out.
    """
    bad: list[BadRow] = []
    found: dict[tuple[Kernel, ...], list[Entry]] = {}
    for row in read:
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            found.setdefault(row.kernels, []).append(row)
    rows: list[tuple[tuple[Kernel, ...], float]] = []
    merged = 0
    for kernels, entries in found.items():
        if len(entries) == 1:
            rows.append((kernels, entries[0].latency_ms / 1e3))
            continue
        first: dict[float, int] = {}
        for entry in entries:
            if entry.latency_ms in first:
                detail = f"repeats line {first[entry.latency_ms]}"
                bad.append(BadRow(entry.line, "duplicated", detail))
            else:
                first[entry.latency_ms] = entry.line
        times = sorted(first)
        if times[-1] > (1 + TOLERANCE) * times[0]:
            for time, line in first.items():
                other = first[times[0] if time != times[0] else times[-1]]
                detail = (
                    f"{time:g} ms, but line {other} says "
                    f"{times[0] if time != times[0] else times[-1]:g} ms for the same"
                )
                bad.append(BadRow(line, "contradictory", detail))
            continue
        merged += len(times) - 1
        rows.append((kernels, float(np.median(times)) / 1e3))
    return table_of(rows, tuple(sorted(bad)), merged)


def parse_time(text: str | None, what: str = "latency_ms") -> float:
    """Return milliseconds.

    Raises:
        RowError: there is no time, or none that a kernel can take.
    """
    if text is None or not text.strip():
        raise RowError("failed", f"{what} is missing")
    try:
        time_ms = float(text)
    except ValueError:
        raise RowError("malformed", f"{what} is {_short(text)}, not a number") from None
    if not math.isfinite(time_ms):
        raise RowError("not finite", f"{what} is {time_ms:g}")
    if time_ms <= 0:
        raise RowError("negative" if time_ms < 0 else "zero", f"{what} is {time_ms:g}")
    if not LATENCY_MS[0] <= time_ms <= LATENCY_MS[1]:
        raise RowError("out of range", f"{what} is {time_ms:g}")
    return time_ms


def parse_size(text: str | None, name: str, least: int = 1) -> int:
    """Return a whole number between `least` and GREATEST_SIZE; `64.0` is one, too.

    Raises:
        RowError: it is missing, none, or out of range.
    """
    if text is None or not text.strip():
        raise RowError("missing", f"{name} is missing")
    if text.isascii() and text.isdigit() and len(text) < 5 and text.strip("0"):
        return int(text)  # almost every cell
    try:
        value = float(text)
    except ValueError:
        raise RowError("malformed", f"{name} is {_short(text)}, not a number") from None
    if not math.isfinite(value):
        raise RowError("not finite", f"{name} is {value:g}")
    if value < 0:
        raise RowError("negative", f"{name} is {value:g}")
    if value != int(value):
        raise RowError("malformed", f"{name} is {value:g}, not a whole number")
    if value < least:
        raise RowError("zero", f"{name} is 0")
    if value > GREATEST_SIZE:
        raise RowError("out of range", f"{name} is {value:g}, above {GREATEST_SIZE}")
    return int(value)


def check_kernel(kernel: Kernel) -> Kernel:
    """Return a kernel that some network can hold.

    Raises:
        RowError: its sizes do not go together.
    """
    into, out, groups = (int(n) for n in (kernel.in_channels, kernel.out_channels, kernel.groups))
    if into % groups or out % groups:
        raise RowError("out of range", f"{groups} groups do not divide {into} and {out} channels")
    for axis, name in enumerate(("height", "width")):
        size, side, stride = kernel.in_size[axis], kernel.kernel[axis], kernel.stride[axis]
        # Centred on a pixel, a larger kernel has weights that never meet another pixel.
        if side > max(2 * size - 1, SMALL_KERNEL):
            raise RowError("out of range", f"a kernel of {side} on a map of {name} {size}")
        if stride > size:
            raise RowError("out of range", f"a stride of {stride} on a map of {name} {size}")
        if kernel.op in STRIDED and kernel.out_size[axis] > -(-(size + side - 1) // stride):
            given = kernel.out_size[axis]
            raise RowError("out of range", f"output {name} {given} from {size} by stride {stride}")
    return kernel


STRIDED = ("conv", "avg_pool", "max_pool")
"""Operators whose output is no larger than their input, padding apart."""


def _short(text: str) -> str:
    return repr(text if len(text) <= 24 else text[:21] + "...")

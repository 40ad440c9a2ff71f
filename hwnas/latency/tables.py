"""Tables of measured kernels as people exchange them: one fused convolution a row, as CSV."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..lowering.kernels import Kernel

COLUMNS = (
    "type",
    "batch",
    "in_channels",
    "in_height",
    "in_width",
    "out_channels",
    "kernel",
    "stride",
    "fused_add",
    "latency_ms",
)


@dataclass(frozen=True)
class KernelTable:
    """Kernels with the seconds that each took; `failed` rows had no time, `bad` names the rest."""

    kernels: tuple[Kernel, ...]
    seconds: NDArray[np.float64]
    failed: int
    bad: tuple[str, ...]


def read(path: Path) -> KernelTable:
    """Read a table from a `.csv` or `.csv.gz` file.

    Columns: type (Regular or Depthwise), batch, in_channels, in_height, in_width, out_channels,
    kernel, stride, fused_add, and latency_ms for the whole batch, empty where the measurement
    failed. Rows that make no sense are left out, counted and named by line.

    Raises:
        UsageError: the file cannot be read, lacks a column, or holds no usable row.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}.") from None
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a CSV file: {error}.") from None
    kernels: list[Kernel] = []
    seconds: list[float] = []
    failed, bad = 0, []
    try:
        for line, row in _rows(path, text):
            if row["latency_ms"] == "":
                failed += 1
                continue
            try:
                kernel, time_s = _parse(row)
            except (TypeError, ValueError, KeyError) as error:
                bad.append(f"line {line}: {error}")
                continue
            kernels.append(kernel)
            seconds.append(time_s)
    except csv.Error as error:
        raise UsageError(f"{path} is not a CSV file: {error}.") from None
    if not kernels:
        raise UsageError(f"{path} holds no usable row." + (f" First: {bad[0]}." if bad else ""))
    return KernelTable(tuple(kernels), np.array(seconds), failed, tuple(bad))


def _rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UsageError(f"{path} lacks the columns {', '.join(missing)}.")
    for row in reader:
        yield reader.line_num, row


def _parse(row: dict[str, str]) -> tuple[Kernel, float]:
    numbers = {name: int(row[name]) for name in COLUMNS[1:9]}
    latency_ms = float(row["latency_ms"])
    if not 0 < latency_ms < math.inf:
        raise ValueError(f"latency_ms is {latency_ms:g}")
    for name, value in numbers.items():
        if not (0 if name == "fused_add" else 1) <= value <= 1 << 20:
            raise ValueError(f"{name} is {value}")
    groups = {"Regular": 1, "Depthwise": numbers["in_channels"]}.get(row["type"])
    if groups is None:
        raise ValueError(f"type is '{row['type']}', expected Regular or Depthwise")
    size = (numbers["in_height"], numbers["in_width"])
    stride, side = numbers["stride"], numbers["kernel"]
    kernel = Kernel(
        "conv",
        numbers["batch"],
        numbers["in_channels"],
        size,
        numbers["out_channels"],
        (-(-size[0] // stride), -(-size[1] // stride)),
        (side, side),
        (stride, stride),
        groups,
        bool(numbers["fused_add"]),
        True,
    )
    return kernel, latency_ms / 1e3

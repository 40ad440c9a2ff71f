"""What a measurement is: raw samples, and what follows from them."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

CONTENDED = 1.03
"""Wall time over CPU time above which other processes took part in the measurement."""

SLOWED = 1.15
"""Pace above which something outside the system slowed the core down: see `Pace`."""

UNKNOWN = "unknown"
CPU_FREQUENCY = Path("/sys/devices/system/cpu/cpu0/cpufreq")


@dataclass(frozen=True)
class Measurement:
    """Repeated runs of one network.

    Attributes:
        wall_samples_s: wall time of each run.
        cpu_samples_s: CPU time of each run, divided by the number of threads.
        calm_samples: which runs nothing disturbed; by default those whose wall time does not
            exceed CPU time by more than 3 %.
        threads: threads that ran. With several, CPU time says what was spent, not how long it
            took, and wall time alone is a latency.
    """

    wall_samples_s: tuple[float, ...]
    cpu_samples_s: tuple[float, ...]
    calm_samples: tuple[bool, ...] = ()
    threads: int = 1

    @cached_property
    def wall_s(self) -> float:
        """The median wall time."""
        return median(self.wall_samples_s)

    @cached_property
    def cpu_s(self) -> float:
        """The median CPU time."""
        return median(self.cpu_samples_s)

    @cached_property
    def calm(self) -> tuple[bool, ...]:
        """Which runs nothing disturbed."""
        return self.calm_samples or tuple(
            wall <= CONTENDED * cpu
            for wall, cpu in zip(self.wall_samples_s, self.cpu_samples_s, strict=True)
        )

    @cached_property
    def believed_s(self) -> tuple[float, ...]:
        """The times to believe: of the calm runs, or of all where none was; CPU time of one
        thread, wall time of several."""
        samples = self.cpu_samples_s if self.threads == 1 else self.wall_samples_s
        return tuple(s for s, calm in zip(samples, self.calm, strict=True) if calm) or samples

    @property
    def least_s(self) -> float:
        """The least time to believe: a run that nothing disturbed."""
        return min(self.believed_s)

    @cached_property
    def typical_s(self) -> float:
        """The median of the times to believe."""
        return median(self.believed_s)

    @property
    def contended(self) -> bool:
        """Whether most runs were disturbed: the machine did other work."""
        return 2 * sum(self.calm) < len(self.calm)

    @property
    def latency_s(self) -> float:
        """The latency to believe: the median wall time, or, where the machine was contended, the
        median of the times to believe."""
        return self.typical_s if self.contended else self.wall_s

    def details(self) -> dict[str, Any]:
        """Return what a kind of device tells beyond its runs, as JSON data."""
        return {}


class Pace:
    """How much slower than at its best a core runs, told by a fixed piece of arithmetic.

    A neighbour on the same physical core, another virtual machine or a lower clock lengthen CPU
    time itself, by up to a half: no comparison of wall and CPU time shows it. A third of a
    millisecond of arithmetic, timed beside each run, does.
    """

    STEPS = range(20_000)

    def __init__(self) -> None:
        self._least_s = min(self._timed() for _ in range(50))

    def __call__(self) -> float:
        """Return the time of the arithmetic now, relative to its least so far."""
        # The first time behind a network it runs out of cold caches, which says nothing.
        taken = min(self._timed(), self._timed())
        self._least_s = min(self._least_s, taken)
        return taken / self._least_s

    def _timed(self) -> float:
        began = time.thread_time()
        sum(self.STEPS)
        return time.thread_time() - began


@dataclass(frozen=True)
class KernelTiming:
    """One executed kernel: the name and operator of its node, the shape of its result, samples.

    `in_shapes` are the shapes of its operands, weights included, where the runtime tells them.
    """

    name: str
    op: str
    out_shape: tuple[int, ...]
    samples_s: tuple[float, ...]
    in_shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def seconds(self) -> float:
        """The least of the samples: what the kernel takes undisturbed."""
        return min(self.samples_s)


def environment() -> dict[str, Any]:
    """Return what a measurement on this machine depends on; `unknown` what it does not tell."""
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count() or 0,
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "clock": _clock(),
        "power_mode": _first_line(CPU_FREQUENCY / "scaling_governor") or UNKNOWN,
    }


def _clock() -> str:
    """Return the highest clock that the system allows."""
    limit = _first_line(CPU_FREQUENCY / "scaling_max_freq")
    return f"at most {int(limit) / 1000:.0f} MHz" if limit.isdecimal() else UNKNOWN


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except OSError:
        return ""


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or UNKNOWN

"""What a measurement is: raw samples, and what follows from them."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

CONTENDED = 1.03
"""Wall time over CPU time above which other processes took part in the measurement."""


@dataclass(frozen=True)
class Measurement:
    """Repeated runs of one network; seconds of wall time and of the thread's CPU time."""

    wall_samples_s: tuple[float, ...]
    cpu_samples_s: tuple[float, ...]

    @cached_property
    def wall_s(self) -> float:
        """The median wall time."""
        return median(self.wall_samples_s)

    @cached_property
    def cpu_s(self) -> float:
        """The median CPU time of the thread."""
        return median(self.cpu_samples_s)

    @property
    def least_s(self) -> float:
        """The least CPU time: a run that nothing disturbed. Repeats within a per cent or two."""
        return min(self.cpu_samples_s)

    @property
    def contended(self) -> bool:
        """Whether wall time exceeds CPU time by more than 3 %: the machine did other work."""
        return self.wall_s > CONTENDED * self.cpu_s

    @property
    def latency_s(self) -> float:
        """The latency to believe: the CPU time where the machine was contended, else wall time."""
        return self.cpu_s if self.contended else self.wall_s


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
    """Return what a measurement on this machine depends on."""
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count() or 0,
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"

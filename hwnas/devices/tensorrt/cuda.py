"""What is asked of CUDA: memory, streams, events and graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import DeviceLostError, HwnasError


@dataclass(frozen=True)
class Gpu:
    """A GPU and the CUDA that reaches it.

    Attributes:
        name: as its driver names it.
        capability: compute capability, (7, 0) for a V100.
        multiprocessors: their count.
        memory_bytes: all of its memory.
        cuda_driver: newest CUDA that the driver speaks, "12.4".
        bus: where it is plugged in, "0000:3B:00.0": NVML and nvidia-smi find it by that.
        binding: what CUDA is called by, with its version.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    cuda_driver: str
    bus: str
    binding: str


class Stream(Protocol):
    """Work in order."""

    handle: int

    def synchronize(self) -> None:
        """Wait until all of it is done."""


class Event(Protocol):
    """A point in a stream."""

    def record(self, stream: Stream) -> None:
        """Set it behind what the stream holds now."""

    def synchronize(self) -> None:
        """Wait until the stream has passed it."""

    def seconds_since(self, start: Event) -> float:
        """Return the GPU's time between two events that have passed."""


class Memory(Protocol):
    """Memory of the GPU, with page-locked memory of the host beside it.

    `host` is uint8 [bytes].
    """

    address: int
    host: NDArray[np.uint8]

    def copy_in(self, stream: Stream) -> None:
        """Copy the host's side to the GPU's."""

    def copy_out(self, stream: Stream) -> None:
        """Copy the GPU's side to the host's."""

    def free(self) -> None:
        """Give both sides back."""


class Graph(Protocol):
    """Captured work that is launched as one."""

    def launch(self, stream: Stream) -> None:
        """Put the work into a stream."""

    def free(self) -> None:
        """Give it back."""


class Cuda(Protocol):
    """One GPU.

    Every call raises DeviceUnavailableError where the GPU cannot be used (any more), and
    HwnasError where its memory does not suffice.
    """

    gpu: Gpu

    def memory(self, size: int) -> Memory:
        """Return memory of so many bytes."""

    def stream(self) -> Stream:
        """Return the stream that all work goes into."""

    def events(self, count: int) -> list[Event]:
        """Return events that take the time, the same ones each time."""

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph | None:
        """Return what `work` puts into a stream as a graph; None where this cannot be done."""


def out_of_memory(size: int = 0) -> HwnasError:
    """Return the error that the GPU's memory does not suffice."""
    asked = f" for {size / 1e6:.0f} MB more" if size else ""
    return HwnasError(
        f"the GPU is out of memory{asked}: try a lower resolution or batch, or stop what else "
        "uses it ('nvidia-smi' shows it)."
    )


def lost(what: str, told: str) -> DeviceLostError:
    """Return the error that the GPU no longer answers."""
    return DeviceLostError(
        f"the GPU stopped answering in {what}: {told}. 'nvidia-smi' and 'dmesg' tell more; "
        "'hwnas profile --resume' goes on when it is back."
    )


def version_text(number: int) -> str:
    """Return CUDA's number of a version, 12040, as text."""
    return f"{number // 1000}.{number % 1000 // 10}"


def package_version(name: str) -> str:
    """Return a package's name and version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return name


Runtime = Any
"""A module of bindings, which have no types."""

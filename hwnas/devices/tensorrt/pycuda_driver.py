"""CUDA by pycuda, where that is what is installed. It has no CUDA graphs."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from ...errors import DeviceUnavailableError
from .cuda import (
    Event,
    Gpu,
    Graph,
    Memory,
    Runtime,
    Stream,
    lost,
    out_of_memory,
    package_version,
    version_text,
)


class PyCuda:
    """One GPU by pycuda.

    Args:
        index: of the GPU.
        driver: the module `pycuda.driver`.

    Raises:
        DeviceUnavailableError: the GPU does not answer.
    """

    def __init__(self, index: int, driver: Runtime) -> None:
        self._driver = driver
        try:
            driver.init()
            device = driver.Device(index)
            # TensorRT works in the primary context, and pycuda's calls in the current one.
            self._context = device.retain_primary_context()
            self._context.push()
            atexit.register(self._context.pop)  # pycuda aborts where one is left at the end
        except driver.Error as error:
            raise DeviceUnavailableError(
                f"CUDA answers '{error}': 'nvidia-smi' must list the GPU."
            ) from None
        major, minor = device.compute_capability()
        self.gpu = Gpu(
            device.name(),
            (major, minor),
            device.get_attribute(driver.device_attribute.MULTIPROCESSOR_COUNT),
            device.total_memory(),
            version_text(driver.get_driver_version()),
            device.pci_bus_id(),
            package_version("pycuda"),
        )
        self._stream: Stream = _Stream(driver)
        self._events: list[Event] = []

    def memory(self, size: int) -> Memory:
        """Return memory of so many bytes."""
        return _Memory(self._driver, size)

    def stream(self) -> Stream:
        """Return the one stream."""
        return self._stream

    def events(self, count: int) -> list[Event]:
        """Return events, the same ones each time."""
        self._events += [_Event(self._driver) for _ in range(count - len(self._events))]
        return self._events[:count]

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph | None:
        """Return None: pycuda has no graphs."""
        return None


@contextmanager
def _explained(driver: Runtime, what: str, size: int = 0) -> Iterator[None]:
    try:
        yield
    except driver.MemoryError:
        raise out_of_memory(size) from None
    except driver.Error as error:
        raise lost(what, str(error)) from None


class _Stream:
    def __init__(self, driver: Runtime) -> None:
        self._driver = driver
        with _explained(driver, "Stream"):
            self.stream = driver.Stream()
        self.handle = int(self.stream.handle)

    def synchronize(self) -> None:
        with _explained(self._driver, "Stream.synchronize"):
            self.stream.synchronize()


class _Event:
    def __init__(self, driver: Runtime) -> None:
        self._driver = driver
        with _explained(driver, "Event"):
            self._event = driver.Event()

    def record(self, stream: Stream) -> None:
        assert isinstance(stream, _Stream)
        with _explained(self._driver, "Event.record"):
            self._event.record(stream.stream)

    def synchronize(self) -> None:
        with _explained(self._driver, "Event.synchronize"):
            self._event.synchronize()

    def seconds_since(self, start: Event) -> float:
        assert isinstance(start, _Event)
        with _explained(self._driver, "Event.time_till"):
            return float(start._event.time_till(self._event)) / 1e3


class _Memory:
    def __init__(self, driver: Runtime, size: int) -> None:
        self._driver = driver
        with _explained(driver, "mem_alloc", size):
            self._memory = driver.mem_alloc(size)
            self.host = driver.pagelocked_empty(size, np.uint8)
        self.address = int(self._memory)

    def copy_in(self, stream: Stream) -> None:
        assert isinstance(stream, _Stream)
        with _explained(self._driver, "memcpy_htod_async"):
            self._driver.memcpy_htod_async(self._memory, self.host, stream.stream)

    def copy_out(self, stream: Stream) -> None:
        assert isinstance(stream, _Stream)
        with _explained(self._driver, "memcpy_dtoh_async"):
            self._driver.memcpy_dtoh_async(self.host, self._memory, stream.stream)

    def free(self) -> None:
        with _explained(self._driver, "free"):
            self._memory.free()

"""CUDA by NVIDIA's own package, cuda-bindings: its runtime API."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

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

UNREACHABLE = {
    "cudaErrorInsufficientDriver": "the driver is older than the CUDA release that is installed: "
    "update NVIDIA's driver, or install TensorRT for an older CUDA (tensorrt-cu12)",
    "cudaErrorNoDevice": "there is no GPU: 'nvidia-smi' must list one",
    "cudaErrorInvalidDevice": "there is no GPU of that index: 'nvidia-smi' lists them",
    "cudaErrorDevicesUnavailable": "another process has taken the GPU for itself",
    "cudaErrorNoKernelImageForDevice": "the CUDA release no longer supports the GPU",
}
"""What errors mean that say the GPU cannot be used at all."""


class _Calls:
    """Calls of the runtime API that raise an error instead of returning one."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Return what a call returns beside its error.

        Raises:
            DeviceUnavailableError: the GPU cannot be used.
            HwnasError: its memory does not suffice.
        """
        error, *results = getattr(self.runtime, name)(*arguments)
        if error != self.runtime.cudaError_t.cudaSuccess:
            self._raise(name, error, arguments)
        return results[0] if len(results) == 1 else tuple(results)

    def _raise(self, name: str, error: Any, arguments: tuple[Any, ...]) -> None:
        if error.name == "cudaErrorMemoryAllocation":
            raise out_of_memory(arguments[0] if name.startswith("cudaMalloc") else 0)
        if error.name in UNREACHABLE:
            raise DeviceUnavailableError(f"CUDA answers {error.name}: {UNREACHABLE[error.name]}.")
        _, text = self.runtime.cudaGetErrorString(error)
        raise lost(name, f"{error.name}, {text.decode(errors='replace')}")


class CudaBindings:
    """One GPU by cuda-bindings.

    Args:
        index: of the GPU.
        runtime: the module `cuda.bindings.runtime`.

    Raises:
        DeviceUnavailableError: the GPU does not answer.
    """

    def __init__(self, index: int, runtime: Runtime) -> None:
        self._call = _Calls(runtime)
        self._call("cudaSetDevice", index)
        about = self._call("cudaGetDeviceProperties", index)
        self.gpu = Gpu(
            about.name.split(b"\0")[0].decode(errors="replace"),
            (about.major, about.minor),
            about.multiProcessorCount,
            about.totalGlobalMem,
            version_text(self._call("cudaDriverGetVersion")),
            self._call("cudaDeviceGetPCIBusId", 32, index).split(b"\0")[0].decode(),
            package_version("cuda-bindings"),
        )
        self._stream: Stream = _Stream(self._call)
        self._events: list[Event] = []

    def memory(self, size: int) -> Memory:
        """Return memory of so many bytes."""
        return _Memory(self._call, size)

    def stream(self) -> Stream:
        """Return the one stream, apart from the default one, which others wait for."""
        return self._stream

    def events(self, count: int) -> list[Event]:
        """Return events, the same ones each time."""
        self._events += [_Event(self._call) for _ in range(count - len(self._events))]
        return self._events[:count]

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph | None:
        """Return what `work` puts into a stream as a graph; None where it cannot be captured."""
        runtime = self._call.runtime
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream.handle, mode)
        try:
            work()
        finally:
            # Ends the capture in any case: a stream that captures runs nothing.
            error, graph = runtime.cudaStreamEndCapture(stream.handle)
        if error != runtime.cudaError_t.cudaSuccess:
            return None
        try:
            return _Graph(self._call, self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)


class _Stream:
    def __init__(self, call: _Calls) -> None:
        self._call = call
        self._stream = call("cudaStreamCreateWithFlags", call.runtime.cudaStreamNonBlocking)
        self.handle = int(self._stream)

    def synchronize(self) -> None:
        self._call("cudaStreamSynchronize", self.handle)


class _Event:
    def __init__(self, call: _Calls) -> None:
        self._call = call
        self._event = call("cudaEventCreate")

    def record(self, stream: Stream) -> None:
        self._call("cudaEventRecord", self._event, stream.handle)

    def synchronize(self) -> None:
        self._call("cudaEventSynchronize", self._event)

    def seconds_since(self, start: Event) -> float:
        assert isinstance(start, _Event)
        return float(self._call("cudaEventElapsedTime", start._event, self._event)) / 1e3


class _Memory:
    def __init__(self, call: _Calls, size: int) -> None:
        self._call = call
        self._size = size
        self.address = int(call("cudaMalloc", size))
        try:
            self._host = int(call("cudaMallocHost", size))
        except Exception:
            call("cudaFree", self.address)
            raise
        self.host = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self._host))

    def copy_in(self, stream: Stream) -> None:
        kind = self._call.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(self.address, self._host, kind, stream)

    def copy_out(self, stream: Stream) -> None:
        kind = self._call.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(self._host, self.address, kind, stream)

    def _copy(self, target: int, source: int, kind: Any, stream: Stream) -> None:
        self._call("cudaMemcpyAsync", target, source, self._size, kind, stream.handle)

    def free(self) -> None:
        self._call("cudaFree", self.address)
        self._call("cudaFreeHost", self._host)


class _Graph:
    def __init__(self, call: _Calls, executable: Any) -> None:
        self._call = call
        self._executable = executable

    def launch(self, stream: Stream) -> None:
        self._call("cudaGraphLaunch", self._executable, stream.handle)

    def free(self) -> None:
        self._call("cudaGraphExecDestroy", self._executable)

"""A loaded engine: its buffers, and its times by CUDA events."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from ...errors import DeviceUnavailableError, HwnasError, UsageError
from .cuda import Cuda, Event, Graph, Memory, lost, out_of_memory

WARM_UP_RUNS = 3
WARM_UP_S = 0.2
"""Runs and seconds before the first that counts: a GPU needs a while to raise its clocks."""

LOST = r"cuda runtime|cuda failure|illegal memory access|unspecified launch failure"
"""What TensorRT's errors contain where it is the GPU that failed."""


class Engine:
    """An engine on its GPU, ready to run at one batch.

    Args:
        trt: the module `tensorrt`.
        cuda: the GPU.
        plan: the engine's bytes.
        log: TensorRT's logger.
        batch: images at a time, for an engine that leaves this open; None for its own.

    Raises:
        HwnasError: the engine is another release's or GPU's, or the memory does not suffice.
        UsageError: it does not take this batch.
    """

    def __init__(
        self, trt: Any, cuda: Cuda, plan: bytes, log: Any, batch: int | None = None
    ) -> None:
        self._trt = trt
        self._cuda = cuda
        self._log = log
        self._runtime = trt.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise HwnasError(
                "TensorRT does not load the engine: "
                f"{'; '.join(log.errors[-2:]) or 'it gives no reason'}. Build it here, by "
                "'hwnas export ... --format tensorrt'."
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise out_of_memory()
        self._stream = cuda.stream()
        self._buffers: dict[str, Memory] = {}
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = {
            name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        }
        self._choose_batch(sorted(inputs), batch)
        self._inputs = [name for name in names if name in inputs]
        self._outputs = [name for name in names if name not in inputs]
        try:
            for name in names:
                self._allocate(name)
        except HwnasError:
            self.free()  # what did fit, or the next engine would not
            raise

    @property
    def profiles(self) -> int:
        """How many optimisation profiles there are."""
        return int(self._engine.num_optimization_profiles)

    def tensors(self) -> list[dict[str, Any]]:
        """Return name, shape, type and direction of the inputs and outputs, as JSON data."""
        return [
            {
                "name": name,
                "input": name in self._inputs,
                "shape": [int(size) for size in self._engine.get_tensor_shape(name)],
                "type": self._engine.get_tensor_dtype(name).name,
            }
            for name in (*self._inputs, *self._outputs)
        ]

    def layer_information(self) -> str:
        """Return what TensorRT's inspector tells of all layers, JSON."""
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        told = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        return str(told)

    def warm_up(self, work: Callable[[], None]) -> None:
        """Run until the clocks are up."""
        ends = time.monotonic() + WARM_UP_S
        runs = 0
        while runs < WARM_UP_RUNS or time.monotonic() < ends:
            work()
            self._stream.synchronize()
            runs += 1

    def run(self) -> None:
        """Put one run into the stream, without transfers.

        Raises:
            HwnasError: TensorRT does not run it.
        """
        if not self._context.execute_async_v3(self._stream.handle):
            told = "; ".join(self._log.errors[-2:]) or "it gives no reason"
            if re.search(LOST, told, re.IGNORECASE):
                raise lost("TensorRT", told)
            raise HwnasError(f"TensorRT does not run the engine: {told}.")

    def run_with_transfers(self) -> None:
        """Put copies in, one run and copies out into the stream."""
        for name in self._inputs:
            self._buffers[name].copy_in(self._stream)
        self.run()
        for name in self._outputs:
            self._buffers[name].copy_out(self._stream)

    def graph(self) -> Graph | None:
        """Return one run as a CUDA graph; None where it cannot be captured."""
        self.run()  # TensorRT settles its buffers in the first run, which no graph may hold
        self._stream.synchronize()
        return self._cuda.capture(self._stream, self.run)

    def launch(self, graph: Graph) -> None:
        """Put a graph into the stream."""
        graph.launch(self._stream)

    def timed(
        self,
        work: Callable[[], None],
        enough: Callable[[list[float], float], bool],
    ) -> list[float]:
        """Run until it is enough and return what each run took on the GPU, in seconds.

        The next run is put into the stream before the last one is waited for, so that the GPU
        does not wait for the processor between them.

        Args:
            work: puts one run into the stream.
            enough: told the times so far and the seconds since the beginning.
        """
        self.warm_up(work)
        first, second, third, fourth = self._cuda.events(4)
        pairs = [(first, second), (third, fourth)]
        samples: list[float] = []
        began = time.monotonic()
        ahead = self._put(work, pairs[0])
        turn = 1
        while True:
            ahead, waiting = self._put(work, pairs[turn % 2]), ahead
            turn += 1
            start, stop = waiting
            stop.synchronize()
            samples.append(stop.seconds_since(start))
            if enough(samples, time.monotonic() - began):
                self._stream.synchronize()
                return samples

    def profiled(self, layers: Any, runs: int) -> None:
        """Run with TensorRT's profiler, which tells `layers` what each layer took."""
        self.warm_up(self.run)
        self._context.profiler = layers
        for _ in range(runs):
            self.run()
            self._stream.synchronize()

    def errors(self, model: bytes) -> dict[str, float]:
        """Return how far each output is from that of the float model under onnxruntime.

        On the Gaussian noise that the inputs hold: the norm of the difference over the norm.
        """
        import onnxruntime

        self.run_with_transfers()
        self._stream.synchronize()
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        feeds = {name: self._view(name).astype(np.float32) for name in self._inputs}
        told = {}
        for name, wanted in zip(self._outputs, session.run(self._outputs, feeds), strict=True):
            difference = self._view(name).astype(np.float64) - wanted
            told[name] = float(np.linalg.norm(difference) / np.linalg.norm(wanted))
        return told

    def free(self) -> None:
        """Give the buffers back."""
        for memory in self._buffers.values():
            with suppress(DeviceUnavailableError):  # a lost GPU has lost its memory, too
                memory.free()
        self._buffers = {}

    def _put(self, work: Callable[[], None], events: tuple[Event, Event]) -> tuple[Event, Event]:
        start, stop = events
        start.record(self._stream)
        work()
        stop.record(self._stream)
        return events

    def _choose_batch(self, inputs: list[str], batch: int | None) -> None:
        """Choose the profile that is tuned nearest to the batch, and set the inputs' shapes."""
        if not any(self._engine.get_tensor_shape(name)[0] < 0 for name in inputs):
            own = int(self._engine.get_tensor_shape(inputs[0])[0])
            if batch not in (None, own):
                raise UsageError(f"the engine takes {own} images at a time, not {batch}.")
            return
        ranges = [
            [int(shape[0]) for shape in self._engine.get_tensor_profile_shape(inputs[0], profile)]
            for profile in range(self._engine.num_optimization_profiles)
        ]
        wanted = ranges[0][1] if batch is None else batch
        fitting = [i for i, (least, _, most) in enumerate(ranges) if least <= wanted <= most]
        if not fitting:
            known = ", ".join(f"{least} to {most}" for least, _, most in ranges)
            raise UsageError(f"the engine takes {known} images at a time, not {wanted}.")
        nearest = min(fitting, key=lambda i: abs(math.log(ranges[i][1] / wanted)))
        self._context.set_optimization_profile_async(nearest, self._stream.handle)
        self._stream.synchronize()
        for name in inputs:
            rest = tuple(int(size) for size in self._engine.get_tensor_shape(name))[1:]
            self._context.set_input_shape(name, (wanted, *rest))

    def _allocate(self, name: str) -> None:
        memory = self._cuda.memory(max(1, math.prod(self._shape(name)) * self._type(name).itemsize))
        self._buffers[name] = memory
        self._context.set_tensor_address(name, memory.address)
        if name in self._inputs:
            view = self._view(name)
            view[...] = np.random.default_rng(0).standard_normal(view.shape).astype(view.dtype)
            memory.copy_in(self._stream)
            self._stream.synchronize()

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(int(size) for size in self._context.get_tensor_shape(name))

    def _type(self, name: str) -> np.dtype[Any]:
        kind: np.dtype[Any] = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        return kind

    def _view(self, name: str) -> Any:
        return self._buffers[name].host.view(self._type(name)).reshape(self._shape(name))

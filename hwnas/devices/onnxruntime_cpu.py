"""This machine's processor by onnxruntime: whole networks and single kernels, timed with care."""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..architecture import lower, spaces
from ..errors import HwnasError
from ..lowering.kernels import Fusion
from ..lowering.onnx_writer import to_onnx
from ..lowering.weights import filler
from .measurement import CONTENDED, SLOWED, KernelTiming, Measurement, Pace, environment

if TYPE_CHECKING:
    import onnxruntime

WARM_UP = 1
CALM_RUNS = 5
MOST_RUNS = 20


class OnnxRuntimeCpu:
    """Runs ONNX models on this machine's processor.

    Threads do not spin and onnxruntime's telemetry is off, so that CPU time is the model's.

    Args:
        threads: threads that a network runs on.
        precision: `fp32`, or `int8`: float models are then quantised before they run.
        optimization: onnxruntime's level of graph optimisation, `all` or `basic`.
    """

    def __init__(
        self, threads: int = 1, precision: str = "fp32", optimization: str = "all"
    ) -> None:
        self.threads = threads
        self.precision = precision
        self.optimization = optimization
        # Wall time alone lies on a shared machine; with several threads only it is meaningful.
        self._cpu_clock: Callable[[], float] = (
            time.thread_time if threads == 1 else time.process_time
        )
        self._pace = Pace()

    def environment(self) -> dict[str, Any]:
        """Return machine, runtime and version, threads, precision and optimisation."""
        ort = _onnxruntime()
        return {
            **environment(),
            "runtime": f"onnxruntime {ort.__version__}",
            "threads": self.threads,
            "precision": self.precision,
            "optimization": self.optimization,
        }

    def fusion(self) -> Fusion:
        """Return what onnxruntime fuses here, as a small network shows it.

        The blocked layout and the size of its blocks depend on the processor; INT8 and basic
        optimisations know no blocked layout.
        """
        if self.precision == "int8":
            return Fusion(
                add=False, output="dequantize", input="quantize", rules="onnxruntime-int8"
            )
        if self.optimization == "basic":
            return Fusion(add=False, rules="onnxruntime-basic")
        space = spaces.load("resnet")
        architecture = space.decode(space.narrowest())
        narrow = replace(architecture, stem=replace(architecture.stem, channels=8))
        graph = lower(narrow, (32, 32))
        timings, _ = self.profile(to_onnx(graph, filler(graph)).SerializeToString(), seconds=0.0)
        if not any(timing.op == "ReorderOutput" for timing in timings):
            return Fusion(rules="onnxruntime")
        stem = timings[0].out_shape[1]  # eight channels, padded to a block
        return Fusion(output="reorder_output", block=stem if stem > 1 else 0, rules="onnxruntime")

    def measure(
        self, model: bytes, *, least_runs: int = 10, least_s: float = 1.0, most_s: float = 60.0
    ) -> Measurement:
        """Time a model: at least so many calm runs and so many seconds, after two of warm-up.

        Where the machine does other work, it ends after three times as many runs or seconds.

        Raises:
            HwnasError: onnxruntime does not run the model.
        """
        session = self._session(model, None)
        return self._timed(session, least_runs, 3 * least_runs, least_s, most_s)

    def profile(
        self, model: bytes, *, seconds: float = 0.03
    ) -> tuple[list[KernelTiming], Measurement]:
        """Time each executed kernel by onnxruntime's profiler, then the whole network without it.

        Kernels are timed in their network: caches, layouts and fusions are the real ones. Each of
        the two takes five calm runs and about `seconds`, at most 20 runs. A disturbance is mostly
        shorter than a run, so for a kernel the disturbed runs count as well.

        Raises:
            HwnasError: onnxruntime does not run the model.
        """
        with tempfile.TemporaryDirectory(prefix="hwnas-") as folder:
            session = self._session(model, str(Path(folder) / "profile"))
            self._timed(session, CALM_RUNS, MOST_RUNS, seconds)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        # Profiling has ended: what runs now is undisturbed.
        measurement = self._timed(session, CALM_RUNS, MOST_RUNS, seconds)
        return _timings(events, WARM_UP), measurement

    def _timed(
        self,
        session: onnxruntime.InferenceSession,
        calm_runs: int,
        most_runs: int,
        least_s: float,
        most_s: float = 60.0,
    ) -> Measurement:
        """Run until enough runs were calm and enough time is over, but not for ever."""
        feeds = _feeds(session)
        for _ in range(WARM_UP):
            _run(session, feeds)
        walls: list[float] = []
        cpus: list[float] = []
        calm: list[bool] = []
        began = time.perf_counter()
        before = self._pace()
        while True:
            preempted = self._preemptions()
            cpu, wall = self._cpu_clock(), time.perf_counter()
            _run(session, feeds)
            wall_end, cpu_end = time.perf_counter(), self._cpu_clock()
            walls.append(wall_end - wall)
            cpus.append((cpu_end - cpu) / self.threads)
            alone = (
                walls[-1] <= CONTENDED * cpus[-1]
                if self.threads == 1
                else self._preemptions() == preempted
            )
            after = self._pace()
            calm.append(alone and max(before, after) <= SLOWED)
            before = after
            spent = wall_end - began
            enough = sum(calm) >= calm_runs and spent >= least_s
            if enough or spent >= most_s or (len(walls) >= most_runs and spent >= 3 * least_s):
                return Measurement(tuple(walls), tuple(cpus), tuple(calm), self.threads)

    @staticmethod
    def _preemptions() -> int:
        """Return how often another process was given a core that this one was using."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw

    def _session(self, model: bytes, profile: str | None) -> onnxruntime.InferenceSession:
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        if self.optimization == "basic":
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = profile
        if self.precision == "int8":
            model = _quantized(model)
        try:
            return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no public base class
            raise HwnasError(f"onnxruntime does not load the model: {_first_line(error)}") from None


def _onnxruntime() -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _feeds(session: onnxruntime.InferenceSession) -> dict[str, Any]:
    """Return random inputs of the shapes that the model states."""
    rng = np.random.default_rng(0)
    feeds = {}
    for tensor in session.get_inputs():
        if not all(isinstance(size, int) and size > 0 for size in tensor.shape):
            raise HwnasError(
                f"the model's input '{tensor.name}' has the open shape {tensor.shape}; "
                "export it with fixed sizes."
            )
        if tensor.type != "tensor(float)":
            raise HwnasError(f"the model's input '{tensor.name}' is {tensor.type}, not float.")
        feeds[tensor.name] = rng.standard_normal(tensor.shape, dtype=np.float32)
    return feeds


def _run(session: onnxruntime.InferenceSession, feeds: dict[str, Any]) -> None:
    try:
        session.run(None, feeds)
    except Exception as error:  # as above
        raise HwnasError(f"onnxruntime does not run the model: {_first_line(error)}") from None


def _timings(events: list[dict[str, Any]], skip: int) -> list[KernelTiming]:
    """Return the kernels of a profile in the order of execution, warm-up left out."""
    samples: dict[str, list[float]] = {}
    about: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            samples.setdefault(name, []).append(event["dur"] / 1e6)
            about.setdefault(name, event["args"])
    timings = [
        KernelTiming(
            name.removesuffix("_nchwc"),
            about[name]["op_name"],
            (_shapes(about[name], "output_type_shape") or ((),))[0],
            tuple(durations[skip:]),
            _shapes(about[name], "input_type_shape"),
        )
        for name, durations in samples.items()
    ]
    return _joined(timings)


def _joined(timings: list[KernelTiming]) -> list[KernelTiming]:
    """Return the kernels with a (de)quantisation and the change of layout at its side as one."""
    joined: list[KernelTiming] = []
    for timing in timings:
        before = joined[-1] if joined else None
        if before is not None and (before.op, timing.op) in (
            ("QuantizeLinear", "Transpose"),
            ("Transpose", "DequantizeLinear"),
        ):
            named = timing if timing.op == "DequantizeLinear" else before
            pairs = zip(before.samples_s, timing.samples_s, strict=True)
            joined[-1] = replace(named, samples_s=tuple(a + b for a, b in pairs))
        else:
            joined.append(timing)
    return joined


def _quantized(model: bytes) -> bytes:
    """Return a model in INT8; one that is quantised already, or no model, as it is."""
    import onnx

    from ..lowering.quantize import quantize

    try:
        parsed = onnx.load_model_from_string(model)
    except Exception:  # of whichever protobuf onnx came with; the runtime says what is wrong
        return model
    if any(node.op_type in ("QuantizeLinear", "QLinearConv") for node in parsed.graph.node):
        return model
    quantized: bytes = quantize(parsed).SerializeToString()
    return quantized


def _shapes(args: dict[str, Any], which: str) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a node's operands or results."""
    return tuple(tuple(next(iter(typed.values()), ())) for typed in args.get(which) or ())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]

"""This machine's processor by onnxruntime: whole networks and single kernels, timed with care."""

from __future__ import annotations

import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..lowering.kernels import Fusion
from . import onnxruntime_graph, spec
from .local import CALM_RUNS, MOST_RUNS, WARM_UP, LocalRuntime, Run, random_input
from .measurement import KernelTiming, Measurement
from .registry import no_argument, refuse_precision
from .spec import DeviceSpec

if TYPE_CHECKING:
    import onnxruntime


class OnnxRuntimeCpu(LocalRuntime):
    """Runs ONNX models on this machine's processor.

    Threads do not spin and onnxruntime's telemetry is off, so that CPU time is the model's.

    Args:
        threads: threads that a network runs on.
        precision: `fp32`, or `int8`: float models are then quantised before they run.
        optimization: onnxruntime's level of graph optimisation, `all` or `basic`.
        alone: see `LocalRuntime`.
    """

    name = "onnxruntime"

    def __init__(
        self,
        threads: int = 1,
        precision: str = "fp32",
        optimization: str = "all",
        alone: bool | None = None,
    ) -> None:
        super().__init__(threads, alone)
        self.precision = precision
        self.optimization = optimization

    def version(self) -> str:
        """Return onnxruntime and its version."""
        return f"onnxruntime {import_onnxruntime().__version__}"

    def environment(self) -> dict[str, Any]:
        """Return machine, runtime and version, threads, precision and optimisation."""
        return {
            **super().environment(),
            "precision": self.precision,
            "optimization": self.optimization,
        }

    def fusion(self) -> Fusion:
        """Return what onnxruntime fuses here, as a small network shows it."""
        return onnxruntime_graph.fusion(
            self.precision,
            self.optimization,
            lambda model: self.profile(model, seconds=0.0)[0],
        )

    def load(self, model: bytes) -> Run:
        """Return what runs a model once; see `LocalRuntime`."""
        return self._runner(self._session(model, None))

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
            run = self._runner(session)
            self._timed(run, CALM_RUNS, MOST_RUNS, seconds)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        # Profiling has ended: what runs now is undisturbed.
        measurement = self._timed(run, CALM_RUNS, MOST_RUNS, seconds)
        return onnxruntime_graph.timings(events, WARM_UP), measurement

    def _runner(self, session: onnxruntime.InferenceSession) -> Run:
        try:
            feeds = {
                tensor.name: random_input(tensor.name, tensor.shape, tensor.type == "tensor(float)")
                for tensor in session.get_inputs()
            }
        except MemoryError as error:
            self._explain(error, "run")
        return partial(session.run, None, feeds)

    def _session(self, model: bytes, profile: str | None) -> onnxruntime.InferenceSession:
        ort = import_onnxruntime()
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
            model = onnxruntime_graph.quantized(model)
        try:
            return ort.InferenceSession(model, options, providers=self._providers())
        except Exception as error:  # onnxruntime's errors share no public base class
            self._explain(error, "load")

    def _providers(self) -> list[Any]:
        """Return the execution providers to use, the preferred one first."""
        return ["CPUExecutionProvider"]


def import_onnxruntime() -> Any:
    """Return the module, told to send nothing home."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def connections() -> list[str]:
    """Return the connections worth trying on this machine."""
    return ["cpu"]


def missing(argument: str) -> str:
    """Return '': onnxruntime comes with hwnas."""
    return ""


def default(connection: str, argument: str) -> DeviceSpec:
    """Return what a short command means on this machine's processor.

    Raises:
        UsageError: something stands behind the connection.
    """
    no_argument(connection, argument)
    return spec.shipped("cpu")


def connect(device: DeviceSpec, argument: str) -> OnnxRuntimeCpu:
    """Return the device.

    Raises:
        UsageError: onnxruntime does not run the precision.
    """
    refuse_precision(device, onnxruntime_graph.PRECISIONS)
    return OnnxRuntimeCpu(device.threads, device.precision, device.optimization)

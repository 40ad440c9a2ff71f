"""A GPU by TensorRT's Python package: the connection `cuda:INDEX`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ...errors import DeviceUnavailableError, HwnasError, UsageError
from ...lowering.kernels import Fusion
from ...store import shelf
from .. import measurement, spec
from ..measurement import KernelTiming, Measurement
from ..registry import refuse
from ..spec import DeviceSpec
from . import availability, cuda, cuda_libraries, engine_file, layers, profiler
from . import precision as precisions
from .builder import BatchProfile, Build, Builder, logger, open_batch
from .engine import Engine
from .kept import Kept
from .nvml import STEADY, Clocks

if TYPE_CHECKING:
    import onnx

FUSION = Fusion(rules="tensorrt")
"""What TensorRT fuses; changes of layout count to the kernels that need them."""

CALM_RUNS = 10
MOST_RUNS = 60
CLOCK_EVERY = 10
"""Runs between two readings of the clock, which take as long as a small network's run."""


@dataclass(frozen=True)
class GpuMeasurement(Measurement):
    """Repeated runs of one network on a GPU, by CUDA events.

    `wall_samples_s` and `cpu_samples_s` are both the GPU's time without transfers; a run is calm
    while the clock holds.

    Attributes:
        transfers_s: runs with the copies of the inputs to the GPU and of the outputs back.
        graph_s: runs as one CUDA graph; empty where it cannot be captured.
        clocks: what they were, and how to make them steady (`nvml.Clocks.document`).
    """

    transfers_s: tuple[float, ...] = ()
    graph_s: tuple[float, ...] = ()
    clocks: dict[str, Any] = field(default_factory=dict)

    def details(self) -> dict[str, Any]:
        """Return the other two series, and the clocks."""
        return {
            "with_transfers_s": median(self.transfers_s) if self.transfers_s else None,
            "with_transfers_samples_s": list(self.transfers_s),
            "cuda_graph_s": median(self.graph_s) if self.graph_s else None,
            "cuda_graph_samples_s": list(self.graph_s),
            "clocks": self.clocks,
        }


class TensorRt:
    """Builds engines of ONNX models, and times them on one GPU.

    The device `cuda:INDEX`; see `contract.Device`.

    Args:
        index: of the GPU, as CUDA counts.
        precision: `fp32`, `fp16` or `int8`.

    Raises:
        DeviceUnavailableError: driver, GPU, or packages are missing, or do not fit together.
    """

    tells_kernels = True

    def __init__(self, index: int = 0, precision: str = "fp16") -> None:
        precisions.check(precision)
        self.precision = precision
        self._index = index
        self.resource = f"cuda-{index}"
        found = availability.require_gpu(index)
        self._trt = availability.require_tensorrt(found)
        self._cuda = cuda_libraries.connect(index, found)
        self._log = logger(self._trt)
        self._clocks = Clocks(self.gpu.bus)
        self._builds: Kept[Build] = Kept()

    @property
    def gpu(self) -> cuda.Gpu:
        """The GPU."""
        return self._cuda.gpu

    @cached_property
    def place(self) -> engine_file.Place:
        """What engines that are built here are bound to."""
        gpu = self.gpu
        found = availability.Found(gpu.name, gpu.capability, gpu.multiprocessors)
        return engine_file.place(found, self._trt.__version__)

    def environment(self) -> dict[str, Any]:
        """Return machine, GPU, releases, precision, and what the clocks were while measuring."""
        return {
            **measurement.environment(),
            "runtime": f"tensorrt {self._trt.__version__}",
            "gpu": self.gpu.name,
            "capability": ".".join(map(str, self.gpu.capability)),
            "gpu_memory_bytes": self.gpu.memory_bytes,
            "cuda_driver": self.gpu.cuda_driver,
            "cuda_library": self.gpu.binding,
            "threads": 1,
            **self._clocks.limits(),
            "precision": self.precision,
            "strongly_typed": self.strongly_typed,
            "calibration": precisions.MADE_UP if self.precision == "int8" else "",
        }

    @property
    def strongly_typed(self) -> bool:
        """Whether the graph's own types decide."""
        return precisions.strongly_typed(int(self._trt.__version__.split(".")[0]))

    def fusion(self) -> Fusion:
        """Return what TensorRT fuses, as its documentation says."""
        return FUSION

    def measure(
        self, model: bytes, *, least_runs: int = 10, least_s: float = 1.0, most_s: float = 60.0
    ) -> GpuMeasurement:
        """Build a model's engine and time it: at least so many runs and so many seconds each.

        The runs with transfers and as a graph are as many, in a quarter of the seconds.

        Raises:
            HwnasError: TensorRT does not take the model, or the memory does not suffice.
            DeviceUnavailableError: the GPU stopped answering.
        """
        build, _ = self._built(model)
        engine = self._engine(build.plan)
        try:
            return self._measured(engine, least_runs, least_s, most_s)
        finally:
            engine.free()

    def measure_engine(
        self, path: Path, batch: int | None = None, *, least_s: float = 1.0
    ) -> GpuMeasurement:
        """Time an engine from its file, at one of the batches that it takes.

        Raises:
            UsageError: the file cannot be read, or does not take this batch.
            HwnasError: it was built elsewhere.
        """
        plan, _ = engine_file.load(path, self.place)
        engine = self._engine(plan, batch)
        try:
            return self._measured(engine, 10, least_s, 60.0)
        finally:
            engine.free()

    def profile(
        self, model: bytes, *, seconds: float = 0.03
    ) -> tuple[list[KernelTiming], GpuMeasurement]:
        """Time the whole network, then each layer by TensorRT's profiler.

        Raises:
            HwnasError: TensorRT does not take the model, or the memory does not suffice.
            DeviceUnavailableError: the GPU stopped answering.
        """
        build, parsed = self._built(model)
        engine = self._engine(build.plan)
        try:
            whole = GpuMeasurement(*self._compute(engine, CALM_RUNS, seconds, 60.0, MOST_RUNS))
            layer_times = profiler.layer_times(self._trt)
            runs = max(CALM_RUNS, min(MOST_RUNS, round(seconds / whole.least_s)))
            engine.profiled(layer_times, runs)
            about = layers.metadata(engine.layer_information())
        finally:
            engine.free()
        return layers.to_kernels(layer_times.layers(), about, parsed), whole

    def build(
        self,
        model: bytes,
        profiles: tuple[BatchProfile, ...] = (),
        images: Path | None = None,
        architecture: dict[str, Any] | None = None,
    ) -> tuple[bytes, engine_file.EngineCard]:
        """Return a model's engine and what is to be said of it.

        Args:
            model: an ONNX model.
            profiles: batches to tune for; by default the model's own.
            images: calibration images for `int8`.
            architecture: the architecture's document.

        Raises:
            UsageError: the images or the batches do not fit.
            HwnasError: TensorRT cannot build it.
        """
        parsed = precisions.parse(model)
        build = self._builder.build(parsed, self.precision, profiles, images)
        engine = self._engine(build.plan)
        try:
            tensors = engine.tensors()
            made_up = build.calibration == precisions.MADE_UP
            errors = {} if made_up else engine.errors(_at_any_batch(model, bool(profiles)))
        finally:
            engine.free()
        card = engine_file.EngineCard(
            self.place,
            self.gpu.cuda_driver,
            self.precision,
            build.strongly_typed,
            build.calibration,
            tuple((p.least, p.typical, p.most) for p in profiles),
            tensors,
            hashlib.sha256(build.plan).hexdigest(),
            hashlib.sha256(model).hexdigest(),
            architecture,
            errors,
        )
        return build.plan, card

    @cached_property
    def _builder(self) -> Builder:
        version, gpu = self._trt.__version__, self.gpu
        name = f"{gpu.name}-{gpu.multiprocessors}-{version}.timing".replace(" ", "_")
        folder = shelf.user_shelf("devices").parent / "tensorrt"
        return Builder(self._trt, folder / name.replace("/", "_"))

    def _built(self, model: bytes) -> tuple[Build, onnx.ModelProto]:
        parsed = precisions.parse(model)
        build = self._builds.get(model, lambda: self._builder.build(parsed, self.precision))
        return build, parsed

    def _engine(self, plan: bytes, batch: int | None = None) -> Engine:
        del self._log.errors[:]
        return Engine(self._trt, self._cuda, plan, self._log, batch)

    def _measured(
        self, engine: Engine, least_runs: int, least_s: float, most_s: float
    ) -> GpuMeasurement:
        compute = self._compute(engine, least_runs, least_s, most_s / 2, 0)
        clocks = self._clocks.document()

        def enough(samples: list[float], spent: float) -> bool:
            done = len(samples) >= least_runs and spent >= least_s / 4
            return done or spent >= most_s / 4

        transfers = engine.timed(engine.run_with_transfers, enough)
        graph = engine.graph()
        launches: list[float] = []
        if graph is not None:
            launches = engine.timed(partial(engine.launch, graph), enough)
            graph.free()
        return GpuMeasurement(
            *compute, transfers_s=tuple(transfers), graph_s=tuple(launches), clocks=clocks
        )

    def _compute(
        self, engine: Engine, least_runs: int, least_s: float, most_s: float, most_runs: int
    ) -> tuple[tuple[float, ...], tuple[float, ...], tuple[bool, ...]]:
        """Return the times without transfers, twice, and which of the runs were calm."""
        self._clocks.forget()
        clocks: list[int] = []  # of each run, as read last

        def enough(samples: list[float], spent: float) -> bool:
            if len(samples) % CLOCK_EVERY == 1:
                reading = self._clocks.read()
                clocks.append(reading.sm_mhz if reading is not None else 1)
            else:
                clocks.append(clocks[-1])
            full = bool(most_runs) and len(samples) >= most_runs
            return spent >= most_s or full or (len(samples) >= least_runs and spent >= least_s)

        samples = tuple(engine.timed(engine.run, enough))
        if not all(sample > 0 for sample in samples):
            raise HwnasError("the GPU's events show no time between them: the engine did not run.")
        calm = tuple(clock >= (1 - STEADY) * max(clocks) for clock in clocks)
        return samples, samples, calm


def _at_any_batch(model: bytes, wanted: bool) -> bytes:
    """Return a model with an open batch where that is wanted."""
    if not wanted:
        return model
    parsed = precisions.parse(model)
    open_batch(parsed)
    opened: bytes = parsed.SerializeToString()
    return opened


def connections() -> list[str]:
    """Return the connections worth trying on this machine."""
    return ["cuda:0"]


def missing(argument: str) -> str:
    """Return what is missing, with the command that mends it; '' where nothing is.

    Raises:
        UsageError: the argument is not the number of a GPU.
    """
    index = _index(argument)
    try:
        found = availability.require_gpu(index)
        availability.require_tensorrt(found)
        availability.require_cuda(found)
    except DeviceUnavailableError as error:
        return str(error)
    return ""


def default(connection: str, argument: str) -> DeviceSpec:
    """Return what a short command means on it: what it means on the shipped V100, in FP16."""
    return gpu_defaults(connection, f"cuda-{_index(argument)}", f"GPU {_index(argument)}")


def gpu_defaults(connection: str, name: str, about: str) -> DeviceSpec:
    """Return a device like the shipped V100, by another connection."""
    like = spec.shipped("v100-trt-fp16")
    shown = f"{about} of this machine, TensorRT, FP16, batches of 32 at 480x480"
    return replace(like, name=name, about=shown, connection=connection, fusion=FUSION)


def connect(device: DeviceSpec, argument: str) -> TensorRt:
    """Return the device.

    Raises:
        UsageError: TensorRT does not run what the device asks for.
        DeviceUnavailableError: driver, GPU or packages are missing.
    """
    refuse(device, precisions.PRECISIONS)
    return TensorRt(_index(argument), device.precision)


def _index(argument: str) -> int:
    if not argument.isdecimal():
        raise UsageError(f"'cuda:{argument}' names no GPU; give its number, cuda:0 for the first.")
    return int(argument)

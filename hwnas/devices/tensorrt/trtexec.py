"""A GPU by NVIDIA's command-line tool: the connection `trtexec[:INDEX]`.

For machines where TensorRT was installed without its Python package. trtexec 11 changed its
defaults: CUDA graphs and no transfers, strong typing, a profile in a run of its own.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from ...errors import DeviceUnavailableError, HwnasError, UsageError
from ...lowering.kernels import Fusion
from ...store import shelf
from .. import measurement
from ..measurement import UNKNOWN, KernelTiming
from ..registry import refuse
from ..spec import DeviceSpec
from . import availability, device, engine_file, layers, trtexec_files
from . import precision as precisions
from .builder import BatchProfile, open_batch
from .device import FUSION, GpuMeasurement
from .kept import Kept

PLACES = ("/usr/src/tensorrt/bin/trtexec", "/opt/tensorrt/bin/trtexec")
"""Where NVIDIA's packages and containers put it, outside the usual path."""

WARM_UP_MS = 200
MANY_RUNS = 100
"""More runs than these are not asked for before it is known how long one takes."""

BUILD_TIMEOUT_S = 3600.0


class Trtexec:
    """Builds and times engines by trtexec; see `contract.Device`.

    Args:
        index: of the GPU, as CUDA counts.
        precision: `fp32`, `fp16` or `int8`.

    Raises:
        DeviceUnavailableError: there is no GPU or no trtexec, or it no longer supports the GPU.
    """

    tells_kernels = True

    def __init__(self, index: int = 0, precision: str = "fp16") -> None:
        self.precision = precision
        self.resource = f"cuda-{index}"
        self._index = index
        self._gpu = availability.require_gpu(index)
        self._tool = tool()
        self._version = trtexec_files.version(self._printed("--help"))
        availability.require_supported(self._version, self._gpu)
        self._engines: Kept[tuple[bytes, str]] = Kept()

    @property
    def strongly_typed(self) -> bool:
        """Whether the graph's own types decide."""
        return precisions.strongly_typed(int(self._version.split(".")[0]))

    def environment(self) -> dict[str, Any]:
        """Return machine, GPU, release and precision."""
        return {
            **measurement.environment(),
            "runtime": f"trtexec {self._version}",
            "gpu": self._gpu.name,
            "capability": ".".join(map(str, self._gpu.capability)),
            "driver": UNKNOWN,
            "clock": UNKNOWN,
            "power_mode": UNKNOWN,
            "threads": 1,
            "precision": self.precision,
            "strongly_typed": self.strongly_typed,
            "calibration": precisions.MADE_UP if self.precision == "int8" else "",
        }

    def fusion(self) -> Fusion:
        """Return what TensorRT fuses, as its documentation says."""
        return FUSION

    @cached_property
    def place(self) -> engine_file.Place:
        """What engines that are built here are bound to."""
        return engine_file.place(self._gpu, self._version)

    def measure(
        self, model: bytes, *, least_runs: int = 10, least_s: float = 1.0, most_s: float = 60.0
    ) -> GpuMeasurement:
        """Build a model's engine and time it, with and without transfers and as a CUDA graph.

        Raises:
            HwnasError: trtexec does not take the model, or the memory does not suffice.
            DeviceUnavailableError: the GPU stopped answering.
        """
        with self._loaded(model) as folder:
            return self._timed(folder, least_runs, least_s, most_s)

    def measure_engine(
        self, path: Path, batch: int | None = None, *, least_s: float = 1.0
    ) -> GpuMeasurement:
        """Time an engine from its file.

        Raises:
            UsageError: the file cannot be read.
            HwnasError: it was built elsewhere.
        """
        plan, card = engine_file.load(path, self.place)
        shapes = _shapes(card, batch)
        with tempfile.TemporaryDirectory(prefix="hwnas-") as name:
            (Path(name) / "model.engine").write_bytes(plan)
            return self._timed(Path(name), 10, least_s, 60.0, *shapes)

    def profile(
        self, model: bytes, *, seconds: float = 0.03
    ) -> tuple[list[KernelTiming], GpuMeasurement]:
        """Time the whole network, then each layer by trtexec's profile: medians, no samples.

        Raises:
            HwnasError: trtexec does not take the model, or the memory does not suffice.
            DeviceUnavailableError: the GPU stopped answering.
        """
        with self._loaded(model) as folder:
            separate = [] if self.strongly_typed else ["--separateProfileRun"]
            information = folder / "layers.json"
            compute, latency = self._run(
                folder,
                *self._plain_runs(),
                *separate,
                f"--iterations={device.CALM_RUNS}",
                f"--duration={seconds:g}",
                f"--exportProfile={folder / 'profile.json'}",
                f"--exportLayerInfo={information}",
            )
            timings = trtexec_files.layer_times(folder / "profile.json")
            told = information.read_text(encoding="utf-8") if information.is_file() else "{}"
        kernels = layers.to_kernels(timings, layers.metadata(told), precisions.parse(model))
        return kernels, GpuMeasurement(
            tuple(compute), tuple(compute), (True,) * len(compute), transfers_s=tuple(latency)
        )

    def build(
        self,
        model: bytes,
        profiles: tuple[BatchProfile, ...] = (),
        images: Path | None = None,
        architecture: dict[str, Any] | None = None,
    ) -> tuple[bytes, engine_file.EngineCard]:
        """Return a model's engine and what is to be said of it; see `TensorRt.build`."""
        parsed = precisions.parse(model)
        plan, calibration = self._built(model, profiles, images)
        tensors = [
            {"name": tensor.name, "input": given, "type": "FLOAT", "shape": [
                -1 if profiles and i == 0 else dim.dim_value
                for i, dim in enumerate(tensor.type.tensor_type.shape.dim)
            ]}
            for given, group in ((True, parsed.graph.input), (False, parsed.graph.output))
            for tensor in group
        ]  # fmt: skip
        card = engine_file.EngineCard(
            self.place,
            UNKNOWN,
            self.precision,
            self.strongly_typed,
            calibration,
            tuple((p.least, p.typical, p.most) for p in profiles),
            tensors,
            hashlib.sha256(plan).hexdigest(),
            hashlib.sha256(model).hexdigest(),
            architecture,
        )
        return plan, card

    def _timed(
        self, folder: Path, least_runs: int, least_s: float, most_s: float, *options: str
    ) -> GpuMeasurement:
        runs = least_runs
        if runs > MANY_RUNS:
            compute, _ = self._run(folder, *self._plain_runs(), *options, "--duration=0")
            runs = max(1, min(runs, int(most_s / min(compute))))
        wanted = [f"--iterations={runs}", f"--duration={min(least_s, most_s):g}", *options]
        compute, latency = self._run(folder, *self._plain_runs(), *wanted)
        as_graph = [] if self.strongly_typed else ["--useCudaGraph"]
        graph, _ = self._run(folder, *as_graph, *wanted)
        return GpuMeasurement(
            tuple(compute),
            tuple(compute),
            (True,) * len(compute),
            transfers_s=tuple(latency),
            graph_s=tuple(graph),
        )

    def _plain_runs(self) -> list[str]:
        """Return what runs without a CUDA graph, with transfers, is asked for by."""
        if self.strongly_typed:
            return ["--includeDataTransfers", "--noCudaGraph"]
        return ["--useSpinWait"]

    def _run(self, folder: Path, *options: str) -> tuple[list[float], list[float]]:
        path = folder / "times.json"
        path.unlink(missing_ok=True)
        self._printed(
            f"--loadEngine={folder / 'model.engine'}",
            f"--warmUp={WARM_UP_MS}",
            f"--exportTimes={path}",
            *options,
        )
        return trtexec_files.times(path)

    @contextmanager
    def _loaded(self, model: bytes) -> Iterator[Path]:
        """Give a folder with the model's engine, built once."""
        engine, _ = self._engines.get(model, lambda: self._built(model))
        with tempfile.TemporaryDirectory(prefix="hwnas-") as name:
            (Path(name) / "model.engine").write_bytes(engine)
            yield Path(name)

    def _built(
        self, model: bytes, profiles: tuple[BatchProfile, ...] = (), images: Path | None = None
    ) -> tuple[bytes, str]:
        parsed = precisions.parse(model)
        prepared, calibration = precisions.prepare(
            parsed, self.precision, self.strongly_typed, images
        )
        shapes = _profile_options(prepared, profiles)
        if profiles:
            open_batch(prepared)
        typed = {"fp32": [], "fp16": ["--fp16"], "int8": ["--fp16", "--int8"]}[self.precision]
        cache = shelf.user_shelf("devices").parent / "tensorrt" / "trtexec.timing"
        with tempfile.TemporaryDirectory(prefix="hwnas-") as name:
            source, target = Path(name) / "model.onnx", Path(name) / "model.engine"
            source.write_bytes(prepared.SerializeToString())
            cache.parent.mkdir(parents=True, exist_ok=True)
            self._printed(
                f"--onnx={source}",
                f"--saveEngine={target}",
                f"--timingCacheFile={cache}",
                "--skipInference",
                "--profilingVerbosity=detailed",
                "--maxAuxStreams=0",
                *([] if self.strongly_typed else typed),
                *shapes,
            )
            try:
                return target.read_bytes(), calibration
            except OSError:
                raise HwnasError("trtexec says that it built an engine, and wrote none.") from None

    def _printed(self, *options: str) -> str:
        """Run trtexec and return what it prints.

        Raises:
            HwnasError, DeviceUnavailableError: it fails; see `trtexec_files.failure`.
        """
        command = [self._tool, f"--device={self._index}", *options]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=BUILD_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HwnasError(
                f"trtexec did not end within {BUILD_TIMEOUT_S:.0f} s: {' '.join(options)}."
            ) from None
        except OSError as error:
            raise DeviceUnavailableError(f"{self._tool} cannot be run: {error.strerror}.") from None
        if done.returncode != 0:
            raise trtexec_files.failure(done.stdout)
        return done.stdout


def _profile_options(model: Any, profiles: tuple[BatchProfile, ...]) -> list[str]:
    """Return the options that ask for optimisation profiles of a model's inputs."""
    options = []
    for i, batches in enumerate(profiles):
        options += [f"--profile={i}"] if len(profiles) > 1 else []
        for name, count in zip(
            ("min", "opt", "max"), (batches.least, batches.typical, batches.most), strict=True
        ):
            shapes = []
            for tensor in model.graph.input:
                rest = [dim.dim_value for dim in tensor.type.tensor_type.shape.dim][1:]
                shapes.append(f"{tensor.name}:{'x'.join(map(str, (count, *rest)))}")
            options.append(f"--{name}Shapes={','.join(shapes)}")
    return options


def _shapes(card: engine_file.EngineCard, batch: int | None) -> list[str]:
    """Return the option for an engine whose batch is open.

    Raises:
        UsageError: it does not take this batch.
    """
    inputs = [tensor for tensor in card.tensors if tensor["input"]]
    if not card.profiles:
        own = inputs[0]["shape"][0]
        if batch not in (None, own):
            raise UsageError(f"the engine takes {own} images at a time, not {batch}.")
        return []
    wanted = batch or card.profiles[0][1]
    fitting = [i for i, (least, _, most) in enumerate(card.profiles) if least <= wanted <= most]
    if not fitting:
        known = ", ".join(f"{least} to {most}" for least, _, most in card.profiles)
        raise UsageError(f"the engine takes {known} images at a time, not {wanted}.")
    nearest = min(fitting, key=lambda i: abs(card.profiles[i][1] - wanted))
    shapes = [f"{t['name']}:{'x'.join(map(str, (wanted, *t['shape'][1:])))}" for t in inputs]
    return [f"--shapes={','.join(shapes)}", f"--useProfile={nearest}"]


def tool() -> str:
    """Return where trtexec is.

    Raises:
        DeviceUnavailableError: nowhere.
    """
    found = shutil.which("trtexec") or next((p for p in PLACES if Path(p).is_file()), None)
    if found is None:
        raise DeviceUnavailableError(
            f"trtexec is not on the path, nor at {PLACES[0]}. NVIDIA's TensorRT packages bring it "
            f"('apt install libnvinfer-bin'); with Python, {availability.INSTALL} and "
            "--device cuda:0 do without."
        )
    return found


def connections() -> list[str]:
    """Return the connections worth trying on this machine."""
    return ["trtexec"]


def missing(argument: str) -> str:
    """Return what is missing, with the command that mends it; '' where nothing is.

    Raises:
        UsageError: the argument is not the number of a GPU.
    """
    try:
        availability.require_gpu(_index(argument))
        tool()
    except DeviceUnavailableError as error:
        return str(error)
    return ""


def default(connection: str, argument: str) -> DeviceSpec:
    """Return what a short command means on it: what it means on the shipped V100, in FP16."""
    index = _index(argument)
    return device.gpu_defaults(connection, f"trtexec-{index}", f"trtexec on GPU {index}")


def connect(device: DeviceSpec, argument: str) -> Trtexec:
    """Return the device.

    Raises:
        UsageError: TensorRT does not run what the device asks for.
        DeviceUnavailableError: driver, GPU or trtexec are missing.
    """
    refuse(device, precisions.PRECISIONS)
    return Trtexec(_index(argument), device.precision)


def _index(argument: str) -> int:
    if argument and not argument.isdecimal():
        raise UsageError(f"'trtexec:{argument}' names no GPU; give its number, or trtexec alone.")
    return int(argument or 0)

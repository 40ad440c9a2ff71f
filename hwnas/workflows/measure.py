"""Time a network on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..architecture.detectors import Detector, Part, attach
from ..architecture.genotype import Architecture, lower
from ..architecture.graph import Size
from ..devices.contract import Device
from ..devices.lease import lease
from ..devices.measurement import Measurement
from ..devices.registry import connect, described
from ..devices.spec import DeviceSpec
from ..devices.tensorrt.device import TensorRt
from ..devices.tensorrt.trtexec import Trtexec
from ..errors import UsageError
from ..lowering.onnx_writer import to_onnx
from ..lowering.weights import filler

ENGINE = ".engine"
"""How the file of a TensorRT engine ends."""


def measure(
    model: Architecture | Path,
    device: str,
    resolution: Size | None = None,
    batch: int | None = None,
    seconds: float = 2.0,
    *,
    detector: Detector | None = None,
) -> dict[str, Any]:
    """Return the measured latency of an architecture or an ONNX file as a JSON document.

    With a detector its graphs are timed one after the other, and their times added up.

    Raises:
        UsageError: the file cannot be read.
        DeviceUnavailableError: the device cannot be reached from here, or is being measured.
        HwnasError: its runtime does not run the model.
    """
    place = described(device)
    runtime = connect(place)
    if isinstance(model, Path) and model.suffix == ENGINE:
        timed = _timed_engine(runtime, model, resolution, batch, seconds)
        return _document(place, runtime, {"": timed})
    if isinstance(model, Path):
        if resolution or batch or detector:
            raise UsageError(
                "an ONNX file has its own input size and layers: leave --resolution, --batch and "
                "--detector out."
            )
        try:
            models = {"": model.read_bytes()}
        except OSError as error:
            raise UsageError(f"cannot read {model}: {error.strerror}.") from None
    else:
        graph = lower(model, resolution or place.resolution, batch=batch or place.batch)
        parts = attach(graph, detector) if detector else (Part("", graph),)
        models = {
            part.name: to_onnx(part.graph, filler(part.graph)).SerializeToString() for part in parts
        }
    with lease(runtime.resource):
        each = {name: runtime.measure(data, least_s=seconds) for name, data in models.items()}
    return _document(place, runtime, each)


def _timed_engine(
    runtime: Device, path: Path, resolution: Size | None, batch: int | None, seconds: float
) -> Measurement:
    """Time an engine, which only TensorRT's devices run, and only where it was built."""
    if not isinstance(runtime, TensorRt | Trtexec):
        raise UsageError(
            f"{path} is a TensorRT engine: measure it with --device cuda:0, where it was built."
        )
    if resolution:
        raise UsageError("an engine has its own input size: leave --resolution out.")
    with lease(runtime.resource):
        return runtime.measure_engine(path, batch, least_s=seconds)


def _document(place: DeviceSpec, runtime: Device, each: dict[str, Measurement]) -> dict[str, Any]:
    """Return what was measured: of one graph, or of a detector's parts, which add up."""
    measured = next(iter(each.values()))
    document = {
        "schema": "hwnas.measure/1",
        "device": place.name,
        "latency_s": measured.latency_s,
        "wall_s": measured.wall_s,
        "cpu_s": measured.cpu_s,
        "contended": measured.contended,
        "samples_s": list(measured.wall_samples_s),
        "cpu_samples_s": list(measured.cpu_samples_s),
        **(measured.details() if len(each) == 1 else {}),
        "environment": runtime.environment(),
    }
    if len(each) > 1:
        document["parts_s"] = {name: one.latency_s for name, one in each.items()}
        for key in ("latency_s", "wall_s", "cpu_s"):
            document[key] = sum(getattr(one, key) for one in each.values())
        document["contended"] = any(one.contended for one in each.values())
        # Samples of different graphs belong to none of them together.
        del document["samples_s"], document["cpu_samples_s"]
    return document

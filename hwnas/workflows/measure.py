"""Time a network on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..architecture.genotype import Architecture, lower
from ..architecture.graph import Size
from ..devices import spec
from ..errors import DeviceUnavailableError, UsageError
from ..lowering.onnx_writer import to_onnx
from ..lowering.weights import filler
from .profile import connect


def measure(
    model: Architecture | Path,
    device: str,
    resolution: Size | None = None,
    batch: int | None = None,
    seconds: float = 2.0,
) -> dict[str, Any]:
    """Return the measured latency of an architecture or an ONNX file as a JSON document.

    Raises:
        UsageError: the file cannot be read.
        DeviceUnavailableError: the device cannot be reached from here.
        HwnasError: its runtime does not run the model.
    """
    place = spec.load(device)
    if not place.connection:
        raise DeviceUnavailableError(
            f"'{device}' cannot be reached from here; 'hwnas predict' answers without it."
        )
    if isinstance(model, Path):
        if resolution or batch:
            raise UsageError(
                "an ONNX file has its own input size: leave --resolution and --batch out."
            )
        try:
            data = model.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {model}: {error.strerror}.") from None
    else:
        graph = lower(model, resolution or place.resolution, batch=batch or place.batch)
        data = to_onnx(graph, filler(graph)).SerializeToString()
    runtime = connect(place)
    measured = runtime.measure(data, least_s=seconds)
    return {
        "schema": "hwnas.measure/1",
        "device": place.name,
        "latency_s": measured.latency_s,
        "wall_s": measured.wall_s,
        "cpu_s": measured.cpu_s,
        "contended": measured.contended,
        "samples_s": list(measured.wall_samples_s),
        "cpu_samples_s": list(measured.cpu_samples_s),
        "environment": runtime.environment(),
    }

"""Hand a backbone over as a TensorRT engine, for the GPU that it is built on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..architecture.genotype import Architecture, lower, to_document
from ..architecture.graph import Size
from ..devices.lease import lease
from ..devices.registry import connect, described
from ..devices.tensorrt import engine_file
from ..devices.tensorrt.builder import BatchProfile
from ..devices.tensorrt.device import TensorRt
from ..devices.tensorrt.trtexec import Trtexec
from ..errors import UsageError
from ..lowering.onnx_writer import to_onnx
from ..lowering.weights import he_normal
from .measure import ENGINE


def export_engine(
    source: Architecture | Path,
    device: str,
    precision: str,
    out: Path | None = None,
    *,
    resolution: Size = (224, 224),
    batch: int = 1,
    batches: Sequence[BatchProfile] = (),
    images: Path | None = None,
    seed: int = 0,
    force: bool = False,
) -> dict[str, Any]:
    """Build an engine, write it with its JSON beside, and return a JSON document about it.

    Args:
        source: an architecture (fresh He-initialised weights), or the ONNX file of a trained model.
        device: the connection, `cuda:0` or `trtexec`, or a device of that connection.
        precision: `fp32`, `fp16` or `int8`.
        out: the file; by default named after the source and the precision.
        resolution: height and width of an architecture's input.
        batch: images at a time of an architecture.
        batches: optimisation profiles; then the engine takes any batch in one of them.
        images: a folder of images that INT8 is calibrated on.
        seed: of an architecture's weights.
        force: replace an existing file.

    Raises:
        UsageError: the device runs no engines, the file exists, or the images do not fit.
        DeviceUnavailableError: the GPU cannot be reached.
        HwnasError: TensorRT cannot build the engine.
    """
    place = replace(described(device), precision=precision)
    named = source.stem if isinstance(source, Path) else source.name or "backbone"
    path = out or Path(f"{named}-{precision}{ENGINE}")
    if path.exists() and not force:
        raise UsageError(f"{path} exists already: choose another file with --out, or give --force.")
    runtime = connect(place)
    if not isinstance(runtime, TensorRt | Trtexec):
        raise UsageError(f"'{device}' builds no engines: give --device cuda:0 or trtexec.")
    document = None
    if isinstance(source, Path):
        try:
            model = source.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {source}: {error.strerror}.") from None
    else:
        document = to_document(source)
        graph = lower(source, resolution, batch=batch)
        about = {"architecture": json.dumps(document)}
        model = to_onnx(graph, he_normal(graph, seed), metadata=about).SerializeToString()
    with lease(runtime.resource):
        plan, card = runtime.build(model, tuple(batches), images, document)
    engine_file.save(path, plan, card)
    return {
        "schema": "hwnas.export/1",
        "format": "tensorrt",
        "path": str(path),
        "card": str(engine_file.card_path(path)),
        "bytes": len(plan),
        "sha256": card.sha256,
        "precision": precision,
        "strongly_typed": card.strongly_typed,
        "calibration": card.calibration,
        "gpu": card.place.gpu,
        "tensorrt": card.place.tensorrt,
        "batches": [list(profile) for profile in card.profiles],
        "tensors": card.tensors,
        "errors": card.errors,
    }

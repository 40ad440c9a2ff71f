"""Hand a whole detector over: as ONNX files, or as torch modules in one Python file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..architecture.detectors import IMAGE, Detector, Part, attach, spelled
from ..architecture.genotype import Architecture, lower, to_document
from ..architecture.graph import Size
from ..errors import UsageError, did_you_mean
from ..lowering.detector_writer import to_source
from ..lowering.onnx_writer import IMAGES, to_onnx
from ..lowering.weights import he_normal, output_name
from ..store.files import write_atomic

FORMATS = {"onnx": ".onnx", "torch": ".py"}
REGIONS = "regions"


def export_detector(
    architecture: Architecture,
    detector: Detector,
    format: str,
    out: Path | None = None,
    *,
    resolution: Size = (224, 224),
    batch: int = 1,
    seed: int = 0,
    fold_norm: bool = True,
    force: bool = False,
) -> dict[str, Any]:
    """Write a detector with a backbone and return a JSON document about it.

    Args:
        architecture: the backbone.
        detector: what follows it.
        format: `onnx`, one file a part with fresh He-initialised weights, or `torch`, one Python
            file for all parts.
        out: the file, of the image's part; the others are called after it, as in `net-box.onnx`.
        resolution: height and width that the ONNX files state.
        batch: images at a time that the ONNX files state; a part that looks at regions takes as
            many as there are of these images.
        seed: of the weights.
        fold_norm: fold batch normalisations into their convolutions.
        force: replace existing files.

    Raises:
        UsageError: a format that detectors do not have, or a file exists.
        HwnasError: a file cannot be written.
    """
    if format not in FORMATS:
        raise UsageError(
            f"a whole detector is not written as '{format}'.{did_you_mean(format, FORMATS)} "
            f"Known: {', '.join(FORMATS)}. Leave --detector out to export the backbone."
        )
    name = f"{architecture.name or 'backbone'}-{detector.name}"
    path = out or Path(name + FORMATS[format])
    parts = attach(lower(architecture, resolution, batch=batch), detector)
    files = {part.name: _beside(path, part) if format == "onnx" else path for part in parts}
    for taken in dict.fromkeys(files.values()):
        if taken.exists() and not force:
            raise UsageError(
                f"{taken} exists already: choose another file with --out, or give --force."
            )
    about = {
        "architecture": json.dumps(to_document(architecture)),
        "detector": spelled(detector),
    }
    described = []
    for part in parts:
        if format == "onnx":
            model = to_onnx(
                part.graph,
                he_normal(part.graph, seed),
                fold_norm=fold_norm,
                metadata={**about, "part": part.name},
                input_name=IMAGES if part.name == IMAGE else REGIONS,
            )
            data: bytes = model.SerializeToString()
        else:
            data = to_source(architecture, detector).encode()
        write_atomic(files[part.name], data)
        described.append(
            {
                "name": part.name,
                "path": str(files[part.name]),
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "input": [part.graph.batch, int(part.graph.channels), *part.graph.size],
                "outputs": [
                    {"name": output_name(o), "channels": int(o.out_channels), "size": o.out_size}
                    for o in part.graph.layers
                    if o.op == "output"
                ],
            }
        )
    return {
        "schema": "hwnas.export-detector/1",
        "format": format,
        "detector": spelled(detector),
        "resolution": list(resolution),
        "batch": batch,
        "parts": described,
    }


def _beside(path: Path, part: Part) -> Path:
    """Return the file of a part: the image's is `path`, another's is called after it."""
    if part.name == IMAGE:
        return path
    return path.with_name(f"{path.stem}-{part.name}{path.suffix}")

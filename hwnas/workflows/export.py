"""Hand a backbone over: as an ONNX file, or as a torch module in one Python file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..architecture.genotype import Architecture, lower, to_document
from ..architecture.graph import Size
from ..errors import UsageError, did_you_mean
from ..lowering.onnx_writer import to_onnx
from ..lowering.torch_writer import to_source
from ..lowering.weights import he_normal
from ..store.files import write_atomic

FORMATS = {"onnx": ".onnx", "torch": ".py"}


def export(
    architecture: Architecture,
    format: str,
    out: Path | None = None,
    *,
    resolution: Size = (224, 224),
    batch: int = 1,
    seed: int = 0,
    fold_norm: bool = True,
    force: bool = False,
) -> dict[str, Any]:
    """Write an architecture to a file and return a JSON document about it.

    Args:
        architecture: what to export.
        format: `onnx` (fresh He-initialised weights) or `torch` (a file that imports only torch).
        out: the file; by default the architecture's name in the working directory.
        resolution: height and width that the ONNX file states.
        batch: images at a time that the ONNX file states.
        seed: of the weights.
        fold_norm: fold normalisations into their convolutions.
        force: replace an existing file.

    Raises:
        UsageError: an unknown format, or the file exists.
        HwnasError: the file cannot be written.
    """
    if format not in FORMATS:
        raise UsageError(
            f"unknown format '{format}'.{did_you_mean(format, FORMATS)} "
            f"Known: {', '.join(FORMATS)}."
        )
    path = out or Path(f"{architecture.name or 'backbone'}{FORMATS[format]}")
    if path.exists() and not force:
        raise UsageError(f"{path} exists already: choose another file with --out, or give --force.")
    graph = lower(architecture, resolution, batch=batch)
    if format == "onnx":
        about = {"architecture": json.dumps(to_document(architecture))}
        weights = he_normal(graph, seed)
        model = to_onnx(graph, weights, fold_norm=fold_norm, metadata=about)
        data: bytes = model.SerializeToString()
    else:
        data = to_source(architecture).encode()
    write_atomic(path, data)
    outputs = graph.outputs()
    return {
        "schema": "hwnas.export/1",
        "format": format,
        "path": str(path),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "resolution": list(resolution),
        "batch": batch,
        "outputs": [
            {"name": f"C{stage}", "channels": layer.out_channels, "reduction": 2**stage}
            for stage, layer in sorted(outputs.items())
        ],
    }

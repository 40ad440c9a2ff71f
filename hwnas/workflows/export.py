"""Hand a backbone over: as an ONNX file, as torch modules for several frameworks, as a text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..architecture.genotype import Architecture, lower, to_document
from ..architecture.graph import Size
from ..errors import UsageError, did_you_mean
from ..integrations import tinynas
from ..integrations.sources import mmdet_sources, timm_source, torchvision_source
from ..lowering.onnx_writer import to_onnx
from ..lowering.torch_writer import to_source
from ..lowering.weights import he_normal
from ..store.files import new_folder, write_atomic
from .precision import check_precision, in_precision


class _Format(NamedTuple):
    suffix: str
    source: Callable[[Architecture], str | dict[str, str]] | None = None


FORMATS = {
    "onnx": _Format(".onnx"),
    "torch": _Format(".py", to_source),
    "torchvision": _Format(".py", torchvision_source),
    "timm": _Format(".py", timm_source),
    "mmdet": _Format("", mmdet_sources),
    "tinynas": _Format(".txt", tinynas.write),
}


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
    precision: str = "fp32",
    images: Path | None = None,
) -> dict[str, Any]:
    """Write an architecture to a file, or a folder, and return a JSON document about it.

    Args:
        architecture: what to export.
        format: `onnx` (fresh He-initialised weights); `torch`, `torchvision` or `timm` (a Python
            file that imports only what it is named after); `mmdet` (a folder: a module and configs
            of mmdetection 3.x); `tinynas` (the reference toolbox's structure text).
        out: the file, or the folder; by default the architecture's name in the working directory.
        resolution: height and width that the ONNX file states.
        batch: images at a time that the ONNX file states.
        seed: of the weights in the ONNX file.
        fold_norm: fold normalisations into their convolutions in the ONNX file.
        force: replace an existing file, or a folder that holds nothing but an earlier export.
        precision: `fp32`; of the ONNX file also `fp16` or `int8` (`lowering.variants`).
        images: a folder of images that INT8 is calibrated on.

    Raises:
        UsageError: an unknown format or precision, the file exists, or the format cannot express
            the network.
        HwnasError: the file cannot be written, or the variant's error is absurd.
    """
    if format not in FORMATS:
        raise UsageError(
            f"unknown format '{format}'.{did_you_mean(format, FORMATS)} "
            f"Known: {', '.join((*FORMATS, 'tensorrt'))}."
        )
    check_precision(format, precision, images)
    suffix, source = FORMATS[format]
    named = architecture.name or "backbone"
    if precision != "fp32":
        named += f"-{precision}"
    path = out or Path(f"{named}{suffix}")
    if path.exists() and not force:
        raise UsageError(f"{path} exists already: choose another place with --out, or --force.")
    graph = lower(architecture, resolution, batch=batch)
    told: dict[str, Any] = {}
    made: str | bytes | dict[str, str]
    if source:
        made = source(architecture)
    else:
        about = {"architecture": json.dumps(to_document(architecture))}
        model = to_onnx(graph, he_normal(graph, seed), fold_norm=fold_norm, metadata=about)
        model, told = in_precision(model, precision, images)
        made = model.SerializeToString()
    if isinstance(made, dict):
        written = {path / name: text.encode() for name, text in made.items()}
        _write_folder(path, made)
    else:
        written = {path: made.encode() if isinstance(made, str) else made}
        write_atomic(path, written[path])
    files = [
        {"path": str(p), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for p, data in written.items()
    ]
    return {
        "schema": "hwnas.export/1",
        "format": format,
        "path": str(path),
        "bytes": sum(len(data) for data in written.values()),
        # Of a folder each file has its own.
        "sha256": None if isinstance(made, dict) else files[0]["sha256"],
        "files": files,
        "resolution": list(resolution),
        "batch": batch,
        "outputs": [
            {"name": f"C{stage}", "channels": layer.out_channels, "reduction": 2**stage}
            for stage, layer in sorted(graph.outputs().items())
        ],
        **told,
    }


def _write_folder(path: Path, texts: dict[str, str]) -> None:
    """Write a folder as a whole; one that exists is only replaced if nothing is lost by it."""
    if path.exists():
        found = {p.name for p in path.iterdir()} if path.is_dir() else {path.name}
        foreign = sorted(found - set(texts) - {"__pycache__"})
        if foreign:
            raise UsageError(
                f"{path} holds '{foreign[0]}', which is not part of this export: choose another "
                "place with --out."
            )
    with new_folder(path) as folder:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")

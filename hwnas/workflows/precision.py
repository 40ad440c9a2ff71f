"""ONNX files in another precision than float32."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ..errors import UsageError, did_you_mean
from ..lowering.onnx_shapes import load
from ..lowering.variants import PRECISIONS, variant
from ..store.files import write_atomic


def convert(
    source: Path,
    precision: str,
    out: Path | None = None,
    *,
    images: Path | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write an ONNX file in another precision, and return a JSON document about it.

    Args:
        source: a float model, trained as a rule.
        precision: `fp16` or `int8`.
        out: the file; by default beside the source, with the precision behind its name.
        images: a folder of images that INT8 is calibrated on.
        force: replace an existing file.

    Raises:
        UsageError: the source is not a float model, an unknown precision, or the file exists.
        HwnasError: the file cannot be written, or the variant's error is absurd.
    """
    check_precision("onnx", precision, images)
    if precision == "fp32":
        raise UsageError(f"{source} is to be written as it is: give --precision fp16 or int8.")
    path = out or source.with_name(f"{source.stem}-{precision}.onnx")
    if path.exists() and not force:
        raise UsageError(f"{path} exists already: choose another file with --out, or give --force.")
    import onnx

    load(source)  # says what is wrong with a file that is none
    model, told = in_precision(onnx.load(str(source)), precision, images)
    data: bytes = model.SerializeToString()
    write_atomic(path, data)
    return {
        "schema": "hwnas.export/1",
        "format": "onnx",
        "path": str(path),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "outputs": [],
        **told,
    }


def check_precision(format: str, precision: str, images: Path | None) -> None:
    """Raise where precision and calibration do not go with a format.

    Raises:
        UsageError: they do not.
    """
    if precision not in PRECISIONS:
        raise UsageError(
            f"unknown precision '{precision}'.{did_you_mean(precision, PRECISIONS)} "
            f"Known: {', '.join(PRECISIONS)}."
        )
    if precision != "fp32" and format != "onnx":
        raise UsageError(f"--precision {precision} goes with --format onnx, not {format}.")
    if images is not None and precision != "int8":
        raise UsageError("--calibrate goes with --precision int8: only its ranges are calibrated.")


def in_precision(model: Any, precision: str, images: Path | None) -> tuple[Any, dict[str, Any]]:
    """Return a model in a precision, and what its document says about that.

    Raises:
        UsageError, HwnasError: as `lowering.variants.variant`.
    """
    if precision == "fp32":
        return model, {"precision": precision}
    made = variant(model, precision, images)
    return made.model, {
        "precision": precision,
        "calibration": made.calibration,
        "error": made.error,
        "errors": made.errors,
    }

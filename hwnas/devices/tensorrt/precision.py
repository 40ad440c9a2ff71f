"""In which types a model runs: what the graph states, and what the builder is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import HwnasError, UsageError
from ...lowering import explicit_qdq
from ...lowering.half import to_half
from ...lowering.variants import calibration_images

if TYPE_CHECKING:
    import onnx

PRECISIONS = ("fp32", "fp16", "int8")

HALF_QDQ_OPSET = 19
"""The first ONNX opset in which QuantizeLinear takes FP16."""

MADE_UP = "ranges made up: for timing, not for use"
"""What is said of INT8 that no image has calibrated."""


def check(precision: str) -> None:
    """Raise an error where TensorRT knows no such precision.

    Raises:
        UsageError: it does not.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"the precision is '{precision}'; TensorRT's are {', '.join(PRECISIONS)}.")


def parse(data: bytes) -> onnx.ModelProto:
    """Return the ONNX model of a file's bytes.

    Raises:
        HwnasError: they are not an ONNX model.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # of whichever protobuf onnx came with
        raise HwnasError("TensorRT does not load the model: it is not an ONNX file.") from None
    if not model.graph.node:
        raise HwnasError("TensorRT does not load the model: it has no nodes.")
    return model


def strongly_typed(release: int) -> bool:
    """Whether a major release of TensorRT computes in the types that the graph states.

    From 11 on it knows nothing else; before, flags say what it may choose from, and it knows best.
    """
    return release >= 11


def prepare(
    model: onnx.ModelProto, precision: str, strong: bool, images: Path | None = None
) -> tuple[onnx.ModelProto, str]:
    """Return the model to build from, and where the ranges of an INT8 model come from.

    INT8 is explicit: QDQ pairs in the graph. What they leave out runs in FP16.

    Args:
        model: a float model, or for `int8` one that has QDQ pairs already.
        precision: `fp32`, `fp16` or `int8`.
        strong: whether the graph's own types decide.
        images: a folder of calibration images.

    Raises:
        UsageError: the images cannot be used, or the model is quantised already.
        DeviceUnavailableError: the package that reads images is missing.
    """
    quantized = explicit_qdq.is_quantized(model)
    calibration = ""
    if images is not None and (precision != "int8" or quantized):
        raise UsageError("calibration images are for a float model in INT8: --precision int8.")
    if quantized and precision != "int8":
        raise UsageError("the model is quantised: build it with --precision int8.")
    if precision == "int8":
        if quantized:
            calibration = "the model's own"
        elif images is not None:
            ranges, count = explicit_qdq.calibrated_ranges(model, calibration_images(model, images))
            model = explicit_qdq.to_qdq(model, ranges)
            calibration = f"largest values over {count} images of {images}"
        else:
            model = explicit_qdq.to_qdq(model, explicit_qdq.made_up_ranges(model))
            calibration = MADE_UP
    if strong and precision != "fp32":
        model = to_half(model)
        for opset in model.opset_import:
            if precision == "int8" and opset.domain == "":
                opset.version = max(opset.version, HALF_QDQ_OPSET)
    return model, calibration


def flags(trt: Any, precision: str, strong: bool) -> list[Any]:
    """Return the builder's flags for a precision."""
    if strong or precision == "fp32":
        return []
    half = [trt.BuilderFlag.FP16]
    return half if precision == "fp16" else [*half, trt.BuilderFlag.INT8]

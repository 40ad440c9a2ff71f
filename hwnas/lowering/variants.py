"""A float model in INT8 or FP16, to be used: by onnxruntime's own tools, checked against itself."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceUnavailableError, HwnasError, UsageError, did_you_mean
from .half import to_half

if TYPE_CHECKING:
    import onnx

PRECISIONS = ("fp32", "fp16", "int8")
MOST_ERROR = {"fp16": 0.02, "int8": 0.5}
"""Relative error of an output above which a variant is refused: it no longer is the model."""

CALIBRATION = 16
CHECKED = 4
"""Images that ranges are taken from, and others that the error is measured on."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, by channel: how detection backbones are given their images."""

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Variant:
    """A model in another precision.

    Attributes:
        model: what runs; it takes and returns float32.
        calibration: what its ranges come from, for people; '' where it needs none.
        errors: of each output, the norm of its difference from the float model's over the norm of
            that.
    """

    model: onnx.ModelProto
    calibration: str
    errors: dict[str, float]

    @property
    def error(self) -> float:
        """The largest of the outputs' errors."""
        return max(self.errors.values())


def variant(model: onnx.ModelProto, precision: str, images: Path | None = None) -> Variant:
    """Return a float model in another precision.

    FP16: weights and operators in half precision. INT8: static quantisation (QDQ), uint8 feature
    maps, int8 weights, a scale per output channel.

    Args:
        model: a float model with one input [batch, 3, height, width].
        precision: `fp16` or `int8`.
        images: a folder of images that the ranges of INT8 are taken from; without one they come
            from Gaussian noise, which is enough to run and to time the model but not to use it.

    Raises:
        UsageError: an unknown precision, a folder without images, or another kind of input.
        DeviceUnavailableError: the package that reads images is missing.
        HwnasError: the variant's outputs are too far from the model's.
    """
    if precision not in MOST_ERROR:
        raise UsageError(
            f"unknown precision '{precision}'.{did_you_mean(precision, PRECISIONS)} "
            f"Known: {', '.join(PRECISIONS)}."
        )
    name, shape = _input(model)
    found = _files(images) if images is not None else []
    inputs = _read(found, shape) if found else _noise(shape)
    calibrated, checked = inputs[:-CHECKED] or inputs, inputs[-CHECKED:]
    with _silent():
        if precision == "fp16":
            made, source = to_half(model), ""
        else:
            made = _quantized(model, name, calibrated)
            source = (
                f"{len(calibrated)} images of {images}"
                if found
                else f"synthetic: {len(calibrated)} images of Gaussian noise"
            )
    made.metadata_props.add(key="precision", value=precision)
    made.metadata_props.add(key="calibration", value=source)
    result = Variant(made, source, _errors(model, made, name, checked))
    limit = MOST_ERROR[precision]
    worst = max(result.errors, key=lambda output: result.errors[output])
    if not result.error <= limit:
        far = (
            f"is {result.error:.1%} away from the float model's"
            if np.isfinite(result.error)
            else "is not finite: values exceed what the precision holds"
        )
        raise HwnasError(
            f"the {precision.upper()} variant is refused: its output {worst} {far}, and "
            f"{limit:.0%} is the most. Fresh weights are not normalised: export the trained "
            "model's ONNX file"
            + (", and calibrate it on images with --calibrate FOLDER." if not found else ".")
        )
    return result


def calibration_images(model: onnx.ModelProto, folder: Path) -> list[Images]:
    """Return images of a folder as a model takes them, one batch [batch, 3, height, width] each.

    Raises:
        UsageError: a folder without images, or the model takes something else.
        DeviceUnavailableError: the package that reads images is missing.
    """
    return _read(_files(folder), _input(model)[1])


def _quantized(model: onnx.ModelProto, name: str, images: Sequence[Images]) -> onnx.ModelProto:
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, Images] | None:
            image = next(self._left, None)
            return None if image is None else {name: image}

    with tempfile.TemporaryDirectory(prefix="hwnas-") as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            onnx.shape_inference.infer_shapes(model),
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Processors without VNNI add two products in 16 bits: with 8-bit weights they overflow.
            reduce_range=True,
        )
        return onnx.load(path)


def _errors(
    model: onnx.ModelProto, made: onnx.ModelProto, name: str, images: Sequence[Images]
) -> dict[str, float]:
    """Return the relative error of each output over some images."""
    names = [output.name for output in model.graph.output]
    run, run_made = _runner(model), _runner(made)
    squares = np.zeros((len(images), len(names), 2))
    with np.errstate(all="ignore"):
        for squared, image in zip(squares, images, strict=True):
            pairs = zip(run({name: image}), run_made({name: image}), strict=True)
            for of_output, (expected, found) in zip(squared, pairs, strict=True):
                difference = found.astype(np.float64) - expected
                of_output[:] = np.sum(difference**2), np.sum(expected.astype(np.float64) ** 2)
        differences, norms = squares.sum(axis=0).T
        errors = np.sqrt(differences / norms)
    return {
        name: float(error) if np.isfinite(error) else float("inf")
        for name, error in zip(names, errors, strict=True)
    }


def _runner(model: onnx.ModelProto) -> Callable[[dict[str, Images]], list[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors share no public base class
        line = (str(error).splitlines() or [""])[0][:300]
        raise HwnasError(f"onnxruntime does not load the variant: {line}") from None
    return lambda feeds: list(session.run(None, feeds))


def _input(model: onnx.ModelProto) -> tuple[str, tuple[int, ...]]:
    """Return name and shape of a model's one input."""
    constant = {tensor.name for tensor in model.graph.initializer}
    inputs = [tensor for tensor in model.graph.input if tensor.name not in constant]
    shape = tuple(d.dim_value for d in inputs[0].type.tensor_type.shape.dim) if inputs else ()
    if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or min(shape) < 1:
        raise UsageError(
            "the model does not take one batch of images [batch, 3, height, width] of fixed size; "
            "export it with such an input."
        )
    return inputs[0].name, shape


def _noise(shape: tuple[int, ...]) -> list[Images]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype=np.float32) for _ in range(CALIBRATION + CHECKED)]


def _files(folder: Path) -> list[Path]:
    """Return the image files of a folder that are used, spread over all of them."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror}.") from None
    if not found:
        raise UsageError(f"{folder} holds no images: {', '.join(SUFFIXES)} are read.")
    step = max(1, len(found) // (CALIBRATION + CHECKED))
    return found[::step][: CALIBRATION + CHECKED]


def _read(files: Sequence[Path], shape: tuple[int, ...]) -> list[Images]:
    """Return images resized to a model's input, normalised as ImageNet's, one batch each."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise DeviceUnavailableError(
            "reading images needs Pillow, which is not installed: pip install 'hwnas[images]'."
        ) from None

    batch, _, height, width = shape
    batches = []
    for path in files:
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB").resize((width, height)), np.float32)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} is not an image that can be read: {error}.") from None
        values = (pixels / 255 - np.array(MEAN)) / np.array(DEVIATION)
        image_values = values.transpose(2, 0, 1).astype(np.float32)
        batches.append(np.repeat(image_values[None], batch, axis=0))
    return batches


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the tools from recommending what the writer has done already."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)

"""A float model in half precision, for runtimes that compute in the types that the model states."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose weights and feature maps are FP16; its inputs and outputs stay FP32.

    By onnxruntime's own converter. Weights beyond the range of FP16 are clipped to it.

    Args:
        model: a float model; it is not changed.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one for each weight below the least FP16
        half: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    OnnxModel.graph_topological_sort(half.graph)  # the converter puts its casts at the end
    return half

"""A float model as INT8 by onnxruntime's own static quantiser (QDQ), to be timed.

The ranges of the feature maps are made up, not calibrated on images: a kernel takes as long with
one scale as with another. For a model to be used, calibrate it on images of your own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx


def quantize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an INT8 model: uint8 feature maps, int8 weights, one scale per tensor.

    Args:
        model: a float model.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    model = onnx.shape_inference.infer_shapes(model)  # the quantiser asks for types
    rng = np.random.default_rng(0)
    ranges = {}
    tensors = [tensor.name for tensor in model.graph.input]
    bounded = set()
    for node in model.graph.node:
        tensors += node.output
        if node.op_type in ("Relu", "Clip"):
            bounded |= set(node.output)
    for name in tensors:
        # Different for each: equal scales would let the runtime leave out what a real model has.
        highest = np.float32(rng.uniform(1.0, 4.0))
        lowest = np.float32(0.0) if name in bounded else -highest
        ranges[name] = TensorData(lowest=np.array(lowest), highest=np.array(highest))
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)  # it recommends a preprocessing that the writer has done
    try:
        quantizer = QDQQuantizer(
            model,
            False,  # one scale per tensor
            False,
            QuantType.QInt8,
            QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, ranges),
            [],
            [],
            sorted({*QDQRegistry, *QLinearOpsRegistry}),
            {"ActivationSymmetric": False},
        )
        quantizer.quantize_model()
    finally:
        logger.setLevel(before)
    quantized: onnx.ModelProto = quantizer.model.model
    return quantized

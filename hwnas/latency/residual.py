"""The learned part of a predictor as an ONNX model: how it is written, and run.

It maps `features` [n, features] to `log_ratio` [n, 1], the logarithm of measured over roofline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx
    import onnxruntime

INPUT, OUTPUT = "features", "log_ratio"
CLIPPED = "clipped"
IR_VERSION = 8
OPSETS = {"": 17, "ai.onnx.ml": 5}


def clip(
    low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[list[Any], dict[str, NDArray[Any]]]:
    """Return nodes, and arrays by name, that hold the features between bounds, as `CLIPPED`."""
    from onnx import helper

    nodes = [
        helper.make_node("Max", [INPUT, "low"], ["not_below"]),
        helper.make_node("Min", ["not_below", "high"], [CLIPPED]),
    ]
    return nodes, {"low": low, "high": high}


def write(nodes: list[Any], initializers: list[Any], features: int) -> onnx.ModelProto:
    """Return the model of a graph from `features` [n, features] to `log_ratio` [n, 1]."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        nodes,
        "latency",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", 1])],
        initializers,
    )
    return helper.make_model(
        graph,
        producer_name="hwnas",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid(*opset) for opset in OPSETS.items()],
    )


def check_same(written: onnx.ModelProto, table: NDArray[np.float32], predict: Any) -> None:
    """Make sure that a written model answers as the fitted one does."""
    some = table[:: max(1, len(table) // 2000)]
    (answers,) = session(written.SerializeToString()).run(None, {INPUT: some})
    difference = float(np.abs(answers[:, 0] - predict(some)).max())
    if difference > 1e-4:
        raise AssertionError(f"the written model differs from the fitted one by {difference}")


def session(model: bytes) -> onnxruntime.InferenceSession:
    """Return a quiet session of one thread."""
    import os

    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

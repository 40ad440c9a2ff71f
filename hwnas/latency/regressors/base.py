"""What every regressor promises, and the names of its ONNX model's input and output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT = "features", "log_ratio"
IR_VERSION = 8
OPSETS = {"": 17, "ai.onnx.ml": 5}

Table = NDArray[np.float32]
Target = NDArray[np.float64]


class Regressor(Protocol):
    """Learns one number from a row of features."""

    def fit(self, table: Table, target: Target, weight: Target | None) -> onnx.ModelProto:
        """Return a model of input `features` [n, features] and output `log_ratio` [n, 1].

        Args:
            table: features [kernels, features].
            target: log(measured / roofline) [kernels].
            weight: what each kernel counts [kernels]; None where all count the same.
        """


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


def check_same(written: onnx.ModelProto, table: Table, predict: Any) -> None:
    """Make sure that a written model answers as the fitted one does."""
    from ..predictor import session

    some = table[:: max(1, len(table) // 2000)]
    (answers,) = session(written.SerializeToString()).run(None, {INPUT: some})
    difference = float(np.abs(answers[:, 0] - predict(some)).max())
    if difference > 1e-4:
        raise AssertionError(f"the written model differs from the fitted one by {difference}")

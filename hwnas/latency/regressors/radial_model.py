"""Fitted radial functions: what they answer, and the same as an ONNX model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..residual import CLIPPED, OUTPUT, clip, write
from .base import Table

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """The functions of one class.

    Attributes:
        feature: what is 1 for the rows of the class; None for rows of no class with such a part.
        centres: what the functions lie about, scaled [centres, features].
        weights: what each counts [centres].
        constant: what is added.
        mean: subtracted from features before they are scaled [features].
        scale: inverse reach of the functions in each feature [features].
    """

    feature: int | None
    centres: Array
    weights: Array
    constant: float
    mean: Array
    scale: Array


def near(rows: Array, centres: Array) -> Array:
    """Return the function about each centre at each row [rows, centres]."""
    from scipy.spatial.distance import cdist

    beside: Array = 1 / (1 + cdist(rows, centres, "sqeuclidean"))
    return beside


def predict(parts: Sequence[Part], low: Any, high: Any, table: Table) -> Array:
    """Return what the functions say, in double precision."""
    clipped = np.clip(table, low, high).astype(np.float64)
    answers = np.zeros(len(table))
    left = np.ones(len(table), dtype=bool)
    for part in parts:
        rows = left if part.feature is None else clipped[:, part.feature] > 0.5
        beside = near((clipped[rows] - part.mean) * part.scale, part.centres)
        answers[rows] = beside @ part.weights + part.constant
        left = left & ~rows
    return answers


def to_onnx(
    parts: Sequence[Part], low: NDArray[np.float32], high: NDArray[np.float32]
) -> onnx.ModelProto:
    """Return the functions as an ONNX model, in which each part answers its own rows."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, arrays = clip(low, high)
    arrays |= {
        "one": np.ones(1),
        "half": np.full(1, 0.5, np.float32),
        "first": np.zeros(1, np.int64),
    }
    nodes += [
        helper.make_node("Gather", [CLIPPED, "first"], ["column"], axis=1),
        helper.make_node("Sub", ["column", "column"], ["answers0"]),
    ]
    classes = np.array([part.feature for part in parts if part.feature is not None], np.int64)
    for i, part in enumerate(parts):
        rest = part.feature is None
        own = partial("part{}_{}".format, i)
        arrays |= {
            own("features"): classes if rest else np.array([part.feature]),
            own("mean"): part.mean,
            own("scale"): part.scale,
            own("centres"): np.ascontiguousarray(-2 * part.centres.T),
            own("squares"): 1 + np.square(part.centres).sum(axis=1),
            own("weights"): part.weights[:, None],
            own("constant"): np.array([part.constant]),
        }
        after = OUTPUT if i == len(parts) - 1 else f"answers{i + 1}"
        for op, takes, gives, settings in (
            ("Gather", [CLIPPED, own("features")], own("classes"), {"axis": 1}),
            ("Concat", ["answers0", own("classes")], own("flags"), {"axis": 1}),
            ("ReduceMax", [own("flags")], own("class"), {"axes": [1], "keepdims": 0}),
            ("Less" if rest else "Greater", [own("class"), "half"], own("mask"), {}),
            ("Compress", [CLIPPED, own("mask")], own("rows"), {"axis": 0}),
            # In single precision, d^2 would be what rounding leaves of a difference.
            ("Cast", [own("rows")], own("exact"), {"to": TensorProto.DOUBLE}),
            ("Sub", [own("exact"), own("mean")], own("centred"), {}),
            ("Mul", [own("centred"), own("scale")], own("scaled"), {}),
            # d^2 is |x|^2 - 2 x c + |c|^2.
            ("ReduceSumSquare", [own("scaled")], own("length"), {"axes": [1], "keepdims": 1}),
            ("Gemm", [own("scaled"), own("centres"), own("squares")], own("across"), {}),
            ("Add", [own("across"), own("length")], own("rounded"), {}),
            ("Max", [own("rounded"), "one"], own("beyond"), {}),
            ("Reciprocal", [own("beyond")], own("near"), {}),
            ("Gemm", [own("near"), own("weights"), own("constant")], own("sum"), {}),
            ("Cast", [own("sum")], own("answer"), {"to": TensorProto.FLOAT}),
            ("NonZero", [own("mask")], own("place"), {}),
            ("Transpose", [own("place")], own("places"), {}),
            ("ScatterND", [f"answers{i}", own("places"), own("answer")], after, {}),
        ):
            nodes.append(helper.make_node(op, takes, [gives], **settings))
    tensors = [numpy_helper.from_array(a, name) for name, a in arrays.items()]
    return write(nodes, tensors, len(low))

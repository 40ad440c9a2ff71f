"""Ridge regression on radial functions: smooth in every feature, and quick to learn from few rows.

A row's answer is a constant and a weighted sum of 1 / (1 + d^2), d the distance to each of a few
rows that were fitted to, in standardised features. Beyond all of them the sum fades to the
constant, so that the roofline alone extrapolates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..residual import INPUT, OUTPUT, check_same, write
from .base import Table, Target

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Radial:
    """Ridge regression on rational quadratic functions about some of the rows.

    Features are clipped to the range of the fitted rows, as `Mlp` does.

    Attributes:
        centres: rows that functions lie about, at most.
        reach: standard deviations of one feature that bring a function down to half.
        ridge: what keeps the weights small, in rows of an average weight.
    """

    centres: int = 500
    reach: float = 3.0
    ridge: float = 0.3

    def fit(self, table: Table, target: Target, weight: Target | None) -> onnx.ModelProto:
        """Return the fitted sum; see `Regressor`."""
        low, high = table.min(axis=0), table.max(axis=0)
        mean, deviation = table.mean(axis=0, dtype=np.float64), table.std(axis=0, dtype=np.float64)
        scale: Array = np.where(deviation > 1e-6, 1 / (self.reach * deviation.clip(1e-6)), 0.0)
        # A network repeats its blocks: equal rows count as one of their common weight.
        distinct, place = np.unique(table, axis=0, return_inverse=True)
        weight = np.ones(len(table)) if weight is None else weight / weight.mean()
        counts: Array = np.bincount(place.ravel(), weights=weight).astype(np.float64)
        goals = np.bincount(place.ravel(), weights=weight * target) / counts
        constant = float(np.average(goals, weights=counts))
        rows = (distinct - mean) * scale
        centres = rows[pivots(rows, counts, self.centres)]
        near = _near(rows, centres)
        normal = (near * counts[:, None]).T @ near + self.ridge * _near(centres, centres)
        normal[np.diag_indices(len(centres))] += 1e-9 * np.trace(normal) / len(centres)
        weights = np.linalg.solve(normal, near.T @ (counts * (goals - constant)))
        model = to_onnx(centres, weights, constant, mean, scale, low, high)

        def predict(some: Table) -> Array:
            return _near((some - mean) * scale, centres) @ weights + constant

        check_same(model, table, predict)
        return model


def pivots(rows: Array, counts: Array, most: int) -> NDArray[np.int64]:
    """Return rows that, together, tell the others best: a Cholesky decomposition's pivots.

    Each is the row of which those before it leave most open, by its weight (Fine and Scheinberg,
    2001, https://jmlr.org/papers/v2/fine01a.html).
    """
    if len(rows) <= most:
        return np.arange(len(rows))
    root = np.sqrt(counts)
    left = counts.astype(np.float64)
    factor = np.empty((most, len(rows)))
    chosen: list[int] = []
    for k in range(most):
        best = int(np.argmax(left))
        column = _near(rows, rows[best : best + 1])[:, 0] * root * root[best]
        factor[k] = (column - factor[:k, best] @ factor[:k]) / np.sqrt(left[best])
        left -= np.square(factor[k])
        chosen.append(best)
        left[chosen] = -np.inf
    return np.array(chosen)


def _near(rows: Array, centres: Array) -> Array:
    """Return the function about each centre at each row [rows, centres]."""
    from scipy.spatial.distance import cdist

    near: Array = 1 / (1 + cdist(rows, centres, "sqeuclidean"))
    return near


def to_onnx(
    centres: Array,
    weights: NDArray[Any],
    constant: float,
    mean: Array,
    scale: Array,
    low: NDArray[np.float32],
    high: NDArray[np.float32],
) -> onnx.ModelProto:
    """Return the sum as an ONNX model: d^2 is |x|^2 - 2 x c + |c|^2."""
    from onnx import helper, numpy_helper

    arrays: dict[str, Any] = {
        "low": low,
        "high": high,
        "mean": mean,
        "scale": scale,
        "centres": -2 * centres.T,
        "squares": 1 + np.square(centres).sum(axis=1),
        "one": 1.0,
        "weights": weights[:, None],
        "constant": np.array([constant]),
    }
    nodes = [
        helper.make_node("Max", [INPUT, "low"], ["not_below"]),
        helper.make_node("Min", ["not_below", "high"], ["clipped"]),
        helper.make_node("Sub", ["clipped", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"]),
        helper.make_node("ReduceSumSquare", ["scaled"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Gemm", ["scaled", "centres", "squares"], ["across"]),
        helper.make_node("Add", ["across", "length"], ["rounded"]),
        helper.make_node("Max", ["rounded", "one"], ["beyond"]),
        helper.make_node("Reciprocal", ["beyond"], ["near"]),
        helper.make_node("Gemm", ["near", "weights", "constant"], [OUTPUT]),
    ]
    tensors = [
        numpy_helper.from_array(np.ascontiguousarray(a, dtype=np.float32), n)
        for n, a in arrays.items()
    ]
    return write(nodes, tensors, len(low))

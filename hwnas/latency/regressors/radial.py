"""Kernel ridge regression whose reach in every feature is learned, class by class.

A row's answer is a constant and a weighted sum of 1 / (1 + d^2), d the distance to each of a few
rows that were fitted to. What counts as near, feature by feature, is what makes the rows most
likely, as in a Gaussian process of that covariance (automatic relevance determination; Rasmussen
and Williams, 2006, sections 5.1 and 5.4.1, https://gaussianprocess.org/gpml/). So it learns from
few rows, and from many which sizes matter. Beyond all of them the sum fades to the constant, so
that the roofline alone extrapolates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..residual import check_same
from .base import Table, Target
from .radial_model import Part, near, predict, to_onnx

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float64]

EXHAUSTED = 1e-8
"""What is left of a row, in its weight, below which only rounding is."""

LEAST_ROWS = 40
"""Distinct rows of a class from which it has a reach of its own."""


@dataclass(frozen=True)
class Radial:
    """Ridge regression on rational quadratic functions about some of the rows.

    Features are clipped to the range of the fitted rows, as `Mlp` does.

    Attributes:
        classes: features that are 1 for the rows of a class and 0 for others. Rows of none of
            them, or of a class with few, are answered by what is fitted to all rows.
        centres: rows of a class that functions lie about, at most.
        rows: rows of a class that its reach is learned from, at most.
        steps: of learning it.
    """

    classes: tuple[int, ...] = ()
    centres: int = 500
    rows: int = 300
    steps: int = 25

    def fit(self, table: Table, target: Target, weight: Target | None) -> onnx.ModelProto:
        """Return the fitted sums; see `Regressor`."""
        low, high = table.min(axis=0), table.max(axis=0)
        # A network repeats its blocks: equal rows count as one of their common weight.
        distinct, place = np.unique(table, axis=0, return_inverse=True)
        weight = np.ones(len(table)) if weight is None else weight / weight.mean()
        counts: Array = np.bincount(place.ravel(), weights=weight).astype(np.float64)
        goals: Array = np.bincount(place.ravel(), weights=weight * target) / counts
        parts = []
        left = np.ones(len(distinct), dtype=bool)
        for feature in self.classes:
            rows = distinct[:, feature] > 0.5
            if rows.sum() >= LEAST_ROWS:
                parts.append(self._part(distinct[rows], goals[rows], counts[rows], feature))
                left &= ~rows
        if left.any():
            parts.append(self._part(distinct, goals, counts, None))
        model = to_onnx(parts, low, high)
        check_same(model, table, partial(predict, parts, low, high))
        return model

    def _part(self, table: Table, goals: Array, counts: Array, feature: int | None) -> Part:
        mean, deviation = table.mean(axis=0, dtype=np.float64), table.std(axis=0, dtype=np.float64)
        unit: Array = np.where(deviation > 1e-6, 1 / deviation.clip(1e-6), 0.0)
        constant = float(np.average(goals, weights=counts))
        rows, left = (table - mean) * unit, goals - constant
        varied = np.flatnonzero(unit)
        some = np.random.default_rng(0).permutation(len(rows))[: self.rows]
        learned = (
            ANY
            if feature is None
            else learn(rows[some][:, varied], left[some], counts[some], self.steps)
        )
        scale = unit.copy()
        scale[varied] *= learned.reach
        rows = (table - mean) * scale
        precision = learned.precision(counts)
        centres = rows[pivots(rows, precision, self.centres)]
        beside = near(rows, centres)
        normal = (beside * precision[:, None]).T @ beside + near(centres, centres)
        normal[np.diag_indices(len(centres))] += 1e-9 * np.trace(normal) / len(centres)
        weights = np.linalg.solve(normal, beside.T @ (precision * left)).astype(np.float64)
        return Part(feature, centres, weights, constant, mean, scale)


@dataclass(frozen=True)
class Learned:
    """What makes rows most likely: inverse reaches [features], and variances over the signal's.

    `noise` is that of a row of weight 1, `floor` what no weight averages out.
    """

    reach: Array | float
    noise: float
    floor: float

    def precision(self, counts: Array) -> Array:
        """Return the inverse variance of rows of such weights, in that of the signal."""
        inverse: Array = 1 / (self.noise / counts + self.floor)
        return inverse


LOG_REACH, LOG_SPREAD = -3.0, 2.0
"""Mean and deviation of the prior of a squared inverse reach's logarithm."""

ANY = Learned(1 / 3, 0.1, 0.0)
"""For rows of any class: what few of them show is not carried far."""


def learn(rows: Array, goals: Array, counts: Array, steps: int) -> Learned:
    """Return the reaches and variances of highest posterior.

    Args:
        rows: standardised features [rows, features].
        goals: their targets, about zero [rows].
        counts: their weights [rows].
        steps: of the search.
    """
    from scipy.optimize import minimize

    count, features = rows.shape
    squares = np.square(rows.T[:, :, None] - rows.T[:, None, :])

    def loss(logs: Array) -> tuple[float, Array]:
        """Return the negative log posterior and its gradient (eqs. 5.8 and 5.9)."""
        weights, (signal, noise, floor) = np.exp(logs[:features]), np.exp(logs[features:])
        beside = 1 / (1 + np.tensordot(weights, squares, 1))
        covariance = signal * beside
        covariance[np.diag_indices(count)] += noise / counts + floor
        root = np.linalg.cholesky(covariance)
        inverse = np.linalg.inv(root)
        inverse = inverse.T @ inverse
        solved = inverse @ goals
        value = 0.5 * goals @ solved + np.log(np.diag(root)).sum()
        slope = 0.5 * (inverse - np.outer(solved, solved))
        away = (logs[:features] - LOG_REACH) / LOG_SPREAD
        gradient = np.empty_like(logs)
        inner = -signal * slope * np.square(beside)
        gradient[:features] = weights * np.tensordot(squares, inner, 2) + away / LOG_SPREAD
        diagonal = np.diag(slope)
        gradient[features:] = (
            signal * (slope * beside).sum(),
            noise * (diagonal / counts).sum(),
            floor * diagonal.sum(),
        )
        return float(value + 0.5 * away @ away), gradient

    variance = max(float(np.var(goals)), 1e-6)
    start = np.append(
        np.full(features, LOG_REACH), np.log([variance, 0.01 * variance, 1e-3 * variance])
    )
    bounds = [(LOG_REACH - 8, LOG_REACH + 6)] * features + [
        tuple(np.log(variance) + np.log(limits)) for limits in ((0.1, 10), (1e-3, 10), (1e-3, 1))
    ]
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps}
    ).x
    signal, noise, floor = np.exp(found[features:])
    return Learned(np.exp(found[:features] / 2), float(noise / signal), float(floor / signal))


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
        if left[best] < EXHAUSTED * root[best] ** 2:
            break  # those before it tell all rows
        column = near(rows, rows[best : best + 1])[:, 0] * root * root[best]
        factor[k] = (column - factor[:k, best] @ factor[:k]) / np.sqrt(left[best])
        left -= np.square(factor[k])
        chosen.append(best)
        left[chosen] = -np.inf
    return np.array(chosen, dtype=np.int64)

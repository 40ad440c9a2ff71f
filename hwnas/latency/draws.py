"""Intervals for values never measured, from several draws of held-out values.

Rows of one draw, such as all kernels of four removed sizes, err alike: the next draw is farther
from the draws together than a row is from the other rows, and bounds that cover 90 % of all rows
cover fewer of it. Each draw, bounded by the others, tells how much wider the bounds must be.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .predictor import Quantiles


def widened(
    bounds: Quantiles, log_ratios: NDArray[np.float64], draws: NDArray[np.int64]
) -> Quantiles:
    """Return bounds that cover as much of a draw, by the others, as they say; none is narrower.

    Both bounds move away from the median by the same factor: the least by which the bounds of
    the other draws cover the stated share of a draw, on average over draws.

    Args:
        bounds: of all rows.
        log_ratios: log(measured / predicted) of each row.
        draws: the draw of each row; with fewer than two draws the bounds stay.
    """
    known, counts = np.unique(draws, return_counts=True)
    if len(known) < 2:
        return bounds
    middle = float(np.median(log_ratios))
    low, high = [], []
    for confidence, least, most in zip(bounds.confidence, bounds.low, bounds.high, strict=True):
        needed = np.empty(len(log_ratios))
        for draw in known:
            inside = draws == draw
            needed[inside] = _factors(log_ratios[inside], log_ratios[~inside], confidence)
        order = np.argsort(needed)
        # Every draw counts the same, whatever its rows.
        weight = 1.0 / (len(known) * counts[np.searchsorted(known, draws[order])])
        enough = min(int(np.searchsorted(np.cumsum(weight), confidence)), len(order) - 1)
        more = max(0.0, float(needed[order[enough]]) - 1)
        low.append(least + more * (least - middle))
        high.append(most + more * (most - middle))
    # A greater confidence never has the narrower bounds.
    low, high = np.minimum.accumulate(low).tolist(), np.maximum.accumulate(high).tolist()
    return replace(bounds, low=tuple(low), high=tuple(high))


def _factors(
    asked: NDArray[np.float64], known: NDArray[np.float64], confidence: float
) -> NDArray[np.float64]:
    """Return by how much the bounds of known rows would have to widen to reach each asked row."""
    tail = (1 - confidence) / 2
    low, middle, high = np.quantile(known, (tail, 0.5, 1 - tail))
    away = asked - middle
    factors: NDArray[np.float64] = np.where(away > 0, away / (high - middle), away / (low - middle))
    return factors

"""The prices at which the relaxed problem's bound is least.

The bound is convex and piecewise linear in the prices: each path found gives a line below it. The
next prices are where the highest of the lines found so far is least; with one budget that is where
two of them cross.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .terms import Array

MOST_ROUNDS = 60

MOST_STEPS = 200
"""Of the simplex method, far more than it needs."""


class Line(NamedTuple):
    """A path's score and costs: score + prices . (limits - costs) lies below the bound."""

    score: float
    costs: Array


def minimise(
    lines: list[Line],
    limits: Array,
    ask: Callable[[Array], tuple[float, Line]],
    precision: float,
    start: Array | None = None,
    box: tuple[Array, Array] | None = None,
    rounds: int = MOST_ROUNDS,
) -> Array:
    """Return the prices of the least bound found.

    Args:
        lines: known ones, at least that of a path within the limits; new ones are added.
        limits: of the budgets, positive.
        ask: solves the relaxed problem; returns its value at some prices, and its path's line.
        precision: the search ends when the bound is within so much of the lines' minimum.
        start: prices to begin with, by default the least, or what several known lines suggest.
        box: least and greatest prices to try.
        rounds: how often to ask at most.
    """
    least_prices, most_prices = box or (np.zeros(len(limits)), np.full(len(limits), np.inf))
    best, best_prices = np.inf, np.zeros(len(limits))
    prices = least_prices if start is None else start
    if start is None and len(lines) > 1:
        _, prices = _minimum(lines, limits, least_prices, most_prices)
    for _ in range(rounds):
        value, line = ask(prices)
        lines.append(line)
        bound = value + float(prices @ limits)
        if bound < best:
            best, best_prices = bound, prices
        least, prices = _minimum(lines, limits, least_prices, most_prices)
        if best - least <= precision or np.array_equal(prices, best_prices):
            break
    return best_prices


def _minimum(
    lines: list[Line], limits: Array, least_prices: Array, most_prices: Array
) -> tuple[float, Array]:
    """Return the least value of the highest of all lines, and the prices there."""
    scores = np.array([line.score for line in lines])
    # Relative to the limits, budgets of any unit are alike.
    rooms = 1.0 - np.array([line.costs for line in lines]) / limits
    low, high = least_prices * limits, most_prices * limits
    if len(limits) == 1:
        price = _crossing(scores, rooms[:, 0], float(low[0]), float(high[0]))
        return float((scores + price * rooms[:, 0]).max()), np.array([price]) / limits
    least, prices = lowest(scores, rooms, low, high)
    return least, prices / limits


def lowest(scores: Array, rooms: Array, low: Array, high: Array) -> tuple[float, Array]:
    """Return the least value of the highest of scores + rooms . prices, and the prices there.

    The simplex method on the dual problem, which weighs lines: it has one row per budget, and
    begins with the first line, whose rooms are not negative. It is small enough to be solved
    sooner than a solver is imported.
    """
    count, budgets = rooms.shape
    ends = np.flatnonzero(np.isfinite(high))
    unit = np.eye(1 + budgets)[:, 1:]
    columns = np.hstack([np.vstack([np.ones(count), -rooms.T]), -unit[:, ends], unit])
    worth = np.concatenate([scores + rooms @ low, low[ends] - high[ends], np.zeros(budgets)])
    basis = [0, *range(columns.shape[1] - budgets, columns.shape[1])]
    weights = np.concatenate([[1.0], np.maximum(rooms[0], 0.0)])
    tolerance = 1e-12 * max(1.0, float(np.abs(scores).max()))
    steps = 0
    while True:
        square = columns[:, basis]
        found = np.linalg.solve(square.T, worth[basis])
        better = np.flatnonzero(worth - found @ columns > tolerance)
        steps += 1
        if not len(better) or steps > MOST_STEPS:
            return float(found[0]), np.maximum(low + found[1:], low)
        # The most promising one first; should that go in circles, the first one (Bland's rule).
        gains = (worth - found @ columns)[better]
        enters = int(better[0 if steps > MOST_STEPS // 2 else gains.argmax()])
        along = np.linalg.solve(square, columns[:, enters])
        falling = np.flatnonzero(along > 1e-12)
        if not len(falling):
            return float(found[0]), np.maximum(low + found[1:], low)
        ratios = weights[falling] / along[falling]
        ties = falling[ratios <= ratios.min() + 1e-15]
        leaves = int(min(ties, key=lambda position: basis[position]))
        step = float(ratios.min())
        weights = weights - step * along
        weights[leaves] = step
        basis[leaves] = enters


def _crossing(scores: Array, rooms: Array, low: float, high: float) -> float:
    """Return the price between low and high at which the highest of score + price * room is least.

    It is an end, or where a falling line crosses a rising one.
    """
    falling, rising = rooms < 0, rooms >= 0
    steeper = rooms[rising] - rooms[falling, None]
    crossings = ((scores[falling, None] - scores[rising]) / steeper).ravel()
    ends = [low] if math.isinf(high) else [low, high]
    prices = np.append(ends, crossings[(crossings > low) & (crossings < high)])
    return float(prices[(scores + prices[:, None] * rooms).max(axis=1).argmin()])

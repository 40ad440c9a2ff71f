"""How the V100 tables are split into rows to fit on and rows to be judged on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.latency.columns import Columns

Mask = NDArray[np.bool_]
REMOVED = 4
LEAST_ROWS = 100
"""A resolution of fewer rows is no level of the grid."""


@dataclass(frozen=True)
class Split:
    """Rows to fit on and rows to be judged on; `both` of the latter lie off the grid twice."""

    train: Mask
    test: Mask
    both: Mask


def random_rows(c: Columns, rng: np.random.Generator) -> Split:
    """Hold a tenth of the rows out."""
    held = np.zeros(len(c), dtype=bool)
    held[rng.permutation(len(c))[: len(c) // 10]] = True
    return Split(~held, held, held)


def resolutions(c: Columns, rng: np.random.Generator) -> Split:
    """Hold four interior resolutions out, with every row of theirs."""
    held = np.isin(c.in_height, _interior(c.in_height, rng))
    return Split(~held, held, held)


def channels(c: Columns, rng: np.random.Generator) -> Split:
    """Hold four interior channel counts out, with every row that has one, in or out."""
    removed = _interior(c.out_channels, rng)
    held = np.isin(c.out_channels, removed) | np.isin(c.in_channels, removed)
    return Split(~held, held, held)


def off_grid(c: Columns, rng: np.random.Generator) -> Split:
    """Hold four interior resolutions and four interior output-channel counts out together."""
    sizes = np.isin(c.in_height, _interior(c.in_height, rng))
    counts = np.isin(c.out_channels, _interior(c.out_channels, rng))
    return Split(~(sizes | counts), sizes | counts, sizes & counts)


SPLITS: dict[str, Callable[[Columns, np.random.Generator], Split]] = {
    "random": random_rows,
    "off-grid": off_grid,
    "resolutions": resolutions,
    "channels": channels,
}


def split(name: str, columns: Columns, seed: int) -> Split:
    """Return a split by its name; a seed always gives the same."""
    return SPLITS[name](columns, np.random.default_rng(seed))


def _interior(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return four levels of a grid, neither an end nor next to one another.

    Each then leaves a gap of two steps of the grid: twice the distance at which a search asks.
    """
    levels, counts = np.unique(values, return_counts=True)
    levels = levels[counts >= LEAST_ROWS]
    while True:
        chosen = np.sort(rng.choice(np.arange(1, len(levels) - 1), REMOVED, replace=False))
        if np.diff(chosen).min() > 1:
            return levels[chosen]

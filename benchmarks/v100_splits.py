"""How the V100 tables are split into rows to fit on and rows to be judged on.

A split is drawn on the distinct kernels of all precisions together: what is held out of one
precision is held out of the others too, so that no model has seen it in any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.latency.columns import Columns

Mask = NDArray[np.bool_]
REMOVED = 4
LEAST_ROWS = 1000
"""A size of fewer kernels is no level of the grid."""

NEAR = 1.15
"""Resolutions within this factor of a removed one are removed too."""


@dataclass(frozen=True)
class Split:
    """Kernels to fit on and kernels to be judged on, and what of the latter was removed whole."""

    train: Mask
    test: Mask
    resolution: Mask
    channels: Mask


def random_rows(c: Columns, rng: np.random.Generator) -> Split:
    """Hold a tenth of the kernels out."""
    held = np.zeros(len(c), dtype=bool)
    held[rng.permutation(len(c))[: len(c) // 10]] = True
    none = np.zeros_like(held)
    return Split(~held, held, none, none)


def off_grid(c: Columns, rng: np.random.Generator) -> Split:
    """Hold four interior resolutions and four interior output-channel counts out together.

    FP32 was measured at other resolutions than FP16 and INT8. Each drawn resolution takes along
    those that are near it, about one of each grid.
    """
    drawn = _interior(c.in_height, rng)
    distance = np.abs(np.log(c.in_height[:, None] / drawn)).min(axis=1)
    sizes = distance < np.log(NEAR)
    counts = np.isin(c.out_channels, _interior(c.out_channels, rng))
    held = sizes | counts
    return Split(~held, held, sizes, counts)


SPLITS: dict[str, Callable[[Columns, np.random.Generator], Split]] = {
    "random": random_rows,
    "off-grid": off_grid,
}


def split(name: str, columns: Columns, seed: int) -> Split:
    """Return a split by its name; a seed always gives the same."""
    return SPLITS[name](columns, np.random.default_rng(seed))


def _interior(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return four levels of a grid, none of them an end, each well apart from the others.

    With their neighbours left in, each leaves a gap of two steps of the grid: about twice the
    distance at which a search asks.
    """
    levels, counts = np.unique(values, return_counts=True)
    levels = levels[counts >= LEAST_ROWS]
    inner = levels[(levels > NEAR * levels[0]) & (levels < levels[-1] / NEAR)]
    places = np.arange(len(inner))
    while True:
        chosen = np.sort(rng.choice(places, REMOVED, replace=False))
        apart = inner[chosen][1:] / inner[chosen][:-1]
        if np.diff(chosen).min() > 1 and apart.min() > NEAR**2:
            return inner[chosen]

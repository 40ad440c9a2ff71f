"""Features of one kernel, smooth in its sizes: what a regressor corrects the roofline by.

No feature names a size value; alignment and tiling appear as the share of work that is padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from ..columns import Column, Columns
from .common import Feature
from .cpu import cpu
from .gpu import gpu

FEATURE_SETS: dict[str, Callable[[Columns, Column], Iterator[Feature]]] = {"cpu": cpu, "gpu": gpu}

REPEATING = ("padding", "filling")
"""Parts of the names of features that rise and fall again as a size grows."""


def build(
    feature_set: str, columns: Columns, roofline_s: Column
) -> tuple[list[str], NDArray[np.float32]]:
    """Return the names of a feature set and its values [kernels, features]."""
    named = list(FEATURE_SETS[feature_set](columns, roofline_s))
    table = np.empty((len(columns), len(named)), dtype=np.float32)
    for i, (_, values) in enumerate(named):
        table[:, i] = values
    return [name for name, _ in named], table


def names(feature_set: str) -> list[str]:
    """Return the names of a feature set."""
    one = np.ones(1)
    columns = Columns(np.zeros(1, dtype=np.int8), *([one] * (len(fields(Columns)) - 1)))
    return build(feature_set, columns, one)[0]


def repeating(feature_set: str) -> tuple[int, ...]:
    """Return which features rise and fall again as a size grows: together they betray a size."""
    told = enumerate(names(feature_set))
    return tuple(i for i, name in told if any(part in name for part in REPEATING))


def classes(feature_set: str) -> tuple[int, ...]:
    """Return which features are 1 for the kernels of one class and 0 for all others."""
    return tuple(i for i, name in enumerate(names(feature_set)) if name.startswith("is_"))

"""Learning several precisions of one device together, each then predicted by a model of its own.

What makes a kernel slow for its roofline, such as half-filled tiles, is mostly the same in every
precision, and each precision was measured at other sizes: together they lie denser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import features, roofline
from .columns import Columns
from .regressors.mlp import Mlp, fit_several

if TYPE_CHECKING:
    import onnx

    from .regressors.base import Table, Target


@dataclass(frozen=True)
class Measured:
    """Kernels of one precision, what each took, and the size of its activations."""

    columns: Columns
    seconds: NDArray[np.float64]
    bytes_per_value: float


@dataclass(frozen=True)
class Learned:
    """A regressor that has learned already."""

    model: onnx.ModelProto

    def fit(self, table: Table, target: Target, weight: Target | None) -> onnx.ModelProto:
        """Return what was learned, whatever the rows; see `Regressor`."""
        return self.model


def learn(tables: Sequence[Measured], feature_set: str, members: Sequence[Mlp]) -> list[Learned]:
    """Return models of log(measured / roofline) for each of several precisions.

    Each is the mean of what the members say, perceptrons that learn all precisions at once. The
    features must not depend on the roofline, which is another one in every precision.

    Raises:
        DeviceUnavailableError: torch is not installed.
    """
    kernels, rows = merged([table.columns for table in tables])
    targets = np.full((len(kernels), len(tables)), np.nan)
    for k, (table, where) in enumerate(zip(tables, rows, strict=True)):
        peaks = roofline.fit(table.columns, table.seconds, table.bytes_per_value)
        targets[where, k] = np.log(table.seconds / peaks.seconds(table.columns))
    inputs = features.build(feature_set, kernels, np.ones(len(kernels)))[1]
    models = fit_several(members, inputs, targets, np.ones_like(targets))
    return [Learned(model) for model in models]


def merged(parts: Sequence[Columns]) -> tuple[Columns, list[NDArray[np.int64]]]:
    """Return the distinct kernels of several tables, and which of them each row of a table is."""
    names = [field.name for field in fields(Columns)]
    stacked = np.concatenate(
        [np.stack([getattr(c, name) for name in names], axis=1, dtype=np.float64) for c in parts]
    )
    distinct, place = np.unique(stacked, axis=0, return_inverse=True)
    kinds, *sizes = (column.copy() for column in distinct.T)
    ends = np.cumsum([len(c) for c in parts])[:-1]
    return Columns(kinds.astype(np.int8), *sizes), np.split(place.ravel(), ends)

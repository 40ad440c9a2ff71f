"""How sure a predictor would be: several of them, each fitted to other networks, are asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import features, roofline
from .columns import Columns
from .roofline import Roofline

MEMBERS = 4


class Committee:
    """Quick predictors, each fitted to a random half of the networks that were measured.

    Where they disagree about a network, its kernels lie far from what was measured, or too few
    like it were: to measure it teaches most (query by committee,
    https://dl.acm.org/doi/10.1145/130385.130417).

    Args:
        columns: the kernels that were measured.
        seconds: what each took.
        rows: the network of each kernel.
        feature_set: `cpu` or `gpu`.
        bytes_per_value: size of an activation.
        seed: chooses the halves.
    """

    def __init__(
        self,
        columns: Columns,
        seconds: NDArray[np.float64],
        rows: NDArray[np.int64],
        *,
        feature_set: str,
        bytes_per_value: float,
        seed: int,
    ) -> None:
        self._feature_set = feature_set
        rng = np.random.default_rng(seed)
        count = int(rows.max()) + 1
        self._members: list[tuple[Roofline, Any]] = []
        for _ in range(MEMBERS):
            half = np.isin(rows, rng.permutation(count)[: -(-count // 2)])
            self._members.append(self._member(columns.take(half), seconds[half], bytes_per_value))

    def disagreement(self, columns: Columns, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the spread of the log of each network's latency over the members [networks].

        Args:
            columns: the kernels of the networks.
            rows: the network of each kernel.
        """
        logs = []
        for peaks, model in self._members:
            at_peak = peaks.seconds(columns)
            _, table = features.build(self._feature_set, columns, at_peak)
            logs.append(np.log(np.bincount(rows, weights=at_peak * np.exp(model.predict(table)))))
        spread: NDArray[np.float64] = np.std(logs, axis=0)
        return spread

    def _member(
        self, columns: Columns, seconds: NDArray[np.float64], bytes_per_value: float
    ) -> tuple[Roofline, Any]:
        from sklearn.ensemble import HistGradientBoostingRegressor

        peaks = roofline.fit(columns, seconds, bytes_per_value)
        at_peak = peaks.seconds(columns)
        _, table = features.build(self._feature_set, columns, at_peak)
        # A quarter of the trees of a predictor, so that asking costs less than measuring.
        model = HistGradientBoostingRegressor(
            max_iter=60,
            learning_rate=0.2,
            max_leaf_nodes=15,
            min_samples_leaf=5,
            early_stopping=False,
            random_state=0,
        )
        return peaks, model.fit(table, np.log(seconds / at_peak))

"""What learns log(measured / roofline) from features; each is handed over as an ONNX model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .trees import INPUT, to_onnx

if TYPE_CHECKING:
    import onnx

Table = NDArray[np.float32]


class Regressor(Protocol):
    """Learns one number from a row of features."""

    def fit(
        self, table: Table, target: NDArray[np.float64], weight: NDArray[np.float64] | None
    ) -> onnx.ModelProto:
        """Return a model of input `features` [n, features] and output `log_ratio` [n, 1].

        Args:
            table: features [kernels, features].
            target: log(measured / roofline) [kernels].
            weight: what each kernel counts [kernels]; None where all count the same.
        """


@dataclass(frozen=True)
class Trees:
    """Boosted trees (scikit-learn's histogram gradient boosting)."""

    count: int = 400
    leaves: int = 63
    learning_rate: float = 0.15
    min_leaf: int = 10

    def fit(
        self, table: Table, target: NDArray[np.float64], weight: NDArray[np.float64] | None
    ) -> onnx.ModelProto:
        """Return the fitted trees; see `Regressor`."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        model = HistGradientBoostingRegressor(
            max_iter=self.count,
            learning_rate=self.learning_rate,
            max_leaf_nodes=self.leaves,
            min_samples_leaf=self.min_leaf,
            early_stopping=False,
            random_state=0,
        )
        model.fit(table, target, sample_weight=weight)
        written = to_onnx(model, table.shape[1])
        check_same(written, table, model.predict)
        return written


def check_same(written: onnx.ModelProto, table: Table, predict: Any) -> None:
    """Make sure that a written model answers as the fitted one does."""
    from .predictor import session

    some = table[:: max(1, len(table) // 2000)]
    (answers,) = session(written.SerializeToString()).run(None, {INPUT: some})
    difference = float(np.abs(answers[:, 0] - predict(some)).max())
    if difference > 1e-4:
        raise AssertionError(f"the written model differs from the fitted one by {difference}")

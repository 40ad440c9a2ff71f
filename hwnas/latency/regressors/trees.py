"""Boosted trees as an ONNX model: a fitted predictor is data, not a pickle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..residual import INPUT, OUTPUT, check_same, write
from .base import Table, Target

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Trees:
    """Boosted trees (scikit-learn's histogram gradient boosting)."""

    count: int = 400
    leaves: int = 63
    learning_rate: float = 0.15
    min_leaf: int = 10

    def fit(self, table: Table, target: Target, weight: Target | None) -> onnx.ModelProto:
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


def to_onnx(model: Any, features: int) -> onnx.ModelProto:
    """Return a fitted HistGradientBoostingRegressor as one ONNX TreeEnsemble (ai.onnx.ml 5).

    Input `features` [n, features] float32, output `log_ratio` [n, 1].
    """
    from onnx import helper, numpy_helper

    splits: list[NDArray[Any]] = []
    leaves: list[NDArray[Any]] = []
    roots: list[int] = []
    columns: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("features", "true", "false", "true_leaf", "false_leaf")
    }
    inner_count = leaf_count = 0
    base = float(np.ravel(model._baseline_prediction)[0]) / len(model._predictors)
    for (tree,) in model._predictors:
        nodes = tree.nodes
        is_leaf = nodes["is_leaf"].astype(bool)
        inner = np.flatnonzero(~is_leaf)
        # A node's place among all inner nodes, or among all leaves.
        place = np.where(
            is_leaf, leaf_count + np.cumsum(is_leaf) - 1, inner_count + np.cumsum(~is_leaf) - 1
        )
        roots.append(int(place[0]))
        left, right = nodes["left"][inner], nodes["right"][inner]
        thresholds, chosen = nodes["num_threshold"][inner], nodes["feature_idx"][inner]
        if is_leaf[0]:  # a tree that found nothing to split: both branches lead to its leaf
            left = right = inner = np.zeros(1, dtype=int)
            thresholds = chosen = np.zeros(1)
            roots[-1] = inner_count
        columns["features"].append(chosen)
        columns["true"].append(place[left])
        columns["false"].append(place[right])
        columns["true_leaf"].append(is_leaf[left])
        columns["false_leaf"].append(is_leaf[right])
        splits.append(_round_down(thresholds))
        leaves.append(nodes["value"][is_leaf] + base)
        inner_count += len(inner)
        leaf_count += int(is_leaf.sum())
    flat = {name: np.concatenate(parts).astype(int).tolist() for name, parts in columns.items()}
    node = helper.make_node(
        "TreeEnsemble",
        [INPUT],
        [OUTPUT],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function=1,
        post_transform=0,
        tree_roots=roots,
        nodes_featureids=flat["features"],
        nodes_splits=numpy_helper.from_array(np.concatenate(splits)),
        nodes_modes=numpy_helper.from_array(np.zeros(inner_count, np.uint8)),
        nodes_truenodeids=flat["true"],
        nodes_falsenodeids=flat["false"],
        nodes_trueleafs=flat["true_leaf"],
        nodes_falseleafs=flat["false_leaf"],
        leaf_targetids=[0] * leaf_count,
        leaf_weights=numpy_helper.from_array(np.concatenate(leaves).astype(np.float32)),
    )
    return write([node], [], features)


def _round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 not above each threshold.

    Features are float32, so `x <= threshold` then decides as it did in double precision; rounded
    to the nearest, values that lie on a threshold would change sides.
    """
    nearest = thresholds.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    rounded: NDArray[np.float32] = np.where(nearest.astype(np.float64) > thresholds, below, nearest)
    return rounded

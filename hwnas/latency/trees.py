"""Boosted trees as an ONNX model: a fitted predictor is data, not a pickle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT = "features", "log_ratio"


def to_onnx(model: Any, features: int) -> onnx.ModelProto:
    """Return a fitted HistGradientBoostingRegressor as one ONNX TreeEnsemble (ai.onnx.ml 5).

    Input `features` [n, features] float32, output `log_ratio` [n, 1].
    """
    from onnx import TensorProto, helper, numpy_helper

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
    graph = helper.make_graph(
        [node],
        "latency",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", 1])],
    )
    return helper.make_model(
        graph,
        producer_name="hwnas",
        ir_version=8,
        opset_imports=[helper.make_opsetid("ai.onnx.ml", 5), helper.make_opsetid("", 17)],
    )


def _round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 not above each threshold.

    Features are float32, so `x <= threshold` then decides as it did in double precision; rounded
    to the nearest, values that lie on a threshold would change sides.
    """
    nearest = thresholds.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    rounded: NDArray[np.float32] = np.where(nearest.astype(np.float64) > thresholds, below, nearest)
    return rounded

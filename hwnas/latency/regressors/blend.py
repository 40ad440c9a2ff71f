"""Several regressors' weighted mean, as one ONNX model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .base import INPUT, OUTPUT, Regressor, Table, Target, write

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Blend:
    """The weighted mean of regressors that are fitted apart.

    Regressors of different kinds err in different places, so that their mean errs less than any.

    Attributes:
        members: each regressor with its weight; the weights sum to one.
    """

    members: tuple[tuple[Regressor, float], ...]

    def fit(self, table: Table, target: Target, weight: Target | None) -> onnx.ModelProto:
        """Return the fitted members as one model; see `Regressor`."""
        models = [member.fit(table, target, weight) for member, _ in self.members]
        return mean(models, [share for _, share in self.members])


def mean(models: list[onnx.ModelProto], weights: list[float]) -> onnx.ModelProto:
    """Return one model that answers with the weighted mean of several on the same features."""
    from onnx import compose, helper, numpy_helper

    nodes, initializers, answers = [], [], []
    for i, (model, weight) in enumerate(zip(models, weights, strict=True)):
        part = compose.add_prefix(model, f"part{i}_", rename_inputs=False).graph
        nodes += part.node
        initializers += part.initializer
        share = numpy_helper.from_array(np.array(weight, np.float32), f"weight{i}")
        initializers.append(share)
        answers.append(f"weighted{i}")
        nodes.append(helper.make_node("Mul", [f"part{i}_{OUTPUT}", share.name], [answers[-1]]))
    nodes.append(helper.make_node("Sum", answers, [OUTPUT]))
    (features,) = (
        value.type.tensor_type.shape.dim[1].dim_value
        for value in models[0].graph.input
        if value.name == INPUT
    )
    return write(nodes, initializers, features)

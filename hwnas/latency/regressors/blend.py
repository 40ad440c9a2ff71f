"""The mean of several regressors: what one sees in few rows and another in many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..residual import OUTPUT, write
from .base import Regressor, Table, Target

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Blend:
    """Regressors of which each is fitted to all rows, and the mean answers."""

    members: tuple[Regressor, ...]

    def fit(self, table: Table, target: Target, weight: Target | None) -> onnx.ModelProto:
        """Return the members' models as one; see `Regressor`."""
        from onnx import compose, helper

        nodes, tensors, answers = [], [], []
        for number, member in enumerate(self.members):
            fitted = member.fit(table, target, weight)
            part = compose.add_prefix(fitted, f"member{number}_", rename_inputs=False).graph
            nodes += list(part.node)
            tensors += list(part.initializer)
            answers.append(part.output[0].name)
        mean = helper.make_node("Mean", answers, [OUTPUT])
        return write([*nodes, mean], tensors, table.shape[1])

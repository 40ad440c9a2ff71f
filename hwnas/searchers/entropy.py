"""The multi-scale entropy of a space's rows: gain from tables, border and width by state.

The interior gain of a row depends on its genes and on the channels that enter. The border depends
on the kernels and strides so far, the finite-width term on the number of ReLUs so far: both are a
state that walks down the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..architecture.graph import Graph, carried_activation, main_path
from ..architecture.spaces import Genes, Space
from ..scores import border
from ..scores.border import BorderState, Steps
from ..scores.entropy import EntropyScore, log_gain, path_activation
from ..scores.finite_width import read_out, variance
from .fragments import RowFragments, row_fragments, stem_fragment
from .tables import AdditiveTerm, RowTables, cell


@dataclass(frozen=True)
class GainTerm:
    """The interior gain of a graph's layers, weighted by the stages that read it."""

    score: EntropyScore
    batch: int = 1

    @property
    def resolution(self) -> tuple[int, int]:
        """The score's resolution."""
        return self.score.resolution

    def parts(self, graph: Graph, where: Any = None) -> list[Any]:
        """Return the weighted gain of each layer of the main path."""
        weights = self.score.weights()
        return [
            sum(weights[layer.stage - 1 :]) * log_gain(layer, activation)
            for layer, activation in main_path(graph)
        ]


class SpaceEntropy:
    """The terms of `EntropyScore` for the stem and each row of a space.

    `stem` maps the stem's channels to its share of the score, without the border's, `rows` holds
    the rows. `image` is the border's state behind the stem, None where the border does not count,
    and `stem_border` what it takes from the score there.
    """

    def __init__(self, space: Space, score: EntropyScore) -> None:
        gain = AdditiveTerm(space, GainTerm(score))
        weights = score.weights()
        # C1 is read at the stem where no row belongs to the first stage.
        read = weights[0] if space.rows[0].stage > 1 else 0.0
        spread = sum(weights) * variance(0, True) + read * read_out(0, True)
        lost = 0.25 * spread if score.finite_width else 0.0
        self.stem = {width: gain.stem[width] - lost / width for width in space.stem_widths}
        self.image = _behind(stem_fragment(space, score.resolution, 1)) if score.border else None
        self.stem_border = read * self.image.log_gain if self.image else 0.0
        rows = list(row_fragments(space, score.resolution, 1))
        for fragments, behind, tables in zip(rows, rows[1:], gain.rows, strict=False):
            # The row behind takes this one to end as its first kind does.
            halving = 0.5 * math.log(2) * sum(weights[behind[0].row.stage - 1 :])
            for kind in {f.kind for f in fragments if f.activated != fragments[0].activated}:
                tables.add(kind, halving if fragments[0].activated else -halving)
        self.rows = [
            RowEntropy(fragments, tables, weights, score.finite_width)
            for fragments, tables in zip(rows, gain.rows, strict=True)
        ]


class RowEntropy:
    """The terms of the score for one row.

    `passed_on` is the weight of what happens in the row, in all stages that read it, `lost` what
    the finite width takes from the score per unit of its coefficients. `layers`
    holds by kind and inner size, for the first block and for each later one, whether a ReLU
    follows each layer, and 1 / channels as a table; `steps` by kind what of them the border
    notices.
    """

    def __init__(
        self,
        fragments: list[RowFragments],
        gain: RowTables,
        weights: tuple[float, ...],
        finite_width: bool,
    ) -> None:
        row = fragments[0].row
        self.gain = gain
        self._unit = row.unit
        self.passed_on = sum(weights[row.stage - 1 :])
        self._read = weights[row.stage - 1] if row.ends_stage else 0.0
        self.lost = 0.25 if finite_width else 0.0
        self.layers = {
            (f.kind, inner): (_layers(f.first), _layers(f.rest))
            for f in fragments
            for inner in f.inners
        }
        self.steps = {f.kind: (_steps(f.first), _steps(f.rest)) for f in fragments}
        self._cells = {
            key: [cell(inverse) for _, inverse in first + rest]
            for key, (first, rest) in self.layers.items()
        }
        self._coefficients: dict[tuple[int, int, int, int], tuple[tuple[float, ...], int]] = {}
        self._borders: dict[tuple[int, int], Borders] = {}

    def width_term(
        self, index: tuple[int, int, int], genes: Genes, relus: int
    ) -> tuple[float, int]:
        """Return what the finite width takes from the score, and the ReLUs behind the row.

        `index` is the position on the tables' axes.
        """
        kind, _, inner, depth = genes
        coefficients, after = self.coefficients(kind, inner, depth, relus)
        if not self.lost:
            return 0.0, after
        i, m, o = index
        spread = 0.0
        for coefficient, (item, a, b, c) in zip(
            coefficients, self._cells[kind, inner], strict=True
        ):
            spread += coefficient * item(a * i + b * m + c * o)
        return -self.lost * spread, after

    def coefficients(
        self, kind: int, inner: int, depth: int, relus: int
    ) -> tuple[tuple[float, ...], int]:
        """Return the factor of 1 / channels of each of `layers`, and the ReLUs behind the row.

        The factors grow with the ReLUs before the row.
        """
        key = (kind, inner, depth, relus)
        found = self._coefficients.get(key)
        if found is None:
            first, rest = self.layers[kind, inner]
            found = self._coefficients[key] = _coefficients(
                tuple(activated for activated, _ in first),
                tuple(activated for activated, _ in rest),
                depth * self._unit - 1,
                relus,
                self.passed_on,
                self._read,
            )
        return found

    def border(self, state: BorderState, kind: int, depth: int) -> tuple[BorderState, float]:
        """Return the border's state behind the row, and what it takes from the score there."""
        return self.borders(kind, depth)[state]

    def borders(self, kind: int, depth: int) -> Borders:
        """Return how a row of this kind and depth changes the border's state."""
        found = self._borders.get((kind, depth))
        if found is None:
            first, rest = self.steps[kind]
            steps = first + rest * (depth * self._unit - 1)
            found = self._borders[kind, depth] = Borders(steps, self._read)
        return found


class Borders(dict[BorderState, tuple[BorderState, float]]):
    """By the border's state before a row: the one behind it, what it takes from the score there."""

    __slots__ = ("_read", "_steps")

    def __init__(self, steps: Steps, read: float) -> None:
        self._steps = steps
        self._read = read

    def __missing__(self, state: BorderState) -> tuple[BorderState, float]:
        after = state.behind(self._steps)
        self[state] = found = (after, self._read * after.log_gain)
        return found


@cache
def _coefficients(
    first: tuple[bool, ...],
    rest: tuple[bool, ...],
    repeats: int,
    relus: int,
    passed_on: float,
    read: float,
) -> tuple[tuple[float, ...], int]:
    """Return the factor of 1 / channels of each layer, repeats summed, and the ReLUs behind.

    `first` and `rest` say of each layer of the first and of the later blocks whether a ReLU
    follows it. The last layer of all is the one that H is read at.
    """
    factors = []
    for activated in first:
        factors.append(passed_on * variance(relus, activated))
        last = len(factors) - 1, read * read_out(relus, activated)
        relus += activated
    factors += [0.0] * len(rest)
    for _ in range(repeats):
        for position, activated in enumerate(rest, len(first)):
            factors[position] += passed_on * variance(relus, activated)
            last = position, read * read_out(relus, activated)
            relus += activated
    position, extra = last
    factors[position] += extra
    return tuple(factors), relus


def _layers(graph: Graph) -> list[tuple[bool, Any]]:
    """Return, per layer of a block, whether a ReLU follows and 1 / channels as a table."""
    path = main_path(graph)
    ends_activated = carried_activation(graph) is not None
    return [
        (
            ends_activated if position == len(path) - 1 else path_activation(path, position),
            1.0 / np.asarray(layer.out_channels, dtype=np.float64),
        )
        for position, (layer, _) in enumerate(path)
    ]


def _behind(stem: Graph) -> BorderState:
    """Return the border's state behind a stem."""
    path = main_path(stem)
    return border.image(path[0][0].in_size).behind(
        tuple((layer.kernel[0], layer.stride[0]) for layer, _ in path)
    )


def _steps(graph: Graph) -> Steps:
    steps = ((layer.kernel[0], layer.stride[0]) for layer, _ in main_path(graph))
    return tuple(step for step in steps if step != (1, 1))

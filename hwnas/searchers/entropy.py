"""The multi-scale entropy of candidates, by rows: gain from tables, border and width by state.

The interior gain of a row depends on its genes and on the channels that enter. The border depends
on the kernels and strides so far, the finite-width term on the number of ReLUs so far; both walk
down the rows as a state and are memoised per state and row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..architecture.graph import Graph, main_path
from ..architecture.spaces import Candidate, Genes, RowSpace, Space
from ..scores import border
from ..scores.border import BorderState
from ..scores.entropy import EntropyScore, log_gain, path_activation
from ..scores.finite_width import read_out, variance
from .fragments import RowFragments, row_fragments
from .tables import AdditiveTerm, RowTables


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


class CandidateEntropy:
    """The score of a space's candidates; equal to `EntropyScore` on the decoded architecture."""

    def __init__(self, space: Space, score: EntropyScore) -> None:
        gain = AdditiveTerm(space, GainTerm(score))
        self._image = border.image(score.resolution) if score.border else None
        weights = score.weights()
        first_row = space.rows[0]
        stem_weight = sum(weights)
        stem_reads = weights[0] if first_row.stage > 1 else 0.0
        self._stem_read = stem_reads
        self._stem = {
            width: gain.stem[width]
            - 0.25 * _stem_spread(width, stem_weight, stem_reads) * score.finite_width
            for width in space.stem_widths
        }
        self._rows = [
            _RowEntropy(fragments, tables, weights, score.finite_width)
            for fragments, tables in zip(
                row_fragments(space, score.resolution, 1), gain.rows, strict=True
            )
        ]

    def __call__(self, candidate: Candidate) -> float:
        """Return the multi-scale entropy Z of a candidate."""
        channels = candidate[0]
        total = self._stem[channels]
        relus = 1
        state = self._image
        if state is not None:
            state = state.step(3, 2)
            total += self._stem_read * state.log_gain
        for row, genes in zip(self._rows, candidate[1:], strict=True):
            value, after = row[channels, genes, relus]
            total += value
            relus = after
            if state is not None:
                state, read = row.border(state, genes)
                total += read
            channels = genes[1]
        return total


def _stem_spread(width: int, passed_on: float, read: float) -> float:
    """Return what -4 times the stem's finite-width term is: it is linear data behind 0 ReLUs."""
    return (passed_on * variance(0, True) + read * read_out(0, True)) / width


class _RowEntropy(dict[tuple[int, Genes, int], tuple[float, int]]):
    """Gain and width term of a row by (channels in, genes, ReLUs so far), and the ReLUs behind."""

    def __init__(
        self,
        fragments: list[RowFragments],
        gain: RowTables,
        weights: tuple[float, ...],
        finite_width: bool,
    ) -> None:
        super().__init__()
        self._row: RowSpace = fragments[0].row
        self._gain = gain
        stage = self._row.stage
        self._passed_on = sum(weights[stage - 1 :])
        self._read = weights[stage - 1] if self._row.ends_stage else 0.0
        self._finite_width = finite_width
        self._blocks = {
            (f.kernel, inner): (_widths(f.first), _widths(f.rest))
            for f in fragments
            for inner in (self._row.inners if f.expansion is None else (f.expansion,))
        }
        self._steps = {f.kernel: (_steps(f.first), _steps(f.rest)) for f in fragments}
        self._index = gain.index
        self._borders: dict[tuple[BorderState, int, int], tuple[BorderState, float]] = {}

    def __missing__(self, key: tuple[int, Genes, int]) -> tuple[float, int]:
        channels, genes, relus = key
        value = self._gain(channels, genes)
        spread, after = self._spread(channels, genes, relus)
        if self._finite_width:
            value -= 0.25 * spread
        result = self[key] = (value, after)
        return result

    def _spread(self, channels: int, genes: Genes, relus: int) -> tuple[float, int]:
        kernel, _, inner, depth = genes
        first, rest = self._blocks[kernel, inner]
        at = self._index(channels, genes)
        total = 0.0
        for block in (first, *([rest] * (depth * self._row.unit - 1))):
            for activated, inverse in block:
                a, b, c = inverse.shape
                share = inverse.item(at[0] * (a > 1), at[1] * (b > 1), at[2] * (c > 1))
                total += self._passed_on * variance(relus, activated) * share
                last = (relus, activated, share)
                relus += activated
        before, activated, share = last
        return total + self._read * read_out(before, activated) * share, relus

    def border(self, state: BorderState, genes: Genes) -> tuple[BorderState, float]:
        """Return the state behind the row, and what the border takes from the score here."""
        kernel, _, _, depth = genes
        key = (state, kernel, depth)
        found = self._borders.get(key)
        if found is None:
            first, rest = self._steps[kernel]
            for step in first + rest * (depth * self._row.unit - 1):
                state = state.step(*step)
            found = self._borders[key] = (state, self._read * state.log_gain)
        return found


def _widths(graph: Graph) -> list[tuple[bool, Any]]:
    """Return, per layer of a block, whether a ReLU follows and 1 / channels as a table."""
    path = main_path(graph)
    ends_activated = graph.layers[-1].activation is not None
    return [
        (
            ends_activated if position == len(path) - 1 else path_activation(path, position),
            1.0 / np.atleast_3d(np.asarray(layer.out_channels, dtype=np.float64)),
        )
        for position, (layer, _) in enumerate(path)
    ]


def _steps(graph: Graph) -> list[tuple[int, int]]:
    steps = ((layer.kernel[0], layer.stride[0]) for layer, _ in main_path(graph))
    return [step for step in steps if step != (1, 1)]

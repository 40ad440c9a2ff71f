"""Scores and costs of a space's candidates, fast: look-ups in tables, memoised per row.

The costs of an architecture are sums over its rows, and a row's terms depend only on its genes
and on the channels that enter: a mutant has one or two new rows, and the rest is known.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from ..architecture.genotype import lower
from ..architecture.spaces import Candidate, Genes, Space
from ..budgets.oracles import Oracle
from ..errors import HwnasError
from ..scores.entropy import EntropyScore
from .entropy import RowEntropy, SpaceEntropy
from .tables import AdditiveTerm, RowTables, cheapest


class Evaluator:
    """What a search asks: is a candidate within the budgets, and what does it score?

    Args:
        space: the space that the candidates come from.
        score: the score.
        oracles: one per budget.
        limits: the budgets' limits, in the order of the oracles.

    Raises:
        HwnasError: an oracle answers with something that is not a cost.
    """

    def __init__(
        self,
        space: Space,
        score: EntropyScore,
        oracles: Sequence[Oracle],
        limits: Sequence[float],
    ) -> None:
        self.space = space
        self.score = score
        self.oracles = tuple(oracles)
        self.limits = tuple(limits)
        self.additive = [k for k, oracle in enumerate(oracles) if oracle.additive]
        self.terms = [AdditiveTerm(space, oracles[k]) for k in self.additive]
        _checked(tuple(oracles[k].constant for k in self.additive))
        for term in self.terms:
            _checked((*term.stem.values(), *(v for row in term.rows for v in row.extremes())))
        self._whole = [k for k, oracle in enumerate(oracles) if not oracle.additive]
        self._rooms = self._rooms_within(self.limits)
        self._cheapest: dict[int, Candidate] = {}
        self.entropy = entropy = SpaceEntropy(space, score)
        self._image = entropy.image
        self._stem = {
            width: (
                _checked(tuple(term.stem[width] for term in self.terms)),
                value + entropy.stem_border,
            )
            for width, value in entropy.stem.items()
        }
        self._rows = [
            _Row(row, [term.rows[r] for term in self.terms]) for r, row in enumerate(entropy.rows)
        ]

    def cheapest(self, position: int) -> Candidate:
        """Return the candidate that costs least by one of the additive budgets."""
        if position not in self._cheapest:
            term = self.terms[position]
            self._cheapest[position] = cheapest(self.space, [term], [1.0])
        return self._cheapest[position]

    def within(self, limits: Sequence[float]) -> Evaluator:
        """Return the same evaluator under other limits; it shares all that is known already."""
        other = copy.copy(self)
        other.limits = tuple(limits)
        other._rooms = self._rooms_within(other.limits)
        return other

    def evaluate(self, candidate: Candidate) -> float | None:
        """Return the score of a candidate, None where it exceeds a budget or leaves the space."""
        # A search spends half its time here, so nothing is called where a look-up does.
        channels = candidate[0]
        costs, score = self._stem[channels]
        entries = []
        for row, genes in zip(self._rows, candidate[1:], strict=True):
            entry = row[channels, genes]
            if entry is None:
                return None
            entries.append(entry)
            channels = genes[1]
        for k, room in self._rooms:
            total = costs[k]
            for entry in entries:
                total += entry.costs[k]
            if total > room:
                return None
        for k in self._whole:
            if self._whole_cost(k, candidate) > self.limits[k]:
                return None
        return self._score(score, entries)

    def score_of(self, candidate: Candidate) -> float:
        """Return the score of a candidate, whatever it costs.

        Raises:
            ValueError: the candidate leaves the space.
        """
        entries = self._entries(candidate)
        if entries is None:
            raise ValueError(self.space.problem(candidate))
        return self._score(self._stem[candidate[0]][1], entries)

    def costs(self, candidate: Candidate) -> list[float]:
        """Return the candidate's cost for each budget.

        Raises:
            ValueError: the candidate leaves the space.
        """
        entries = self._entries(candidate)
        if entries is None:
            raise ValueError(self.space.problem(candidate))
        values = [0.0] * len(self.oracles)
        for position, k in enumerate(self.additive):
            total = self._stem[candidate[0]][0][position]
            for entry in entries:
                total += entry.costs[position]
            values[k] = total + self.oracles[k].constant
        for k in self._whole:
            values[k] = self._whole_cost(k, candidate)
        return values

    def _rooms_within(self, limits: Sequence[float]) -> list[tuple[int, float]]:
        """Return what the additive terms may add up to, each with its position among them."""
        return [(n, limits[k] - self.oracles[k].constant) for n, k in enumerate(self.additive)]

    def _entries(self, candidate: Candidate) -> list[_Entry] | None:
        """Return what is known of each row, None where the candidate leaves the space."""
        channels = candidate[0]
        entries = []
        for row, genes in zip(self._rows, candidate[1:], strict=True):
            entry = row[channels, genes]
            if entry is None:
                return None
            entries.append(entry)
            channels = genes[1]
        return entries

    def _score(self, total: float, entries: list[_Entry]) -> float:
        """Return the score of the stem and these rows."""
        relus, state = 1, self._image
        for entry in entries:
            value, relus = entry[relus]
            total += value
            if state is not None:
                state, value = entry.borders[state]
                total += value
        return total

    def _whole_cost(self, k: int, candidate: Candidate) -> float:
        oracle = self.oracles[k]
        graph = lower(self.space.decode(candidate), oracle.resolution, batch=oracle.batch)
        return oracle.cost(graph)


class _Entry(dict[int, tuple[float, int]]):
    """A row of known genes behind known channels: its costs, and its score by ReLUs so far.

    `borders` tells what the border takes, by the border's state so far.
    """

    __slots__ = ("_gain", "_genes", "_index", "_row", "borders", "costs")

    def __init__(
        self,
        row: RowEntropy,
        index: tuple[int, int, int],
        genes: Genes,
        costs: tuple[float, ...],
    ) -> None:
        self.costs = costs
        self.borders = row.borders(genes[0], genes[3])
        self._row, self._index, self._genes = row, index, genes
        self._gain = row.gain.at(index, genes)

    def __missing__(self, relus: int) -> tuple[float, int]:
        lost, after = self._row.width_term(self._index, self._genes, relus)
        self[relus] = value = (self._gain + lost, after)
        return value


class _Row(dict[tuple[int, Genes], "_Entry | None"]):
    """The entries of a row by channels in and genes; None where the space does not allow them."""

    def __init__(self, entropy: RowEntropy, tables: list[RowTables]) -> None:
        self._entropy = entropy
        self._tables = tables

    def __missing__(self, key: tuple[int, Genes]) -> _Entry | None:
        channels, genes = key
        entry = None
        if self._entropy.gain.row.fits(channels, genes):
            index = self._entropy.gain.index(channels, genes)
            costs = _checked(tuple([table.at(index, genes) for table in self._tables]))
            entry = _Entry(self._entropy, index, genes, costs)
        self[key] = entry
        return entry


def _checked(values: tuple[float, ...]) -> tuple[float, ...]:
    for value in values:
        if not 0.0 <= value < float("inf"):
            raise HwnasError(
                f"an oracle answered with {value}; a cost is a finite number and not negative. "
                "Check the predictor with 'hwnas evaluate', or profile the device again."
            )
    return values

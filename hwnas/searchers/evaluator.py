"""Scores and costs of a space's candidates, fast: look-ups in tables, memoised per row.

The additive costs of an architecture are sums over its rows, and a row's terms depend only on
its genes and on the channels that enter: a mutant costs one or two new terms.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..architecture.genotype import lower
from ..architecture.spaces import Candidate, Genes, Space
from ..budgets.oracles import Oracle
from ..errors import HwnasError
from .entropy import CandidateEntropy
from .tables import AdditiveTerm, RowTables


class Evaluator:
    """What a search asks: is a candidate within the budgets, and what does it score?

    Args:
        space: the space that the candidates come from.
        score: the entropy of its candidates.
        oracles: one per budget.
        limits: the budgets' limits, in the order of the oracles.

    Raises:
        HwnasError: an oracle answers with something that is not a cost.
    """

    def __init__(
        self,
        space: Space,
        score: CandidateEntropy,
        oracles: Sequence[Oracle],
        limits: Sequence[float],
    ) -> None:
        self.space = space
        self.score = score
        self.oracles = tuple(oracles)
        self.limits = tuple(limits)
        self.additive = [k for k, oracle in enumerate(oracles) if oracle.additive]
        self.terms = [AdditiveTerm(space, oracles[k]) for k in self.additive]
        self._whole = [k for k, oracle in enumerate(oracles) if not oracle.additive]
        self._rooms = [limits[k] - oracles[k].constant for k in self.additive]
        self._stem = {
            width: _checked(tuple(term.stem[width] for term in self.terms))
            for width in space.stem_widths
        }
        self._rows = [
            _RowMemo([term.rows[r] for term in self.terms]) for r in range(len(space.rows))
        ]

    def costs(self, candidate: Candidate) -> list[float]:
        """Return the candidate's cost for each budget."""
        values = [0.0] * len(self.oracles)
        for k, value in zip(self.additive, self._sums(candidate), strict=True):
            values[k] = value + self.oracles[k].constant
        for k in self._whole:
            values[k] = self._whole_cost(k, candidate)
        return values

    def feasible(self, candidate: Candidate) -> bool:
        """Whether the candidate keeps every budget."""
        for value, room in zip(self._sums(candidate), self._rooms, strict=True):
            if value > room:
                return False
        return all(self._whole_cost(k, candidate) <= self.limits[k] for k in self._whole)

    def _sums(self, candidate: Candidate) -> list[float]:
        channels = candidate[0]
        terms = [self._stem[channels]]
        for row, genes in zip(self._rows, candidate[1:], strict=True):
            terms.append(row[channels, genes])
            channels = genes[1]
        return [sum(column) for column in zip(*terms, strict=True)]

    def _whole_cost(self, k: int, candidate: Candidate) -> float:
        oracle = self.oracles[k]
        graph = lower(self.space.decode(candidate), oracle.resolution, batch=oracle.batch)
        return oracle.cost(graph)


class _RowMemo(dict[tuple[int, Genes], tuple[float, ...]]):
    """The costs of a row by channels in and genes, looked up in the tables at first use."""

    def __init__(self, tables: list[RowTables]) -> None:
        super().__init__()
        self._tables = tables

    def __missing__(self, key: tuple[int, Genes]) -> tuple[float, ...]:
        channels, genes = key
        value = self[key] = _checked(tuple(table(channels, genes) for table in self._tables))
        return value


def _checked(values: tuple[float, ...]) -> tuple[float, ...]:
    for value in values:
        if not 0.0 <= value < float("inf"):
            raise HwnasError(
                f"an oracle answered with {value}; a cost is a finite number and not negative. "
                "Check the predictor with 'hwnas evaluate', or profile the device again."
            )
    return values

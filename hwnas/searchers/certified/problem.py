"""What a certified search relaxes: the additive budgets of a space, as tables for any limits."""

from __future__ import annotations

from ..evaluator import Evaluator
from .border import border_bound
from .dual import Line
from .relaxation import Relaxation
from .states import states
from .terms import Parts, SpaceTerms, space_terms

COARSE = 4
"""Steps of the coarse grid on which prices are sought first."""


class AdditiveProblem:
    """The tables of an evaluator's additive budgets, made once for any number of searches.

    Args:
        evaluator: space, score and budgets.

    Attributes:
        counted: budgets on the number of layers, which the states of the relaxed problem know.
        priced: the other additive budgets.
        lines: of the bound as a function of the prices, by the limit of layers: what earlier
            searches found.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        positions = range(len(evaluator.additive))
        every = space_terms(evaluator, positions)
        counting = [k for k in positions if _counts_layers(every, k)]
        priced = [k for k in positions if k not in counting]
        self.counted = [evaluator.additive[k] for k in counting]
        self.priced = [evaluator.additive[k] for k in priced]
        self._terms = space_terms(evaluator, priced)
        self._coarse = self._terms.every(COARSE)
        self._relaxed: dict[float, tuple[Relaxation, Relaxation]] = {}
        self.lines: dict[float, list[Line]] = {}

    def relaxations(self, layers: float) -> tuple[Relaxation, Relaxation]:
        """Return the relaxed problem on a coarse grid and on the whole one, for so many layers."""
        if layers not in self._relaxed:
            reachable = states(self._terms.rows, layers)
            border = border_bound(self._terms.rows, reachable, self.evaluator.entropy.image)
            fine = Relaxation(self._terms, reachable, border)
            few = self._coarse.size() < 0.5 * self._terms.size()
            coarse = Relaxation(self._coarse, reachable, border) if few else fine
            self._relaxed[layers] = coarse, fine
        return self._relaxed[layers]


def _counts_layers(terms: SpaceTerms, k: int) -> bool:
    """Whether a budget is the number of layers on the main path, which the states know."""

    def constant(parts: Parts, value: int) -> bool:
        im, mo, io = (part[1 + k] for part in (parts.im, parts.mo, parts.io))
        return not im.any() and not io.any() and bool((mo == value).all())

    return bool((terms.stem[1 + k] == 1).all()) and all(
        constant(choice.first, len(choice.activated[0]))
        and constant(choice.rest, len(choice.activated[1]))
        for row in terms.rows
        for choice in row.choices
    )

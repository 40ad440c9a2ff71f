"""The certified search: solve once, or again and again under other limits with the same tables."""

from __future__ import annotations

from collections.abc import Sequence

from ...architecture.spaces import Candidate
from ..evaluator import Evaluator
from .border import border_bound
from .certificate import Certificate
from .dual import Line
from .relaxation import Relaxation
from .search import FARTHEST, MOST_PATHS, ROUNDING, Search
from .states import states
from .terms import Parts, SpaceTerms, space_terms

COARSE = 4
"""Steps of the coarse grid on which prices are sought first."""


class Solver:
    """Finds the best architectures under the additive budgets of an evaluator.

    Its tables serve any number of limits. Budgets that are not additive are left out, so bounds
    hold for them, too, but no architecture is checked against them.

    Args:
        evaluator: space, score and budgets.
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

    def solve(
        self,
        limits: Sequence[float] | None = None,
        start: Candidate | None = None,
        *,
        alternatives: int = 1,
        most_paths: int = MOST_PATHS,
    ) -> Certificate:
        """Return the best architecture within limits.

        Args:
            limits: of all budgets of the evaluator; by default its own.
            start: an architecture within the limits; by default the cheapest.
            alternatives: how many different architectures to return, the best one included.
            most_paths: partial paths after which the enumeration gives up. The result is then the
                best architecture known, with the bound proven so far.

        Raises:
            ValueError: the start, or the cheapest architecture, exceeds a limit.
        """
        reach = FARTHEST if alternatives > 1 else ROUNDING
        return Search(self, limits, start, most_paths, reach).run(alternatives)

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

"""The certified search: solve once, or again and again under other limits with the same tables."""

from __future__ import annotations

from collections.abc import Sequence

from ...architecture.spaces import Candidate
from ..evaluator import Evaluator
from .certificate import Certificate
from .problem import AdditiveProblem
from .search import FARTHEST, MOST_PATHS, ROUNDING, Search


class Solver:
    """Finds the best architectures under the additive budgets of an evaluator.

    Its tables serve any number of limits. Budgets that are not additive are left out, so bounds
    hold for them, too, but no architecture is checked against them.

    Args:
        evaluator: space, score and budgets.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._problem = AdditiveProblem(evaluator)

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
        return Search(self._problem, limits, start, most_paths, reach).run(alternatives)

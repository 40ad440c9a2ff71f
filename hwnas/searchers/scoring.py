"""Any score in a search: budgets by tables, and the score from tables where it is read off stages.

The entropy has an evaluator of its own (`Evaluator`), which decides here what a candidate costs.
"""

from __future__ import annotations

from collections.abc import Callable

from ..architecture.genotype import STAGES
from ..architecture.spaces import Candidate, Genes, Space
from ..budgets.oracles import LayerSum
from ..scores.base import Score
from ..scores.stages import DeepMadScore, FlopsScore, MadnasScore, ParamsScore, StageScore
from .evaluator import Evaluator
from .tables import AdditiveTerm


class ScoreEvaluator:
    """What a search asks, for a score that is not the entropy.

    Args:
        budgets: knows the space and says whether a candidate is within the budgets.
        score: what is maximised.
        seed: of the scores that draw weights and images; see `Score.value`.
    """

    def __init__(self, budgets: Evaluator, score: Score, seed: int) -> None:
        self._budgets = budgets
        self._score: Callable[[Candidate], float]
        match score:
            case MadnasScore() | DeepMadScore() | ParamsScore() | FlopsScore():
                self._score = StageTables(budgets.space, score)
            case _:
                self._score = lambda candidate: score.value(budgets.space.decode(candidate), seed)

    def evaluate(self, candidate: Candidate) -> float | None:
        """Return the score of a candidate, None where it exceeds a budget or leaves the space."""
        if self._budgets.evaluate(candidate) is None:
            return None
        return self._score(candidate)


class StageTables:
    """A score of stages on a space: sums per row from tables, remembered, combined per candidate.

    A row's sums depend only on its genes and on the channels that enter it.
    """

    def __init__(self, space: Space, score: StageScore) -> None:
        self._combine = score.combine
        terms = [AdditiveTerm(space, LayerSum(f, score.resolution)) for f in score.formulas]
        self._stem = {width: [term.stem[width] for term in terms] for width in space.stem_widths}
        self._stages = [row.stage - 1 for row in space.rows]
        self._rows = [[term.rows[r] for term in terms] for r in range(len(space.rows))]
        self._known: list[dict[tuple[int, Genes], list[float]]] = [{} for _ in space.rows]

    def __call__(self, candidate: Candidate) -> float:
        """Return the score of a candidate of the space."""
        width = candidate[0]
        stem = self._stem[width]
        sums = [stem] + [[0.0] * len(stem) for _ in range(STAGES - 1)]
        channels = [width] * STAGES
        for r, (stage, genes) in enumerate(zip(self._stages, candidate[1:], strict=True)):
            known = self._known[r].get((width, genes))
            if known is None:
                known = [table(width, genes) for table in self._rows[r]]
                self._known[r][width, genes] = known
            sums[stage] = [total + more for total, more in zip(sums[stage], known, strict=True)]
            channels[stage] = width = genes[1]
        return self._combine(sums, channels)

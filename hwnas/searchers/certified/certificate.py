"""What a certified search answers with."""

from __future__ import annotations

from dataclasses import dataclass

from ...architecture.spaces import Candidate


def gap(score: float, bound: float) -> float:
    """Return how far a score may lie below the best possible, relative to the bound."""
    return max(0.0, (bound - score) / abs(bound)) if bound else 0.0


@dataclass(frozen=True)
class Certificate:
    """The best architecture found, and what is known about all others.

    Attributes:
        candidate: the architecture.
        score: its score.
        bound: no architecture of the space within the limits scores higher.
        proven: whether `candidate` is the best one; `bound` then is its score.
        prices: score per unit of each budget of the evaluator, in its order; 0 where the budget
            does not bind, or counts layers.
        binding: whether some budget keeps a better architecture out; False only where it is certain
            that none does.
        alternatives: other architectures and their scores, best first; see `alternatives.py`.
        paths: partial paths that the enumeration looked at.
        solves: how often the relaxed problem was solved, on the coarse grid and on the whole one.
    """

    candidate: Candidate
    score: float
    bound: float
    proven: bool
    prices: tuple[float, ...]
    binding: bool
    alternatives: tuple[tuple[Candidate, float], ...]
    paths: int
    solves: tuple[int, int]

    @property
    def gap(self) -> float:
        """How far the score may lie below the best possible, relative to the bound."""
        return gap(self.score, self.bound)

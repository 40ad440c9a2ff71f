"""Is there a candidate within the budgets? The cheapest one, or one that keeps them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..architecture.spaces import Candidate
from .evaluator import Evaluator
from .tables import cheapest

ROUNDS = 30


@dataclass(frozen=True)
class Cheapest:
    """The cheapest candidate found, and what it says about the budgets.

    `fits` says that it keeps all budgets. Otherwise `impossible` says that no candidate of the
    space does, which is then proven; it is False where none was found. `alone` is the budget that
    cannot even be kept on its own, if it is one.
    """

    candidate: Candidate
    fits: bool
    impossible: bool = False
    alone: int | None = None


def cheapest_within(evaluator: Evaluator, limits: Sequence[float] | None = None) -> Cheapest:
    """Return a candidate within the budgets, or show that there is none.

    Each budget's own minimum decides whether it can be kept at all. For several at once the
    weights of those exceeded grow until all are kept or the rounds are over; a candidate whose
    weighted cost is least and still exceeds the weighted limits proves that they contradict each
    other.

    Args:
        evaluator: space and oracles.
        limits: of all its budgets; by default its own.
    """
    limits = evaluator.limits if limits is None else limits
    rooms = [limits[k] - evaluator.oracles[k].constant for k in evaluator.additive]
    weights = [1.0 / max(room, 1e-12) for room in rooms]
    for p, k in enumerate(evaluator.additive):
        candidate = evaluator.cheapest(p)
        over = _over(evaluator, candidate, limits)
        if not over:
            return Cheapest(candidate, True)
        if k in over:
            return Cheapest(candidate, False, True, k)
    candidate = evaluator.space.narrowest()
    for _ in range(ROUNDS):
        candidate = cheapest(evaluator.space, evaluator.terms, weights)
        if not _over(evaluator, candidate, limits):
            return Cheapest(candidate, True)
        costs = evaluator.costs(candidate)
        spent = [costs[k] - evaluator.oracles[k].constant for k in evaluator.additive]
        total = sum(w * cost for w, cost in zip(weights, spent, strict=True))
        if total > (1 + 1e-9) * sum(w * room for w, room in zip(weights, rooms, strict=True)):
            return Cheapest(candidate, False, True)
        weights = [
            w * (cost / room) ** 2 for w, cost, room in zip(weights, spent, rooms, strict=True)
        ]
    return Cheapest(candidate, False)


def _over(evaluator: Evaluator, candidate: Candidate, limits: Sequence[float]) -> list[int]:
    """Return which budgets a candidate exceeds."""
    costs = evaluator.costs(candidate)
    return [k for k, limit in enumerate(limits) if costs[k] > limit]

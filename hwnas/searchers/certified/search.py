"""One certified search: prices, what is left of the grid at them, and the paths through that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ...architecture.spaces import Candidate
from ..feasibility import cheapest_within
from .alternatives import different
from .certificate import Certificate
from .closing import Closing, Found
from .dual import MOST_ROUNDS, Line, minimise
from .narrowing import narrowed
from .problem import AdditiveProblem
from .relaxation import Relaxation, Values
from .terms import Array

MOST_PATHS = 1_000_000
"""Partial paths after which the enumeration gives up."""

FEW_PATHS = 20_000
"""Partial paths after which bounds at other prices are worth their time."""

AROUND = (0.87, 1.15)
"""These other prices, one budget at a time."""

FIRST_GAP = 1e-4
"""How far below the bound the enumeration begins, relative to it."""

WIDER = ((50, 4.0), (1000, 2.0), (math.inf, 1.5))
"""By how much the gap grows where the best one was not in it, for up to so many paths in it."""

PRECISION = 1e-4
"""Of the least bound over all prices, relative; the enumeration closes what is left."""

LIKE = 8
"""Paths of the same kernels and depths that are followed where alternatives are sought."""

FARTHEST = 0.02
"""How far below the best one an alternative may lie, relative."""

ROUNDING = 1e-9
"""Relative room for rounding where what cannot lead to anything better is left out."""

SMALLER = 0.7
"""What is left of the relaxed problem is taken by itself where it is no more than this share."""

NEAR = (0.7, 1.4)
"""Where the prices of the whole grid are sought, relative to those of the coarse one."""

SPARE = 0.7
"""Of every limit, what an architecture may use whose line leads to the prices."""

KNOWN_LINES = 64
"""Of earlier searches, from which the next one's prices are guessed."""

FINE_ROUNDS = 4
"""How often, at most, the whole grid is solved near there, per budget."""


class Search:
    """One search: the best known so far, and what is left of the relaxed problem beside it.

    Args:
        problem: the tables, and what earlier searches found.
        limits, start, most_paths: see `Solver.solve`.
        reach: how far below the best one, relative, architectures are still of interest.
    """

    def __init__(
        self,
        problem: AdditiveProblem,
        limits: Sequence[float] | None,
        start: Candidate | None,
        most_paths: int,
        reach: float,
    ) -> None:
        self.most_paths = most_paths
        evaluator = problem.evaluator
        self.evaluator, self.problem = evaluator, problem
        self.limits = evaluator.limits if limits is None else tuple(limits)
        constants = [evaluator.oracles[k].constant for k in problem.priced]
        self.constants = np.array(constants)
        self.room = np.array([self.limits[k] for k in problem.priced]) - self.constants
        layers = min((self.limits[k] for k in problem.counted), default=np.inf)
        self.coarse, self.fine = problem.relaxations(layers)
        self.known = problem.lines.setdefault(layers, [])
        self.left = self.fine
        self.reach = reach
        self.solves = [0, 0]
        first = start
        # Its line leads to the prices; that of a start that just keeps a limit would be flat.
        if start is None or (self.costs(start) > SPARE * self.room).any():
            cheapest = cheapest_within(evaluator, self.limits).candidate
            first = cheapest if start is None or self.keeps(cheapest) else start
        assert first is not None
        for candidate in (start, first):
            if candidate is not None and not self.keeps(candidate):
                raise ValueError(f"{candidate} exceeds a limit")
        score = evaluator.score_of(first)
        self.best: tuple[float, Candidate] = (score, first)
        self.first = Line(score, np.minimum(self.costs(first), self.room))
        if start is not None:
            self.offer(start)

    def run(self, alternatives: int) -> Certificate:
        """Search, and return as many different architectures as asked for if there are."""
        solved = self.priced()
        values = solved[0]
        bound = self.bound(values)
        closing = self.closing(solved)
        most_paths = min(FEW_PATHS, self.most_paths)
        wider, paths, proven = FIRST_GAP * abs(bound), 0, False
        while not proven:
            threshold = max(bound - wider, self.best[0])
            found = closing.paths(threshold, most_paths)
            paths += found.paths
            if not found.complete:
                if most_paths == self.most_paths:
                    break
                solved += self.around(values.prices)
                closing = self.closing(solved)
                most_paths = self.most_paths
                continue
            for candidate in found.candidates:
                self.offer(candidate)
            proven = self.best[0] >= threshold
            bound = self.best[0] if proven else threshold
            wider *= _factor(found)
        prices = [0.0] * len(self.limits)
        for k, price in zip(self.problem.priced, values.prices.tolist(), strict=True):
            prices[k] = price
        score, candidate = self.best
        return Certificate(
            candidate,
            score,
            max(bound, score),
            proven,
            tuple(prices),
            not proven or self.binds(values),
            tuple(self.others(closing, alternatives - 1)),
            paths,
            (self.solves[0], self.solves[1]),
        )

    def closing(self, values: list[Values]) -> Closing:
        """Return the enumeration of what is left."""
        return Closing(self.left, values, self.room, self.evaluator.entropy.image)

    def around(self, prices: Array) -> Iterator[Values]:
        """Yield the values at prices of which one is higher or lower."""
        least = 0.01 * abs(self.best[0]) / self.room
        for k in range(len(prices)):
            for factor in AROUND:
                other = prices.copy()
                other[k] = factor * max(prices[k], least[k])
                yield self.solve(self.left, other)

    def binds(self, values: Values) -> bool:
        """Whether an architecture over the limits scores higher than the best one within."""
        if values.prices.any():
            return True
        anything = np.full_like(self.room, np.inf)
        free = Closing(
            self.fine,
            [self.solve(self.fine, values.prices)],
            anything,
            self.evaluator.entropy.image,
        )
        found = free.paths(self.best[0], self.most_paths)
        return not found.complete or any(
            self.evaluator.score_of(candidate) > self.best[0] for candidate in found.candidates
        )

    def others(self, closing: Closing, count: int) -> list[tuple[Candidate, float]]:
        """Return different architectures near the best one, as many as asked for if there are."""
        chosen: list[Candidate] = []
        reach = FIRST_GAP
        while len(chosen) < count and reach <= FARTHEST:
            threshold = self.best[0] - reach * abs(self.best[0])
            found = closing.paths(threshold, self.most_paths, keep=self.most_paths, like=LIKE)
            pool = [candidate for candidate in found.candidates if self.keeps(candidate)]
            chosen = different(self.best[1], pool, self.evaluator.space.rows, count)
            if not found.complete:
                break
            reach *= _factor(found)
        return [(candidate, self.evaluator.score_of(candidate)) for candidate in chosen]

    def priced(self) -> list[Values]:
        """Return the whole grid's values, first at prices whose bound is nearly least.

        The coarse grid says where about these prices are; they are then sought near there.
        """
        precision = PRECISION * abs(self.best[0])
        found = None
        if self.coarse is not self.fine:
            # Lines are below the bound whatever the limits, so those of earlier searches help.
            lines = [self.first, *self.known[-KNOWN_LINES:]]
            count = len(lines)
            found = minimise(lines, self.room, self.ask(self.coarse), precision)
            self.known += lines[count:]
        box = None
        if found is not None:
            low, high = NEAR
            least = 0.01 * abs(self.best[0]) / self.room
            box = (np.where(found > least, low * found, 0.0), high * np.maximum(found, least))
        prices = minimise(
            [self.first],
            self.room,
            self.ask(),
            precision,
            start=found,
            box=box,
            rounds=FINE_ROUNDS * len(self.room) if box else MOST_ROUNDS,
        )
        return [self.solve(self.left, prices)]

    def bound(self, values: Values) -> float:
        """Return the bound that the relaxed problem's values are."""
        return values.value + float(values.prices @ self.room)

    def ask(self, relaxation: Relaxation | None = None) -> Callable[[Array], tuple[float, Line]]:
        """Return what answers the search for prices, by default on what is left of the grid."""

        def answer(prices: Array) -> tuple[float, Line]:
            values = self.solve(relaxation or self.left, prices)
            if relaxation is None:
                self.narrow(values)
            costs = self.costs(values.best)
            return values.value, Line(values.value + float(prices @ costs), costs)

        return answer

    def narrow(self, values: Values) -> None:
        """Leave out what cannot lead to anything better than what is known."""
        score = self.best[0]
        least = score - self.reach * abs(score) - float(values.prices @ self.room)
        left = narrowed(self.left, values, least)
        if left.size() <= SMALLER * self.left.size():
            self.left = left

    def solve(self, relaxation: Relaxation, prices: Array) -> Values:
        """Solve the relaxed problem at some prices."""
        self.solves[relaxation is not self.coarse or self.coarse is self.fine] += 1
        values = relaxation.solve(prices)
        self.offer(values.best)
        return values

    def offer(self, candidate: Candidate) -> None:
        """Keep a candidate if it is within the limits and the best so far."""
        if self.keeps(candidate):
            self.best = max(self.best, (self.evaluator.score_of(candidate), candidate))

    def keeps(self, candidate: Candidate) -> bool:
        """Whether a candidate is within the additive budgets."""
        costs = self.evaluator.costs(candidate)
        return all(costs[k] <= self.limits[k] for k in self.evaluator.additive)

    def costs(self, candidate: Candidate) -> Array:
        """Return a candidate's priced costs, without what every architecture costs."""
        costs = self.evaluator.costs(candidate)
        spent: Array = np.array([costs[k] for k in self.problem.priced]) - self.constants
        return spent


def _factor(found: Found) -> float:
    return next(factor for most, factor in WIDER if found.paths <= most)

"""The certified search: solve once, or again and again under other limits with the same tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...architecture.spaces import Candidate
from ..evaluator import Evaluator
from ..feasibility import cheapest_within
from .alternatives import different
from .border import border_bound
from .closing import Closing, Found
from .dual import MOST_ROUNDS, Line, minimise
from .narrowing import narrowed
from .relaxation import Relaxation, Values
from .states import states
from .terms import Array, Parts, SpaceTerms, space_terms

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

COARSE = 4
"""Steps of the coarse grid on which prices are sought first."""

NEAR = (0.7, 1.4)
"""Where the prices of the whole grid are sought, relative to those of the coarse one."""

KNOWN_LINES = 64
"""Of earlier searches, from which the next one's prices are guessed."""

FINE_ROUNDS = 4
"""How often, at most, the whole grid is solved near there, per budget."""


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
        return _Search(self, limits, start, most_paths, reach).run(alternatives)

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


class _Search:
    """One search: the incumbent, the lines of the dual, and what was solved."""

    def __init__(
        self,
        solver: Solver,
        limits: Sequence[float] | None,
        start: Candidate | None,
        most_paths: int,
        reach: float,
    ) -> None:
        self.most_paths = most_paths
        evaluator = solver.evaluator
        self.evaluator, self.solver = evaluator, solver
        self.limits = evaluator.limits if limits is None else tuple(limits)
        if start is None:
            start = cheapest_within(evaluator, self.limits).candidate
        constants = [evaluator.oracles[k].constant for k in solver.priced]
        self.constants = np.array(constants)
        self.room = np.array([self.limits[k] for k in solver.priced]) - self.constants
        layers = min((self.limits[k] for k in solver.counted), default=np.inf)
        self.coarse, self.fine = solver.relaxations(layers)
        self.known = solver.lines.setdefault(layers, [])
        self.left = self.fine
        self.reach = reach
        self.best: tuple[float, Candidate] = (-np.inf, start)
        self.offer(start)
        if self.best[0] == -np.inf:
            raise ValueError(f"{start} exceeds a limit")
        self.solves = [0, 0]

    def run(self, alternatives: int) -> Certificate:
        solved = self.priced()
        values = solved[0]
        bound = self.bound(values)
        closing = self.closing(solved, self.room)
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
                closing = self.closing(solved, self.room)
                most_paths = self.most_paths
                continue
            for candidate in found.candidates:
                self.offer(candidate)
            proven = self.best[0] >= threshold
            bound = self.best[0] if proven else threshold
            wider *= _factor(found)
        prices = [0.0] * len(self.limits)
        for k, price in zip(self.solver.priced, values.prices.tolist(), strict=True):
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

    def closing(self, values: list[Values], room: Array) -> Closing:
        return Closing(self.left, values, room, self.evaluator.entropy.image)

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
        first = Line(self.best[0], self.costs(self.best[1]))
        found = None
        if self.coarse is not self.fine:
            # Lines are below the bound whatever the limits, so those of earlier searches help.
            lines = [first, *self.known[-KNOWN_LINES:]]
            count = len(lines)
            found = minimise(lines, self.room, self.ask(self.coarse), precision)
            self.known += lines[count:]
        box = None
        if found is not None:
            low, high = NEAR
            least = 0.01 * abs(self.best[0]) / self.room
            box = (np.where(found > least, low * found, 0.0), high * np.maximum(found, least))
        prices = minimise(
            [first],
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
        self.solves[relaxation is not self.coarse] += 1
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
        spent: Array = np.array([costs[k] for k in self.solver.priced]) - self.constants
        return spent


def _factor(found: Found) -> float:
    return next(factor for most, factor in WIDER if found.paths <= most)


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

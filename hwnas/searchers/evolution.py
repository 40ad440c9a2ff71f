"""Coarse-to-fine evolution (Algorithm 1 of the paper) and random search, by ask and tell."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from ..architecture.spaces import Candidate, Space
from .mutation import DRAWS, Mutation

POPULATION = 256
ITERATIONS = 96_000
SURVIVORS = 10
CHUNK = 1024
"""Iterations whose random numbers are drawn at once; the state is saved between chunks."""


class Sampler(Protocol):
    """Proposes candidates and learns what they scored."""

    @property
    def evaluations(self) -> int:
        """The number of distinct candidates scored."""

    def begin(self, iteration: int) -> None:
        """Start the chunk of iterations that begins at `iteration`."""

    def ask(self) -> Candidate | None:
        """Return a candidate to look at, or None where this iteration has nothing new."""

    def tell(self, candidate: Candidate, score: float) -> None:
        """Learn the score of a candidate that is within all budgets."""

    def best(self) -> tuple[float, Candidate]:
        """Return the best score so far and its candidate."""

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on, as JSON data."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


class Evolution:
    """Algorithm 1: mutate a random member; what exceeds a budget is dropped; the worst leaves.

    Candidates that were scored before are not scored again. They are remembered by their 64-bit
    hash, so that long runs stay small.

    Args:
        space: the space to search.
        mutation: how to make a mutant.
        start: the first member, within all budgets, and its score.
        rng: source of all randomness.
        iterations: length of the run; the second half is the fine one.
        population: how many members are kept.
    """

    def __init__(
        self,
        space: Space,
        mutation: Mutation,
        start: tuple[Candidate, float],
        rng: np.random.Generator,
        iterations: int = ITERATIONS,
        population: int = POPULATION,
    ) -> None:
        self._mutation = mutation
        self._rng = rng
        self._half = iterations // 2
        self._size = population
        candidate, score = start
        self._population = [(-score, candidate)]  # ascending, so the best is first
        self._seen = {hash(candidate)}
        self._draw: Iterator[float] = iter(())
        self._iteration = 0

    @property
    def evaluations(self) -> int:
        """The number of distinct candidates scored."""
        return len(self._seen)

    def begin(self, iteration: int) -> None:
        """Start the chunk of iterations that begins at `iteration`."""
        self._iteration = iteration
        self._draw = iter(self._rng.random(CHUNK * (DRAWS + 1)).tolist())

    def ask(self) -> Candidate | None:
        """Return a mutant of a random member (lines 3-8), or None if it is not a new one."""
        fine = self._iteration >= self._half
        if self._iteration == self._half:
            del self._population[SURVIVORS:]
        self._iteration += 1
        parent = self._population[int(next(self._draw) * len(self._population))][1]
        mutant = self._mutation(parent, self._draw, fine)
        return None if hash(mutant) in self._seen else mutant

    def tell(self, candidate: Candidate, score: float) -> None:
        """Add a scored candidate; the smallest entropy leaves a full population (lines 12-15)."""
        self._seen.add(hash(candidate))
        if len(self._population) < self._size or -score < self._population[-1][0]:
            bisect.insort(self._population, (-score, candidate))
            del self._population[self._size :]

    def best(self) -> tuple[float, Candidate]:
        """Return the best score so far and its candidate."""
        cost, candidate = self._population[0]
        return -cost, candidate

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on, as JSON data."""
        return {
            "rng": self._rng.bit_generator.state,
            "population": self._population,
            "seen": sorted(self._seen),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._rng.bit_generator.state = state["rng"]
        self._population = [(cost, thaw(candidate)) for cost, candidate in state["population"]]
        self._seen = set(state["seen"])


class RandomSearch:
    """Independent random candidates (the paper's appendix F), the baseline for evolution."""

    def __init__(
        self, space: Space, start: tuple[Candidate, float], rng: np.random.Generator
    ) -> None:
        self._space = space
        self._rng = rng
        self._best = (start[1], start[0])
        self._seen = {hash(start[0])}

    @property
    def evaluations(self) -> int:
        """The number of distinct candidates scored."""
        return len(self._seen)

    def begin(self, iteration: int) -> None:
        """Start the chunk of iterations that begins at `iteration`."""

    def ask(self) -> Candidate | None:
        """Return a random candidate of the space, or None if it was scored before."""
        candidate = self._space.sample(self._rng)
        return None if hash(candidate) in self._seen else candidate

    def tell(self, candidate: Candidate, score: float) -> None:
        """Keep the candidate if it is the best so far."""
        self._seen.add(hash(candidate))
        self._best = max(self._best, (score, candidate))

    def best(self) -> tuple[float, Candidate]:
        """Return the best score so far and its candidate."""
        return self._best

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on, as JSON data."""
        return {
            "rng": self._rng.bit_generator.state,
            "best": self._best,
            "seen": sorted(self._seen),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._rng.bit_generator.state = state["rng"]
        score, candidate = state["best"]
        self._best = (score, thaw(candidate))
        self._seen = set(state["seen"])


def thaw(candidate: Any) -> Candidate:
    """Return the candidate that JSON turned into lists."""
    stem, *rows = candidate
    return (stem, *(tuple(genes) for genes in rows))

"""Which networks to measure: random ones, ones that searches visit, and a few of another kind."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..architecture import lower, spaces
from ..architecture.graph import Size
from ..architecture.spaces import Candidate, Space
from ..budgets.oracles import graph_oracle
from ..costs import flops
from ..profiling.probes import probes
from ..profiling.session import Sample
from ..scores.entropy import EntropyScore
from ..searchers.evaluator import Evaluator
from ..searchers.evolution import CHUNK, Evolution
from ..searchers.mutation import AttributeMutation

SIZES = (160, 192, 224, 224, 224, 256, 320)
"""Resolutions that networks are measured at; the default one more often."""

DEFAULT = (224, 224)
"""The size that the others lie around."""

FLOPS = {"resnet": (7e7, 5e9), "mobile": (4e7, 1e9)}
"""Multiply-adds of measured networks: from about two to about eighty milliseconds of a core."""

ITERATIONS = CHUNK
"""Length of the evolutions that networks are taken from."""


INSIDE = 3
"""Networks of the search spaces that are measured for each one outside them."""


def samples(seed: int) -> Iterator[Sample]:
    """Yield networks to measure, without end: the same for the same seed.

    The winners of searches are deep and wide in ways that random networks hardly are, so every
    second network is taken from a short evolution under a random budget of FLOPs. Behind each
    three of these comes one outside the search spaces, for the kernels of any other model.
    """
    outside = probes(np.random.default_rng([seed, 1]))
    architectures = inside(seed)
    while True:
        yield from itertools.islice(architectures, INSIDE)
        name, graph = next(outside)
        yield Sample(None, graph.size, graph.batch, graph, name)


def resized(found: Iterator[Sample], resolution: Size, batch: int) -> Iterator[Sample]:
    """Yield architectures in the batches of a device, at resolutions around its own.

    Sizes spread as around 224; they are multiples of 32. Other networks stay as they are.
    """
    for sample in found:
        if sample.architecture is None or (resolution, batch) == (DEFAULT, 1):
            yield sample
            continue
        height, width = (
            max(32, 32 * round(own * size / DEFAULT[0] / 32))
            for own, size in zip(resolution, sample.resolution, strict=True)
        )
        yield replace(sample, resolution=(height, width), batch=batch)


def inside(seed: int) -> Iterator[Sample]:
    """Yield architectures of the search spaces, random ones and ones that searches visit."""
    rng = np.random.default_rng(seed)
    searches = [_Searches(spaces.load(name)) for name in FLOPS]
    while True:
        for search in searches:
            size = int(rng.choice(SIZES))
            low, high = FLOPS[search.space.name]
            budget = math.exp(rng.uniform(math.log(low), math.log(high)))
            for candidate in (
                _random(search.space, rng, (size, size), low, high),
                search(rng, (size, size), budget),
            ):
                yield Sample(search.space.decode(candidate), (size, size), 1)


class _Searches:
    """Short evolutions in one space; each finds the tables that the first one filled.

    They count FLOPs at one resolution and leave the border's share of the score out: what they
    visit is much like what a search visits, in a tenth of the time.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        oracles = [graph_oracle("flops", (224, 224)), graph_oracle("layers", (224, 224))]
        limits = [math.inf, space.layers]
        self._evaluator = Evaluator(space, EntropyScore(border=False), oracles, limits)

    def __call__(self, rng: np.random.Generator, size: Size, budget: float) -> Candidate:
        """Return the best candidate found within so many multiply-adds at that resolution."""
        limit = budget * 224**2 / (size[0] * size[1])
        first = self.space.narrowest()
        score = self._score(first, limit)
        if score is None:
            return first
        mutation = AttributeMutation(self.space)
        sampler = Evolution(self.space, mutation, (first, score), rng, ITERATIONS, 32)
        for start in range(0, ITERATIONS, CHUNK):
            sampler.begin(start)
            for _ in range(CHUNK):
                candidate = sampler.ask()
                found = self._score(candidate, limit) if candidate is not None else None
                if candidate is not None and found is not None:
                    sampler.tell(candidate, found)
        return sampler.best()[1]

    def _score(self, candidate: Candidate, limit: float) -> float | None:
        score = self._evaluator.evaluate(candidate)
        if score is None or self._evaluator.costs(candidate)[0] > limit:
            return None
        return score


def _random(
    space: Space, rng: np.random.Generator, size: Size, low: float, high: float
) -> Candidate:
    while True:
        candidate = space.sample(rng)
        if low <= flops(lower(space.decode(candidate), size)) <= high:
            return candidate

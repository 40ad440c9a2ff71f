"""Search: tables against graphs, mutation, evolution, resumption."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.architecture import lower, spaces, zoo
from hwnas.budgets.oracles import graph_oracle
from hwnas.scores.entropy import EntropyScore
from hwnas.searchers.evaluator import Evaluator
from hwnas.searchers.evolution import Evolution, RandomSearch
from hwnas.searchers.loop import Progress, freeze, resume, run
from hwnas.searchers.mutation import DRAWS, MUTATIONS
from hwnas.searchers.tables import AdditiveTerm, cheapest

SPACES = ["resnet", "mobile"]
SIZE = (224, 224)


def make_evaluator(name: str, **limits: float) -> Evaluator:
    space = spaces.load(name)
    oracles = [graph_oracle(quantity, SIZE) for quantity in limits]
    return Evaluator(space, EntropyScore(), oracles, list(limits.values()))


EVALUATORS = {
    name: make_evaluator(name, flops=1e9, params=1e7, layers=91, memory=1e8) for name in SPACES
}


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_tables_agree_with_the_graph(name: str, seed: int) -> None:
    evaluator = EVALUATORS[name]
    candidate = evaluator.space.sample(np.random.default_rng(seed))
    architecture = evaluator.space.decode(candidate)
    graph = lower(architecture, SIZE)
    costs = [oracle.cost(graph) for oracle in evaluator.oracles]
    assert evaluator.costs(candidate) == pytest.approx(costs, rel=1e-12)
    within = all(c <= limit for c, limit in zip(costs, evaluator.limits, strict=True))
    score = evaluator.evaluate(candidate)
    assert (score is not None) == within
    if score is not None:
        assert score == pytest.approx(EntropyScore()(architecture).score, rel=1e-9)


@pytest.mark.parametrize(
    "score",
    [
        EntropyScore(alpha=(1, 2, 0, 0, 3), resolution=(96, 160)),
        EntropyScore(border=False),
        EntropyScore(finite_width=False),
        EntropyScore(feature_size=True),
    ],
)
@pytest.mark.parametrize("name", SPACES)
def test_every_form_of_the_score_agrees_with_the_graph(name: str, score: EntropyScore) -> None:
    space = spaces.load(name)
    fast = Evaluator(space, score, [], [])
    rng = np.random.default_rng(1)
    for _ in range(10):
        candidate = space.sample(rng)
        assert fast.evaluate(candidate) == pytest.approx(
            score(space.decode(candidate)).score, rel=1e-9
        )


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutants_stay_in_the_space_and_reach_every_block(name: str, mutation: str) -> None:
    space = spaces.load(name)
    mutate = MUTATIONS[mutation](space)
    rng = np.random.default_rng(0)
    parent = space.narrowest()
    changed = set()
    for step in range(4000):
        mutant = mutate(parent, iter(rng.random(DRAWS).tolist()), step >= 3000)
        if space.problem(mutant):
            assert "channels" in space.problem(mutant)  # neighbours that do not suit each other
            continue
        changed |= {i for i, (a, b) in enumerate(zip(parent, mutant, strict=True)) if a != b}
        if step >= 3000:
            assert [g[3] for g in mutant[1:]] == [g[3] for g in parent[1:]]
        parent = mutant
    assert changed == set(range(len(parent)))


class Memory:
    def __init__(self) -> None:
        self.states: list[dict] = []

    def save(self, state: dict) -> None:
        self.states.append(state)


def evolve(seed: int, iterations: int, mutation: str = "attributes", flops: float = 4.4e9):
    evaluator = make_evaluator("resnet", flops=flops, layers=91)
    first = evaluator.space.narrowest()
    return evaluator, Evolution(
        evaluator.space,
        MUTATIONS[mutation](evaluator.space),
        (first, evaluator.evaluate(first)),
        np.random.default_rng(seed),
        iterations,
    )


@pytest.mark.parametrize("method", ["evolution", "random"])
def test_a_resumed_run_ends_as_if_it_had_never_stopped(method: str) -> None:
    import json

    def fresh():
        evaluator, sampler = evolve(3, 6000)
        if method == "random":
            first = evaluator.space.narrowest()
            start = (first, evaluator.evaluate(first))
            sampler = RandomSearch(evaluator.space, start, np.random.default_rng(3))
        return evaluator, sampler

    evaluator, sampler = fresh()
    whole = run(sampler, evaluator, 6000, Memory(), Progress())
    evaluator, sampler = fresh()
    part = run(sampler, evaluator, 2048, Memory(), Progress())
    saved = json.loads(json.dumps(freeze(sampler, part)))
    evaluator, sampler = fresh()
    rest = run(sampler, evaluator, 6000, Memory(), resume(sampler, saved))
    assert rest.history == whole.history
    assert whole.history[-1].score > whole.history[0].score


def test_evolution_beats_the_paper_in_its_own_budget() -> None:
    goal = EntropyScore()(zoo.get("maedet-m")).score
    evaluator, sampler = evolve(0, 96_000)
    run(sampler, evaluator, 96_000, Memory(), Progress())
    score, candidate = sampler.best()
    assert score >= goal
    assert evaluator.evaluate(candidate) == score


def test_the_cheapest_network_is_the_cheapest() -> None:
    space = spaces.load("resnet")
    oracle = graph_oracle("flops", SIZE)
    best = cheapest(space, [AdditiveTerm(space, oracle)], [1.0])
    assert best == space.narrowest()

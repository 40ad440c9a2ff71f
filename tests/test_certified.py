"""The certified search against brute force, against evolution, and its bounds."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_spaces import everything

from hwnas.architecture import spaces
from hwnas.budgets.oracles import LayerSum, graph_oracle
from hwnas.costs import macs, params
from hwnas.errors import HwnasError
from hwnas.scores.entropy import EntropyScore
from hwnas.searchers.certified import Solver
from hwnas.searchers.certified.alternatives import different
from hwnas.searchers.certified.border import border_bound
from hwnas.searchers.certified.dual import lowest
from hwnas.searchers.certified.narrowing import narrowed
from hwnas.searchers.certified.problem import AdditiveProblem
from hwnas.searchers.certified.states import states
from hwnas.searchers.certified.terms import space_terms
from hwnas.searchers.evaluator import Evaluator
from hwnas.searchers.feasibility import cheapest_within

SIZE = (64, 96)

RESNET = """
schema = "hwnas.space/1"
name = "small"
width_step = 8
layers = 91
[stem]
channels = [8, 16]
""" + "".join(
    f"""
[[rows]]
stage = {stage}
family = "bottleneck"
stride = 2
kernels = {kernels}
out = [{low}, {high}]
growth = [1.0, 2.0]
mid = [8, 16]
pairs = {pairs}
"""
    for stage, kernels, low, high, pairs in (
        (2, [3], 8, 24, [1, 2]),
        (3, [3, 5], 16, 24, [1, 1]),
        (4, [3, 5], 16, 32, [1, 2]),
        (5, [5], 32, 40, [1, 2]),
    )
)

MOBILE = """
schema = "hwnas.space/1"
name = "small-mobile"
width_step = 8
layers = 91
[stem]
channels = [8, 16]
activation = "relu6"
""" + "".join(
    f"""
[[rows]]
stage = {stage}
family = "mobile"
stride = {stride}
kernels = {kernels}
out = [{low}, {high}]
growth = [0.5, 3.0]
expansion = {expansion}
blocks = {blocks}
"""
    for stage, stride, kernels, low, high, expansion, blocks in (
        (1, 1, [3], 8, 8, [1, 2], [1, 1]),
        (2, 2, [3], 8, 16, [1, 3], [1, 2]),
        (3, 2, [3, 5], 16, 16, [1], [1, 2]),
        (4, 2, [5], 16, 24, [1, 2], [1, 2]),
        (5, 2, [3], 24, 32, [2, 3], [1, 2]),
        (5, 1, [3], 24, 32, [1], [1, 1]),
    )
)

SPACES = {"resnet": spaces.parse(RESNET, "resnet"), "mobile": spaces.parse(MOBILE, "mobile")}


class Noisy:
    """An additive cost whose every table entry is a formula times noise: nothing is monotone."""

    additive = True
    batch = 1
    resolution = SIZE

    def __init__(self, formula: Any, seed: int, sigma: float, constant: float = 0.0) -> None:
        self.constant = constant
        self._formula = formula
        self._rng = np.random.default_rng(seed)
        self._sigma = sigma

    def parts(self, graph: Any, where: Any = None) -> list[Any]:
        found = []
        for layer in graph.layers:
            cost = self._formula(layer)
            noise = self._rng.normal(0.0, self._sigma, np.shape(cost))
            found.append(cost * np.exp(noise))
        if self._rng.random() < 0.3 and len(graph.layers) > 1:
            # A cost that depends on all channels of a block at once.
            shape = np.broadcast_shapes(
                *(np.shape(layer.in_channels) for layer in graph.layers),
                *(np.shape(layer.out_channels) for layer in graph.layers),
            )
            found.append(np.abs(self._rng.normal(0.0, np.mean(found[0]), shape)))
        return found

    def cost(self, graph: Any) -> float:
        raise AssertionError("the tables say what a network costs")


ALL = {name: everything(space) for name, space in SPACES.items()}


def scored(evaluator: Evaluator, name: str) -> tuple[np.ndarray, np.ndarray]:
    scores = np.array([evaluator.score_of(candidate) for candidate in ALL[name]])
    costs = np.array([evaluator.costs(candidate) for candidate in ALL[name]])
    return scores, costs


SCORES = [
    EntropyScore(resolution=SIZE),
    EntropyScore(alpha=(1, 0, 2, 0, 1), resolution=SIZE, border=False),
    EntropyScore(alpha=(0, 0, 0, 0, 1), resolution=SIZE, finite_width=False),
    EntropyScore(alpha=(0, 0, 0, 1, 0), resolution=SIZE, border=False, finite_width=False),
]


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    sigma=st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    score=st.sampled_from(SCORES),
    budgets=st.integers(1, 2),
    layers=st.booleans(),
)
def test_the_result_is_that_of_brute_force(
    name: str, seed: int, sigma: float, score: EntropyScore, budgets: int, layers: bool
) -> None:
    rng = np.random.default_rng(seed)
    oracles: list[Any] = [Noisy(macs, seed, sigma, 1e6), Noisy(params, seed + 1, sigma)][:budgets]
    if layers:
        oracles.append(graph_oracle("layers", SIZE))
    evaluator = Evaluator(SPACES[name], score, oracles, [math.inf] * len(oracles))
    scores, costs = scored(evaluator, name)
    solver = Solver(evaluator)
    for number in range(20):
        # Limits on some architecture's costs, so that rounding at the limit is met, too.
        limits = costs[rng.integers(len(costs))].copy()
        for k in range(len(limits)):
            if rng.random() < 0.5:
                limits[k] = costs[rng.integers(len(costs)), k]
        within = (costs <= limits).all(axis=1)
        if not within.any():
            continue
        start = ALL[name][int(np.flatnonzero(within)[0])]
        found = solver.solve(limits.tolist(), start=start)
        best = float(scores[within].max())
        assert found.proven
        assert found.score == pytest.approx(best, rel=1e-12)
        assert found.bound == found.score == evaluator.score_of(found.candidate)
        assert (np.array(evaluator.costs(found.candidate)) <= limits).all()
        if number < 3:
            cut = solver.solve(limits.tolist(), start=start, most_paths=0)
            assert cut.bound >= best * (1 - 1e-12)
            assert cut.score <= best * (1 + 1e-12)


@pytest.mark.parametrize("name", ["resnet", "mobile"])
@pytest.mark.parametrize("score", [EntropyScore(), EntropyScore(resolution=(64, 160))])
def test_the_border_is_bounded_row_by_row(name: str, score: EntropyScore) -> None:
    space = spaces.load(name)
    evaluator = Evaluator(space, score, [], [])
    rows = space_terms(evaluator, []).rows
    known = states(rows, 91)
    bound = border_bound(rows, known, evaluator.entropy.image)
    rng = np.random.default_rng(0)
    slack = []
    for _ in range(300):
        state, layers = evaluator.entropy.image, 1
        assert state is not None
        for r, (row, genes) in enumerate(zip(rows, space.sample(rng)[1:], strict=True)):
            kernel, _, inner, depth = genes
            if layers not in known.layers[r]:
                break
            after, _ = row.entropy.border(state, kernel, depth)
            share = row.entropy.passed_on * (after.log_gain - state.log_gain)
            slack.append(bound[r][kernel, depth][known.layers[r].index(layers)] - share)
            state = after
            first, rest = row.entropy.layers[kernel, inner]
            layers += len(first) + (depth * row.row.unit - 1) * len(rest)
    assert min(slack) > -1e-9
    assert np.mean(slack) < 0.25


def test_no_architecture_beats_the_optimum_of_a_whole_space() -> None:
    space = spaces.load("resnet")
    oracles = [LayerSum(macs, (224, 224)), graph_oracle("layers", (224, 224))]
    evaluator = Evaluator(space, EntropyScore(), oracles, [4.4e9, 91])
    found = Solver(evaluator).solve()
    assert found.proven
    rng = np.random.default_rng(0)
    for _ in range(2000):
        score = evaluator.evaluate(space.sample(rng))
        assert score is None or score <= found.bound


class Broken(Noisy):
    """A cost with one entry that is none."""

    def __init__(self, value: float) -> None:
        super().__init__(macs, 0, 0.0)
        self._value = value

    def parts(self, graph: Any, where: Any = None) -> list[Any]:
        found = [np.array(part, dtype=np.float64, ndmin=3) for part in super().parts(graph, where)]
        if graph.input_activation is not None:
            found[0][0, -1, 0] = self._value
        return found


@pytest.mark.parametrize("value", [math.nan, -1e12, math.inf])
@pytest.mark.parametrize("name", SPACES)
def test_costs_that_are_none_are_refused(name: str, value: float) -> None:
    with pytest.raises(HwnasError, match="a cost is a finite number and not negative"):
        Evaluator(SPACES[name], SCORES[0], [Broken(value)], [1e9])


def test_budgets_that_contradict_each_other_are_told_from_one_that_is_too_low() -> None:
    oracles: list[Any] = [Noisy(macs, 0, 1.0), Noisy(params, 1, 1.0)]
    evaluator = Evaluator(SPACES["resnet"], SCORES[0], oracles, [math.inf, math.inf])
    _, costs = scored(evaluator, "resnet")
    least = costs.min(axis=0)
    assert cheapest_within(evaluator, (0.99 * least[0], math.inf)).alone == 0
    assert cheapest_within(evaluator, (math.inf, 0.99 * least[1])).alone == 1
    together = cheapest_within(evaluator, tuple(1.0001 * least))
    assert not (costs <= 1.0001 * least).all(axis=1).any()
    assert not together.fits
    assert together.alone is None
    assert cheapest_within(evaluator, tuple(2 * costs.max(axis=0))).fits


def test_alternatives_differ_from_each_other_in_two_rows() -> None:
    space = SPACES["resnet"]
    evaluator = Evaluator(space, SCORES[0], [graph_oracle("params", SIZE)], [60e3])
    found = Solver(evaluator).solve(alternatives=4)
    known = [found.candidate, *(candidate for candidate, _ in found.alternatives)]
    assert len(known) > 1
    for candidate, score in found.alternatives:
        assert score == evaluator.evaluate(candidate) <= found.bound
    for one, other in itertools.combinations(known, 2):
        assert len(different(one, [other], space.rows, 1)) == 1
    assert different(found.candidate, [found.candidate], space.rows, 1) == []


@pytest.mark.parametrize("name", ["resnet", "mobile"])
def test_a_start_near_the_limit_changes_nothing(name: str) -> None:
    space = spaces.load(name)
    size = (224, 224)
    oracles = [graph_oracle(quantity, size) for quantity in ("flops", "params", "layers")]
    limits = [2e9, 12e6, 91.0] if name == "resnet" else [0.4e9, 2e6, 91.0]
    evaluator = Evaluator(space, EntropyScore(), oracles, limits)
    whole = Solver(evaluator).solve(limits)
    assert whole.proven
    solver = Solver(evaluator)
    near = [limit * 1.0001 for limit in evaluator.costs(whole.candidate)]
    found = solver.solve(near, whole.candidate)
    assert found.proven
    assert found.score >= whole.score
    assert found.score == solver.solve(near).score
    tight = evaluator.costs(whole.candidate)
    assert solver.solve(tight, whole.candidate).score == whole.score


def test_nothing_that_could_be_the_best_is_left_out() -> None:
    space = SPACES["mobile"]
    oracles: list[Any] = [Noisy(macs, 3, 0.5), Noisy(params, 4, 0.5)]
    evaluator = Evaluator(space, SCORES[0], oracles, [math.inf, math.inf])
    scores, costs = scored(evaluator, "mobile")
    whole, _ = AdditiveProblem(evaluator).relaxations(math.inf)
    rng = np.random.default_rng(0)
    for _ in range(20):
        prices = rng.uniform(0, 3, 2) * scores.std() / costs.std(axis=0)
        values = whole.solve(prices)
        priced = scores - costs @ prices
        assert values.value >= priced.max() * (1 - 1e-12)
        least = np.quantile(priced, 0.99)
        left = narrowed(whole, values, least)
        assert left.size() <= whole.size()
        assert left.solve(prices).value >= priced.max() - 1e-9 * abs(priced.max())
        for k in np.flatnonzero(priced > least):
            stem, *rows = ALL["mobile"][k]
            assert stem in left.terms.widths
            for (_, out, _, depth), row, moves in zip(
                rows, left.terms.rows, left.states.moves, strict=True
            ):
                assert out in row.outs
                assert depth in {move.depth for move in moves}


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    budgets=st.integers(1, 4),
    boxed=st.booleans(),
)
def test_the_least_of_the_highest_line_is_that_of_a_linear_program(
    seed: int, count: int, budgets: int, boxed: bool
) -> None:
    from scipy.optimize import linprog

    rng = np.random.default_rng(seed)
    scores = rng.uniform(500, 2000, count)
    rooms = 1 - rng.lognormal(0, 1, (count, budgets))
    rooms[0] = np.where(rng.random(budgets) < 0.2, 0.0, rng.uniform(0, 1, budgets))
    low = rng.uniform(0, 10, budgets) * boxed
    high = low + rng.uniform(0, 500, budgets) if boxed else np.full(budgets, np.inf)
    least, prices = lowest(scores, rooms, low, high)
    known = linprog(
        np.eye(1, 1 + budgets)[0],
        A_ub=np.hstack([np.full((count, 1), -1.0), rooms]),
        b_ub=-scores,
        bounds=[(None, None), *zip(low, high, strict=True)],
    )
    assert least == pytest.approx(known.fun, rel=1e-9)
    assert (scores + rooms @ prices).max() == pytest.approx(least, rel=1e-9)
    assert ((prices >= low) & (prices <= high * (1 + 1e-9))).all()

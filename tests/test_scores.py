"""Scores beside the entropy: definitions on small cases, one contract, and the search."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas import costs
from hwnas.architecture import Architecture, lower, spaces, zoo
from hwnas.architecture.genotype import Row, Stem
from hwnas.errors import DeviceUnavailableError, HwnasError, UsageError
from hwnas.scores import catalog
from hwnas.scores.base import Score, seed_of
from hwnas.scores.grad_norm import GradNormScore
from hwnas.scores.naswot import NaswotScore
from hwnas.scores.network import finite, finite_log, fresh_network
from hwnas.scores.stages import DeepMadScore, FlopsScore, MadnasScore, ParamsScore
from hwnas.scores.synflow import SynflowScore
from hwnas.scores.zen import ZenScore
from hwnas.searchers.evaluator import Evaluator
from hwnas.searchers.scoring import ScoreEvaluator
from hwnas.workflows.frontier import Span, frontier
from hwnas.workflows.problem import Request, understand
from hwnas.workflows.search import Settings, affordable, resume_search, search

TORCH = ("zen", "naswot", "synflow", "grad-norm")
SIZE = (64, 64)


def tiny(
    width: int = 8, depth: int = 1, kernel: int = 3, family: str = "bottleneck"
) -> Architecture:
    """Return a network of a few thousand weights; every width is a multiple of `width`."""
    inner = 3 if family == "mobile" else width
    activation = "relu6" if family == "mobile" else "relu"
    rows = tuple((Row(family, 2 * width, inner, depth, kernel, 2, activation),) for _ in range(4))
    return Architecture(Stem(width), ((), *rows))


class Contract:
    """What every score keeps; each test class of a score inherits it."""

    name: str
    rises_with: tuple[str, ...] = ()
    """The attributes that only ever raise this score."""

    def score(self) -> Score:
        resolution = SIZE if self.name in TORCH else None
        return catalog.make(self.name, resolution=resolution)

    def test_it_is_what_it_says(self) -> None:
        score = self.score()
        assert score.name == self.name
        assert score.kind in ("closed form", "forward passes", "gradients")
        assert (score.kind != "closed form") == (self.name in TORCH)
        assert type(score).__doc__

    @pytest.mark.parametrize("family", ["bottleneck", "mobile", "basic", "k1kx"])
    def test_it_is_a_finite_number_of_every_family(self, family: str) -> None:
        value = self.score().value(tiny(family=family))
        assert type(value) is float or type(value) is int
        assert math.isfinite(value)

    def test_it_is_a_finite_number_with_gates_and_a_focus_stem(self) -> None:
        row = Row("bottleneck", 16, 8, 1, 3, 2, "hard_swish", se="hard_sigmoid")
        network = Architecture(Stem(8, activation="silu", focus=True), ((), *(((row,),) * 4)))
        value = self.score().value(network)
        assert math.isfinite(value)
        assert self.score().value(network) == value

    def test_it_depends_on_the_architecture_and_the_seed_alone(self) -> None:
        score, architecture = self.score(), tiny()
        value = score.value(architecture, 7)
        assert score.value(tiny(kernel=5), 7) != value
        assert score.value(architecture.renamed("other"), 7) == value
        drawn = self.name in (*TORCH, "random")
        assert (score.value(architecture, 8) != value) == drawn

    def test_it_leaves_the_global_random_numbers_alone(self) -> None:
        import torch

        torch.manual_seed(3)
        before, legacy = torch.get_rng_state(), np.random.get_state()[1].tolist()
        self.score().value(tiny())
        assert torch.equal(before, torch.get_rng_state())
        assert legacy == np.random.get_state()[1].tolist()

    def test_it_rises_with_what_it_is_known_to_rise_with(self) -> None:
        score = self.score()
        larger = {"width": tiny(16), "depth": tiny(depth=2), "kernel": tiny(kernel=5)}
        for attribute in self.rises_with:
            assert score.value(larger[attribute]) > score.value(tiny())

    @pytest.mark.parametrize("name", ["resnet", "mobile", "mobile-se", "mixed"])
    def test_a_search_scores_what_the_score_scores(self, name: str) -> None:
        space, score = spaces.load(name), self.score()
        evaluator = ScoreEvaluator(Evaluator(space, catalog.make("entropy"), [], []), score, 5)
        rng = np.random.default_rng(0)
        closed = score.kind == "closed form"
        for candidate in [space.narrowest(), *(space.sample(rng) for _ in range(10 * closed))]:
            expected = score.value(space.decode(candidate), 5)
            assert evaluator.evaluate(candidate) == pytest.approx(expected, rel=1e-9)


class TestEntropy(Contract):
    name = "entropy"
    rises_with = ("width", "depth", "kernel")


class TestMadnas(Contract):
    name = "madnas"
    rises_with = ("width", "depth", "kernel")

    def test_by_hand(self) -> None:
        layers = [27.0] + [8, 72, 8] + [16, 72, 8] * 3  # fan-in by layer
        ends = [1, 4, 7, 10, 13]
        expected = sum(
            alpha * (0.5 * sum(math.log(n) for n in layers[:end]) + math.log(out))
            for alpha, end, out in zip((0, 0, 1, 1, 6), ends, (8, 16, 16, 16, 16), strict=True)
        )
        assert MadnasScore().value(tiny()) == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(
        ("name", "published"),
        [
            ("maedet-s", 1731.907009966715),
            ("maedet-m", 2114.7828676827894),
            ("maedet-l", 2599.396120322784),
        ],
    )
    def test_the_reference_toolbox_gives_the_same(self, name: str, published: float) -> None:
        # Printed by ComputeMadnasScore of the toolbox for its files maedet_{s,m,l}.txt.
        assert MadnasScore().value(zoo.get(name)) == pytest.approx(published, rel=1e-9)


class TestDeepMad(Contract):
    name = "deepmad"

    def test_by_hand(self) -> None:
        layers = [27.0] + [8, 72, 8] + [16, 72, 8] * 3
        logs = [sum(math.log(n) for n in layers[:end]) for end in (1, 4, 7, 10, 13)]
        maps = [8 * 112**2, 16 * 56**2, 16 * 28**2, 16 * 14**2, 16 * 7**2]
        expected = sum(
            alpha * math.log(size) * log
            for alpha, size, log in zip((1, 1, 1, 1, 8), maps, logs, strict=True)
        )
        free = DeepMadScore(effectiveness=100.0)
        assert free.value(tiny()) == pytest.approx(expected, rel=1e-12)
        rho = 13 / math.exp(logs[-1] / 13)
        bound = DeepMadScore(effectiveness=rho - 0.01)
        assert bound.value(tiny()) == pytest.approx(-0.01, rel=1e-9)
        assert DeepMadScore(effectiveness=rho + 0.01).value(tiny()) == free.value(tiny())

    @pytest.mark.parametrize(
        ("name", "entropy", "rho"),
        [
            ("maedet-s", 25301.617862042527, 0.1526655805382412),
            ("maedet-m", 30986.22250961995, 0.15310498421284915),
        ],
    )
    def test_the_reference_toolbox_gives_half(self, name: str, entropy: float, rho: float) -> None:
        # The toolbox takes the logarithm of the square root of each fan-in; the paper does not.
        architecture = zoo.get(name)
        assert DeepMadScore().value(architecture) == pytest.approx(2 * entropy, rel=1e-9)
        low, high = (DeepMadScore(effectiveness=rho * f) for f in (1 - 1e-9, 1 + 1e-9))
        assert low.value(architecture) < 0 < high.value(architecture)

    def test_nearer_to_the_bound_is_better(self) -> None:
        score = DeepMadScore()
        assert score.value(tiny(depth=4)) < score.value(tiny(depth=2)) < 0


class TestParams(Contract):
    name = "params"
    rises_with = ("width", "depth", "kernel")

    def test_they_are_the_costs(self) -> None:
        architecture = zoo.get("maedet-m")
        assert ParamsScore().value(architecture) == costs.total_params(lower(architecture))


class TestFlops(Contract):
    name = "flops"
    rises_with = ("width", "depth", "kernel")

    def test_they_are_the_costs(self) -> None:
        architecture = zoo.get("mobilenetv2-1.0")
        assert FlopsScore().value(architecture) == costs.flops(lower(architecture))


class TestRandom(Contract):
    name = "random"

    def test_it_is_uniform(self) -> None:
        score = self.score()
        values = sorted(score.value(tiny(), seed) for seed in range(2000))
        deviation = max(abs(v - i / 2000) for i, v in enumerate(values))
        assert deviation < 1.95 / math.sqrt(2000)  # Kolmogorov-Smirnov at 0.1 %


class TestZen(Contract):
    name = "zen"
    rises_with = ("width", "depth", "kernel")

    def test_against_batch_normalisation_by_torch(self) -> None:
        import torch
        from torch import nn

        # The plain network of `tiny`, of torch's own modules.
        channels, kernels = [3, 8] + [8, 8, 16] * 4, [3] + [1, 3, 1] * 4
        strides = [2] + [1, 2, 1] * 4
        generator = torch.Generator().manual_seed(seed_of(tiny(), 0))
        x = torch.randn(4, 3, *SIZE, generator=generator)
        noisy = x + 0.01 * torch.randn(x.shape, generator=generator)
        layers: list[nn.Module] = []
        variances: list[float] = []
        for k, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
            conv = nn.Conv2d(channels[k], channels[k + 1], kernel, stride, kernel // 2, bias=False)
            conv.weight.data = torch.randn(conv.weight.shape, generator=generator)
            conv.register_forward_hook(
                lambda m, i, y: variances.append(float(y.var((0, 2, 3), correction=0).mean()))
            )
            layers += [conv, nn.BatchNorm2d(channels[k + 1]), nn.ReLU()]
        network = nn.Sequential(*layers)
        with torch.no_grad():
            moved = (network(x) - network(noisy)).flatten(1).norm(dim=1).mean()
        expected = math.log(float(moved)) + 0.5 * sum(map(math.log, variances[:13]))
        assert self.score().value(tiny()) == pytest.approx(expected, rel=1e-5)

    def test_the_scale_of_weights_is_added_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        before = self.score().value(tiny())
        draw = torch.randn
        monkeypatch.setattr(
            torch, "randn", lambda s, **k: draw(s, **k) * (5.0 if s[0] != 4 else 1.0)
        )
        after = self.score().value(tiny())  # each of 13 layers is 5 times as large
        assert after - before == pytest.approx(13 * math.log(5), rel=1e-3)


class TestNaswot(Contract):
    name = "naswot"
    rises_with = ("width", "depth")

    def test_against_the_definition(self) -> None:
        import torch

        batch = 5
        generator = torch.Generator().manual_seed(seed_of(tiny(), 0))
        network = fresh_network(tiny(), generator, torch.float32)
        codes: list[Any] = []
        for name, module in network.named_modules():
            if name.endswith(".act") and isinstance(module, torch.nn.ReLU):
                module.register_forward_hook(
                    lambda m, i, result: codes.append((result > 0).flatten(1))
                )
        with torch.no_grad():
            network(torch.randn(batch, 3, *SIZE, generator=generator))
        assert len(codes) == 1 + 4 * 3  # the stem's, and three of each block
        code = torch.cat(codes, 1).numpy()
        kernel = [[float((a == b).sum()) for b in code] for a in code]
        expected = np.linalg.slogdet(np.array(kernel)).logabsdet
        assert NaswotScore(SIZE, batch).value(tiny()) == pytest.approx(expected, rel=1e-9)


class TestSynflow(Contract):
    name = "synflow"
    rises_with = ("width", "depth", "kernel")

    def test_it_is_a_derivative_along_the_weights(self) -> None:
        import torch

        generator = torch.Generator().manual_seed(seed_of(tiny(), 0))
        network = fresh_network(tiny(), generator, torch.float32).double()
        for module in list(network.modules()):
            for name, _ in list(module.named_children()):
                if name in ("norm", "act"):
                    setattr(module, name, torch.nn.Identity())
        ones = torch.ones(1, 3, *SIZE, dtype=torch.float64)

        def flow(scale: float) -> float:
            with torch.no_grad():
                for weight, initial in zip(network.parameters(), weights, strict=True):
                    weight.copy_(scale * initial)
                return float(network(ones)[0].sum())

        # sum w dR/dw is dR/dt of R(e^t w) at t = 0: no gradients needed to check it.
        weights = [w.detach().abs() for w in network.parameters()]
        step = 1e-4
        derivative = (flow(math.exp(step)) - flow(math.exp(-step))) / (2 * step)
        assert SynflowScore(SIZE).value(tiny()) == pytest.approx(math.log(derivative), rel=1e-6)


class TestGradNorm(Contract):
    name = "grad-norm"

    def test_against_a_backward_pass(self) -> None:
        import torch
        from torch import nn

        generator = torch.Generator().manual_seed(seed_of(tiny(), 0))
        network = fresh_network(tiny(), generator, torch.float32)
        images = torch.randn(4, 3, *SIZE, generator=generator)
        labels = torch.randint(10, (4,), generator=generator)
        classifier = nn.Linear(16, 10, bias=False)
        classifier.weight.data = torch.randn(16, 10, generator=generator).T / 4.0
        scores = classifier(nn.AdaptiveAvgPool2d(1)(network(images)[0]).flatten(1))
        loss = -torch.log_softmax(scores, 1)[torch.arange(4), labels].mean()
        loss.backward()
        norms = [
            float(m.weight.grad.square().sum().sqrt())
            for m in network.modules()
            if isinstance(m, nn.Conv2d)
        ]
        assert len(norms) == 13 + 4  # the main path's, and a projection in each shortcut
        score = GradNormScore(SIZE, batch=4, classes=10)
        assert score.value(tiny()) == pytest.approx(sum(norms), rel=1e-4)


def test_names_and_weights_that_do_not_exist_are_named() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'zen'\?.*Known: entropy, madnas"):
        catalog.make("zenn")
    with pytest.raises(UsageError, match="does not weight the stages"):
        catalog.make("zen", alpha=(0, 0, 1, 1, 6))
    with pytest.raises(UsageError, match="expected 5 weights"):
        catalog.make("madnas", alpha=(1, 2))
    with pytest.raises(UsageError, match="above 0"):
        DeepMadScore(effectiveness=0.0)


@pytest.mark.parametrize("name", TORCH)
def test_without_torch_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DeviceUnavailableError, match=r"pip install 'hwnas\[torch\]'") as caught:
        catalog.make(name)
    assert caught.value.exit_code == 4
    assert catalog.make("madnas").value(tiny()) > 0


def test_a_score_beyond_arithmetic_is_an_error() -> None:
    with pytest.raises(HwnasError, match="'naswot' of a candidate is nan"):
        finite(math.nan, "naswot")
    for value in (0.0, math.inf, math.nan):
        with pytest.raises(HwnasError, match="'synflow' of a candidate is -inf"):
            finite_log(value, "synflow")
    with pytest.raises(HwnasError, match="too deep for its arithmetic"):
        SynflowScore((32, 32)).value(tiny(32, depth=60))


def request(score: str, **changes: Any) -> Request:
    return Request(("flops=1G",), "v100-trt-fp16", "resnet", (224, 224), score, **changes)


@pytest.mark.parametrize("score", ["madnas", "deepmad", "params", "random"])
def test_a_search_maximises_the_score_it_is_asked_for(score: str, tmp_path: Path) -> None:
    asked = request(score)
    settings = Settings(iterations=3000, population=32)
    result = search(asked, settings, tmp_path / "run")
    document = json.loads((tmp_path / "run/run.json").read_text())
    assert (document["score_name"], document["score_kind"]) == (score, "closed form")
    assert (document["upper_bound"], document["gap"], document["proven"]) == (None, None, False)
    best = catalog.make(score)
    assert document["score"] == pytest.approx(best.value(result.architecture), rel=1e-9)
    by_entropy = search(request("entropy"), settings, tmp_path / "entropy")
    assert document["score"] > best.value(by_entropy.architecture)
    exact = catalog.make("entropy").value(result.architecture)
    assert document["entropy"]["score"] == pytest.approx(exact, rel=1e-12)


def test_a_search_by_forward_passes_goes_on_where_it_stopped(tmp_path: Path) -> None:
    asked = request("zen", score_resolution=(64, 64))
    settings = Settings(iterations=32, population=4, seed=3)
    whole = search(asked, settings, tmp_path / "whole")
    seen = 0

    def stop(moment: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hwnas.searchers.loop.SAVE_EVERY_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            search(asked, settings, tmp_path / "stopped", report=stop)
    assert (tmp_path / "stopped/checkpoint.json").exists()
    resumed = resume_search(tmp_path / "stopped")
    for key in ("score", "score_name", "score_resolution", "evaluations"):
        assert resumed.document[key] == whole.document[key]
    score = ZenScore((64, 64)).value(resumed.architecture, 3)
    assert score == whole.document["score"]  # as 'hwnas show RUN --score zen --seed 3' says


def test_a_short_default_where_networks_are_run() -> None:
    assert affordable("entropy") == (96_000, 256)
    assert affordable("zen") == (2_000, 8)


@pytest.mark.parametrize("score", ["madnas", "params"])
def test_no_certificate_but_for_the_entropy(score: str) -> None:
    problem = understand(request(score))
    settings, why = Settings().resolved(problem)
    assert settings.method == "evolution"
    assert f"no optimum of the score '{score}' can be proven" in why
    assert Settings("random").resolved(problem)[0].method == "random"
    for settings in (Settings("certified"), Settings(alternatives=3)):
        with pytest.raises(UsageError, match=f"'{score}'.*Use --method evolution"):
            settings.resolved(problem)
    assert Settings().resolved(understand(request("entropy")))[0].method == "certified"


def test_no_frontier_but_of_the_entropy(tmp_path: Path) -> None:
    span = Span("flops", 1e9, 2e9, 2)
    with pytest.raises(UsageError, match="A frontier is one of entropies"):
        frontier(request("madnas"), span, tmp_path / "frontier")


def test_the_entropy_has_its_own_options() -> None:
    with pytest.raises(UsageError, match="--feature-size belongs to the entropy"):
        understand(request("madnas", feature_size=True))

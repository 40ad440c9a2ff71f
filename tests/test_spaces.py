"""The shipped spaces, rows of several families, and what is wrong with a space or a structure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from family_contract import Nominal, fusions
from small_spaces import everything
from test_certified import Noisy

from hwnas.architecture import Architecture, from_json, lower, spaces, zoo
from hwnas.budgets.oracles import graph_oracle
from hwnas.cli import main
from hwnas.costs import macs, params
from hwnas.latency.oracle import LatencyOracle
from hwnas.scores.entropy import EntropyScore
from hwnas.searchers.certified import Solver
from hwnas.searchers.evaluator import Evaluator
from hwnas.searchers.mutation import DRAWS, MUTATIONS

SIZE = (128, 160)


def text_of(name: str) -> str:
    return (spaces.files(spaces.__package__) / f"{name}.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", spaces.SHIPPED)
def test_a_shipped_space_and_its_tables(name: str, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(text_of(name))
    space = spaces.load(name)
    assert spaces.load(str(own)) == space
    oracles = [graph_oracle(quantity, SIZE) for quantity in ("flops", "params", "layers")]
    oracles += [LatencyOracle(Nominal(), fusion, SIZE, 1) for fusion in fusions()]
    score = EntropyScore(alpha=(1, 1, 1, 1, 6))
    evaluator = Evaluator(space, score, oracles, [math.inf] * len(oracles))
    rng = np.random.default_rng(0)
    for _ in range(10):
        candidate = space.sample(rng)
        assert space.problem(candidate) == ""
        architecture = space.decode(candidate)
        assert space.encode(architecture) == candidate
        assert from_json(architecture.to_json()) == architecture
        graph = lower(architecture, SIZE)
        expected = [oracle.cost(graph) for oracle in oracles]
        assert evaluator.costs(candidate) == pytest.approx(expected, rel=1e-12)
        assert evaluator.evaluate(candidate) == pytest.approx(score(architecture).score, rel=1e-9)


# Rows of several families: what differs between them is inner sizes, depth in layers, and whether
# the row ends in an activation.

TWO_SIZES = "expansion = [2]\nmid = [8, 8]"
ROWS = (
    (2, ["mobile", "basic"], [3], [16, 24], "expansion = [1, 2]\nmid = [8, 8]", [1, 1]),
    (3, ["bottleneck", "mobile", "k1kx"], [3, 5], [24, 24], TWO_SIZES, [1, 2]),
    (4, ["k1kx", "bottleneck"], [3], [24, 32], "mid = [8, 16]", [1, 2]),
    (5, ["basic", "mobile"], [3], [32, 32], "expansion = [1]\nmid = [16, 16]", [1, 2]),
)  # fmt: skip
MIXED = """
schema = "hwnas.space/1"
name = "small"
width_step = 8
layers = 91
[stem]
channels = [8, 16]
""" + "".join(
    f"[[rows]]\nstage = {stage}\nfamily = {families}\nstride = 2\nkernels = {kernels}\n"
    f"out = {out}\ngrowth = [1.0, 3.0]\n{inner}\nblocks = {blocks}\n"
    for stage, families, kernels, out, inner, blocks in ROWS
)
SPACE = spaces.parse(MIXED, "mixed")


def families_of(architecture: Architecture) -> list[str]:
    return [row.family for row in architecture.rows]


def test_mixed_rows_score_what_their_graph_scores() -> None:
    rng = np.random.default_rng(1)
    for score in (EntropyScore(resolution=SIZE), EntropyScore(alpha=(1, 2, 0, 4, 3))):
        evaluator = Evaluator(SPACE, score, [], [])
        seen = set()
        for _ in range(60):
            candidate = SPACE.sample(rng)
            architecture = SPACE.decode(candidate)
            seen.add(tuple(families_of(architecture)))
            assert evaluator.evaluate(candidate) == pytest.approx(
                score(architecture).score, rel=1e-9
            )
        assert len(seen) > 10


@pytest.mark.parametrize(
    ("layers", "sigma"), [(False, 0.0), (True, 0.0), (False, 0.3), (True, 1.0)]
)
@pytest.mark.parametrize(
    "score",
    [
        EntropyScore(resolution=SIZE),
        EntropyScore(alpha=(1, 1, 1, 1, 1), resolution=SIZE, border=False),
        EntropyScore(alpha=(0, 2, 0, 1, 0), resolution=SIZE, finite_width=False),
    ],
)
def test_the_certified_search_chooses_families_as_brute_force_does(
    score: EntropyScore, layers: bool, sigma: float
) -> None:
    candidates = everything(SPACE)
    oracles: list[Any] = [Noisy(macs, 3, sigma, 1e6), Noisy(params, 4, sigma)]
    if layers:
        oracles.append(graph_oracle("layers", SIZE))
    evaluator = Evaluator(SPACE, score, oracles, [math.inf] * len(oracles))
    scores = np.array([evaluator.score_of(candidate) for candidate in candidates])
    spent = np.array([evaluator.costs(candidate) for candidate in candidates])
    solver, rng = Solver(evaluator), np.random.default_rng(2)
    chosen = set()
    for _ in range(15):
        limits = np.array([spent[rng.integers(len(spent)), k] for k in range(len(oracles))])
        within = (spent <= limits).all(axis=1)
        if not within.any():
            continue
        start = candidates[int(np.flatnonzero(within)[0])]
        found = solver.solve(limits.tolist(), start=start)
        assert found.proven
        assert found.score == pytest.approx(float(scores[within].max()), rel=1e-12)
        chosen.add(tuple(families_of(SPACE.decode(found.candidate))))
    assert len(chosen) > 1


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutation_reaches_every_family(mutation: str) -> None:
    space = spaces.load("mixed")
    mutate, rng = MUTATIONS[mutation](space), np.random.default_rng(0)
    parent = space.narrowest()
    seen: set[tuple[int, str]] = set()
    for _ in range(2000):
        mutant = mutate(parent, iter(rng.random(DRAWS).tolist()), False)
        if not space.problem(mutant):
            parent = mutant
            seen |= set(enumerate(families_of(space.decode(mutant))))
    assert len(seen) == 4 * 4


# Bad input, as a user meets it.


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must end with exit code 2 and a message, not a traceback."""
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    printed = capsys.readouterr()
    assert exit_.value.code == 2
    assert "Traceback" not in printed.err
    return printed.err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('family = "bottleneck"', 'family = "botleneck"', "Did you mean 'bottleneck'"),
        ('family = "bottleneck"', 'family = ["basic", "basic"]', "not different ones"),
        ('family = "bottleneck"', "family = []", "not different ones"),
        ('family = "bottleneck"', 'family = "mobile"', "give 'expansion'"),
        ('family = "bottleneck"', 'family = ["mobile", "basic"]', "give 'expansion'"),
        ("kernels = [3, 5]", "kernels = [3]\nactvation = 'silu'", "unknown field `actvation`"),
        ("mid = [16, 512]", "mid = [16, 512]\nexpansion = [6]", "'expansion' means nothing to"),
        ("mid = [16, 512]", "mid = [16, 512]\ngroups = 16", "24 channels, which 16 groups do not"),
        ("mid = [16, 512]", "mid = [16, 512]\ngroups = -4", "groups .* is -4"),
        ("mid = [16, 512]", 'mid = [16, 512]\nactivation = "gelu"', "activation is 'gelu'; known"),
        ("mid = [16, 512]", 'mid = [16, 512]\nse = "softmax"', "se is 'softmax'; known are ''"),
        ("kernels = [3, 5]", "kernels = [3, 4]", r"kernels \[3, 4\] are not odd"),
        ("kernels = [3, 5]", "kernels = [-3, 5]", "are not odd numbers from 1"),
        ("stride = 2", "stride = -2", r"strides of stage C2 are \[-2\]"),
        ('activation = "relu"', 'activation = "swish"', "stem's activation is 'swish'"),
        ('activation = "relu"', 'kind = "patchify"', "unknown field .kind."),
        ('activation = "relu"', "kernel = 8", "stem's kernel is 8; it must be odd"),
        ('activation = "relu"', "max_pool = true", "strides of stage C2"),
    ],
)
def test_a_bad_space_is_refused(
    old: str, new: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text_of("resnet").replace(old, new))
    error = refused(capsys, "show", "--space", str(path))
    assert re.search(message, " ".join(error.split())), error


def set_in(row: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["stages"][2][0].update(row)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (set_in({"groups": 7}), (), "C3: a convolution has 72 channels, which 7 groups do not"),
        (set_in({"groups": -1}), (), "groups (0 for depthwise) is -1"),
        (set_in({"family": "basic", "groups": 0}), (), "basic: its kxk convolutions mix"),
        (set_in({"stride": -2}), (), "the strides of stage C3 are [-2]"),
        (set_in({"activation": "hard-swish"}), (), "Did you mean 'hard_swish'"),
        (set_in({"se": "sigmoyd"}), (), "Did you mean 'sigmoid'"),
        (set_in({"family": "bottelneck"}), (), "Did you mean 'bottleneck'"),
        (set_in({"kernel": 0}), (), "kernel is 0; it must lie between 1 and 15"),
        (set_in({"kernel": 15}), ("--resolution", "32"), "15x15 kernel is larger than its feature"),
        (lambda d: d["stem"].update(activation="mish"), (), "the stem's activation is 'mish'"),
        (lambda d: d["stem"].update(kind="focus"), (), "unknown field 'kind' - at `$.stem`"),
        (lambda d: d["stem"].update(focus="yes"), (), "Expected `bool`"),
        (lambda d: d["stem"].update(focus=True), ("--resolution", "75x96"), "must be even"),
    ],
)
def test_a_bad_structure_is_refused(
    change: Callable[[dict[str, Any]], None],
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = json.loads(zoo.get("maedet-m").to_json())
    change(document)
    path = tmp_path / "net.json"
    path.write_text(json.dumps(document))
    error = " ".join(refused(capsys, "show", str(path), *arguments).split())
    assert message in error

"""Regressors: what is written is what was fitted, and seeds decide everything."""

from __future__ import annotations

import builtins
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hwnas.errors import DeviceUnavailableError
from hwnas.latency.regressors import Mlp, Radial, Trees
from hwnas.latency.regressors.mlp import fit_several
from hwnas.latency.regressors.radial import learn, pivots
from hwnas.latency.residual import INPUT, OUTPUT, session

SMALL = Mlp(width=24, layers=2, epochs=12, batch=128)
OTHER = replace(SMALL, seed=1)
ONE_CLASS = (4,)
"""A feature of every row of `table`."""


def table(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of very different scales, one of them constant, and a smooth target."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, (rows, 5)) * [1, 100, 1e-2, 5, 0] + [0, 300, 0, -7, 2]
    target = np.sin(2 * features[:, 0]) + (features[:, 1] - 300) / 100 + 0.2 * features[:, 3]
    return features.astype(np.float32), target


def answers(model: Any, features: np.ndarray) -> np.ndarray:
    return session(model.SerializeToString()).run([OUTPUT], {INPUT: features})[0][:, 0]


def in_torch(members: Any, low: Any, high: Any, features: np.ndarray) -> np.ndarray:
    """What the written layers say, computed by torch."""
    import torch
    from torch.nn import functional

    total = torch.zeros(len(features))
    for *inner, (last, last_bias) in members:
        hidden = torch.from_numpy(features).clamp(torch.from_numpy(low), torch.from_numpy(high))
        for weights, biases in inner:
            hidden = functional.silu(hidden @ torch.from_numpy(weights) + torch.from_numpy(biases))
        total += (hidden @ torch.from_numpy(last) + torch.from_numpy(last_bias))[:, 0]
    return (total / len(members)).numpy()


def test_perceptrons_learn_what_is_smooth() -> None:
    model = SMALL.fit(*table(4000), None)
    features, target = table(500, seed=1)
    error = answers(model, features) - target
    assert np.sqrt(np.mean(error**2)) < 0.1 * target.std()


def test_the_written_model_is_the_fitted_one_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    from hwnas.latency.regressors import mlp

    seen: list[Any] = []
    original = mlp.to_onnx

    def spy(*arguments: Any) -> Any:
        seen.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(mlp, "to_onnx", spy)
    rows, target = table(1000)
    targets = target[:, None]
    (model,) = fit_several([SMALL, OTHER], rows, targets, np.ones_like(targets))
    # Beyond the fitted rows too, where inputs are clipped.
    features = np.concatenate([table(300, seed=2)[0], 3 * table(300, seed=3)[0]])
    assert np.abs(answers(model, features) - in_torch(*seen[0], features)).max() < 1e-4


def test_a_seed_decides_every_bit() -> None:
    import torch

    rows = table(1000)
    first = SMALL.fit(*rows, None).SerializeToString()
    torch.manual_seed(99)
    np.random.seed(99)
    assert SMALL.fit(*rows, None).SerializeToString() == first
    assert OTHER.fit(*rows, None).SerializeToString() != first


def test_fitting_leaves_torch_as_it_was() -> None:
    import torch

    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    SMALL.fit(*table(300), None)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_several_answer_with_their_mean() -> None:
    rows, target = table(1000)
    asked, _ = table(300, seed=1)
    alone = [answers(member.fit(rows, target, None), asked) for member in (SMALL, OTHER)]
    targets = target[:, None]
    (model,) = fit_several([SMALL, OTHER], rows, targets, np.ones_like(targets))
    assert answers(model, asked) == pytest.approx(np.mean(alone, axis=0), abs=1e-5)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


def test_targets_share_what_they_have_in_common() -> None:
    """A target that few rows know profits from one that all know."""
    features, target = table(4000)
    asked, answer = table(500, seed=1)
    few = np.where(np.arange(4000) % 40 == 0, 3 * target - 1, np.nan)
    both = np.stack([target, few], axis=1)
    one, other = fit_several([SMALL], features, both, np.ones_like(both))
    assert np.sqrt(np.mean((answers(one, asked) - answer) ** 2)) < 0.1 * target.std()
    error = np.sqrt(np.mean((answers(other, asked) - (3 * answer - 1)) ** 2))
    known = np.isfinite(few)
    alone = SMALL.fit(features[known], few[known], None)
    assert error < 0.5 * np.sqrt(np.mean((answers(alone, asked) - (3 * answer - 1)) ** 2))


def test_beyond_the_fitted_rows_the_answer_stays() -> None:
    features, target = table(1000)
    model = SMALL.fit(features, target, None)
    edge = features.max(axis=0, keepdims=True)
    assert answers(model, edge) == pytest.approx(answers(model, 10 * np.abs(edge)), abs=1e-6)


def test_weights_pull_the_fit() -> None:
    features, _ = table(2000)
    target = np.where(np.arange(2000) % 2, 1.0, -1.0)  # two answers to every question
    heavy = np.where(target > 0, 20.0, 1.0)
    assert answers(SMALL.fit(features, target, heavy), features).mean() > 0.5
    assert answers(SMALL.fit(features, target, 21 - heavy), features).mean() < -0.5


def test_a_hidden_input_is_not_relied_upon() -> None:
    """An input that names each row of a few is a shortcut; hidden at times, it is used less."""
    rng = np.random.default_rng(0)
    useful = rng.uniform(-1, 1, (2000, 1))
    shortcut = np.sin(40 * useful) + 0.01 * rng.standard_normal((2000, 1))
    features = np.concatenate([useful, useful + 0.3 * shortcut], axis=1).astype(np.float32)
    asked = features.copy()
    asked[:, 1] = rng.permutation(asked[:, 1])

    def change(model: Any) -> float:
        return float(np.abs(answers(model, asked) - answers(model, features)).mean())

    target = useful[:, 0] + shortcut[:, 0]
    open_to_all = SMALL.fit(features, target, None)
    hiding = replace(SMALL, hidden_inputs=(1,), hidden_share=0.7)
    assert change(hiding.fit(features, target, None)) < 0.8 * change(open_to_all)


def test_what_was_hidden_is_shown_in_the_end() -> None:
    """Hidden, an input looks as if it were zero; a fit that ended so would expect any row there."""
    rng = np.random.default_rng(0)
    features = rng.uniform(-1, 1, (2000, 1)).astype(np.float32)
    target = np.abs(features[:, 0]).astype(np.float64)
    model = replace(SMALL, hidden_inputs=(0,), hidden_share=0.5).fit(features, target, None)
    asked = np.linspace(-0.05, 0.05, 11, dtype=np.float32)[:, None]
    assert answers(model, asked).max() < 0.2


def test_without_torch_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **named: Any) -> Any:
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(name="torch")
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DeviceUnavailableError, match=r"hwnas\[torch\]"):
        SMALL.fit(*table(300), None)


def test_radial_functions_learn_from_few_rows_what_is_smooth() -> None:
    features, target = table(500, seed=1)
    few = table(60)
    errors = [
        np.sqrt(np.mean((answers(learned.fit(*few, None), features) - target) ** 2))
        for learned in (Radial(ONE_CLASS), Trees(100, 15, 0.1, 5))
    ]
    assert errors[0] < 0.2 * target.std()
    assert errors[0] < errors[1] / 2


def test_radial_functions_end_where_the_rows_do() -> None:
    features, target = table(400)
    model = Radial().fit(features, target, None)
    beyond = features.copy()
    beyond[:, 0] = 100
    beyond[:, 4] = -5  # never varied
    edge = features.copy()
    edge[:, 0] = features[:, 0].max()
    assert np.array_equal(answers(model, beyond), answers(model, edge))


def test_rows_weigh_as_often_as_they_are_there() -> None:
    features, target = table(50)
    twice = np.repeat([1, 3], 25)
    repeated = Radial(ONE_CLASS).fit(np.repeat(features, twice, 0), np.repeat(target, twice), None)
    weighted = Radial(ONE_CLASS).fit(features, target, twice.astype(float))
    difference = answers(repeated, features) - answers(weighted, features)
    assert np.abs(difference).max() < 0.02 * target.std()


def test_what_does_not_matter_is_not_looked_at() -> None:
    """Of three features one matters, another a little: the reach is learned from the rows."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, 3))
    goals = np.sin(2 * rows[:, 0]) + 0.2 * rows[:, 1] + 0.1 * rng.standard_normal(200)
    learned = learn(rows, goals, np.ones(200), 50)
    assert learned.reach[0] > 3 * learned.reach[1] > 3 * learned.reach[2]
    signal_to_noise = goals.var() / 0.1**2
    told = 1 / (learned.noise + learned.floor)
    assert signal_to_noise / 4 < told < 40 * signal_to_noise


def test_each_class_has_a_reach_of_its_own_if_it_has_rows() -> None:
    """What matters to one class says nothing of another; few rows of a third go with the rest."""
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2, 3], [200, 200, 10, 100])
    features = rng.uniform(-1, 1, (510, 2))
    target = np.where(kind == 0, np.sin(4 * features[:, 0]), np.sin(4 * features[:, 1]))
    target[kind >= 2] = 3 + features[kind >= 2, 0]
    flags = (kind[:, None] == np.arange(3)).astype(float)
    rows = np.concatenate([features, flags], axis=1).astype(np.float32)
    model = Radial(classes=(2, 3, 4)).fit(rows, target, None)
    parts = {tensor.name for tensor in model.graph.initializer if "features" in tensor.name}
    assert len(parts) == 3  # two classes and the rest
    again = rng.permutation(510)
    error = np.abs(answers(model, rows[again]) - target[again])
    assert error[kind[again] < 2].max() < 0.15
    assert error[kind[again] >= 2].max() < 1.0
    moved = rows[kind == 0].copy()
    moved[:, 1] = 0.0
    assert answers(model, moved) == pytest.approx(answers(model, rows[kind == 0]), abs=0.15)
    alone = [answers(model, rows[one : one + 1])[0] for one in (0, 205, 405, 450)]
    assert alone == pytest.approx(answers(model, rows)[[0, 205, 405, 450]], abs=1e-5)


def test_centres_tell_rare_rows_too() -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([0.05 * rng.standard_normal((500, 3)), [[4, 0, 0], [0, 4, 0]]])
    chosen = pivots(rows, np.ones(502), 6)
    assert len(set(chosen.tolist())) == 6
    assert {500, 501} <= set(chosen.tolist())
    assert len(pivots(rows[:4], np.ones(4), 6)) == 4
    alike = np.repeat(rows[-3:], 100, axis=0)
    assert len(pivots(alike, np.ones(300), 6)) == 3  # what is told is not told again

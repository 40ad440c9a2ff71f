"""A new device from few samples: a known device's predictor, corrected."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hwnas.architecture import lower, spaces
from hwnas.devices import spec
from hwnas.errors import UsageError
from hwnas.latency import predictor as predictors
from hwnas.latency.columns import CLASSES, Columns, from_kernels
from hwnas.latency.fitting import fit
from hwnas.latency.predictor import Predictor
from hwnas.latency.regressors import Trees
from hwnas.latency.transfer import OWN, Samples, transfer
from hwnas.lowering.fusing import fuse
from hwnas.lowering.kernels import Fusion
from hwnas.profiling.profile import NetworkRecord, Profile
from hwnas.workflows import adapting

FUSION = Fusion(output="reorder_output", block=16, rules="onnxruntime")


def networks(count: int, seed: int) -> tuple[Columns, np.ndarray]:
    space = spaces.load("mobile")
    rng = np.random.default_rng(seed)
    graphs = [lower(space.decode(space.sample(rng)), (96, 96)) for _ in range(count)]
    kernels = [fuse(graph, FUSION) for graph in graphs]
    rows = np.repeat(np.arange(count), [len(each) for each in kernels])
    return from_kernels([kernel for each in kernels for kernel in each]), rows


def seconds_of(columns: Columns) -> np.ndarray:
    """A made-up device: a rate a class, worse for few channels."""
    rate = np.where(columns.kind == CLASSES.index("depthwise"), 5e9, 3e10)
    return columns.macs / rate * (1 + 8 / columns.out_channels) + 2e-6


def learned(columns: Columns, seconds: np.ndarray, device: str) -> Predictor:
    return fit(
        columns,
        seconds,
        device=device,
        runtime="none",
        precision="fp32",
        feature_set="cpu",
        bytes_per_value=4,
        provenance={},
        regressor=Trees(count=60, leaves=15, min_leaf=5),
    )


@pytest.fixture(scope="module")
def source() -> Predictor:
    columns, _ = networks(25, 0)
    return learned(columns, seconds_of(columns), "known")


def new_times(columns: Columns, rows: np.ndarray) -> np.ndarray:
    """Three times as slow, depthwise convolutions six times, and a constant."""
    slower = np.where(columns.kind == CLASSES.index("depthwise"), 6.0, 3.0)
    return np.bincount(rows, weights=slower * seconds_of(columns)) + 1e-4


def adapted(source: Predictor, count: int, **others: Predictor) -> Predictor:
    columns, rows = networks(count, 1)
    samples = Samples(columns, rows, new_times(columns, rows), whole=True)
    return transfer(
        {"known": source, **others},
        samples,
        device="new",
        runtime="other 1.0",
        precision="int8",
        provenance={"where": "made up"},
    )


@pytest.mark.parametrize(("count", "most"), [(10, 0.08), (20, 0.05), (50, 0.03)])
def test_few_whole_networks_suffice(source: Predictor, count: int, most: float) -> None:
    columns, rows = networks(60, 2)
    truth = new_times(columns, rows)
    new = adapted(source, count)
    predicted = new.constant_s + np.bincount(rows, weights=new.shares(columns))
    assert np.abs(predicted / truth - 1).mean() < most
    one_scale = np.bincount(rows, weights=source.seconds(columns))
    one_scale *= np.median(truth / one_scale)
    assert np.abs(predicted / truth - 1).mean() < np.abs(one_scale / truth - 1).mean()


def test_the_result_is_a_predictor_like_any_other(source: Predictor, tmp_path: Path) -> None:
    new = adapted(source, 20)
    new.save(tmp_path / "new")
    loaded = predictors.load(tmp_path / "new")
    columns, _ = networks(3, 3)
    assert np.array_equal(loaded.shares(columns), new.shares(columns))
    card = loaded.card
    assert (card.device, card.precision, card.runtime) == ("new", "int8", "other 1.0")
    assert card.provenance["adapted_from"] == "known"
    assert "rests on 20 networks" in card.provenance["interval"]
    assert card.accuracy["held-out networks"]["rows"] == 20
    assert card.network_quantiles.of == "networks"


def test_a_corrected_predictor_can_be_corrected_again(source: Predictor) -> None:
    columns, rows = networks(20, 4)
    first = adapted(source, 20)
    samples = Samples(columns, rows, 2 * new_times(columns, rows), whole=True)
    second = transfer(
        {"new": first}, samples, device="newer", runtime="", precision="", provenance={}
    )
    total = second.constant_s + np.bincount(rows, weights=second.shares(columns))
    assert np.abs(total / samples.seconds - 1).mean() < 0.05


def test_the_most_similar_source_is_chosen(source: Predictor) -> None:
    columns, _ = networks(25, 0)
    shuffled = np.random.default_rng(0).permutation(seconds_of(columns))
    unlike = learned(columns, shuffled, "unlike")
    provenance = adapted(source, 20, unlike=unlike).card.provenance
    assert provenance["adapted_from"] == "known"
    errors = provenance["adapted_from_mape"]
    assert errors["known"] < errors["unlike"]


def test_a_source_that_has_nothing_in_common_is_left(source: Predictor) -> None:
    columns, rows = networks(20, 1)
    slow = np.exp(2 * np.sin(columns.out_channels)) * 1e3 / columns.macs
    model = learned(columns, slow, "unlike")
    samples = Samples(columns, rows, new_times(columns, rows), whole=True)
    new = transfer({"unlike": model}, samples, device="", runtime="", precision="", provenance={})
    assert new.card.provenance["adapted_from"] == OWN
    others, of = networks(30, 2)
    truth = new_times(others, of)
    told = new.constant_s + np.bincount(of, weights=new.shares(others))
    assert np.abs(told / truth - 1).mean() < 0.06
    assert (new.shares(others) > 0).all()


def test_single_kernels_are_samples_too(source: Predictor) -> None:
    columns, _ = networks(6, 5)
    truth = 3 * seconds_of(columns)
    few = np.random.default_rng(0).permutation(len(columns))[:20]
    samples = Samples(columns, np.arange(len(columns)), truth, whole=False).take(few)
    new = transfer({"known": source}, samples, device="", runtime="", precision="", provenance={})
    assert np.abs(new.seconds(columns) / truth - 1).mean() < 0.1
    assert new.constant_s == 0.0


def test_what_cannot_be_adapted_is_refused(source: Predictor) -> None:
    with pytest.raises(UsageError, match="too few"):
        adapted(source, 3)
    roofline = Predictor(dataclasses.replace(source.card, feature_set="", features=()))
    columns, rows = networks(6, 1)
    samples = Samples(columns, rows, new_times(columns, rows), whole=True)
    with pytest.raises(UsageError, match="roofline alone"):
        transfer({"r": roofline}, samples, device="", runtime="", precision="", provenance={})


def test_a_source_without_a_model_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(UsageError, match="'pixel2-cpu-fp32' is a roofline alone"):
        adapting.sources("pixel2-cpu-fp32", spec.load("cpu"))


def test_a_profile_of_whole_networks_is_adapted(source: Predictor, own_shelf: Path) -> None:
    device = dataclasses.replace(spec.load("cpu"), name="new", fusion=FUSION)
    space = spaces.load("mobile")
    rng = np.random.default_rng(7)
    records = []
    for _ in range(12):
        architecture = space.decode(space.sample(rng))
        columns = from_kernels(fuse(lower(architecture, (96, 96)), FUSION))
        took = float(new_times(columns, np.zeros(len(columns), dtype=np.int64))[0])
        records.append(NetworkRecord(architecture, (96, 96), 1, took, 1.01 * took, False, ()))
    with pytest.raises(UsageError, match="without --from"):
        adapting.sources("any", device)
    source.save(own_shelf / "predictors" / "cpu")
    known = adapting.sources("any", device)
    assert list(known) == ["cpu"]
    profile = Profile("new", tuple(records), {"runtime": "onnxruntime"})
    predictor = adapting.adapt(profile, device, known)
    assert predictor.card.accuracy["held-out networks"]["mape"] < 0.1

"""Predictors: from measured rows to seconds with an interval, saved as data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.architecture import lower, spaces, zoo
from hwnas.devices import spec
from hwnas.errors import HwnasError, UsageError
from hwnas.latency import features, fitting, tables
from hwnas.latency import predictor as predictors
from hwnas.latency.columns import CLASSES, from_kernels, from_table
from hwnas.latency.fitting import Networks, fit
from hwnas.latency.intervals import HeldOut, kernel_quantiles
from hwnas.latency.oracle import LatencyOracle
from hwnas.latency.predictor import Predictor
from hwnas.latency.regressors import Radial, Trees
from hwnas.lowering.fusing import fuse
from hwnas.lowering.kernels import Fusion, Kernel
from hwnas.store import shelf
from hwnas.workflows.predict import load_predictor

V100 = [f"v100-trt-{precision}" for precision in ("fp16", "fp32", "int8")]


def conv(channels: int, out: int, size: int = 56, kernel: int = 1, **changes: Any) -> Kernel:
    plain = Kernel(
        "conv", 1, channels, (size, size), out, (size, size), (kernel, kernel), activation=True
    )
    return plain._replace(**changes)


def synthetic(count: int, noise: float = 0.0, seed: int = 0) -> tuple[list[Kernel], np.ndarray]:
    """Kernels of a device that does 50 G multiply-adds a second and needs 5 us a launch."""
    rng = np.random.default_rng(seed)
    kernels = []
    for _ in range(count):
        into, out = (int(8 * rng.integers(1, 65)) for _ in range(2))
        size, side = int(rng.choice([7, 14, 28, 56])), int(rng.choice([1, 3, 5]))
        groups = into if rng.random() < 0.2 else 1
        kernels.append(conv(into, into if groups > 1 else out, size, side, groups=groups))
    columns = from_kernels(kernels)
    seconds = columns.macs / 50e9 + 5e-6
    return kernels, seconds * np.exp(noise * rng.standard_normal(count))


def fitted(noise: float = 0.0, networks: int = 0) -> Predictor:
    kernels, seconds = synthetic(4000, noise)
    known = None
    if networks:
        rows = np.arange(4000) % networks
        sums = np.bincount(rows, weights=seconds)
        known = Networks(rows, 1.1 * sums + 2e-4)
    return fit(
        from_kernels(kernels),
        seconds,
        device="made-up",
        runtime="arithmetic",
        precision="fp32",
        feature_set="cpu",
        bytes_per_value=4.0,
        provenance={"source": "a formula"},
        networks=known,
        regressor=Trees(100, 31, 0.1, 5),
    )


@pytest.fixture(scope="module")
def made_up() -> Predictor:
    return fitted(noise=0.02, networks=200)


def test_a_fit_learns_a_device(made_up: Predictor) -> None:
    kernels, seconds = synthetic(500, seed=9)
    error = np.abs(made_up.seconds(from_kernels(kernels)) / seconds - 1)
    assert error.mean() < 0.03
    overhead = made_up.card.overhead
    assert overhead.scale == pytest.approx(1.1, rel=0.05)
    assert made_up.card.accuracy["held-out networks"]["mape"] < 0.02


def test_kernels_of_small_networks_may_be_quicker() -> None:
    """Where these have the caches to themselves, an overhead below zero tells, not a lie."""
    rng = np.random.default_rng(0)
    _, seconds = synthetic(4000)
    rows = np.sort(rng.integers(0, 200, 4000))
    large = np.arange(200) % 2 == 0
    seconds = np.where(large[rows], 20.0, 1.0) * seconds
    sums = np.bincount(rows, weights=np.maximum(seconds - 8e-6, 0.3 * seconds))
    overhead = fitting._overhead(seconds, Networks(rows, sums))
    assert overhead.per_kernel_s == pytest.approx(-8e-6, rel=0.3)
    assert overhead.constant_s < 0.05 * sums.min()
    shares = overhead.shares(np.geomspace(1e-9, 1, 50))
    assert (shares > 0).all() and (np.diff(shares) > 0).all()
    total = fitting._total(overhead, seconds, Networks(rows, sums))
    assert total == pytest.approx(sums, rel=0.1)


def test_a_few_odd_rows_do_not_speak_for_larger_ones_of_their_class() -> None:
    """Classifiers wait for their weights; a transformer's products are no slower for it."""
    kernels, seconds = synthetic(1000)
    odd = [conv(320, out, 1, op="matmul") for out in (10, 100, 1000, 1000)]
    slow = 10 * from_kernels(odd).macs / 50e9 + 5e-6
    predictor = fit(
        from_kernels([*kernels, *odd]),
        np.concatenate([seconds, slow]),
        device="made-up",
        runtime="arithmetic",
        precision="fp32",
        feature_set="cpu",
        bytes_per_value=4.0,
        provenance={},
        regressor=Radial(features.classes("cpu")),
    )
    large = from_kernels([conv(384, 1536, 14, op="matmul"), conv(192, 768, 28, op="matmul")])
    truth = large.macs / 50e9 + 5e-6
    assert predictor.seconds(large) == pytest.approx(truth, rel=0.5)
    assert np.abs(np.log(predictor.seconds(from_kernels(odd)) / slow)).max() < 0.7


def test_intervals_cover_what_they_state() -> None:
    predictor = fitted(noise=0.1)
    kernels, seconds = synthetic(3000, noise=0.1, seed=5)
    columns = from_kernels(kernels)
    predicted = predictor.seconds(columns)
    for confidence in (0.5, 0.8, 0.9):
        low, high = predictor.kernel_factors(columns, confidence)
        covered = ((low * predicted <= seconds) & (seconds <= high * predicted)).mean()
        assert covered == pytest.approx(confidence, abs=0.06)


def test_rare_classes_have_intervals_of_rare_classes() -> None:
    """Twenty rows of a class do not tell its bounds; those of all rare ones together do."""
    rng = np.random.default_rng(0)
    kinds = [CLASSES.index(name) for name in ("dense", "pool", "transpose", "resize")]
    spreads = dict(zip(kinds, (0.02, 0.3, 0.3, 0.1), strict=True))

    def rows(*counts: int) -> HeldOut:
        kind = np.repeat(kinds, counts).astype(np.int8)
        ratio = np.exp(rng.standard_normal(len(kind)) * [spreads[k] for k in kind])
        return HeldOut(kind, ratio, np.ones(len(kind)))

    shares = []
    for _ in range(20):
        found = kernel_quantiles(rows(5000, 20, 100, 10))
        others = rows(0, 1000, 0, 0)
        low, high = found["pool"].factors(0.9)
        shares.append(np.mean((low <= others.measured_s) & (others.measured_s <= high)))
        assert found["dense"].factors(0.9)[1] < 1.05
        for rare in ("transpose", "resize", "matmul"):  # which was never held out
            assert found[rare].factors(0.9)[1] > 1.2
            assert found[rare].of == "kernels of rare classes"
    assert np.mean(shares) >= 0.88
    assert set(kernel_quantiles(rows(300, 0, 5, 0))) == {"all", "dense"}


def test_a_predictor_survives_the_disk(made_up: Predictor, tmp_path: Path) -> None:
    made_up.save(tmp_path / "made-up")
    loaded = predictors.load(tmp_path / "made-up")
    assert loaded.card == made_up.card
    columns = from_kernels(synthetic(100)[0])
    assert np.array_equal(loaded.seconds(columns), made_up.seconds(columns))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["card.toml", "made-up", "model.onnx"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hwnas.predictor/2", "hwnas.predictor/3", "Update hwnas"),
        ('feature_set = "cpu"', 'feature_set = "npu"', "feature set"),
        ('device = "made-up"', "device = 3", "Expected `str`"),
        ("[roofline]", "[roofline", "not a TOML file"),
    ],
)
def test_a_damaged_card_is_refused(
    old: str, new: str, message: str, made_up: Predictor, tmp_path: Path
) -> None:
    made_up.save(tmp_path / "p")
    card = tmp_path / "p" / "card.toml"
    text = card.read_text()
    assert old in text
    card.write_text(text.replace(old, new))
    with pytest.raises(UsageError, match=message):
        predictors.load(tmp_path / "p")


def test_a_replaced_model_is_refused(made_up: Predictor, tmp_path: Path) -> None:
    made_up.save(tmp_path / "p")
    with (tmp_path / "p" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UsageError, match="SHA-256"):
        predictors.load(tmp_path / "p")


@pytest.mark.parametrize("name", V100)
def test_the_shipped_predictors_keep_their_figures(name: str) -> None:
    predictor = load_predictor(spec.load(name))
    told = predictor.card.accuracy["random tenth"]
    assert told["mape"] <= 0.055
    assert told["rows"] > 8000
    assert predictor.card.accuracy["off the grid, both"]["mape"] <= 0.10
    assert (shelf.find("predictors", name) / "model.onnx").stat().st_size < 3e6


@pytest.mark.parametrize("name", V100)
@settings(max_examples=30)
@given(
    channels=st.integers(1, 4096),
    out=st.integers(1, 4096),
    size=st.integers(1, 600),
    batch=st.integers(1, 256),
    op=st.sampled_from(["conv", "max_pool", "add", "Softmax"]),
)
def test_every_kernel_takes_some_time(
    name: str, channels: int, out: int, size: int, batch: int, op: str
) -> None:
    predictor = load_predictor(spec.load(name))
    kernel = conv(channels, out, size, 3, batch=batch, op=op)
    result = predictor.predict([kernel])
    assert 0 < result.interval_s[0] < result.latency_s < result.interval_s[1] < 1e3
    assert result.unlike == ({} if op == "conv" else {op: 1})
    if op != "conv":
        assert result.extrapolated_share == 1.0


def test_tables_agree_with_single_kernels(made_up: Predictor) -> None:
    into = np.array([16, 24, 64])[:, None, None]
    out = np.array([32, 48])[None, None, :]
    where = np.array([[True, True], [False, True], [True, False]])[:, None, :]
    table = made_up.table(conv(0, 0)._replace(in_channels=into, out_channels=out), where)
    assert np.array_equal(np.isnan(table), ~where)
    for i, a in enumerate((16, 24, 64)):
        for j, b in enumerate((32, 48)):
            if where[i, 0, j]:
                alone = made_up.shares(from_kernels([conv(a, b)]))[0]
                assert table[i, 0, j] == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("space", ["resnet", "mobile"])
def test_the_oracle_sums_what_the_predictor_says(space: str, made_up: Predictor) -> None:
    from hwnas.searchers.tables import AdditiveTerm

    found = spaces.load(space)
    fusion = Fusion(output="reorder_output")
    oracle = LatencyOracle(made_up, fusion, (96, 128), 2)
    term = AdditiveTerm(found, oracle)
    rng = np.random.default_rng(0)
    for _ in range(5):
        candidate = found.sample(rng)
        kernels = fuse(lower(found.decode(candidate), (96, 128), batch=2), fusion)
        total, channels = term.stem[candidate[0]], candidate[0]
        for row, genes in zip(term.rows, candidate[1:], strict=True):
            total += row(channels, genes)
            channels = genes[1]
        expected = made_up.predict(kernels).latency_s
        assert oracle.constant + total == pytest.approx(expected, rel=1e-6)


def test_columns_of_a_table_are_those_of_its_kernels() -> None:
    widths = np.array([8, 16, 40])
    depthwise = conv(0, 0, 14, 5)._replace(
        in_channels=widths, out_channels=widths, groups=widths, stride=(2, 2), out_size=(7, 7)
    )
    single = [depthwise._replace(in_channels=w, out_channels=w, groups=w) for w in widths.tolist()]
    a, b = from_table(depthwise), from_kernels(single)
    for field in dataclasses.fields(a):
        assert np.array_equal(getattr(a, field.name), getattr(b, field.name)), field.name
    assert CLASSES[a.kind[0]] == "depthwise"
    assert b.macs.tolist() == [25 * 49 * w for w in (8, 16, 40)]


def test_a_device_without_a_predictor_says_how_to_make_one() -> None:
    with pytest.raises(HwnasError, match="hwnas profile --device cpu"):
        load_predictor(spec.load("cpu"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lacks the columns"),
        (b"a,b\n1,2\n", "lacks the columns"),
        (b"\x1f\x8b broken", "not a table"),
        (",".join(tables.COLUMNS).encode() + b"\n", "no usable row"),
    ],
)
def test_malformed_tables_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        tables.read(path)
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(b"not gzip")
    with pytest.raises(UsageError, match=r"rows\.csv\.gz"):
        tables.read(packed)


def test_fusion_of_a_residual_block() -> None:
    kernels = fuse(lower(zoo.get("resnet50"), (224, 224)), Fusion())
    assert [k.op for k in kernels[:3]] == ["conv", "max_pool", "conv"]
    assert sum(k.fused_add for k in kernels) == 16
    assert len(kernels) == 54
    apart = fuse(lower(zoo.get("resnet50"), (224, 224)), Fusion(add=False))
    assert len(apart) == 54 + 16

"""The device pixel2-cpu-fp32: a roofline fitted to published times, and what it says of itself."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas import costs
from hwnas.architecture import GraphBuilder
from hwnas.devices import spec
from hwnas.errors import UsageError
from hwnas.latency import predictor as predictors
from hwnas.latency import tables
from hwnas.latency.columns import CLASSES, from_kernels, kind_of
from hwnas.latency.intervals import quantiles_of_few
from hwnas.latency.predictor import Predictor
from hwnas.latency.roofline import Roofline
from hwnas.lowering.fusing import fuse
from hwnas.lowering.kernels import Fusion, Kernel
from hwnas.store import shelf
from hwnas.workflows.predict import load_predictor, predict

NAME = "pixel2-cpu-fp32"


@pytest.fixture(scope="module")
def known_networks() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "known_networks.py"
    found = importlib.util.spec_from_file_location("known_networks", path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pixel() -> Predictor:
    return load_predictor(spec.load(NAME))


def rows(name: str) -> list[dict[str, str]]:
    with (shelf.find("profiles", NAME) / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def graphs(known: ModuleType) -> dict[str, Any]:
    return {
        "MobileNetV1": known.mobilenetv1(),
        "MobileNetV2": known.mobilenetv2(),
        "MobileNetV3-Large": known.mobilenetv3(large=True),
        "MobileNetV3-Small": known.mobilenetv3(large=False),
        "ResNet-50": known.resnet50(),
    }


# Multiply-adds as the papers print them; parameters as torchvision does, of V1 as its paper does.
@pytest.mark.parametrize(
    ("model", "macs", "params"),
    [
        ("MobileNetV1", 569e6, 4.2e6),
        ("MobileNetV2", 300e6, 3.505e6),
        ("MobileNetV3-Large", 219e6, 5.483e6),
        ("MobileNetV3-Small", 56e6, 2.543e6),
        ("ResNet-50", 4.09e9, 25.557e6),
    ],
)
def test_known_networks_cost_what_their_papers_say(
    model: str, macs: float, params: float, known_networks: ModuleType
) -> None:
    graph = graphs(known_networks)[model]
    assert costs.flops(graph) == pytest.approx(macs, rel=0.015)
    assert costs.total_params(graph) == pytest.approx(params, rel=0.01)


def test_fbnets_are_built_of_their_choices(known_networks: ModuleType) -> None:
    skips = known_networks.fbnet([8] * 22)
    # Stem, a convolution for each change of channels or stride, head, classifier.
    assert [layer.op for layer in skips.layers].count("conv") == 1 + 6 + 2
    assert skips.layers[-1].out_channels == 100
    grouped = known_networks.fbnet([1] * 22)
    assert sum(layer.op == "ChannelShuffle" for layer in grouped.layers) == 22
    last = [layer for layer in grouped.layers if layer.op == "conv"][-3]
    assert (last.in_channels, last.out_channels, last.in_size) == (184, 352, (4, 4))
    wide = known_networks.fbnet([7] * 22)
    assert max(layer.kernel[0] for layer in wide.layers if layer.op == "conv") == 5
    assert costs.total_params(wide) > 3 * costs.total_params(known_networks.fbnet([0] * 22))


def test_published_times_lie_in_the_stated_interval(known_networks: ModuleType) -> None:
    device, known, fitted = spec.load(NAME), graphs(known_networks), 0
    for row in rows("published.csv"):
        assert row["source"] and row["resolution"] == "224"
        if row["used_in_fit"] == "yes":
            low, high = predict(known[row["model"]], device).prediction.interval_s
            assert low < float(row["latency_ms"]) / 1e3 < high, row
            fitted += 1
    assert fitted == 9


def test_the_card_says_what_it_rests_on(pixel: Predictor) -> None:
    card = pixel.card
    assert [path.name for path in shelf.find("predictors", NAME).iterdir()] == ["card.toml"]
    assert card.accuracy["networks, each left out in turn"]["mape"] <= 0.10
    assert card.network_quantiles.count == 5
    assert "left out" in card.network_quantiles.of
    low, high = card.network_quantiles.factors(0.9)
    assert low < 0.9 and high > 1.1
    assert "another runtime" in card.kernel_quantiles["all"].of
    assert card.provenance["replace_by"] == f"hwnas profile --device adb:SERIAL --name {NAME}"
    assert "published" in card.runtime
    # Spearman on networks of another runtime: as good as their noise allows, not the 0.85 aimed at.
    assert card.provenance["fbnet_spearman"]["unseen_half"] >= 0.78


def test_the_kernel_table_is_labelled_and_is_the_predictors(pixel: Predictor) -> None:
    table = rows("kernels_predicted.csv")
    assert "latency_ms" not in table[0]
    with pytest.raises(UsageError, match="latency_ms"):
        tables.read(shelf.find("profiles", NAME) / "kernels_predicted.csv")
    convolutions = [row for row in table if row["type"] in ("Regular", "Depthwise")]
    assert len(convolutions) > 100
    for row in convolutions:
        side, stride = int(row["in_height"]), int(row["stride"])
        into, out, kernel = (int(row[n]) for n in ("in_channels", "out_channels", "kernel"))
        groups = into if row["type"] == "Depthwise" else 1
        size = -(-side // stride)
        made = Kernel(
            "conv", 1, into, (side, side), out, (size, size), (kernel, kernel), (stride, stride)
        )
        (seconds,) = pixel.shares(from_kernels([made._replace(groups=groups)]))
        assert 1e3 * seconds == pytest.approx(float(row["predicted_ms"]), abs=6e-6)


@given(
    into=st.integers(1, 2048),
    out=st.integers(1, 2048),
    more=st.integers(1, 64),
    size=st.integers(1, 320),
    side=st.sampled_from([1, 3, 5, 7]),
    op=st.sampled_from(["conv", "depthwise", "max_pool", "add", "Softmax"]),
)
def test_larger_kernels_take_longer(
    into: int, out: int, more: int, size: int, side: int, op: str
) -> None:
    pixel = load_predictor(spec.load(NAME))

    def seconds(a: int, b: int, pixels: int, kernel: int) -> float:
        if op != "conv":
            b = a
        kind = "conv" if op == "depthwise" else op
        groups = a if op == "depthwise" else 1
        square = (pixels, pixels)
        made = Kernel(kind, 1, a, square, b, square, (kernel, kernel), groups=groups)
        return float(pixel.shares(from_kernels([made]))[0])

    if op == "depthwise":
        into += 1  # a depthwise convolution of one channel is a dense one
    base = seconds(into, out, size, side)
    assert 0 < base < 1e3
    assert seconds(into + more, out, size, side) > base
    assert seconds(into, out, size + 1, side) > base
    if op == "conv":
        assert seconds(into, out + more, size, side) > base
    if op in ("conv", "depthwise") and side > 1:
        assert seconds(into, out, size, side + 2) > base


def test_half_sizes_halve_the_rate() -> None:
    kernel = Kernel("conv", 1, 24, (6, 5), 40, (6, 5))
    peak = dict.fromkeys(CLASSES, 1e9)
    for half in ((30.0, 0.0, 0.0), (0.0, 40.0, 0.0), (0.0, 0.0, 24.0)):
        columns = from_kernels([kernel])
        full = Roofline(peak, 1e30, 0.0, 4.0).seconds(columns)
        slow = Roofline(peak, 1e30, 0.0, 4.0, {"pointwise": half}).seconds(columns)
        assert slow == pytest.approx(2 * full)
    other = Roofline(peak, 1e30, 0.0, 4.0, {"depthwise": (9.0, 9.0, 9.0)}).seconds(columns)
    assert other == pytest.approx(full)


def test_a_card_without_a_model_survives_the_disk(pixel: Predictor, tmp_path: Path) -> None:
    pixel.save(tmp_path / "p")
    loaded = predictors.load(tmp_path / "p")
    assert loaded.card == pixel.card
    card = tmp_path / "p" / "card.toml"
    text = card.read_text()
    card.write_text(text.replace('model_sha256 = ""', 'model_sha256 = "abc"'))
    with pytest.raises(UsageError, match="no feature set"):
        predictors.load(tmp_path / "p")


def test_intervals_from_a_few_networks_cover_the_next() -> None:
    rng = np.random.default_rng(0)
    for count in (5, 8):
        inside = 0
        for _ in range(4000):
            *seen, new = rng.normal(0.0, 0.1, count + 1)
            low, high = quantiles_of_few(np.array(seen), "networks").factors(0.9)
            inside += low <= np.exp(new) <= high
        assert 0.89 <= inside / 4000 <= 0.95


def test_activations_that_the_runtime_does_not_fuse_run_apart() -> None:
    b = GraphBuilder(3, (32, 32))
    x = b.conv(b.input, 8, 3, stride=2, activation="hardswish")
    b.conv(x, 16, activation="relu6")
    graph = b.build()
    assert [k.op for k in fuse(graph, Fusion())] == ["conv", "conv"]
    kernels = fuse(graph, spec.load(NAME).fusion)
    assert [k.op for k in kernels] == ["conv", "hard_swish", "conv"]
    assert [k.activation for k in kernels] == [False, False, True]
    assert (kernels[1].in_channels, kernels[1].out_size) == (8, (16, 16))


def test_only_one_channel_a_group_is_depthwise() -> None:
    kernel = Kernel("conv", 1, 32, (8, 8), 32, (8, 8), (3, 3))
    found = [CLASSES[kind_of(kernel._replace(groups=groups))] for groups in (1, 4, 32)]
    assert found == ["dense", "grouped", "depthwise"]


def test_the_device_in_predict_and_search(tmp_path: Path) -> None:
    def document(*arguments: str) -> dict[str, Any]:
        call = [sys.executable, "-m", "hwnas", *arguments, "--json"]
        result = subprocess.run(call, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    shown = document("predict", "mobilenetv2-1.0", "--device", NAME)
    assert (shown["resolution"], shown["batch"]) == ([320, 320], 1)
    assert shown["interval_s"][0] < 0.1 < shown["interval_s"][1]
    assert shown["unlike"] == {"add": 10}
    run = document(
        "search", "--device", NAME, "--budget", "latency=60ms", "--iterations", "2000",
        "--out", str(tmp_path / "run"),
    )  # fmt: skip
    latency_s = run["costs"]["latency_s"][NAME]
    assert 0 < latency_s <= 0.060
    again = document("predict", str(tmp_path / "run"), "--device", NAME)
    assert again["latency_s"] == pytest.approx(latency_s)

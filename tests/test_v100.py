"""The shipped V100 predictors: small, quick, as good as their cards say, and sane off the grid."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.architecture import lower, spaces, zoo
from hwnas.devices import spec
from hwnas.latency.columns import Columns, from_kernels
from hwnas.latency.features import build
from hwnas.latency.predictor import Predictor
from hwnas.lowering.fusing import fuse
from hwnas.lowering.kernels import Fusion, Kernel
from hwnas.store import shelf
from hwnas.workflows.predict import load_predictor

PRECISIONS = ("fp32", "fp16", "int8")
FLAGS = ("kernel_area", "stride", "fused_add", "is_depthwise", "window_exceeds_map")
each_precision = pytest.mark.parametrize("precision", PRECISIONS)


@cache
def shipped(precision: str) -> Predictor:
    return load_predictor(spec.load(f"v100-trt-{precision}"))


def some_kernels(count: int) -> Columns:
    rng = np.random.default_rng(0)
    kernels = []
    for _ in range(count):
        side, kernel = int(rng.integers(5, 300)), int(rng.choice([1, 3, 5]))
        into, out = (int(8 * rng.integers(1, 150)) for _ in range(2))
        batch = int(rng.integers(1, 128))
        size = (side, side)
        kernels.append(Kernel("conv", batch, into, size, out, size, (kernel, kernel)))
    return from_kernels(kernels)


def best_of(work: Callable[[], object], times: int = 5) -> float:
    found = []
    for _ in range(times):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


@each_precision
def test_a_predictor_stays_small(precision: str) -> None:
    folder = shelf.find("predictors", f"v100-trt-{precision}")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3e6


@each_precision
def test_a_predictor_stays_quick(precision: str) -> None:
    """Against a product of matrices run beside it: the ratio does not depend on the machine."""
    predictor, columns = shipped(precision), some_kernels(4096)
    a = np.ones((4096, 256), np.float32)
    b = np.ones((256, 1024), np.float32)
    assert best_of(lambda: predictor.seconds(columns)) < 12 * best_of(lambda: a @ b)
    hundred = columns.take(slice(0, 100))
    assert best_of(lambda: predictor.seconds(hundred), 20) < 1.5 * best_of(lambda: a @ b)


@each_precision
@settings(max_examples=40, deadline=None)
@given(
    into=st.integers(1, 6000),
    out=st.integers(1, 6000),
    size=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    batch=st.integers(1, 512),
    kernel=st.sampled_from([1, 3, 5, 7, 11]),
    stride=st.sampled_from([1, 2]),
    depthwise=st.booleans(),
    add=st.booleans(),
)
def test_every_convolution_takes_a_sane_time(
    precision: str,
    into: int,
    out: int,
    size: tuple[int, int],
    batch: int,
    kernel: int,
    stride: int,
    depthwise: bool,
    add: bool,
) -> None:
    """On the grid, off it and far beyond it: within a factor of the roofline, and an interval."""
    predictor = shipped(precision)
    out_size = (-(-size[0] // stride), -(-size[1] // stride))
    out, groups = (into, into) if depthwise else (out, 1)
    sides, strides = (kernel, kernel), (stride, stride)
    one = Kernel("conv", batch, into, size, out, out_size, sides, strides, groups, add)
    result = predictor.predict([one])
    at_peak = float(predictor.card.roofline.seconds(from_kernels([one]))[0])
    assert 0 < result.interval_s[0] < result.latency_s < result.interval_s[1]
    assert 1 / 20 < result.latency_s / at_peak < 50


@each_precision
@settings(max_examples=25, deadline=None)
@given(
    side=st.sampled_from([240, 120, 60, 30, 15]),
    into=st.integers(4, 128),
    kernel=st.sampled_from([1, 3, 5]),
    batch=st.sampled_from([1, 16, 32, 48]),
)
def test_a_step_of_channels_changes_little(
    precision: str, side: int, into: int, kernel: int, batch: int
) -> None:
    """Where the default asks: from 64 channels, 8 more change a kernel by less than 2.5 times."""
    size, sides = (side, side), (kernel, kernel)
    kernels = [
        Kernel("conv", batch, 8 * into, size, out, size, sides) for out in range(64, 1032, 8)
    ]
    told = shipped(precision).seconds(from_kernels(kernels))
    assert np.abs(np.diff(np.log(told))).max() < np.log(2.5)
    # Over a doubling it grows, whatever single steps do.
    assert (told[2 * 8 :: 8][: len(told) // 2] > 0).all()


@each_precision
@pytest.mark.parametrize("space", ["resnet", "mobile"])
def test_networks_between_the_measured_batches_and_sizes(precision: str, space: str) -> None:
    predictor = shipped(precision)
    found = spaces.load(space)
    rng = np.random.default_rng(1)
    for _ in range(3):
        network = found.decode(found.sample(rng))
        for size in ((480, 480), (480, 640), (200, 1100)):
            by_batch = [
                predictor.predict(fuse(lower(network, size, batch=batch), Fusion())).latency_s
                for batch in (1, 8, 24, 32, 48, 96, 128)
            ]
            assert np.all(np.diff(by_batch) > -0.1 * np.array(by_batch[:-1]))
            # An image costs less in a batch, never less than a tenth.
            assert 0.1 < by_batch[-1] / 128 / by_batch[0] < 1.2


@each_precision
def test_a_network_on_its_side_takes_about_the_same(precision: str) -> None:
    predictor = shipped(precision)
    wide, high = (
        predictor.predict(fuse(lower(zoo.get("resnet50"), size, batch=32), Fusion())).latency_s
        for size in ((384, 1280), (1280, 384))
    )
    assert wide == pytest.approx(high, rel=1e-6)


def test_features_are_smooth_and_name_no_size() -> None:
    """Every feature that grows with a size is a logarithm; all others repeat or are flags."""
    columns = some_kernels(500)
    names, table = build("gpu", columns, np.ones(len(columns)))
    assert len(set(names)) == len(names)
    for name, values in zip(names, table.T, strict=True):
        assert np.isfinite(values).all(), name
        if "padding" in name or "filling" in name:
            assert (values >= 0).all() and (values <= 1).all(), name
        elif not name.startswith("log_"):
            assert name in FLAGS

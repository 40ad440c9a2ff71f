"""The paper's cost figures, each by its own counting rule."""

from __future__ import annotations

import pytest

from hwnas import costs
from hwnas.architecture import lower, zoo

# name: FLOPs at 800x1280 by its rule, parameters, conv multiply-adds at 224, layers
FIGURES = {
    "maedet-s": (48.702e9, 21.233e6, 2.370e9, 79),
    "maedet-m": (89.933e9, 25.844e6, 4.377e9, 91),
    "maedet-l": (152.915e9, 43.880e6, 7.452e9, 109),
    "maedet-multi-scale": (88.669e9, 29.378e6, 4.317e9, 91),
    "maedet-single-scale": (None, 60.043e6, 4.356e9, 91),
    "resnet50": (83.623e9, 23.508e6, 4.087e9, 49),
    "resnet101": (159.488e9, 42.500e6, 7.799e9, 100),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_the_paper(name: str) -> None:
    mmcv, params, macs, layers = FIGURES[name]
    architecture = zoo.get(name)
    large = lower(architecture, (800, 1280))
    small = lower(architecture, (224, 224))
    if mmcv is not None:
        assert costs.mmcv_flops(large, architecture.flops_rule) == pytest.approx(mmcv, rel=1e-3)
    assert costs.total_params(small) == pytest.approx(params, rel=1e-3)
    assert costs.flops(small) == pytest.approx(macs, rel=1e-3)
    assert costs.main_layers(small) == layers


@pytest.mark.parametrize(
    ("name", "mmcv", "params"),
    [("mobilenetv2-1.0", 0.6509e9, 2.224e6), ("mobilenetv2-0.5", 0.2173e9, 0.688e6)],
)
def test_figures_of_mobilenetv2(name: str, mmcv: float, params: float) -> None:
    architecture = zoo.get(name)
    graph = lower(architecture, (320, 320))
    assert costs.mmcv_flops(graph, architecture.flops_rule) == pytest.approx(mmcv, rel=1e-3)
    assert costs.total_params(graph) == pytest.approx(params, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "mmcv"),
    [("maedet-m", 4.407e9), ("maedet-multi-scale", 4.345e9), ("maedet-single-scale", 4.381e9)],
)
def test_mmcv_figures_at_224(name: str, mmcv: float) -> None:
    architecture = zoo.get(name)
    graph = lower(architecture, (224, 224))
    assert costs.mmcv_flops(graph, architecture.flops_rule) == pytest.approx(mmcv, rel=1e-3)


def test_peak_memory_of_resnet50_is_its_first_block() -> None:
    # At 224 the projection of the first block runs while the 3x3's result waits for it: the
    # pooled map (64), the main path's result (256) and the projection (256), each 56x56.
    # The stem's result (64 at 112x112) with its pool is 64 * (112^2 + 56^2), which is larger.
    graph = lower(zoo.get("resnet50"), (224, 224))
    stem = 64 * 112 * 112
    candidates = [3 * 224 * 224 + stem, stem + 64 * 56 * 56, (64 + 256 + 256) * 56 * 56]
    assert costs.peak_memory_bytes(graph) == 4 * max(candidates)


def test_memory_scales_with_batch_and_precision() -> None:
    architecture = zoo.get("maedet-m")
    one = costs.peak_memory_bytes(lower(architecture, (224, 224)))
    many = costs.peak_memory_bytes(lower(architecture, (224, 224), batch=8), bytes_per_value=2)
    assert many == 4 * one

"""Intervals from several draws of held-out values: they hold for the next draw."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.latency.draws import widened
from hwnas.latency.intervals import HeldOut, kernel_quantiles, quantiles
from hwnas.latency.predictor import Quantiles

ROWS = 300


def drawn(rng: np.random.Generator, draws: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Ratios of draws, each of which errs by its own shift and its own scale."""
    shift = apart * rng.standard_normal((draws, 1))
    scale = np.exp(apart * rng.standard_normal((draws, 1)))
    ratios = 0.1 * (shift + scale * rng.standard_normal((draws, ROWS)))
    return ratios.ravel(), np.repeat(np.arange(draws), ROWS)


def covers(bounds: Quantiles, ratios: np.ndarray, confidence: float = 0.9) -> float:
    low, high = np.log(bounds.factors(confidence))
    return float(((ratios >= low) & (ratios <= high)).mean())


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
def test_the_next_draw_is_covered(confidence: float) -> None:
    rng = np.random.default_rng(0)
    plain, wide = [], []
    for _ in range(150):
        ratios, draws = drawn(rng, 6, 0.6)
        known = draws < 5
        bounds = quantiles(ratios[known], "kernels")
        plain.append(covers(bounds, ratios[~known], confidence))
        wider = widened(bounds, ratios[known], draws[known])
        wide.append(covers(wider, ratios[~known], confidence))
    assert np.mean(plain) < confidence - 0.02
    assert confidence - 0.015 < np.mean(wide) < confidence + 0.03


def test_draws_that_err_alike_change_little() -> None:
    ratios, draws = drawn(np.random.default_rng(1), 5, 0.0)
    bounds = quantiles(ratios, "kernels")
    wider = widened(bounds, ratios, draws)
    assert np.array(wider.high) == pytest.approx(np.array(bounds.high), rel=0.1)
    assert all(w <= b for w, b in zip(wider.low, bounds.low, strict=True))
    assert all(w >= b for w, b in zip(wider.high, bounds.high, strict=True))
    assert (np.diff(wider.low) <= 0).all() and (np.diff(wider.high) >= 0).all()


def test_one_draw_tells_nothing_of_others() -> None:
    ratios, _ = drawn(np.random.default_rng(2), 1, 0.5)
    bounds = quantiles(ratios, "kernels")
    assert widened(bounds, ratios, np.zeros(len(ratios), dtype=np.int64)) == bounds


def test_classes_widen_by_their_own_draws() -> None:
    """A class whose draws err alike keeps its bounds beside one whose draws do not."""
    rng = np.random.default_rng(3)
    (apart, draws), (alike, _) = drawn(rng, 5, 0.8), drawn(rng, 5, 0.0)
    kind = np.repeat(np.array([0, 1], dtype=np.int8), len(draws))
    measured = np.exp(np.concatenate([apart, alike]))
    both = np.concatenate([draws, draws])
    plain = kernel_quantiles(HeldOut(kind, measured, np.ones(len(kind))))
    wider = kernel_quantiles(HeldOut(kind, measured, np.ones(len(kind)), both))
    first, second = list(plain)[1:]
    grown = {name: wider[name].high[2] / plain[name].high[2] for name in (first, second)}
    assert grown[first] > 1.15 > 1.1 > grown[second]

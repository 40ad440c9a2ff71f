"""A search that keeps the upper end of a latency's interval inside the budget."""

from __future__ import annotations

import pytest

from hwnas.devices import spec
from hwnas.errors import UsageError
from hwnas.workflows.predict import load_predictor
from hwnas.workflows.problem import Request, budgets_document, starting_point, understand


def test_a_confidence_keeps_the_upper_end_of_the_interval_within_the_budget() -> None:
    plain = understand(Request(("latency=20ms",), "v100-trt-fp16"))
    strict = understand(Request(("latency=20ms",), "v100-trt-fp16", confidence=0.95))
    _, upper = load_predictor(spec.load("v100-trt-fp16")).card.network_quantiles.factors(0.95)
    assert plain.evaluator.limits[0] == 0.02
    assert strict.evaluator.limits[0] == pytest.approx(0.02 / upper)
    assert strict.evaluator.limits[1] == plain.evaluator.limits[1]  # layers are known exactly
    (line,) = (text for text in strict.understood() if text.startswith("latency"))
    assert "upper end of the 95 % interval" in line
    architecture = strict.space.decode(starting_point(strict, None))
    (latency, _) = budgets_document(strict, architecture)
    assert latency["confidence"] == 0.95
    assert latency["interval_within_budget"]
    assert latency["interval"][1] == pytest.approx(latency["cost"] * upper)
    assert latency["interval"][1] <= 0.02


def test_a_confidence_beyond_the_calibration_is_refused() -> None:
    with pytest.raises(UsageError, match="calibrated"):
        understand(Request(("latency=20ms",), "v100-trt-fp16", confidence=0.999))

"""Closing the loop: what is measured corrects what is predicted, until the budget is kept."""

from __future__ import annotations

import dataclasses
import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from hwnas.architecture import Architecture, lower, spaces
from hwnas.devices import spec
from hwnas.errors import DeviceUnavailableError, HwnasError
from hwnas.store import shelf
from hwnas.workflows.predict import predict
from hwnas.workflows.problem import Request
from hwnas.workflows.search import Settings, search
from hwnas.workflows.verify import AIM, FULL, check, verified_search


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A space that is solved in a blink: `resnet` in steps of 32."""
    text = files(spaces).joinpath("resnet.toml").read_text(encoding="utf-8")
    text = text.replace("width_step = 8", "width_step = 32").replace("[16, ", "[32, ")
    path = tmp_path_factory.mktemp("space") / "coarse.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture(autouse=True)
def here(own_shelf: Path) -> spec.DeviceSpec:
    """A device that can be reached, and is predicted as the V100 is."""
    device = dataclasses.replace(spec.load("v100-trt-fp16"), name="here", connection="cpu")
    spec.save(device)
    shutil.copytree(
        shelf.find("predictors", "v100-trt-fp16"), own_shelf / "predictors" / "here", coarse
    )
    return device


class MadeUpTimer:
    """Measures what is predicted, times a factor that depends on the network."""

    def __init__(self, factor: float, spread: float = 0.0) -> None:
        self.factor, self.spread = factor, spread
        self.calls = 0

    def __call__(self, model: Architecture, device: str, resolution: Any = None) -> dict[str, Any]:
        self.calls += 1
        place = spec.load(device)
        graph = lower(model, resolution or place.resolution, batch=place.batch)
        predicted = predict(graph, place).prediction.latency_s
        wobble = 1 + self.spread * ((len(model.to_json()) * 7919 + self.calls) % 11 - 5) / 5
        return {"latency_s": predicted * self.factor * wobble, "contended": False}


@pytest.mark.parametrize("factor", [0.5, 0.98, 1.0, 1.05, 2.0])
def test_a_wrong_prediction_is_corrected(factor: float, coarse: str, tmp_path: Path) -> None:
    timer = MadeUpTimer(factor)
    told: list[dict[str, Any]] = []
    result = verified_search(
        Request(("latency=20ms",), "here", coarse),
        Settings(),
        tmp_path / "run",
        timer=timer,
        tell=told.append,
    )
    verification = result.document["verification"]
    assert verification["verdict"] == "kept"
    assert 0.97 * 20e-3 <= timer(result.architecture, "here")["latency_s"] <= 20e-3
    assert verification["rounds"] == told
    assert len(told) <= 3
    check(result.document)
    corrected = result.document["costs"]["latency_s"]["here"]
    assert corrected <= AIM * 20e-3
    # The folder is that of an ordinary run, and says which corrections it rests on.
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == result.document
    if len(told) > 1:
        asked = json.loads((tmp_path / "run" / "search.json").read_text())["request"]
        assert dict(asked["corrections"])["here"] == pytest.approx(factor, rel=1e-6)


def test_errors_that_differ_by_network_still_end_within_the_budget(
    coarse: str, tmp_path: Path
) -> None:
    result = verified_search(
        Request(("latency=20ms",), "here", coarse),
        Settings(),
        tmp_path / "run",
        timer=MadeUpTimer(1.1, spread=0.03),
    )
    verification = result.document["verification"]
    measured = verification["rounds"][verification["round"] - 1]["devices"]["here"]["measured_s"]
    assert measured <= 20e-3
    assert verification["verdict"] in ("kept", "unused")


def test_a_space_that_cannot_use_the_budget_says_so(coarse: str, tmp_path: Path) -> None:
    request = Request(("latency=10s", "flops=1G"), "here", coarse)
    timer = MadeUpTimer(1.0)
    result = verified_search(request, Settings(), tmp_path / "run", timer=timer)
    verification = result.document["verification"]
    assert verification["verdict"] == "unused"
    assert verification["repeated"]
    assert timer.calls == 1
    check(result.document)


def test_it_gives_up_where_the_device_never_keeps_the_budget(coarse: str, tmp_path: Path) -> None:
    class Slower(MadeUpTimer):
        """Grows slower with every call, faster than a correction can follow."""

        def __call__(self, *arguments: Any, **options: Any) -> dict[str, Any]:
            self.factor *= 1.2
            return super().__call__(*arguments, **options)

    request = Request(("latency=20ms",), "here", coarse)
    result = verified_search(request, Settings(), tmp_path / "run", rounds=3, timer=Slower(1.0))
    verification = result.document["verification"]
    assert verification["verdict"] == "over"
    assert len(verification["rounds"]) == 3
    with pytest.raises(HwnasError, match="gave up after 3 rounds"):
        check(result.document)


def test_corrections_scale_what_is_predicted(coarse: str, tmp_path: Path) -> None:
    plain = search(Request(("flops=1G",), "here", coarse), Settings(), tmp_path / "plain")
    doubled = Request(("flops=1G", "latency=1s"), "here", coarse, corrections=(("here", 2.0),))
    result = search(doubled, Settings(), tmp_path / "doubled")
    assert result.architecture.stages == plain.architecture.stages
    place = spec.load("here")
    graph = lower(result.architecture, place.resolution, batch=place.batch)
    predicted = predict(graph, place).prediction.latency_s
    assert result.document["costs"]["latency_s"]["here"] == pytest.approx(2 * predicted)


@pytest.mark.parametrize("budget", ["latency=20ms@v100-trt-fp16", "flops=1G"])
def test_what_cannot_be_measured_is_refused(budget: str, coarse: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceUnavailableError, match="--verify times the result"):
        verified_search(Request((budget,), "here", coarse), Settings(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_band_is_around_what_is_aimed_at() -> None:
    assert FULL < AIM < 1
    assert pytest.approx(1 - AIM) == AIM - FULL

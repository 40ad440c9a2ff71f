"""The trade-off curve: proven points, known networks beside, files that appear whole."""

from __future__ import annotations

import csv
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from hwnas.architecture import genotype, spaces
from hwnas.errors import InfeasibleError, UsageError
from hwnas.workflows.frontier import Span, frontier
from hwnas.workflows.problem import Request
from hwnas.workflows.search import Settings, search


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> str:
    text = files(spaces).joinpath("resnet.toml").read_text(encoding="utf-8")
    text = text.replace("width_step = 8", "width_step = 32").replace("[16, ", "[32, ")
    path = tmp_path_factory.mktemp("space") / "coarse.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def curve(coarse: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    request = Request((), "v100-trt-fp16", coarse)
    return frontier(request, Span("latency", 10e-3, 40e-3, 5), tmp_path_factory.mktemp("f") / "out")


def test_every_point_is_the_optimum_of_its_budget(
    curve: dict[str, Any], coarse: str, tmp_path: Path
) -> None:
    points = curve["points"]
    assert [point["limit"] for point in points] == pytest.approx(
        [10e-3 * 4 ** (k / 4) for k in range(5)]
    )
    assert all(point["proven"] and point["cost"] <= point["limit"] for point in points)
    scores = [point["score"] for point in points]
    assert scores == sorted(scores)
    alone = search(
        Request((f"latency={points[2]['limit']!r}s",), "v100-trt-fp16", coarse),
        Settings(),
        tmp_path / "run",
    )
    assert alone.document["score"] == pytest.approx(scores[2], rel=1e-12)


def test_known_networks_stand_beside_the_best_of_their_cost(curve: dict[str, Any]) -> None:
    known = {entry["name"]: entry for entry in curve["known"]}
    assert {"resnet50", "maedet-m"} <= set(known)
    for entry in known.values():
        assert 10e-3 <= entry["cost"] <= 40e-3
        assert entry["best"]["cost"] <= entry["best"]["limit"] == entry["cost"]
    assert known["resnet50"]["best"]["score"] > 1.5 * known["resnet50"]["score"]


def test_the_folder_holds_table_picture_and_networks(curve: dict[str, Any]) -> None:
    folder = Path(curve["run"])
    assert json.loads((folder / "frontier.json").read_text()) == curve
    rows = list(csv.DictReader((folder / "frontier.csv").read_text().splitlines()))
    assert len(rows) == len(curve["points"]) + len(curve["known"])
    assert float(rows[0]["score"]) == curve["points"][0]["score"]
    assert rows[-1]["name"] == curve["known"][-1]["name"]
    assert (folder / "frontier.svg").read_text().count("resnet50") == 1
    network = genotype.load(folder / "architecture-3.json")
    assert network.name == "out-3"
    assert genotype.to_document(network)["stages"] == curve["points"][2]["architecture"]["stages"]


def test_points_that_nothing_fits_are_said(coarse: str, tmp_path: Path) -> None:
    request = Request(("params=5M",), "v100-trt-fp16", coarse)
    curve = frontier(request, Span("flops", 1e6, 4e9, 3), tmp_path / "out")
    assert [point["found"] for point in curve["points"]] == [False, False, True]
    assert curve["points"][2]["costs"]["params"] <= 5e6
    with pytest.raises(InfeasibleError, match="raise --to"):
        frontier(request, Span("flops", 1e6, 2e6, 3), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("latency", 2.0, 1.0, 5), "not below"),
        (("latency", 1.0, 2.0, 1), "--points is 1"),
    ],
)
def test_a_span_must_make_sense(arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Span(*arguments)


def test_a_maximum_has_no_curve(coarse: str, tmp_path: Path) -> None:
    request = Request(("memory=10MB",), "v100-trt-fp16", coarse)
    with pytest.raises(UsageError, match="not a sum"):
        frontier(request, Span("flops", 1e9, 4e9, 3), tmp_path / "out")

"""Pictures: every label can be read, and the same data give the same picture."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.report.labels import Box, placed

FRAME = Box(0.0, 0.0, 400.0, 250.0)


def overlapping(boxes: list[Box]) -> list[tuple[int, int]]:
    pairs = itertools.combinations(range(len(boxes)), 2)
    return [(i, j) for i, j in pairs if boxes[i].overlaps(boxes[j])]


@pytest.mark.parametrize("seed", range(5))
def test_no_label_overlaps_another(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Crowded: more labels than the frame has room for, some at one and the same point.
    points = [(float(x), float(y)) for x, y in rng.uniform((0, 0), FRAME[2:], (150, 2))]
    points += [(200.0, 125.0)] * 20
    sizes = [(float(width), 10.0) for width in rng.uniform(20, 90, len(points))]
    places = placed(points, sizes, [], FRAME)
    assert not overlapping(places)
    assert placed(points, sizes, [], FRAME) == places
    for place, size in zip(places, sizes, strict=True):
        assert (place.right - place.left, place.top - place.bottom) == pytest.approx(size)


def test_a_label_stands_beside_its_point_where_there_is_room() -> None:
    points = [(100.0, 100.0), (103.0, 100.0), (395.0, 100.0), (200.0, 200.0)]
    marks = [Box(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    line = Box(0.0, 201.0, 400.0, 220.0)  # above the last point
    places = placed(points, [(60.0, 10.0)] * 4, [*marks, line], FRAME)
    assert places[0].right < 100 and places[0].bottom == 95  # its right side is taken
    assert places[1] == Box(108, 95, 168, 105)
    assert places[2].right < 395  # the frame ends there
    assert places[3].top <= 201
    assert not overlapping(places)
    assert not any(place.overlaps(mark) for place in places for mark in marks)


def crowded() -> dict[str, Any]:
    """Return a frontier with networks that cost and score the same, or nearly so."""
    limits = np.geomspace(5e-3, 60e-3, 12)
    names = [("maedet-m", 1), ("maedet-multi-scale", 1.02), ("twin", 1), ("other", 0.97)]
    return {
        "quantity": "latency",
        "device": "made-up",
        "space": "resnet",
        "points": [
            {"limit": limit, "cost": limit, "score": 400 * np.log(limit * 1e3), "found": True}
            for limit in limits
        ],
        "known": [{"name": name, "cost": 0.03 * near, "score": 1330 * near} for name, near in names]
        + [{"name": "at-the-right-end", "cost": 0.06, "score": 1500}],
    }


def test_names_of_networks_that_are_alike_can_be_told_apart(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot as plt

    from hwnas.report.frontier import draw, figure

    document = crowded()
    picture = figure(document)
    picture.savefig(tmp_path / "picture.svg")
    texts = [text for text in picture.axes[0].texts if text.get_text()]
    assert [text.get_text() for text in texts] == [each["name"] for each in document["known"]]
    boxes = [Box(*text.get_window_extent().extents) for text in texts]
    assert not overlapping(boxes)
    frame = Box(*picture.bbox.extents)
    assert all(box.inside(frame) for box in boxes)
    plt.close(picture)
    assert draw(document) == draw(document)

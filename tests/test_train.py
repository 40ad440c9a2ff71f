"""The training example: targets, losses, average precision, and a loss that falls."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import fcos  # noqa: E402
import shapes  # noqa: E402
import train  # noqa: E402

SIDE = 64


def outputs(score: float = 0.0) -> dict[str, torch.Tensor]:
    """Return what the detector hands out for one image, the same at each position."""
    found = {}
    for level in fcos.LEVELS:
        side = max(1, SIDE // 2**level)
        found[f"scores_p{level}"] = torch.full((1, 3, side, side), score)
        found[f"boxes_p{level}"] = torch.ones(1, 4, side, side)
        found[f"centerness_p{level}"] = torch.zeros(1, 1, side, side)
    return found


def test_shapes_lie_in_their_boxes() -> None:
    stream, again = shapes.samples(SIDE, 3), shapes.samples(SIDE, 3)
    sizes = []
    for _ in range(50):
        one, same = next(stream), next(again)
        assert np.array_equal(one.image, same.image)
        assert one.image.shape == (3, SIDE, SIDE)
        assert one.image.dtype == np.float32
        assert (one.boxes >= 0).all()
        assert (one.boxes <= SIDE).all()
        assert len(one.boxes) == len(one.labels) >= 1
        sizes += list(one.boxes[:, 2] - one.boxes[:, 0])
    assert min(sizes) < 12 < 32 < max(sizes)
    assert not np.array_equal(one.image, next(shapes.samples(SIDE, 4)).image)


def test_positions_answer_for_the_boxes_that_they_should() -> None:
    boxes = torch.tensor([[2.0, 2.0, 14.0, 14.0], [8.0, 10.0, 48.0, 50.0]])
    *_, centers, strides, ranges = fcos.flatten(outputs())
    classes, sides = fcos.assign(boxes, torch.tensor([2, 0]), centers, strides, ranges)
    small, large = classes == 2, classes == 0
    assert set(strides[small].tolist()) == {8.0}  # twelve pixels: P3
    assert set(strides[large].tolist()) == {16.0, 32.0}  # up to 32 to a side: P4, farther: P5
    for chosen, box in ((small, boxes[0]), (large, boxes[1])):
        assert chosen.any()
        corners = torch.cat([centers - sides[:, :2], centers + sides[:, 2:]], 1)
        assert torch.allclose(corners[chosen], box.expand(int(chosen.sum()), 4))
    assert (sides[small | large] > 0).all()
    nothing, _ = fcos.assign(boxes[:0], torch.zeros(0).long(), centers, strides, ranges)
    assert (nothing == -1).all()


def test_a_perfect_detector_has_no_loss_and_full_precision() -> None:
    box = torch.tensor([[8.0, 8.0, 24.0, 24.0]])
    label = torch.tensor([1])
    said = outputs(-20.0)
    *_, centers, strides, ranges = fcos.flatten(said)
    classes, sides = fcos.assign(box, label, centers, strides, ranges)
    start = 0
    for level in fcos.LEVELS:
        side = said[f"scores_p{level}"].shape[-1]
        rows = slice(start, start + side * side)
        start += side * side
        positive = (classes[rows] >= 0).reshape(side, side)
        said[f"scores_p{level}"][0, 1][positive] = 20.0
        distances = (sides[rows] / 2**level).T.reshape(4, side, side)
        said[f"boxes_p{level}"][0] = torch.where(positive, distances, 1.0)
        said[f"centerness_p{level}"][0, 0] = torch.where(positive, 20.0, -20.0)
    total, each = fcos.loss(said, [box], [label])
    assert each["focal"] < 1e-6
    assert abs(each["giou"]) < 1e-6
    assert float(total) == pytest.approx(sum(each.values()))
    found = fcos.detect(said)
    assert fcos.average_precision(found, [box], [label], 2) == pytest.approx(0.5)  # of two classes
    worse, _ = fcos.loss(outputs(-20.0), [box], [label])
    assert float(worse) > 1


def test_average_precision() -> None:
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    other = box + 30
    truth = [torch.cat([box, other])]
    labels = [torch.tensor([0, 0])]

    def precision(*said: tuple[torch.Tensor, float]) -> float:
        boxes = torch.cat([b for b, _ in said]) if said else torch.zeros(0, 4)
        scores = torch.tensor([s for _, s in said])
        found = [(boxes, scores, torch.zeros(len(said)).long())]
        return fcos.average_precision(found, truth, labels, 1)

    assert precision() == 0
    assert precision((box, 0.9), (other, 0.8)) == 1
    assert precision((box, 0.9)) == 0.5
    assert precision((box, 0.9), (box, 0.8)) == 0.5  # the second finds nothing new
    assert precision((box + 100, 0.9), (box, 0.8), (other, 0.7)) == pytest.approx(2 / 3)
    assert precision((box + 6, 0.9)) == 0  # overlaps by too little


def test_the_scaled_resnet_keeps_its_shape() -> None:
    scaled = train.scaled_resnet(0.25)
    assert [row.depth for row in scaled.rows] == [3, 4, 6, 3]
    assert [row.out for row in scaled.rows] == [64, 128, 256, 512]
    assert train.scaled_resnet(1.0).stages == train.zoo.get("resnet50").stages


def test_the_loss_falls() -> None:
    _, losses = train.train(train.scaled_resnet(0.1), 14, 0)
    assert all(np.isfinite(losses))
    assert statistics.mean(losses[-4:]) < 0.92 * statistics.mean(losses[:4])

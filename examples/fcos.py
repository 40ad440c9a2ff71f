"""Training FCOS (https://arxiv.org/abs/1904.01355) on the outputs of hwnas' detector `fcos`.

Which position answers for which box, the three losses, boxes from outputs, and AP at an overlap
of 0.5. Boxes are x0, y0, x1, y1 in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

LEVELS = (3, 4, 5, 6, 7)
RANGES = ((0, 16), (16, 32), (32, 64), (64, 128), (128, math.inf))
"""The greatest of the four distances that each level answers for: a quarter of FCOS's own ranges,
for images of less than a hundred pixels."""
RADIUS = 1.5
"""Positions answer for a box within so many strides of its centre (centre sampling)."""
PRIOR = 0.01


def begin(network: torch.nn.Module) -> None:
    """Set the scores' bias so that nothing is found at first, and keep the outputs small."""
    for name, value in network.named_parameters():
        layer = name.split(".")[0]
        if layer.startswith("head_") and value.dim() == 4:
            torch.nn.init.normal_(value, std=0.01)
    last = network.get_submodule(_producer(network, "scores_p3")).conv
    torch.nn.init.constant_(last.bias, -math.log((1 - PRIOR) / PRIOR))


def _producer(network: torch.nn.Module, output: str) -> str:
    (row,) = [row for row in network.rows if row.name == output]
    return row.inputs[0]


def flatten(outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return scores [n, p, classes], distances in pixels [n, p, 4] and centre-ness [n, p].

    And of each of the p positions of all levels: centre [p, 2], stride [p], range [p, 2].
    """
    rows: list[list[Tensor]] = [[], [], [], [], [], []]
    for level, limits in zip(LEVELS, RANGES, strict=True):
        stride = 2**level
        scores = outputs[f"scores_p{level}"]
        height, width = scores.shape[2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centers = (torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride
        rows[0].append(scores.flatten(2).transpose(1, 2))
        rows[1].append(outputs[f"boxes_p{level}"].flatten(2).transpose(1, 2) * stride)
        rows[2].append(outputs[f"centerness_p{level}"].flatten(1))
        rows[3].append(centers)
        rows[4].append(torch.full((len(centers),), float(stride)))
        rows[5].append(torch.tensor(limits).expand(len(centers), 2))
    together = [torch.cat(parts, 1) for parts in rows[:3]]
    together += [torch.cat(parts) for parts in rows[3:]]
    return tuple(together)  # type: ignore[return-value]


def assign(
    boxes: Tensor, labels: Tensor, centers: Tensor, strides: Tensor, ranges: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the class of each position, -1 for none, and its distances to the four sides.

    Of several boxes a position answers for the smallest.
    """
    if not len(boxes):
        return torch.full((len(centers),), -1), torch.zeros(len(centers), 4)
    sides = _sides(centers[:, None], boxes[None])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = (centers[:, None] - middle).abs().amax(-1) < RADIUS * strides[:, None]
    greatest = sides.amax(-1)
    fits = (ranges[:, None, 0] <= greatest) & (greatest < ranges[:, None, 1])
    answers = (sides.amin(-1) > 0) & near & fits
    areas = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).expand_as(answers)
    smallest, which = areas.masked_fill(~answers, math.inf).min(1)
    classes = torch.where(smallest.isfinite(), labels[which], -1)
    return classes, sides[torch.arange(len(centers)), which]


def loss(
    outputs: dict[str, Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch: focal, GIoU weighted by centre-ness, centre-ness; and each."""
    scores, distances, centerness, *places = flatten(outputs)
    pairs = [assign(b, c, *places) for b, c in zip(boxes, labels, strict=True)]
    classes = torch.stack([pair[0] for pair in pairs])
    sides = torch.stack([pair[1] for pair in pairs])
    positive = classes >= 0
    count = max(1, int(positive.sum()))
    wanted = functional.one_hot(classes.clamp(min=0), scores.shape[-1]) * positive[..., None]
    focal = _focal(scores, wanted.to(scores.dtype)).sum() / count
    truth, said = sides[positive], distances[positive]
    weight = _centerness(truth)
    giou = (weight * (1 - _giou(said, truth))).sum() / weight.sum().clamp(min=1e-6)
    center = functional.binary_cross_entropy_with_logits(
        centerness[positive], weight, reduction="sum"
    )
    center = center / count
    total = focal + giou + center
    each = {"focal": focal, "giou": giou, "centerness": center}
    return total, {name: float(value.detach()) for name, value in each.items()}


def detect(
    outputs: dict[str, Tensor], most: int = 50, overlap: float = 0.5
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return boxes, scores and classes of each image, the best of those that overlap."""
    scores, distances, centerness, centers, *_ = flatten(outputs)
    quality = (scores.sigmoid() * centerness.sigmoid()[..., None]).sqrt()
    corners = torch.cat([centers - distances[..., :2], centers + distances[..., 2:]], -1)
    found = []
    for each, boxes in zip(quality, corners, strict=True):
        best, which = each.flatten().topk(min(200, each.numel()))
        classes, boxes = which % each.shape[1], boxes[which // each.shape[1]]
        kept = _suppress(boxes, classes, overlap)[:most]
        found.append((boxes[kept], best[kept], classes[kept]))
    return found


def average_precision(
    found: Sequence[tuple[Tensor, Tensor, Tensor]],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    classes: int,
    overlap: float = 0.5,
) -> float:
    """Return the mean over classes of the area under precision over recall (VOC 2010)."""
    means = []
    for c in range(classes):
        truth = [b[lab == c] for b, lab in zip(boxes, labels, strict=True)]
        said: list[tuple[float, int, Tensor]] = []
        for i, (at, score, kind) in enumerate(found):
            said += [(float(s), i, b) for s, b in zip(score[kind == c], at[kind == c], strict=True)]
        said.sort(key=lambda one: -one[0])
        taken = [torch.zeros(len(b), dtype=torch.bool) for b in truth]
        hits = np.zeros(len(said))
        for k, (_, i, box) in enumerate(said):
            if len(truth[i]):
                ious = _iou(box[None], truth[i])[0].masked_fill(taken[i], 0)
                if float(ious.max()) >= overlap:
                    taken[i][int(ious.argmax())] = True
                    hits[k] = 1
        recall = hits.cumsum() / max(1, sum(map(len, truth)))
        precision = hits.cumsum() / np.arange(1, len(said) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        means.append(float(np.sum(np.diff(recall, prepend=0.0) * precision)))
    return float(np.mean(means))


def _sides(centers: Tensor, boxes: Tensor) -> Tensor:
    """Return distances to the left, top, right and bottom side."""
    return torch.cat([centers - boxes[..., :2], boxes[..., 2:] - centers], -1)


def _centerness(sides: Tensor) -> Tensor:
    x, y = sides[:, 0::2], sides[:, 1::2]
    return ((x.amin(1) / x.amax(1)) * (y.amin(1) / y.amax(1))).clamp(0, 1).sqrt()


def _focal(scores: Tensor, wanted: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the focal loss (https://arxiv.org/abs/1708.02002, Eq. 5)."""
    p = scores.sigmoid()
    cross = functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    missed = torch.where(wanted > 0, 1 - p, p)
    weight = torch.where(wanted > 0, alpha, 1 - alpha)
    return weight * missed**gamma * cross


def _giou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalised overlap of boxes that are given as distances from one point."""
    shared = torch.minimum(a, b)
    around = torch.maximum(a, b)

    def area(sides: Tensor) -> Tensor:
        return (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3])

    union = area(a) + area(b) - area(shared)
    hull = area(around)
    return area(shared) / union - (hull - union) / hull


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the overlap of each box of `a` with each of `b`."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def _suppress(boxes: Tensor, classes: Tensor, overlap: float) -> list[int]:
    """Return which boxes remain, in order: a better one of the same class covers none of them."""
    same = classes[:, None] == classes[None]
    covers = ((_iou(boxes, boxes) > overlap) & same).numpy()
    kept: list[int] = []
    for i in range(len(boxes)):
        if not covers[i, kept].any():
            kept.append(i)
    return kept

"""A small detection set that is drawn on the fly: shapes of many sizes on textured backgrounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = ("disc", "square", "triangle")
SIZES = (8.0, 44.0)
"""Least and greatest side of a shape in pixels, drawn log-uniformly."""
MOST = 3
"""Shapes of one image."""


@dataclass(frozen=True)
class Sample:
    """An image [3, height, width] around zero, boxes [n, 4] as x0, y0, x1, y1, and classes [n]."""

    image: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


def samples(side: int, seed: int) -> Iterator[Sample]:
    """Yield images of `side` x `side` pixels without end; the same seed draws the same images."""
    rng = np.random.default_rng(seed)
    while True:
        yield _sample(side, rng)


def _sample(side: int, rng: np.random.Generator) -> Sample:
    image = _texture(side, rng)
    y, x = np.mgrid[:side, :side].astype(np.float32) + 0.5
    boxes: list[list[float]] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(1, MOST + 1))):
        size = float(np.exp(rng.uniform(*np.log(SIZES))))
        left, top = rng.uniform(0, side - size, 2)
        box = [left, top, left + size, top + size]
        if any(_overlap(box, other) > 0.3 for other in boxes):
            continue
        label = int(rng.integers(len(CLASSES)))
        inside = _inside(label, (x - left) / size, (y - top) / size)
        fill = rng.uniform(-1.5, 1.5, (3, 1, 1)) + 0.5 * _texture(side, rng)
        image = np.where(inside, fill, image)
        boxes.append(box)
        labels.append(label)
    noise = rng.normal(0, 0.1, image.shape)
    return Sample(
        (image + noise).astype(np.float32),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
    )


def _inside(label: int, u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where a shape lies, in coordinates of its box from 0 to 1."""
    within = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    match CLASSES[label]:
        case "disc":
            return (u - 0.5) ** 2 + (v - 0.5) ** 2 <= 0.25
        case "square":
            return within
        case _:
            return within & (np.abs(u - 0.5) <= v / 2)


def _texture(side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return coarse noise and a grating of random direction, wave length and colour."""
    cells = int(rng.integers(3, 12))
    coarse = rng.normal(0, 0.4, (3, cells, cells)).repeat(-(-side // cells), 1)
    coarse = coarse.repeat(-(-side // cells), 2)[:, :side, :side]
    y, x = np.mgrid[:side, :side]
    angle, wave = rng.uniform(0, np.pi), rng.uniform(4, 30)
    grating = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wave)
    texture: NDArray[np.float64] = coarse + rng.uniform(-0.4, 0.4, (3, 1, 1)) * (1 + grating)
    return texture


def _overlap(a: list[float], b: list[float]) -> float:
    """Return the share of the smaller box that two boxes have in common."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(0.0, width) * max(0.0, height) / smaller

"""GFLV2 (https://arxiv.org/abs/2011.12885): boxes as distributions, whose shape tells quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..builder import GraphBuilder, Tensor
from .layers import Maps, conv, pyramid, tower
from .regions import OneStage

SIDES = 4
BINS = 17
"""Values of each side's distribution: distances of 0 to 16 strides."""
TOP = 4
"""The largest probabilities of each side that the quality is read off, beside their mean."""
HIDDEN = 64


@dataclass(frozen=True)
class Gfl(OneStage):
    """Scores times a quality, and a distribution per side, at each position of P3 to P7.

    The quality's inputs are the top probabilities of all sides, then the means; mmdetection
    interleaves them, which a permutation of the weights makes up for.
    """

    name: ClassVar[str] = "gfl"
    about: ClassVar[str] = "FPN and the head of GFLV2, with group normalisation"
    stages: ClassVar[tuple[int, ...]] = (3, 4, 5)
    width: int = 256
    classes: int = 80

    def image(self, b: GraphBuilder, maps: Maps) -> None:
        """Add the layers; see `Detector.image`."""
        levels = pyramid(b, maps, self.width)
        b.part = "head"

        def head(x: Tensor) -> None:
            scores = tower(b, x, self.width, 4, grouped=True)
            boxes = tower(b, x, self.width, 4, grouped=True)
            boxes = b.gain(conv(b, boxes, SIDES * BINS, 3))
            top = b.group_topk(b.group_softmax(boxes, SIDES), SIDES, TOP)
            shape = b.concat([top, b.group_mean(top, SIDES)])
            quality = conv(b, conv(b, shape, HIDDEN, 1, "relu"), 1, 1, "sigmoid")
            scores = b.unary(conv(b, scores, self.classes, 3), "sigmoid")
            b.output(b.mul(scores, quality), "scores")
            b.output(boxes, "boxes")

        b.repeat(levels, head)

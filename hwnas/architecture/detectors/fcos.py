"""FCOS (https://arxiv.org/abs/1904.01355): FPN, and heads without anchors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..builder import GraphBuilder, Tensor
from .layers import Maps, conv, pyramid, tower
from .regions import OneStage


@dataclass(frozen=True)
class Fcos(OneStage):
    """Scores, four distances and a centre-ness at each position of P3 to P7.

    Distances are the exponential of what the last convolution says times a number of the level.
    """

    name: ClassVar[str] = "fcos"
    about: ClassVar[str] = "FPN and the head of FCOS, with group normalisation"
    stages: ClassVar[tuple[int, ...]] = (3, 4, 5)
    width: int = 256
    classes: int = 80

    def image(self, b: GraphBuilder, maps: Maps) -> None:
        """Add the layers; see `Detector.image`."""
        levels = pyramid(b, maps, self.width, relu=True)
        b.part = "head"

        def head(x: Tensor) -> None:
            scores = tower(b, x, self.width, 4, grouped=True)
            boxes = tower(b, x, self.width, 4, grouped=True)
            b.output(conv(b, scores, self.classes, 3), "scores")
            b.output(b.unary(b.gain(conv(b, boxes, 4, 3)), "exp"), "boxes")
            b.output(conv(b, scores, 1, 3), "centerness")

        b.repeat(levels, head)

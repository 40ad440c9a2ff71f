"""RetinaNet (https://arxiv.org/abs/1708.02002): FPN, and heads of four convolutions each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..builder import GraphBuilder, Tensor
from .layers import Maps, conv, pyramid, tower
from .regions import OneStage


@dataclass(frozen=True)
class RetinaNet(OneStage):
    """Nine anchors at each position of P3 to P7; P6 comes from C5."""

    name: ClassVar[str] = "retinanet"
    about: ClassVar[str] = "FPN and RetinaNet's head"
    stages: ClassVar[tuple[int, ...]] = (3, 4, 5)
    width: int = 256
    classes: int = 80
    anchors: int = 9

    def image(self, b: GraphBuilder, maps: Maps) -> None:
        """Add the layers; see `Detector.image`."""
        levels = pyramid(b, maps, self.width, extra="input")
        b.part = "head"

        def head(x: Tensor) -> None:
            scores = tower(b, x, self.width, 4, grouped=False)
            boxes = tower(b, x, self.width, 4, grouped=False)
            b.output(conv(b, scores, self.anchors * self.classes, 3), "scores")
            b.output(conv(b, boxes, self.anchors * 4, 3), "boxes")

        b.repeat(levels, head)

"""YOLOF (https://arxiv.org/abs/2103.09460): one feature map, a dilated encoder, no pyramid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..builder import GraphBuilder, Tensor
from .layers import Maps, conv
from .regions import OneStage

DILATIONS = (2, 4, 6, 8)


@dataclass(frozen=True)
class Yolof(OneStage):
    """Five anchors at each position of C5. A bias in front of a normalisation is left out."""

    name: ClassVar[str] = "yolof"
    about: ClassVar[str] = "the dilated encoder and head of YOLOF, on C5 alone"
    stages: ClassVar[tuple[int, ...]] = (5,)
    width: int = 512
    classes: int = 80
    anchors: int = 5

    def image(self, b: GraphBuilder, maps: Maps) -> None:
        """Add the layers; see `Detector.image`."""
        b.part, b.stage = "neck", 5
        x = b.conv(maps[5], self.width, main=False)
        x = b.conv(x, self.width, 3, main=False)
        for dilation in DILATIONS:
            y = b.conv(x, self.width // 4, activation="relu", main=False)
            y = b.conv(y, self.width // 4, 3, activation="relu", main=False, dilation=dilation)
            x = b.add(b.conv(y, self.width, activation="relu", main=False), x)
        b.part = "head"
        scores, boxes = self._subnet(b, x, 2), self._subnet(b, x, 4)
        scores = conv(b, scores, self.anchors * self.classes, 3)
        objectness = b.expand(conv(b, boxes, self.anchors, 3), self.classes)
        b.output(_both(b, scores, objectness), "scores")
        b.output(conv(b, boxes, self.anchors * 4, 3), "boxes")

    def _subnet(self, b: GraphBuilder, x: Tensor, depth: int) -> Tensor:
        for _ in range(depth):
            x = b.conv(x, self.width, 3, activation="relu", main=False)
        return x


def _both(b: GraphBuilder, scores: Tensor, objectness: Tensor) -> Tensor:
    """Return the logit of the product of two probabilities that are given as logits.

    That is s + o - log(1 + exp s + exp o). With f = log(1 + exp s) it is also
    (s - f) + o - log(1 + exp(o - f)), which never overflows.
    """
    f = b.unary(scores, "softplus")
    rest = b.unary(b.sub(objectness, f), "softplus")
    return b.sub(b.add(b.sub(scores, f), objectness), rest)

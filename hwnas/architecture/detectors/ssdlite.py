"""SSDLite (https://arxiv.org/abs/1801.04381): SSD's head of depthwise separable convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..builder import GraphBuilder, Tensor
from ..graph import Channels
from .layers import Maps, conv
from .regions import OneStage

EXTRA = (512, 256, 256, 128)
"""Channels of the levels behind C5, each half as large as the one before."""


@dataclass(frozen=True)
class SsdLite(OneStage):
    """Six anchors at each position of C4, C5 and four smaller maps, each with its own head."""

    name: ClassVar[str] = "ssdlite"
    about: ClassVar[str] = "SSDLite: C4, C5 and four smaller maps"
    stages: ClassVar[tuple[int, ...]] = (4, 5)
    classes: int = 80
    anchors: int = 6

    def image(self, b: GraphBuilder, maps: Maps) -> None:
        """Add the layers; see `Detector.image`."""
        b.part = "neck"
        levels = dict(maps)
        x = maps[5]
        for b.stage, channels in enumerate(EXTRA, 6):
            x = b.conv(x, channels // 2, activation="relu6", main=False)
            x = self._depthwise(b, x, stride=2)
            levels[b.stage] = x = b.conv(x, channels, activation="relu6", main=False)
        b.part = "head"
        for b.stage, x in levels.items():
            # One of the classes is the background.
            scores = conv(b, self._depthwise(b, x), self.anchors * (self.classes + 1), 1)
            b.output(scores, "scores")
            b.output(conv(b, self._depthwise(b, x), self.anchors * 4, 1), "boxes")

    @staticmethod
    def _depthwise(b: GraphBuilder, x: Tensor, stride: int = 1) -> Tensor:
        each: Channels = x.channels
        return b.conv(x, each, 3, stride=stride, groups=each, activation="relu6", main=False)

"""Mask R-CNN (https://arxiv.org/abs/1703.06870), as mmdetection trains it from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..builder import GraphBuilder, Tensor
from .layers import Maps, conv, proposals, pyramid, tower
from .regions import BOXES, MASKS, Regions


@dataclass(frozen=True)
class MaskRcnn:
    """A box head of four convolutions and a fully connected layer, a mask head of four and one.

    The pyramid and both heads have group normalisations.
    """

    name: ClassVar[str] = "mask-rcnn"
    about: ClassVar[str] = "Mask R-CNN as it is trained from scratch, with group normalisation"
    stages: ClassVar[tuple[int, ...]] = (2, 3, 4, 5)
    width: int = 256
    classes: int = 80

    def image(self, b: GraphBuilder, maps: Maps) -> None:
        """Add the layers; see `Detector.image`."""
        levels = pyramid(b, maps, self.width, extra="pool", grouped=True)
        for b.stage in self.stages:
            b.output(levels[b.stage], "features")
        proposals(b, levels, self.width)

    def regions(self) -> tuple[Regions, ...]:
        """Return the box head and the mask head; see `Detector.regions`."""
        return (
            Regions("box", BOXES, self.width, (7, 7), self._box),
            Regions("mask", MASKS, self.width, (14, 14), self._mask),
        )

    def _box(self, b: GraphBuilder, x: Tensor) -> None:
        x = b.fully_connected(tower(b, x, self.width, 4, grouped=True), 1024, "relu")
        b.output(b.fully_connected(x, self.classes + 1), "scores")
        b.output(b.fully_connected(x, 4 * self.classes), "boxes")

    def _mask(self, b: GraphBuilder, x: Tensor) -> None:
        x = b.conv_transpose(tower(b, x, self.width, 4, grouped=True), self.width, 2, "relu")
        b.output(conv(b, x, self.classes, 1), "masks")

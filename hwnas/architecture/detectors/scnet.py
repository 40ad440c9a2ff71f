"""SCNet (https://arxiv.org/abs/2012.10150): a cascade of three box heads, and one mask head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..builder import GraphBuilder, Tensor
from .layers import Maps, conv, proposals, pyramid
from .regions import BOXES, MASKS, Regions

HIDDEN = 1024
SEMANTIC_LEVEL = 3


@dataclass(frozen=True)
class ScNet:
    """The features of a region are the sum of its own, the semantic ones and the image's context.

    The relayed features of the last box head are added to the mask head's. These sums happen
    where the regions are cut out, and so do not belong to the graphs. What only the training
    needs, the classes of semantic features and of the context, is left out.
    """

    name: ClassVar[str] = "scnet"
    about: ClassVar[str] = (
        "SCNet: three box heads, semantic features, global context, one mask head"
    )
    stages: ClassVar[tuple[int, ...]] = (2, 3, 4, 5)
    width: int = 256
    classes: int = 80

    def image(self, b: GraphBuilder, maps: Maps) -> None:
        """Add the layers; see `Detector.image`."""
        levels = pyramid(b, maps, self.width, extra="pool")
        for b.stage in self.stages:
            b.output(levels[b.stage], "features")
        proposals(b, levels, self.width)
        b.part, b.stage = "semantic", SEMANTIC_LEVEL
        like = levels[SEMANTIC_LEVEL]
        x = conv(b, like, self.width, 1, "relu")
        for level, y in levels.items():
            if level != SEMANTIC_LEVEL:
                y = b.resize(y, like, "linear")
                x = b.add(x, conv(b, y, self.width, 1, "relu"))
        b.output(conv(b, self._residuals(b, x, 2), self.width, 1, "relu"), "semantics")
        b.part, b.stage = "context", max(levels)
        x = self._residuals(b, levels[max(levels)], 2)
        b.output(b.global_pool(x), "context")

    def regions(self) -> tuple[Regions, ...]:
        """Return three box heads, the relay and the mask head; see `Detector.regions`."""
        boxes = tuple(Regions(f"box{i}", BOXES, self.width, (7, 7), self._box) for i in range(1, 4))
        return (
            *boxes,
            Regions("relay", MASKS, HIDDEN, (1, 1), self._relay),
            Regions("mask", MASKS, self.width, (14, 14), self._mask),
        )

    def _residuals(self, b: GraphBuilder, x: Tensor, count: int) -> Tensor:
        """Add pairs of 3x3 convolutions, each with a residual addition."""
        for _ in range(count):
            y = conv(b, x, self.width, 3, "relu")
            x = b.add(conv(b, y, self.width, 3), x)
        return x

    def _box(self, b: GraphBuilder, x: Tensor) -> None:
        x = b.fully_connected(b.fully_connected(x, HIDDEN, "relu"), HIDDEN, "relu")
        b.output(b.fully_connected(x, self.classes + 1), "scores")
        b.output(b.fully_connected(x, 4), "boxes")
        b.output(x, "hidden")

    def _relay(self, b: GraphBuilder, x: Tensor) -> None:
        x = b.unflatten(b.fully_connected(x, self.width * 49), (7, 7))
        b.output(b.resize(x, 2, "linear"), "relayed")

    def _mask(self, b: GraphBuilder, x: Tensor) -> None:
        x = b.conv_transpose(self._residuals(b, x, 6), self.width, 2, "relu")
        b.output(conv(b, x, self.classes, 1), "masks")

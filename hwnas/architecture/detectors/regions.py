"""The parts of a detector that work on regions of the image, cut out between the graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..builder import GraphBuilder, Tensor
from ..graph import Size

BOXES = 1000
"""Regions of an image that a box head looks at, as mmdetection keeps them of the proposals."""

MASKS = 100
"""Detections of an image that get a mask."""


@dataclass(frozen=True)
class Regions:
    """A head that works on the features of regions: a batch of `count` maps for each image.

    Attributes:
        name: the head's.
        count: regions of an image.
        channels, size: of the features of a region, as RoIAlign cuts them out.
        build: adds the layers behind a region's features to a builder.
    """

    name: str
    count: int
    channels: int
    size: Size
    build: Callable[[GraphBuilder, Tensor], None]


class OneStage:
    """A detector that looks at the whole image only."""

    def regions(self) -> tuple[Regions, ...]:
        """Return none."""
        return ()

"""A backbone under torchvision's detectors: FCOS, RetinaNet and Faster R-CNN with an FPN."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from ..lowering.torch_backbone import Backbone

# The detector's class, and which feature maps its pyramid starts from: as torchvision has them
# for ResNet-50. The one-stage detectors add P6 and P7 by convolutions, Faster R-CNN P6 by a pool.
DETECTORS = {
    "fcos": (FCOS, (1, 2, 3)),
    "retinanet": (RetinaNet, (1, 2, 3)),
    "fasterrcnn": (FasterRCNN, (0, 1, 2, 3)),
}


class BackboneWithFPN(nn.Module):
    """What torchvision's class of that name is, for a backbone that returns a list of maps.

    Args:
        body: the backbone.
        width: channels of every level of the pyramid.
        extra: what makes the levels behind the last one.
    """

    def __init__(self, body: Backbone, width: int, extra: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(body.feature_info.channels(), width, extra)
        self.out_channels = width

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the levels of the pyramid by name, finest first."""
        maps = OrderedDict((str(i), m) for i, m in enumerate(self.body(images)))
        levels: dict[str, Tensor] = self.fpn(maps)
        return levels


def build_detector(
    rows: Any, kind: str, num_classes: int, width: int = 256, **options: Any
) -> nn.Module:
    """Return a detector with fresh weights.

    Args:
        rows: the table of layers of the backbone.
        kind: `fcos`, `retinanet` or `fasterrcnn`.
        num_classes: classes with the background, as torchvision counts them.
        width: channels of the pyramid and the heads.
        options: further arguments of torchvision's class, such as `min_size`.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in DETECTORS:
        raise ValueError(f"unknown detector '{kind}'; known are {', '.join(DETECTORS)}")
    detector, out_indices = DETECTORS[kind]
    body = Backbone(rows, out_indices)
    extra = LastLevelMaxPool() if kind == "fasterrcnn" else LastLevelP6P7(width, width)
    made: nn.Module = detector(BackboneWithFPN(body, width, extra), num_classes, **options)
    return made

"""An architecture as one of torchvision's detectors.

detector = hwnas.integrations.torchvision.detector(architecture, "fcos", num_classes=21)
losses = detector(images, targets)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..architecture.genotype import Architecture
from ..errors import UsageError, did_you_mean
from ..lowering.torch_writer import to_rows
from .require import requiring

if TYPE_CHECKING:
    from torch import nn

KINDS = ("fcos", "retinanet", "fasterrcnn")


def detector(
    architecture: Architecture,
    kind: str = "fcos",
    *,
    num_classes: int = 91,
    width: int = 256,
    **options: Any,
) -> nn.Module:
    """Return FCOS, RetinaNet or Faster R-CNN on a backbone and an FPN, with fresh weights.

    Args:
        architecture: the backbone.
        kind: `fcos`, `retinanet` or `fasterrcnn`.
        num_classes: classes with the background, as torchvision counts them: 91 for COCO.
        width: channels of the pyramid and the heads; the paper has 256, and 192 for MAE-DET-S.
        options: further arguments of torchvision's class, such as `min_size`.

    Raises:
        UsageError: there is no such kind.
        DeviceUnavailableError: torchvision is not installed, or does not import.
    """
    if kind not in KINDS:
        raise UsageError(
            f"unknown detector '{kind}'.{did_you_mean(kind, KINDS)} Known: {', '.join(KINDS)}."
        )
    with requiring("torchvision"):
        from .torchvision_adapter import build_detector
    return build_detector(to_rows(architecture), kind, num_classes, width, **options)

"""A backbone as mmdetection 3.x registers and initialises it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.registry import MODELS
from mmengine.model import BaseModule

from ..lowering.torch_backbone import Backbone, LayerRow


class RegisteredBackbone(Backbone, BaseModule):  # type: ignore[misc]
    """The backbone with mmengine's `init_cfg`; a subclass holds the table of its layers.

    Args:
        out_indices: which of the feature maps C2, C3, C4, C5 to return, by number 0 to 3.
        init_cfg: how mmengine initialises the weights, such as
            `dict(type='Pretrained', checkpoint='backbone.pth')`; by default they stay He-normal.
    """

    layers: Sequence[LayerRow] = ()

    def __init__(
        self,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(self.layers, out_indices)
        self.init_cfg = init_cfg


def register(name: str, rows: Sequence[LayerRow]) -> type[RegisteredBackbone]:
    """Register a table of layers as the backbone `dict(type=name)` and return its class."""
    made = type(name, (RegisteredBackbone,), {"layers": tuple(rows)})
    MODELS.register_module(name=name, module=made)
    return made

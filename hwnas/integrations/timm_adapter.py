"""A table of layers as a timm model: classification, and feature maps by `features_only=True`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ClassifierHead
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from ..lowering.torch_backbone import LayerRow, Layers, chosen


class ClassificationNet(Layers):
    """The backbone with a classifier behind C5, in timm's contract for models.

    Args:
        rows: the layers in order.
        num_classes: outputs of the classifier; 0 for the pooled features.
        in_chans: channels of the images.
        global_pool: how C5 is pooled, a name that timm knows; '' keeps the feature map.
        drop_rate: dropout before the classifier.
    """

    def __init__(
        self,
        rows: Sequence[LayerRow],
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__([_reading(row, in_chans) for row in rows])
        self.feature_info = [dict(level) for level in self.levels]
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = self.levels[-1]["num_chs"]
        self.head = ClassifierHead(
            self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate
        )

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        classifier: nn.Module = self.head.fc
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the head a fresh linear layer of that many classes."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return patterns that group parameters by stage, or by layer."""
        return {"stem": r"^c1_conv1\.", "blocks": r"^c(\d+)_" if coarse else r"^c(\d+)_conv(\d+)"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Refuse: the layers are run one by one, so there is no block to recompute."""
        assert not enable, "gradient checkpointing is not supported"

    def forward_features(self, images: Tensor) -> Tensor:
        """Return C5 of a batch of images [batch, in_chans, height, width]."""
        return self.feature_maps(images, len(self.levels) - 1)[-1]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of C5, or what comes before the linear layer."""
        result: Tensor = self.head(features, pre_logits=pre_logits)
        return result

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [batch, num_classes] of a batch of images."""
        return self.forward_head(self.forward_features(images))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Return C5 and the feature maps `indices`, or these alone; see timm."""
        assert output_fmt == "NCHW", "the feature maps are NCHW"
        taken = chosen(indices, len(self.levels))
        maps = self.feature_maps(x, max(taken) if stop_early else len(self.levels) - 1)
        intermediates = [maps[i] for i in taken]
        return intermediates if intermediates_only else (maps[-1], intermediates)

    def prune_intermediate_layers(
        self,
        indices: int | list[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Drop the layers that the feature maps `indices` do not need, and the head."""
        taken = chosen(indices, len(self.levels))
        last = max(taken)
        keep = [i for i, row in enumerate(self.rows) if row.op == "output"][last] + 1
        for row in self.rows[keep:]:
            if row.op != "output":
                delattr(self, row.name)
        self.rows, self.levels = self.rows[:keep], self.levels[: last + 1]
        if prune_head:
            self.reset_classifier(0, "")
        return list(taken)


def _reading(row: LayerRow, in_chans: int) -> LayerRow:
    """Return a row with the channels of the images, where it is one that reads them."""
    if row.inputs != ("images",) or row.in_channels == in_chans:
        return row
    if row.op != "conv" or row.groups != 1:
        raise ValueError(f"this network reads images of {row.in_channels} channels only")
    return row._replace(in_channels=in_chans)


def register(name: str, rows: Sequence[LayerRow], module: str) -> None:
    """Register a table of layers under `name` for `timm.create_model`.

    `module` is the module that registers it: timm keeps what it knows of a model there, and lists
    models by the last part of the module's name.
    """

    def create(pretrained: bool = False, **options: Any) -> Any:
        return build_model_with_cfg(
            partial(ClassificationNet, rows),
            name,
            pretrained,
            feature_cfg={"out_indices": (0, 1, 2, 3), "feature_cls": "getter"},
            **options,
        )

    create.__name__ = create.__qualname__ = name
    create.__module__ = module
    place = vars(sys.modules[module])
    place.setdefault("default_cfgs", {})[name] = {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": next(f"{row.name}.conv" for row in rows if row.op == "conv"),
        "classifier": "head.fc",
    }
    place[name] = register_model(create)

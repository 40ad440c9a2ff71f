"""A backbone in PyTorch: a table of layers and the module that runs it. Depends on torch alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class LayerRow(NamedTuple):
    """One layer: what it is called, what it does, and which layers it reads ('images': input)."""

    name: str
    op: str
    inputs: tuple[str, ...]
    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    activation: str = ""
    stage: int = 1
    norm: bool = True


class ConvNorm(nn.Module):
    """A convolution padded by kernel // 2, batch normalisation or a bias, and an activation."""

    def __init__(self, row: LayerRow) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            row.in_channels,
            row.out_channels,
            row.kernel,
            row.stride,
            row.kernel // 2,
            groups=row.groups,
            bias=not row.norm,
        )
        self.norm = nn.BatchNorm2d(row.out_channels) if row.norm else nn.Identity()
        self.act = activation(row.activation)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated feature map."""
        result: Tensor = self.act(self.norm(self.conv(x)))
        return result


class FeatureInfo:
    """Channels and reduction of each feature map that the backbone returns, as timm has it."""

    def __init__(self, channels: list[int], reduction: list[int], names: list[str]) -> None:
        self._channels = channels
        self._reduction = reduction
        self._names = names

    def channels(self) -> list[int]:
        """Return the channels of each feature map."""
        return self._channels

    def reduction(self) -> list[int]:
        """Return how many input pixels one pixel of each feature map stands for, per axis."""
        return self._reduction

    def module_name(self) -> list[str]:
        """Return the name of each feature map."""
        return self._names


class Backbone(nn.Module):
    """Runs a table of layers and returns the feature maps of the stages asked for.

    Args:
        rows: the layers in order; a row of op 'output' hands out the feature map of its stage.
        out_indices: which of the feature maps C2, C3, C4, C5 to return, by number 0 to 3.
    """

    def __init__(self, rows: Sequence[LayerRow], out_indices: Sequence[int] = (0, 1, 2, 3)) -> None:
        super().__init__()
        outputs = [row for row in rows if row.op == "output"]
        if not out_indices or not all(0 <= i < len(outputs) for i in out_indices):
            raise ValueError(
                f"out_indices {tuple(out_indices)} are not among 0 to {len(outputs) - 1}"
            )
        self.out_indices = tuple(out_indices)
        self.rows = tuple(rows)
        self.feature_info = FeatureInfo(
            [outputs[i].out_channels for i in self.out_indices],
            [2 ** outputs[i].stage for i in self.out_indices],
            [f"C{outputs[i].stage}" for i in self.out_indices],
        )
        for row in rows:
            if row.op != "output":
                self.add_module(row.name, module(row))
        # Each feature map is dropped behind the last layer that reads it.
        self._last_use = {source: row.name for row in rows for source in row.inputs}

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps of a batch of images [batch, 3, height, width]."""
        maps = {"images": images}
        features: list[Tensor] = []
        for row in self.rows:
            inputs = [maps[source] for source in row.inputs]
            if row.op == "output":
                features.append(inputs[0])
            else:
                maps[row.name] = self.get_submodule(row.name)(*inputs)
            for source in row.inputs:
                if self._last_use[source] == row.name:
                    maps.pop(source, None)
        return [features[i] for i in self.out_indices]


class Add(nn.Module):
    """The sum of two feature maps, activated."""

    def __init__(self, row: LayerRow) -> None:
        super().__init__()
        self.act = activation(row.activation)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the activated sum."""
        result: Tensor = self.act(x + y)
        return result


class Mul(nn.Module):
    """The product of a feature map and one weight per channel."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the product."""
        return x * y


class SpaceToDepth(nn.Module):
    """Stacks each 2x2 of positions along the channels, in the order of ONNX's operator."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, 4 * channels, height / 2, width / 2] of [batch, channels, ...]."""
        return torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=1)


def module(row: LayerRow) -> nn.Module:
    """Return the module of one layer."""
    if row.op == "conv":
        return ConvNorm(row)
    if row.op == "add":
        return Add(row)
    if row.op == "avg_pool":
        return nn.AvgPool2d(row.kernel, row.stride, ceil_mode=True, count_include_pad=False)
    if row.op == "max_pool":
        return nn.MaxPool2d(row.kernel, row.stride, row.kernel // 2)
    if row.op == "global_avg_pool":
        return nn.AdaptiveAvgPool2d(1)
    if row.op == "mul":
        return Mul()
    if row.op == "space_to_depth":
        return SpaceToDepth()
    raise ValueError(f"unknown layer {row.op!r}")


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hard_swish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
}


def activation(name: str) -> nn.Module:
    """Return the activation of that name; '' is none."""
    return ACTIVATIONS[name]()


def load_arrays(backbone: nn.Module, arrays: dict[str, object]) -> None:
    """Load weights given as numpy arrays by the keys of the state dict."""
    state = backbone.state_dict()
    backbone.load_state_dict(
        {
            key: torch.as_tensor(arrays[key]) if key in arrays else value
            for key, value in state.items()
        }
    )

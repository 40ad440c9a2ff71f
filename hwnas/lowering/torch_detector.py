"""A detector's graphs in PyTorch: what it has besides the layers of a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .torch_backbone import activation, module


class DetectorRow(NamedTuple):
    """One layer, as the table of a backbone has it, and what only detectors need.

    `weights` is the layer whose weights it shares, '' for its own; `side` the height and width of
    the map that one position becomes.
    """

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
    norm: bool = False
    bias: bool = False
    dilation: int = 1
    side: int = 1
    weights: str = ""


class Network(nn.Module):
    """Runs a table of layers and returns its outputs by name, such as `scores_p3`.

    Layers that share weights are one module.

    Args:
        rows: the layers in order; a row of op 'output' hands out what it reads under its name.
    """

    def __init__(self, rows: Sequence[DetectorRow]) -> None:
        super().__init__()
        self.rows = tuple(rows)
        for row in rows:
            if row.op != "output" and not row.weights:
                self.add_module(row.name, layer_module(row))
        # Each feature map is dropped behind the last layer that reads it.
        self._last_use = {source: row.name for row in rows for source in row.inputs}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs for a batch of images, or of regions' features."""
        maps = {"images": images}
        outputs: dict[str, Tensor] = {}
        for row in self.rows:
            inputs = [maps[source] for source in row.inputs]
            if row.op == "output":
                outputs[row.name] = inputs[0]
            else:
                maps[row.name] = self.get_submodule(row.weights or row.name)(*inputs)
            for source in row.inputs:
                if self._last_use[source] == row.name:
                    maps.pop(source, None)
        return outputs


class Conv(nn.Module):
    """A convolution without normalisation, or a transposed one, and an activation."""

    def __init__(self, row: DetectorRow) -> None:
        super().__init__()
        if row.op == "conv_transpose":
            self.conv: nn.Module = nn.ConvTranspose2d(
                row.in_channels, row.out_channels, row.kernel, row.stride, bias=row.bias
            )
        else:
            self.conv = nn.Conv2d(
                row.in_channels,
                row.out_channels,
                row.kernel,
                row.stride,
                row.dilation * (row.kernel // 2),
                row.dilation,
                row.groups,
                row.bias,
            )
        self.act = nn.Sigmoid() if row.activation == "sigmoid" else activation(row.activation)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated feature map."""
        result: Tensor = self.act(self.conv(x))
        return result


class GroupNorm(nn.Module):
    """A normalisation of groups of channels, and an activation."""

    def __init__(self, row: DetectorRow) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(row.groups, row.out_channels)
        self.act = activation(row.activation)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated feature map."""
        result: Tensor = self.act(self.norm(x))
        return result


class Linear(nn.Module):
    """A fully connected layer on all values of a feature map, and an activation."""

    def __init__(self, row: DetectorRow) -> None:
        super().__init__()
        self.linear = nn.Linear(row.in_channels, row.out_channels)
        self.act = activation(row.activation)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated rows [batch, channels]."""
        result: Tensor = self.act(self.linear(x.flatten(1)))
        return result


class Gain(nn.Module):
    """One learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        return x * self.gain


FUNCTIONS = (
    "mul", "sub", "concat", "relu", "exp", "sigmoid", "softplus", "global_avg_pool", "upsample",
    "resize", "interpolate", "expand", "unflatten", "group_softmax", "group_topk", "group_mean",
)  # fmt: skip


class Function(nn.Module):
    """A layer without weights."""

    def __init__(self, row: DetectorRow) -> None:
        super().__init__()
        self.row = row

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the layer's result; of a resized map `y` has the size."""
        row = self.row
        match row.op:
            case "mul" if y is not None:
                return x * y
            case "sub" if y is not None:
                return x - y
            case "concat" if y is not None:
                return torch.cat([x, y], 1)
            case "relu" | "exp" | "sigmoid":
                result: Tensor = getattr(torch, row.op)(x)
                return result
            case "softplus":
                return functional.softplus(x)
            case "global_avg_pool":
                return x.mean((2, 3), keepdim=True)
            case "upsample" | "resize" | "interpolate":
                return self._resized(x, y)
            case "expand":
                return x.repeat_interleave(row.out_channels // row.in_channels, 1)
            case "unflatten":
                return x.view(len(x), row.out_channels, row.side, row.side)
            case "group_softmax":
                return self._apart(x).softmax(2).flatten(1, 2)
            case "group_topk":
                count = row.out_channels // row.groups
                return self._apart(x).topk(count, 2).values.flatten(1, 2)
            case "group_mean":
                return self._apart(x).mean(2)
            case _:
                raise ValueError(f"unknown layer {row.op!r}")

    def _apart(self, x: Tensor) -> Tensor:
        return x.view(len(x), self.row.groups, -1, *x.shape[2:])

    def _resized(self, x: Tensor, like: Tensor | None) -> Tensor:
        if like is None:
            size = [side * self.row.side for side in x.shape[2:]]
        else:
            size = list(like.shape[2:])
        if self.row.op == "interpolate":
            return functional.interpolate(x, size, mode="bilinear", align_corners=True)
        return functional.interpolate(x, size)


def layer_module(row: DetectorRow) -> nn.Module:
    """Return the module of one layer."""
    if row.op == "conv_transpose" or (row.op == "conv" and not row.norm):
        return Conv(row)
    if row.op == "conv" and row.dilation > 1:
        dilated: Any = module(row)  # type: ignore[arg-type]
        padding = row.dilation * (row.kernel // 2)
        dilated.conv.dilation, dilated.conv.padding = (row.dilation,) * 2, (padding,) * 2
        made: nn.Module = dilated
        return made
    known = {"group_norm": GroupNorm, "gemm": Linear}
    if row.op in known:
        return known[row.op](row)
    if row.op == "gain":
        return Gain()
    if row.op in FUNCTIONS:
        return Function(row)
    return module(row)  # type: ignore[arg-type]

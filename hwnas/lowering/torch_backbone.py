"""A backbone in PyTorch: a table of layers and the module that runs it. Depends on torch alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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
    """Channels and reduction of each feature map that a backbone returns, as timm has it.

    Args:
        info: `num_chs`, `reduction`, `module` and `index` of every feature map there is.
        out_indices: the ones returned; the methods answer for these where no `idx` is given.
    """

    def __init__(self, info: list[dict[str, Any]], out_indices: Sequence[int]) -> None:
        self.info = info
        self.out_indices = tuple(out_indices)

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return the channels of the feature maps."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return how many input pixels one pixel of the feature maps stands for, per axis."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return the names of the modules that produce the feature maps."""
        return self.get("module", idx)

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """Return one property: of feature map `idx`, or as a list where there are several."""
        if isinstance(idx, int):
            return self.info[idx][key]
        return [self.info[i][key] for i in (self.out_indices if idx is None else idx)]

    def get_dicts(
        self, keys: Sequence[str] | None = None, idx: int | Sequence[int] | None = None
    ) -> Any:
        """Return the properties named `keys`, or all, of the feature maps."""
        if isinstance(idx, int):
            return {key: self.info[idx][key] for key in keys or self.info[idx]}
        return [self.get_dicts(keys, i) for i in (self.out_indices if idx is None else idx)]

    def __len__(self) -> int:
        return len(self.info)


class Layers(nn.Module):
    """Runs a table of layers; a row of op 'output' hands out the feature map of its stage."""

    def __init__(self, rows: Sequence[LayerRow]) -> None:
        super().__init__()
        self.rows = tuple(rows)
        self.levels = [
            {
                "num_chs": row.out_channels,
                "reduction": 2**row.stage,
                "module": row.inputs[0],
                "index": index,
            }
            for index, row in enumerate(row for row in rows if row.op == "output")
        ]
        for row in rows:
            if row.op != "output":
                self.add_module(row.name, module(row))
        # Each feature map is dropped behind the last layer that reads it.
        self._last_use = {source: row.name for row in rows for source in row.inputs}

    def feature_maps(self, images: Tensor, last: int) -> list[Tensor]:
        """Return the feature maps C2, C3 ... up to number `last` (0 is C2) and run no further."""
        maps = {"images": images}
        features: list[Tensor] = []
        for row in self.rows:
            inputs = [maps[source] for source in row.inputs]
            if row.op == "output":
                features.append(inputs[0])
                if len(features) > last:
                    break
            else:
                maps[row.name] = self.get_submodule(row.name)(*inputs)
            for source in row.inputs:
                if self._last_use[source] == row.name:
                    maps.pop(source, None)
        return features


class Backbone(Layers):
    """Returns the feature maps of the stages asked for.

    Args:
        rows: the layers in order.
        out_indices: which of the feature maps C2, C3, C4, C5 to return, by number 0 to 3, or
            counted from the last, -1 to -4; a single number is how many of the last, as in timm.
            Layers behind the last of them are kept but not run.
    """

    def __init__(
        self, rows: Sequence[LayerRow], out_indices: int | Sequence[int] = (0, 1, 2, 3)
    ) -> None:
        super().__init__(rows)
        self.out_indices = chosen(out_indices, len(self.levels))
        self.feature_info = FeatureInfo(self.levels, self.out_indices)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps of a batch of images [batch, 3, height, width]."""
        maps = self.feature_maps(images, max(self.out_indices))
        return [maps[i] for i in self.out_indices]


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


def chosen(indices: int | Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Return which of `count` feature maps are meant: the last `indices`, these, or all."""
    last = count if indices is None else indices
    wanted = range(-last, 0) if isinstance(last, int) else last
    if not wanted or not all(-count <= i < count for i in wanted):
        raise ValueError(f"out_indices {indices} are not among 0 to {count - 1}")
    return tuple(i % count for i in wanted)


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

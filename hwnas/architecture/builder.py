"""Building a graph: the layers of a network, recorded in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import UsageError
from .graph import INPUT, Before, Channels, Graph, Layer, Size

WEIGHTED = ("conv", "conv_transpose", "linear", "gemm", "group_norm")
"""Layers whose weights others can share."""


class Tensor(NamedTuple):
    """The result of a layer while a graph is being built."""

    layer: int
    channels: Channels
    size: Size


class GraphBuilder:
    """Records the layers of a network in the order in which they run."""

    def __init__(self, channels: Channels, size: Size, *, stage: int = 1) -> None:
        self.layers: list[Layer] = []
        self.stage = stage
        self.part = ""
        self.runs = 1
        self.input = Tensor(INPUT, channels, size)

    def conv(
        self,
        x: Tensor,
        channels: Channels,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: Channels = 1,
        activation: str | None = None,
        main: bool = True,
        padded: bool = True,
        norm: bool = True,
        bias: bool | None = None,
        dilation: int = 1,
    ) -> Tensor:
        """Add a convolution, padded so that stride 1 keeps the size, or not at all.

        It has a batch normalisation, or without one a bias unless that is refused, too.

        Raises:
            UsageError: kernel or stride is below 1, or the groups do not divide the channels.
        """
        self._check(x, channels, kernel, stride, groups)
        size = (-(-x.size[0] // stride), -(-x.size[1] // stride))
        if not padded:
            size = ((x.size[0] - kernel) // stride + 1, (x.size[1] - kernel) // stride + 1)
        return self._append(
            Layer(
                "conv",
                (x.layer,),
                x.channels,
                channels,
                x.size,
                size,
                (kernel, kernel),
                (stride, stride),
                groups,
                norm,
                activation,
                main,
                self.stage,
                not norm if bias is None else bias,
                dilation,
            )
        )

    def conv_transpose(
        self, x: Tensor, channels: Channels, kernel: int, activation: str | None = None
    ) -> Tensor:
        """Add a transposed convolution with bias whose stride is its kernel: it enlarges a map."""
        size = (x.size[0] * kernel, x.size[1] * kernel)
        layer = Layer("conv_transpose", (x.layer,), x.channels, channels, x.size, size)
        layer = layer._replace(kernel=(kernel, kernel), stride=(kernel, kernel), bias=True)
        return self._append(layer._replace(activation=activation, stage=self.stage))

    def group_norm(self, x: Tensor, groups: int, activation: str | None = None) -> Tensor:
        """Normalise groups of channels over all positions (https://arxiv.org/abs/1803.08494)."""
        y = self._change("group_norm", x, x.channels, x.size, groups=groups)
        return self._activate(y, activation)

    def gain(self, x: Tensor) -> Tensor:
        """Multiply by one learned number."""
        return self._change("gain", x, x.channels, x.size)

    def pool(self, x: Tensor, op: str, kernel: int, stride: int) -> Tensor:
        """Add an `avg_pool` (ceil mode, padding not counted) or a padded `max_pool`."""
        size = (-(-x.size[0] // stride), -(-x.size[1] // stride))
        return self._append(
            Layer(
                op,
                (x.layer,),
                x.channels,
                x.channels,
                x.size,
                size,
                (kernel, kernel),
                (stride, stride),
                stage=self.stage,
            )
        )

    def add(self, x: Tensor, y: Tensor, activation: str | None = None) -> Tensor:
        """Add two feature maps of the same shape."""
        return self._append(
            Layer(
                "add",
                (x.layer, y.layer),
                x.channels,
                x.channels,
                x.size,
                x.size,
                activation=activation,
                stage=self.stage,
            )
        )

    def global_pool(self, x: Tensor, op: str = "global_avg_pool") -> Tensor:
        """Average a feature map to one position: `global_avg_pool`, or a `reduce` over axes."""
        return self._change(op, x, x.channels, (1, 1), kernel=x.size)

    def unary(self, x: Tensor, op: str) -> Tensor:
        """Apply an activation, or `scale` or `shift` by a constant."""
        return self._change(op, x, x.channels, x.size)

    def mul(self, x: Tensor, y: Tensor) -> Tensor:
        """Multiply two feature maps; the second may have one position or channel: broadcast."""
        layer = Layer("mul", (x.layer, y.layer), x.channels, x.channels, x.size, x.size)
        return self._append(layer._replace(stage=self.stage))

    def sub(self, x: Tensor, y: Tensor) -> Tensor:
        """Subtract a feature map from another of the same shape."""
        layer = Layer("sub", (x.layer, y.layer), x.channels, x.channels, x.size, x.size)
        return self._append(layer._replace(stage=self.stage))

    def concat(self, maps: Sequence[Tensor]) -> Tensor:
        """Put feature maps behind each other along the channels."""
        channels, size = sum(x.channels for x in maps), maps[0].size
        inputs = tuple(x.layer for x in maps)
        return self._append(
            Layer("concat", inputs, channels, channels, size, size, stage=self.stage)
        )

    def split(self, x: Tensor, parts: int) -> list[Tensor]:
        """Share out the channels of a feature map evenly."""
        whole = self._change("split", x, x.channels, x.size)
        return [self._change("part", whole, x.channels // parts, x.size) for _ in range(parts)]

    def upsample(self, x: Tensor, factor: int) -> Tensor:
        """Enlarge a feature map by a whole factor, each value repeated."""
        size = (x.size[0] * factor, x.size[1] * factor)
        return self._change("upsample", x, x.channels, size)

    def resize(self, x: Tensor, like: Tensor | int, mode: str = "nearest") -> Tensor:
        """Resize a feature map to the size of another, or by a whole factor.

        The mode is `nearest`, or `linear` with aligned corners. A nearest enlargement by a whole
        factor is an `upsample`.
        """
        inputs: tuple[int, ...] = (x.layer,)
        if isinstance(like, int):
            size = (x.size[0] * like, x.size[1] * like)
        else:
            inputs, size = (x.layer, like.layer), like.size
        factors = {large / small for small, large in zip(x.size, size, strict=True)}
        whole = mode == "nearest" and len(factors) == 1 and factors.pop().is_integer()
        op = "upsample" if whole else {"nearest": "resize", "linear": "interpolate"}[mode]
        layer = Layer(op, inputs, x.channels, x.channels, x.size, size, stage=self.stage)
        return self._append(layer)

    def expand(self, x: Tensor, times: int) -> Tensor:
        """Repeat each channel."""
        return self._change("expand", x, x.channels * times, x.size)

    def group_softmax(self, x: Tensor, groups: int) -> Tensor:
        """Normalise each group of channels to a distribution, position by position."""
        return self._grouped("group_softmax", x, x.channels, groups)

    def group_topk(self, x: Tensor, groups: int, count: int) -> Tensor:
        """Return the largest channels of each group, in falling order."""
        return self._grouped("group_topk", x, groups * count, groups)

    def group_mean(self, x: Tensor, groups: int) -> Tensor:
        """Average each group of channels."""
        return self._grouped("group_mean", x, groups, groups)

    def space_to_depth(self, x: Tensor) -> Tensor:
        """Stack each 2x2 of positions along the channels: four times as many, at half the size.

        Raises:
            UsageError: height or width is odd.
        """
        if x.size[0] % 2 or x.size[1] % 2:
            raise UsageError(
                f"a feature map of {x.size[0]}x{x.size[1]} has no whole 2x2 of positions to stack: "
                "with a space-to-depth stem both sides of the image must be even."
            )
        size = (x.size[0] // 2, x.size[1] // 2)
        return self._change("space_to_depth", x, 4 * x.channels, size)

    def shuffle(self, x: Tensor, groups: int) -> Tensor:
        """Interleave the channels of groups (ShuffleNet, https://arxiv.org/abs/1707.01083)."""
        moved = (x.channels, (x.size[0] * x.size[1], 1))
        return self._change("shuffle", x, x.channels, x.size, moved=moved, groups=groups)

    def tokens(self, x: Tensor) -> Tensor:
        """Turn a feature map into one row of channels for each position."""
        rows = x.size[0] * x.size[1]
        return self._change("tokens", x, x.channels, (rows, 1), moved=(rows * x.channels, (1, 1)))

    def linear(self, x: Tensor, channels: Channels, op: str = "linear") -> Tensor:
        """Multiply rows by weights and add a bias; op `gemm` does so for one position of a map."""
        return self._change(op, x, channels, x.size)

    def fully_connected(self, x: Tensor, channels: int, activation: str | None = None) -> Tensor:
        """Multiply all values of a feature map by weights and add a bias."""
        flat = Tensor(x.layer, x.channels * x.size[0] * x.size[1], (1, 1))
        return self._activate(self.linear(flat, channels, "gemm"), activation)

    def unflatten(self, x: Tensor, size: Size) -> Tensor:
        """View the values of one position as a feature map of that size."""
        return self._change("unflatten", x, x.channels // (size[0] * size[1]), size)

    def layer_norm(self, x: Tensor) -> Tensor:
        """Normalise each row."""
        return self._change("layer_norm", x, x.channels, x.size)

    def attention(self, x: Tensor, heads: int) -> Tensor:
        """Multi-head self-attention over rows (https://arxiv.org/abs/1706.03762), projected."""
        rows, channels = x.size[0], int(x.channels)
        width = channels // heads
        query, key, value = (self.linear(x, channels) for _ in range(3))
        moved = (rows * heads, (width, 1))
        by_head: dict[str, Any] = {"groups": heads, "moved": moved}
        query = self._change("heads", query, heads, (rows, width), **by_head)
        value = self._change("heads", value, heads, (rows, width), **by_head)
        by_head["moved"] = (rows * channels, (1, 1))
        key = self._change("keys", key, heads, (width, rows), **by_head)
        scores = self._product(query, key, heads * width, heads * rows, rows, heads)
        scores = self._change("scale", scores, heads * rows, (rows, 1))
        along_rows = (rows, (heads * rows, 1))
        scores = self._change("softmax", scores, heads * rows, (rows, 1), moved=along_rows)
        mixed = self._product(scores, value, heads * rows, heads * width, rows, heads)
        merged = self._change("merge", mixed, channels, (rows, 1), moved=moved, groups=heads)
        return self.linear(merged, channels)

    def output(self, x: Tensor, part: str = "") -> Tensor:
        """Hand `x` to the outside as the feature map of the current stage.

        What a detector hands out is named by `part`, such as `boxes`.
        """
        layer = Layer("output", (x.layer,), x.channels, x.channels, x.size, x.size)
        return self._append(layer._replace(stage=self.stage, part=part))

    def source(self, channels: Channels, size: Size) -> Tensor:
        """Add a feature map of the current stage that comes from elsewhere, in a fragment."""
        layer = Layer("source", (), channels, channels, size, size, stage=self.stage)
        return self._append(layer)

    def repeat(self, maps: dict[int, Tensor], head: Callable[[Tensor], object]) -> None:
        """Add the same layers with the same weights on feature maps by level.

        `head` adds the layers to this builder. A `gain` is each level's own.
        """
        first: int | None = None
        for self.stage, x in maps.items():
            start = len(self.layers)
            head(x)
            if first is None:
                first = start
                continue
            for i in range(start, len(self.layers)):
                if self.layers[i].op in WEIGHTED:
                    self.layers[i] = self.layers[i]._replace(tied=first + i - start)

    def build(
        self,
        *,
        batch: int = 1,
        input_activation: str | None = None,
        before: Before | None = None,
    ) -> Graph:
        """Return the finished graph."""
        channels, size = self.input.channels, self.input.size
        layers = tuple(self.layers)
        return Graph(layers, channels, size, batch, input_activation, before=before)

    def _check(
        self, x: Tensor, channels: Channels, kernel: int, stride: int, groups: Channels
    ) -> None:
        """Raise a UsageError where a convolution cannot be."""
        if stride < 1 or kernel < 1:
            raise UsageError(
                f"C{self.stage}: a convolution has kernel {kernel} and stride {stride}; both must "
                "be at least 1."
            )
        if isinstance(groups, int) and groups == 1:
            return
        for what in (x.channels, channels):
            if np.any(what % groups):
                wrong = int(np.extract(what % groups != 0, what)[0])
                raise UsageError(
                    f"C{self.stage}: a convolution has {wrong} channels, which "
                    f"{np.max(groups)} groups do not divide. Choose widths that are multiples of "
                    "the number of groups, or fewer groups."
                )

    def _change(
        self,
        op: str,
        x: Tensor,
        channels: Channels,
        size: Size,
        *,
        moved: tuple[Channels, Size] | None = None,
        kernel: Size = (1, 1),
        groups: Channels = 1,
    ) -> Tensor:
        into, in_size = moved or (x.channels, x.size)
        layer = Layer(op, (x.layer,), into, channels, in_size, size, kernel, groups=groups)
        return self._append(layer._replace(stage=self.stage))

    def _grouped(self, op: str, x: Tensor, channels: Channels, groups: int) -> Tensor:
        """Add what works on each group's channels as on a row."""
        into = x.channels // groups
        moved = (into, (groups * x.size[0] * x.size[1], 1))
        return self._change(op, x, channels, x.size, moved=moved, groups=groups)

    def _activate(self, x: Tensor, activation: str | None) -> Tensor:
        self.layers[x.layer] = self.layers[x.layer]._replace(activation=activation)
        return x

    def _product(
        self, x: Tensor, y: Tensor, into: int, channels: int, rows: int, groups: int
    ) -> Tensor:
        size = (rows, 1)
        layer = Layer("matmul", (x.layer, y.layer), into, channels, size, size, groups=groups)
        return self._append(layer._replace(stage=self.stage))

    def _append(self, layer: Layer) -> Tensor:
        self.layers.append(layer._replace(part=layer.part or self.part, runs=self.runs))
        return Tensor(len(self.layers) - 1, layer.out_channels, layer.out_size)

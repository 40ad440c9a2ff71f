"""The lowered graph: a network as a list of layers with shapes.

Everything that hwnas knows about a network is read off this graph: FLOPs, parameters, memory,
entropy, the kernels that a runtime executes, the torch module and the ONNX file.

Channels may also be integer arrays that broadcast against each other. A block that is built once
on the axes (channels in, inner size, channels out) of a search space then describes every block
of that space at once, and every cost read off it is a table over these axes.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Channels: TypeAlias = "int | NDArray[np.int64]"
Size: TypeAlias = tuple[int, int]
"""Height and width."""

INPUT = -1
"""The index that stands for the graph's own input among `Layer.inputs`."""


class Layer(NamedTuple):
    """One node of the graph.

    `op` is one of `conv`, `avg_pool`, `max_pool`, `add` and `output`. `activation` is applied to
    the node's result and `norm` says that a convolution is followed by a batch normalisation.
    `main` marks the convolutions of the main path, the ones that carry the entropy and that the
    cost `layers` counts. An `output` node hands its input to the outside as the feature map of
    `stage`.
    """

    op: str
    inputs: tuple[int, ...]
    in_channels: Channels
    out_channels: Channels
    in_size: Size
    out_size: Size
    kernel: Size = (1, 1)
    stride: Size = (1, 1)
    groups: Channels = 1
    norm: bool = False
    activation: str | None = None
    main: bool = False
    stage: int = 1


class Tensor(NamedTuple):
    """The result of a layer while a graph is being built."""

    layer: int
    channels: Channels
    size: Size


class Graph(NamedTuple):
    """Layers in execution order, with what comes in.

    `input_activation` is the activation that the producer of the input already applied: None for
    an image, 'relu' for a block that follows a block ending in a ReLU.
    """

    layers: tuple[Layer, ...]
    channels: Channels
    size: Size
    batch: int = 1
    input_activation: str | None = None

    def outputs(self) -> dict[int, Layer]:
        """Return the layer that produces the feature map of each stage that is handed out."""
        return {
            layer.stage: self.layers[layer.inputs[0]]
            for layer in self.layers
            if layer.op == "output"
        }


class GraphBuilder:
    """Records the layers of a network in the order in which they run."""

    def __init__(self, channels: Channels, size: Size, *, stage: int = 1) -> None:
        self.layers: list[Layer] = []
        self.stage = stage
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
    ) -> Tensor:
        """Add a convolution, padded by kernel // 2, with batch normalisation."""
        size = (-(-x.size[0] // stride), -(-x.size[1] // stride))
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
                True,
                activation,
                main,
                self.stage,
            )
        )

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

    def output(self, x: Tensor) -> Tensor:
        """Hand `x` to the outside as the feature map of the current stage."""
        return self._append(
            Layer("output", (x.layer,), x.channels, x.channels, x.size, x.size, stage=self.stage)
        )

    def build(self, *, batch: int = 1, input_activation: str | None = None) -> Graph:
        """Return the finished graph."""
        source = self.input
        return Graph(tuple(self.layers), source.channels, source.size, batch, input_activation)

    def _append(self, layer: Layer) -> Tensor:
        self.layers.append(layer)
        return Tensor(len(self.layers) - 1, layer.out_channels, layer.out_size)


def main_path(graph: Graph) -> list[tuple[Layer, str | None]]:
    """Return the convolutions of the main path, each with the activation that its input carries.

    This is the plain network of the paper: shortcuts and pools are gone, an activation behind a
    residual addition belongs to the convolution before it.
    """
    path: list[tuple[Layer, str | None]] = []
    activation = graph.input_activation
    for layer in graph.layers:
        if layer.main:
            path.append((layer, activation))
            activation = layer.activation
        elif layer.op == "add" and layer.activation is not None:
            activation = layer.activation
    return path

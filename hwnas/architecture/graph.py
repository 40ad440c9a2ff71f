"""The lowered graph: a network as a list of layers with shapes.

Everything that hwnas knows about a network is read off this graph: FLOPs, parameters, memory,
entropy, the kernels that a runtime executes, the torch module and the ONNX file.

Channels may also be integer arrays that broadcast against each other. A block that is built once
on the axes (channels in, inner size, channels out) of a search space then describes every block
of that space at once, and every cost read off it is a table over these axes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError

Channels: TypeAlias = "int | NDArray[np.int64]"
Size: TypeAlias = tuple[int, int]
"""Height and width."""

INPUT = -1
"""The index that stands for the graph's own input among `Layer.inputs`."""


class Layer(NamedTuple):
    """One node of the graph.

    `op` is `conv`, `avg_pool`, `max_pool`, `add`, `output`, or another of the operators that
    `GraphBuilder` adds and `lowering.operators` names. `activation` is applied to the node's
    result; `norm` says that a convolution is followed by a batch normalisation, `bias` that it has
    a bias. `main` marks the convolutions of the main path, the ones that carry the entropy and that
    the cost `layers` counts. An `output` node hands its input to the outside as the feature map of
    `stage`; a `part` is one result of the `split` that it reads; a `view` has the same values in
    another shape.

    Of an operator that moves or combines values, `in_channels` and `in_size` describe the work as
    `lowering.kernels.Kernel` has it; `out_channels` and `out_size` are the shape of the result.
    Rows of values (tokens) have the size (rows, 1).

    A layer that is `tied` to an earlier one has that one's weights: a head that all levels of a
    pyramid share is counted once and executed once a level. `part` names what of a detector the
    layer belongs to (`neck`, `head` ...; an output's own name), '' in a backbone; its `stage` is
    then the level of the pyramid, 0 behind it. `runs` says how often the layer runs for one image,
    once for each region where it works on regions.
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
    bias: bool = False
    dilation: int = 1
    tied: int | None = None
    part: str = ""
    runs: int = 1


class Graph(NamedTuple):
    """Layers in execution order, with what comes in.

    `input_activation` is the activation that the producer of the input already applied: None for
    an image, 'relu' for a block that follows a block ending in a ReLU. `labels` name the layers
    where they come from a file that names them. `before` says of a fragment what it runs behind.
    """

    layers: tuple[Layer, ...]
    channels: Channels
    size: Size
    batch: int = 1
    input_activation: str | None = None
    labels: tuple[str, ...] = ()
    before: Before | None = None

    def outputs(self) -> dict[int, Layer]:
        """Return the layer that produces the feature map of each stage that is handed out."""
        return {
            layer.stage: self.layers[layer.inputs[0]]
            for layer in self.layers
            if layer.op == "output"
        }


@dataclass(eq=False)
class Before:
    """What a fragment of a space may run behind.

    Attributes:
        graphs: one of these computes what comes in.
        handed_out: whether that was handed to the outside, too.
        layouts: in which layout it is, by runtime, once that is known (`lowering.fusing`).
    """

    graphs: tuple[Graph, ...]
    handed_out: bool = False
    layouts: dict[Any, bool] = field(default_factory=dict)


def checked(graph: Graph) -> Graph:
    """Return the graph if each of its kernels has a feature map to slide over.

    Raises:
        UsageError: the padding of a kernel is wider than the feature map.
    """
    for layer in graph.layers:
        if layer.op == "conv" and layer.kernel[0] // 2 > min(layer.in_size):
            (kernel, _), (height, width) = layer.kernel, layer.in_size
            raise UsageError(
                f"C{layer.stage}: the {kernel}x{kernel} kernel is larger than its feature map of "
                f"{height}x{width}, most of it would only ever see the padding. Take a smaller "
                "kernel or a larger resolution."
            )
    return graph


def carried_activation(graph: Graph) -> str | None:
    """Return the activation that the result of a graph carries in the plain network."""
    activation = graph.input_activation
    for layer in graph.layers:
        if layer.main or (layer.op == "add" and layer.activation is not None):
            activation = layer.activation
    return activation


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

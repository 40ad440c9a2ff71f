"""Kernels: what a runtime executes after it has fused the layers of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..architecture.graph import Channels, Graph, Layer, Size


class Kernel(NamedTuple):
    """One kernel. Channels may be arrays that broadcast, as in the graph it comes from.

    `op` is `conv`, `avg_pool`, `max_pool`, `add`, `reorder_output`, `reorder_input`, or the name
    of an operator that hwnas knows nothing about. `fused_add` says that a residual addition
    happens inside, `activation` that the result is activated.
    """

    op: str
    batch: int
    in_channels: Channels
    in_size: Size
    out_channels: Channels
    out_size: Size
    kernel: Size = (1, 1)
    stride: Size = (1, 1)
    groups: Channels = 1
    fused_add: bool = False
    activation: bool = False


@dataclass(frozen=True)
class Fusion:
    """What a runtime fuses; normalisations and activations always run in the kernel before them.

    Attributes:
        add: an addition runs inside the convolution that produces its first operand.
        output: the kernel that hands a feature map to the outside; '' where this costs nothing.
    """

    add: bool = True
    output: str = ""


def fuse(graph: Graph, fusion: Fusion) -> list[Kernel]:
    """Return the kernels that a runtime executes for a graph, in order."""
    return [kernel for _, kernel in fuse_layers(graph, fusion)]


def fuse_layers(graph: Graph, fusion: Fusion) -> list[tuple[int, Kernel]]:
    """Return the kernels of a graph, each with the index of the layer that it begins with."""
    absorbed: dict[int, Layer] = {}  # convolution -> the addition that runs inside it
    if fusion.add:
        for layer in graph.layers:
            if layer.op == "add" and layer.inputs[0] >= 0:
                producer = graph.layers[layer.inputs[0]]
                if producer.op == "conv" and producer.activation is None:
                    absorbed[layer.inputs[0]] = layer
    kernels: list[tuple[int, Kernel]] = []
    for i, layer in enumerate(graph.layers):
        if layer.op == "add" and absorbed.get(layer.inputs[0]) is layer:
            continue
        op = layer.op
        if op == "output":
            if not fusion.output:
                continue
            op = fusion.output
        add = absorbed.get(i)
        kernel = Kernel(
            op,
            graph.batch,
            layer.in_channels,
            layer.in_size,
            layer.out_channels,
            layer.out_size,
            layer.kernel,
            layer.stride,
            layer.groups,
            add is not None,
            (add or layer).activation is not None,
        )
        kernels.append((i, kernel))
    return kernels

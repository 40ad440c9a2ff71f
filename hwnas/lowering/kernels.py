"""Kernels: what a runtime executes after it has fused the layers of a graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..architecture.graph import INPUT, Channels, Graph, Layer, Size

POOLS = ("avg_pool", "max_pool")


class Kernel(NamedTuple):
    """One kernel. Channels may be arrays that broadcast, as in the graph it comes from.

    `op` is `conv`, `avg_pool`, `max_pool`, `add`, `reorder_output`, `reorder_input`, or the name
    of an operator that hwnas knows nothing about. `fused_add` says that a residual addition
    happens inside, `activation` that the result is activated. A kernel with `unless_multiple` runs
    only where the channels are no multiple of it.
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
    unless_multiple: int = 0


@dataclass(frozen=True)
class Fusion:
    """What a runtime fuses; normalisations always run in the kernel before them.

    Attributes:
        add: an addition runs inside the convolution that produces its first operand.
        output: the kernel that hands a feature map to the outside; '' where this costs nothing.
        block: channels of one block of the runtime's own layout, 0 where it has none. A pool over
            a partial block leaves that layout and comes back to it.
        apart: activations that run as kernels of their own, all others in the kernel before them.
    """

    add: bool = True
    output: str = ""
    block: int = 0
    apart: tuple[str, ...] = ()


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
        activation = (add or layer).activation
        apart = activation is not None and activation in fusion.apart
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
            activation is not None and not apart,
        )
        kernels.append((i, kernel))
        if activation is not None and apart:
            out, size = layer.out_channels, layer.out_size
            kernels.append((i, Kernel(activation, graph.batch, out, size, out, size)))
        if fusion.block and op in POOLS:
            kernels += [(i, change) for change in _layout_changes(graph, kernel, layer, fusion)]
    return [(i, kernel) for i, kernel in kernels if _runs(kernel)]


def _layout_changes(graph: Graph, pool: Kernel, layer: Layer, fusion: Fusion) -> Iterator[Kernel]:
    """Yield what takes a pool's input out of the blocked layout and its result back into it.

    A feature map that is handed out was taken out of the layout already.
    """
    (source,) = layer.inputs
    handed_out = (
        layer.stage > 2
        if source == INPUT
        else any(other.op == "output" and other.inputs == (source,) for other in graph.layers)
    )
    change = Kernel(
        fusion.output,
        pool.batch,
        pool.in_channels,
        pool.in_size,
        pool.in_channels,
        pool.in_size,
        unless_multiple=fusion.block,
    )
    if not handed_out:
        yield change
    yield change._replace(op="reorder_input", in_size=pool.out_size, out_size=pool.out_size)


def _runs(kernel: Kernel) -> bool:
    """Whether a kernel of known channels runs; one whose channels are arrays may."""
    if not kernel.unless_multiple or not isinstance(kernel.in_channels, int):
        return True
    return kernel.in_channels % kernel.unless_multiple != 0

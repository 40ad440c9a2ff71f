"""Kernels: what a runtime executes after it has fused the layers of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..architecture.graph import Channels, Size


class Kernel(NamedTuple):
    """One kernel. Channels may be arrays that broadcast, as in the graph it comes from.

    `op` is `conv`, `matmul`, a name of `lowering.operators`, a change of layout, or what ONNX calls
    an operator that hwnas knows nothing about. Changes of layout are `reorder_input` (into the
    blocked layout), `reorder_plain` (out of it) and `reorder_output` (out of it and handed to the
    outside). `fused_add` says that a residual addition happens inside, `activation` that the result
    is activated. A kernel with `unless_multiple` runs only where the channels are no multiple of
    it. `plain` marks a convolution outside the blocked layout of a runtime that has one.

    Operators other than convolutions and pools are described by what moves: of an elementwise one
    `in_channels` counts all operands of the result's size; `softmax` and `layer_norm` normalise
    rows of `in_channels` values; `matmul` multiplies rows of `in_channels / groups` values; a
    `transpose` moves blocks (`in_channels`) of values that stay together (`in_size`).
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
    plain: bool = False


@dataclass(frozen=True)
class Fusion:
    """What a device's runtime fuses.

    Attributes:
        add: an addition runs inside the convolution that produces one of its operands.
        output: the kernel that hands a feature map to the outside; '' where this costs nothing.
        input: the kernel that takes the image in; '' where this costs nothing.
        block: channels of one block of the runtime's own layout, 0 where it has none. A pool over
            a partial block leaves that layout and comes back to it.
        rules: the runtime's rules, a name of `lowering/fusions`.
    """

    add: bool = True
    output: str = ""
    input: str = ""
    block: int = 0
    rules: str = "common"

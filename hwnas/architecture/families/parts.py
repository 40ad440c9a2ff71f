"""What blocks of several families are made of: shortcuts and squeeze-and-excitation."""

from __future__ import annotations

import numpy as np

from ..builder import GraphBuilder, Tensor
from .base import BlockOptions

ACTIVATIONS = ("relu", "relu6", "silu", "hard_swish")
"""In the plain network of the entropy each of them is a ReLU."""

GATES = ("sigmoid", "hard_sigmoid")

SHORTCUTS = ("pool", "conv")


def shortcut(b: GraphBuilder, x: Tensor, options: BlockOptions) -> Tensor:
    """Return what is added to a residual block's result: `x`, projected in a row's first block.

    `pool` is MAE-DET's (2x2 average pool where the stride is 2, then a 1x1 convolution, also where
    in equals out), `conv` is ResNet's (a 1x1 convolution with the stride).
    """
    if not options.first:
        return x
    if options.shortcut == "conv":
        return b.conv(x, options.out, stride=options.stride, main=False)
    if options.stride > 1:
        x = b.pool(x, "avg_pool", options.stride, options.stride)
    return b.conv(x, options.out, main=False)


def squeeze_excite(b: GraphBuilder, x: Tensor, gate: str) -> Tensor:
    """Return `x` with each channel weighted by what all positions say of it; `x` without a gate.

    Squeeze-and-excitation (https://arxiv.org/abs/1709.01507) as MobileNetV3 has it: a global
    average pool, a 1x1 convolution with bias to a quarter of the channels (rounded up to a multiple
    of 8, and at least 16, a block of channels of most runtimes), ReLU, and one back, whose
    `sigmoid` or `hard_sigmoid` multiplies `x`. It is not on the main path: the plain network of the
    entropy has none.
    """
    if not gate:
        return x
    quarter = -(-x.channels // 32) * 8
    squeezed = max(quarter, 16) if isinstance(quarter, int) else np.maximum(quarter, 16)
    y = b.global_pool(x)
    y = b.conv(y, squeezed, activation="relu", main=False, norm=False)
    y = b.conv(y, x.channels, activation=gate, main=False, norm=False)
    return b.mul(x, y)

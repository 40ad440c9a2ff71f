"""The residual bottleneck of ResNet-50 and of MAE-DET: 1x1, kxk, 1x1."""

from __future__ import annotations

from ..builder import GraphBuilder, Tensor
from .base import BlockOptions, Family
from .parts import shortcut, squeeze_excite


class Bottleneck(Family):
    """1x1 to `mid` channels, kxk, 1x1 to `out`, each with BN and an activation; residual addition.

    With groups the kxk is that of ResNeXt (https://arxiv.org/abs/1611.05431).
    """

    name = "bottleneck"

    def block(self, b: GraphBuilder, x: Tensor, options: BlockOptions) -> Tensor:
        """Add one block; see `Family.block`."""
        mid, activation = options.inner, options.activation
        groups = options.groups or mid
        y = b.conv(x, mid, activation=activation)
        y = b.conv(
            y, mid, options.kernel, stride=options.stride, groups=groups, activation=activation
        )
        y = squeeze_excite(b, b.conv(y, options.out), options.se)
        return b.add(y, shortcut(b, x, options), activation)

"""The residual block of ResNet-18 and ResNet-34: kxk, kxk (https://arxiv.org/abs/1512.03385)."""

from __future__ import annotations

from ...errors import UsageError
from ..builder import GraphBuilder, Tensor
from .base import BlockOptions, Family
from .parts import shortcut, squeeze_excite


class Basic(Family):
    """kxk to `mid` channels with the stride, kxk to `out`; residual addition."""

    name = "basic"

    def block(self, b: GraphBuilder, x: Tensor, options: BlockOptions) -> Tensor:
        """Add one block; see `Family.block`."""
        kernel, groups, activation = options.kernel, options.groups, options.activation
        if not groups:
            raise UsageError("basic: its kxk convolutions mix channels and cannot be depthwise.")
        y = b.conv(
            x, options.inner, kernel, stride=options.stride, groups=groups, activation=activation
        )
        y = b.conv(y, options.out, kernel, groups=groups)
        y = squeeze_excite(b, y, options.se)
        return b.add(y, shortcut(b, x, options), activation)

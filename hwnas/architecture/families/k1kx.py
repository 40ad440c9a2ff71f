"""A residual block of two convolutions: 1x1, kxk (https://arxiv.org/abs/2102.01063, K1KX)."""

from __future__ import annotations

from ...errors import UsageError
from ..builder import GraphBuilder, Tensor
from .base import BlockOptions, Family
from .parts import shortcut, squeeze_excite


class K1KX(Family):
    """1x1 to `mid` channels, kxk to `out` with the stride; residual addition."""

    name = "k1kx"

    def block(self, b: GraphBuilder, x: Tensor, options: BlockOptions) -> Tensor:
        """Add one block; see `Family.block`."""
        if not options.groups:
            raise UsageError("k1kx: its kxk convolution mixes channels and cannot be depthwise.")
        y = b.conv(x, options.inner, activation=options.activation)
        y = b.conv(y, options.out, options.kernel, stride=options.stride, groups=options.groups)
        y = squeeze_excite(b, y, options.se)
        return b.add(y, shortcut(b, x, options), options.activation)

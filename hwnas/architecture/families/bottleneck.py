"""The residual bottleneck of ResNet-50 and of MAE-DET: 1x1, kxk, 1x1."""

from __future__ import annotations

from ..graph import Channels, GraphBuilder, Tensor


class Bottleneck:
    """1x1 to `mid` channels, kxk, 1x1 to `out`, each with BN and an activation; residual addition.

    The shortcut of a row's first block is projected: `pool` is MAE-DET's (2x2 average pool where
    the stride is 2, then a 1x1 convolution, also where in equals out), `conv` is ResNet's (a 1x1
    convolution with the stride).
    """

    name = "bottleneck"
    inner = "mid"
    activation = "relu"
    ends_in_activation = True
    flops_rule = "maedet"

    def block(
        self,
        b: GraphBuilder,
        x: Tensor,
        *,
        out: Channels,
        inner: Channels,
        kernel: int,
        stride: int,
        first: bool,
        activation: str,
        shortcut: str,
    ) -> Tensor:
        """Add one block; see `Family.block`."""
        y = b.conv(x, inner, activation=activation)
        y = b.conv(y, inner, kernel, stride=stride, activation=activation)
        y = b.conv(y, out)
        return b.add(y, self._shortcut(b, x, out, stride, shortcut) if first else x, activation)

    @staticmethod
    def _shortcut(b: GraphBuilder, x: Tensor, out: Channels, stride: int, kind: str) -> Tensor:
        if kind == "conv":
            return b.conv(x, out, stride=stride, main=False)
        if stride > 1:
            x = b.pool(x, "avg_pool", stride, stride)
        return b.conv(x, out, main=False)

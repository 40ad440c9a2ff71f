"""The inverted residual of MobileNetV2: 1x1 expansion, kxk depthwise, linear 1x1 projection."""

from __future__ import annotations

import numpy as np

from ..graph import Channels, GraphBuilder, Tensor


class Mobile:
    """1x1 to `expansion` times the channels, depthwise kxk, linear 1x1; residual within a row.

    An expansion of 1 has no expanding convolution, as in MobileNetV2. The first block of a row
    has no residual connection.
    """

    name = "mobile"
    inner = "expansion"
    activation = "relu6"
    ends_in_activation = False
    flops_rule = "mobilenetv2"

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
        hidden = x.channels * inner
        y = x if np.all(inner == 1) else b.conv(x, hidden, activation=activation)
        y = b.conv(y, hidden, kernel, stride=stride, groups=hidden, activation=activation)
        y = b.conv(y, out)
        return y if first else b.add(y, x)

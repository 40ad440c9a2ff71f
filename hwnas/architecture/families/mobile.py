"""The inverted residual of MobileNetV2: 1x1 expansion, kxk depthwise, linear 1x1 projection."""

from __future__ import annotations

import numpy as np

from ...errors import UsageError
from ..builder import GraphBuilder, Tensor
from .base import BlockOptions, Family
from .parts import squeeze_excite


class Mobile(Family):
    """1x1 to `expansion` times the channels, depthwise kxk, linear 1x1; residual within a row.

    An expansion of 1 has no expanding convolution, as in MobileNetV2. The first block of a row
    has no residual connection. Squeeze-and-excitation is behind the depthwise convolution, as in
    MobileNetV3 (https://arxiv.org/abs/1905.02244).
    """

    name = "mobile"
    inner = "expansion"
    activation = "relu6"
    flops_rule = "mobilenetv2"

    def block(self, b: GraphBuilder, x: Tensor, options: BlockOptions) -> Tensor:
        """Add one block; see `Family.block`."""
        if options.groups > 1:
            raise UsageError("mobile: its kxk convolution is depthwise; leave 'groups' out.")
        activation, hidden = options.activation, x.channels * options.inner
        y = x if np.all(options.inner == 1) else b.conv(x, hidden, activation=activation)
        y = b.conv(
            y, hidden, options.kernel, stride=options.stride, groups=hidden, activation=activation
        )
        y = b.conv(squeeze_excite(b, y, options.se), options.out)
        return y if options.first else b.add(y, x)

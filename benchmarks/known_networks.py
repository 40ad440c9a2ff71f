"""Networks that others have measured, as graphs of layers: with classifiers, as they were timed.

MobileNetV1: https://arxiv.org/abs/1704.04861, Table 1. MobileNetV3: https://arxiv.org/abs/1905.02244,
Tables 1 and 2. FBNet: https://arxiv.org/abs/1812.03443, Table 1. ResNet: the stride is in the 3x3
convolution. MobileNetV2 and ResNet-50 come from the zoo.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.architecture import Graph, GraphBuilder, Layer, Tensor, lower, zoo
from hwnas.architecture.graph import Size

IMAGENET = (224, 224)

# Kernel, expanded channels, channels out, squeeze-and-excitation, hard-swish, stride.
MOBILENETV3_LARGE = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
MOBILENETV3_SMALL = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)

# Channels out over the 3x3 convolution's, and blocks of each stage (arXiv 1512.03385, Table 1).
RESNETS = {
    18: (1, (2, 2, 2, 2)),
    34: (1, (3, 4, 6, 3)),
    50: (4, (3, 4, 6, 3)),
    101: (4, (3, 4, 23, 3)),
    152: (4, (3, 8, 36, 3)),
}

# Kernel, expansion, groups of the 1x1 convolutions; the ninth choice skips the block.
FBNET_CHOICES = tuple(
    (kernel, expansion, groups)
    for kernel in (3, 5)
    for expansion, groups in ((1, 1), (1, 2), (3, 1), (6, 1))
)
# Channels, blocks, stride of the CIFAR-100 form.
FBNET_STAGES = (
    (16, 1, 1),
    (24, 4, 1),
    (32, 4, 2),
    (64, 4, 2),
    (112, 4, 1),
    (184, 4, 2),
    (352, 1, 1),
)


def mobilenetv1(size: Size = IMAGENET) -> Graph:
    """Return MobileNetV1, width 1.0."""
    b = GraphBuilder(3, size)
    x = b.conv(b.input, 32, 3, stride=2, activation="relu6")
    strided = {128: 2, 256: 2, 512: 2, 1024: 2}
    for out in (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024):
        stride = strided.pop(out, 1)
        x = b.conv(x, x.channels, 3, stride=stride, groups=x.channels, activation="relu6")
        x = b.conv(x, out, activation="relu6")
    return _classifier(b, x, 1000)


def mobilenetv2(width: str = "1.0", size: Size = IMAGENET) -> Graph:
    """Return MobileNetV2 of the zoo with its classifier."""
    return _with_classifier(lower(zoo.get(f"mobilenetv2-{width}"), size))


def resnet50(size: Size = IMAGENET) -> Graph:
    """Return ResNet-50 of the zoo with its classifier."""
    return _with_classifier(lower(zoo.get("resnet50"), size))


def resnet(depth: int, size: Size = IMAGENET) -> Graph:
    """Return a ResNet of RESNETS with its classifier."""
    wide, blocks = RESNETS[depth]
    b = GraphBuilder(3, size)
    x = b.pool(b.conv(b.input, 64, 7, stride=2, activation="relu"), "max_pool", 3, 2)
    for width, count in zip((64, 128, 256, 512), blocks, strict=True):
        for i in range(count):
            stride = 2 if i == 0 and width > 64 else 1
            if wide == 1:
                y = b.conv(x, width, 3, stride=stride, activation="relu")
                y = b.conv(y, width, 3)
            else:
                y = b.conv(x, width, activation="relu")
                y = b.conv(y, width, 3, stride=stride, activation="relu")
                y = b.conv(y, wide * width)
            if stride > 1 or x.channels != y.channels:
                x = b.conv(x, y.channels, stride=stride, main=False)
            x = b.add(y, x, "relu")
    return _classifier(b, x, 1000)


def mobilenetv3(large: bool, size: Size = IMAGENET) -> Graph:
    """Return MobileNetV3-Large or -Small, width 1.0."""
    b = GraphBuilder(3, size)
    x = b.conv(b.input, 16, 3, stride=2, activation="hardswish")
    for kernel, hidden, out, squeeze, swish, stride in (
        MOBILENETV3_LARGE if large else MOBILENETV3_SMALL
    ):
        activation = "hardswish" if swish else "relu"
        y = b.conv(x, hidden, activation=activation) if hidden != x.channels else x
        y = b.conv(y, hidden, kernel, stride=stride, groups=hidden, activation=activation)
        if squeeze:
            y = _squeeze_excitation(b, y, _divisible(hidden // 4))
        y = b.conv(y, out)
        x = b.add(y, x) if stride == 1 and out == x.channels else y
    x = b.conv(x, 960 if large else 576, activation="hardswish")
    x = b.pool(x, "avg_pool", x.size[0], x.size[0])
    x = b.conv(x, 1280 if large else 1024, activation="hardswish")
    b.conv(x, 1000)
    return b.build()


def fbnet(choices: Sequence[int], size: Size = (32, 32), classes: int = 100) -> Graph:
    """Return the FBNet of 22 choices, 0 to 8, in its CIFAR-100 form."""
    b = GraphBuilder(3, size)
    x = b.conv(b.input, 16, 3, activation="relu")
    draws = iter(choices)
    for out, blocks, first_stride in FBNET_STAGES:
        for i in range(blocks):
            choice, stride = next(draws), first_stride if i == 0 else 1
            residual = stride == 1 and out == x.channels
            if choice == len(FBNET_CHOICES):  # a skip is free where nothing changes
                x = x if residual else b.conv(x, out, stride=stride, activation="relu")
                continue
            kernel, expansion, groups = FBNET_CHOICES[choice]
            hidden = expansion * int(x.channels)
            y = b.conv(x, hidden, groups=groups, activation="relu")
            if groups > 1:
                y = _elementwise(b, "ChannelShuffle", y)
            y = b.conv(y, hidden, kernel, stride=stride, groups=hidden, activation="relu")
            y = b.conv(y, out, groups=groups)
            x = b.add(y, x) if residual else y
    return _classifier(b, b.conv(x, 1504, activation="relu"), classes)


def _divisible(channels: int) -> int:
    """Round channels to a multiple of 8, never down by more than a tenth (MobileNet's rule)."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _squeeze_excitation(b: GraphBuilder, x: Tensor, squeezed: int) -> Tensor:
    y = b.pool(x, "avg_pool", x.size[0], x.size[0])
    y = b.conv(y, squeezed, activation="relu")
    y = b.conv(y, x.channels, activation="hardsigmoid")
    return _elementwise(b, "Mul", x, y)


def _elementwise(b: GraphBuilder, op: str, x: Tensor, *others: Tensor) -> Tensor:
    inputs = (x.layer, *(y.layer for y in others))
    b.layers.append(Layer(op, inputs, x.channels, x.channels, x.size, x.size, stage=b.stage))
    return Tensor(len(b.layers) - 1, x.channels, x.size)


def _with_classifier(graph: Graph, classes: int = 1000) -> Graph:
    b = GraphBuilder(graph.channels, graph.size)
    b.layers = list(graph.layers)
    last = graph.outputs()[5]
    return _classifier(b, Tensor(b.layers.index(last), last.out_channels, last.out_size), classes)


def _classifier(b: GraphBuilder, x: Tensor, classes: int) -> Graph:
    x = b.pool(x, "avg_pool", x.size[0], x.size[0])
    b.conv(x, classes)
    return b.build()

"""What detectors are made of: plain convolutions, towers, the feature pyramid, region proposals."""

from __future__ import annotations

from ..builder import GraphBuilder, Tensor

GROUPS = 32
"""Groups of a group normalisation."""

Maps = dict[int, Tensor]
"""Feature maps by level; level s has 1 / 2^s of the image's resolution."""


def conv(
    b: GraphBuilder,
    x: Tensor,
    channels: int,
    kernel: int,
    activation: str | None = None,
    *,
    stride: int = 1,
    grouped: bool = False,
) -> Tensor:
    """Add a convolution with bias, or one with a group normalisation."""
    if not grouped:
        return b.conv(
            x, channels, kernel, stride=stride, activation=activation, main=False, norm=False
        )
    y = b.conv(x, channels, kernel, stride=stride, main=False, norm=False, bias=False)
    return b.group_norm(y, GROUPS, activation)


def tower(b: GraphBuilder, x: Tensor, width: int, depth: int, *, grouped: bool) -> Tensor:
    """Add `depth` 3x3 convolutions with ReLU."""
    for _ in range(depth):
        x = conv(b, x, width, 3, "relu", grouped=grouped)
    return x


def pyramid(
    b: GraphBuilder,
    maps: Maps,
    width: int,
    *,
    extra: str = "output",
    grouped: bool = False,
    relu: bool = False,
) -> Maps:
    """Add a feature pyramid (FPN, https://arxiv.org/abs/1612.03144) and return its levels.

    Args:
        b: the builder.
        maps: feature maps of a backbone.
        width: channels of all levels.
        extra: further levels: two by 3x3 convolutions of stride 2, from the deepest `output` of the
            pyramid or from its `input`, or one by a `pool`.
        grouped: convolutions have a group normalisation in place of a bias.
        relu: a ReLU before the second of the further convolutions.
    """
    b.part = "neck"
    lateral: Maps = {}
    for b.stage, x in maps.items():
        lateral[b.stage] = conv(b, x, width, 1, grouped=grouped)
    for b.stage in sorted(maps)[-2::-1]:
        finer = lateral[b.stage]
        lateral[b.stage] = b.add(finer, b.resize(lateral[b.stage + 1], finer))
    levels: Maps = {}
    for b.stage, x in lateral.items():
        levels[b.stage] = conv(b, x, width, 3, grouped=grouped)
    b.stage = top = max(maps) + 1
    if extra == "pool":
        levels[top] = b.pool(levels[top - 1], "max_pool", 1, 2)
        return levels
    source = maps[top - 1] if extra == "input" else levels[top - 1]
    levels[top] = x = conv(b, source, width, 3, stride=2, grouped=grouped)
    b.stage = top + 1
    levels[top + 1] = conv(b, b.unary(x, "relu") if relu else x, width, 3, stride=2)
    return levels


def proposals(b: GraphBuilder, levels: Maps, width: int, anchors: int = 3) -> None:
    """Add the region proposal network of Faster R-CNN (https://arxiv.org/abs/1506.01497)."""
    b.part = "rpn"

    def head(x: Tensor) -> None:
        y = conv(b, x, width, 3, "relu")
        b.output(conv(b, y, anchors, 1), "objectness")
        b.output(conv(b, y, 4 * anchors, 1), "proposals")

    b.repeat(levels, head)

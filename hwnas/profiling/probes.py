"""Random small networks outside the search spaces, so that a profile knows their kernels, too.

Each probe is a stem, a few stages of one or two kinds of block, and a head: squeeze-and-excitation
with any activation, grouped convolutions, channel shuffles, dense 3x3, transformers, feature
pyramids, large stems, fully connected layers. Sizes are random, round and odd ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from ..architecture.builder import GraphBuilder, Tensor
from ..architecture.graph import Graph
from ..costs import flops

SIZES = (96, 128, 160, 192, 224, 224, 256, 320)
FLOPS = (1e7, 1.2e9)
ACTIVATIONS = ("relu", "relu6", "hard_swish", "silu")

Rng: TypeAlias = np.random.Generator
Block: TypeAlias = Callable[[GraphBuilder, Tensor, int, int, Rng], Tensor]


def probes(rng: Rng, *, most_flops: float = FLOPS[1]) -> Iterator[tuple[str, Graph]]:
    """Yield named networks without end, one of each of `KINDS` in turn."""
    number = 0
    while True:
        kind = KINDS[number % len(KINDS)]
        graph = probe(kind, rng)
        if FLOPS[0] <= flops(graph) + _products(graph) <= most_flops:
            yield f"probe-{kind}-{number}", graph
            number += 1


def probe(kind: str, rng: Rng) -> Graph:
    """Return a random network of one of `KINDS`."""
    side = int(rng.choice(SIZES))
    size = (side, side if rng.random() < 0.8 else int(rng.choice(SIZES)))
    b = GraphBuilder(3, size)
    if kind == "transformer":
        _transformer(b, rng)
    elif kind == "pyramid":
        _pyramid(b, rng)
    elif kind == "head":
        x = _stem(b, rng)
        for _ in range(int(rng.integers(2, 4))):
            x = BLOCKS["inverted"](b, x, _width(rng, x.size), 2, rng)
        _classifier(b, x, rng)
    else:
        _staged(b, kind, rng)
    return b.build()


def _staged(b: GraphBuilder, kind: str, rng: Rng) -> None:
    """Stages of one kind of block, each half as large as the one before it."""
    x = _stem(b, rng)
    for _ in range(int(rng.integers(1, 5))):
        if min(x.size) < 7:
            break
        width = _width(rng, x.size)
        for i in range(int(rng.integers(1, 4))):
            stride = 2 if i == 0 and (rng.random() < 0.8 or x.size[0] > 56) else 1
            x = BLOCKS[kind](b, x, width, stride, rng)
    if rng.random() < 0.5:
        _classifier(b, x, rng)
    else:
        b.output(x)


def _stem(b: GraphBuilder, rng: Rng) -> Tensor:
    width = int(rng.choice((16, 24, 32, 32, 48, 64)))
    if rng.random() < 0.3:
        x = b.conv(b.input, width, 7, stride=2, activation="relu")
        return b.pool(x, "max_pool", 3, 2)
    return b.conv(b.input, width, 3, stride=2, activation=str(rng.choice(ACTIVATIONS)))


def _width(rng: Rng, size: tuple[int, int]) -> int:
    """Return a number of channels: more where the map is small, mostly round."""
    typical = min(1024.0, 3000 / max(size))
    width = typical * float(np.exp(rng.uniform(-0.8, 1.0)))
    step = int(rng.choice((4, 8, 8, 8, 16, 32)))
    return max(16, round(width / step) * step)


def _classifier(b: GraphBuilder, x: Tensor, rng: Rng) -> None:
    pool = "global_avg_pool" if rng.random() < 0.3 else "reduce"
    if rng.random() < 0.5:
        activation = str(rng.choice(ACTIVATIONS))
        x = b.conv(x, 4 * _width(rng, x.size), activation=activation)
    x = b.global_pool(x, pool)
    if rng.random() < 0.5:
        x = b.linear(x, int(rng.choice((256, 512, 1024, 1280))), "gemm")
        x = b.unary(x, str(rng.choice(("relu", "hard_swish"))))
    b.output(b.linear(x, int(rng.choice((10, 100, 1000, 1000))), "gemm"))


def _excite(b: GraphBuilder, x: Tensor, squeezed: int, rng: Rng) -> Tensor:
    """Squeeze-and-excitation (https://arxiv.org/abs/1709.01507)."""
    gate = b.global_pool(x, "global_avg_pool" if rng.random() < 0.3 else "reduce")
    gate = b.conv(gate, squeezed, activation=str(rng.choice(("relu", "relu", "silu"))), main=False)
    gate = b.conv(
        gate, x.channels, activation=str(rng.choice(("sigmoid", "hard_sigmoid"))), main=False
    )
    return b.mul(x, gate)


def _inverted(b: GraphBuilder, x: Tensor, width: int, stride: int, rng: Rng) -> Tensor:
    activation = str(rng.choice(ACTIVATIONS))
    inner = max(8, int(x.channels * float(rng.choice((1, 2.5, 3, 4, 6)))) // 8 * 8)
    y = b.conv(x, inner, activation=activation)
    kernel = int(rng.choice((3, 3, 5, 7)))
    y = b.conv(y, inner, kernel, stride=stride, groups=inner, activation=activation)
    if rng.random() < 0.7:
        narrow = int(x.channels) // 4
        squeezed = int(rng.choice((inner // 4, narrow, narrow // 8 * 8)))
        y = _excite(b, y, max(4, squeezed), rng)
    y = b.conv(y, width)
    return b.add(x, y) if stride == 1 and x.channels == width else y


def _grouped(b: GraphBuilder, x: Tensor, width: int, stride: int, rng: Rng) -> Tensor:
    """A bottleneck with grouped 3x3 convolutions, as RegNet has it."""
    each = int(rng.choice((8, 12, 16, 16, 24, 32, 48)))
    groups = max(2, round(width / each))
    inner = groups * each
    y = b.conv(x, inner, activation="relu")
    y = b.conv(y, inner, 3, stride=stride, groups=groups, activation="relu")
    if rng.random() < 0.4:
        y = _excite(b, y, max(4, int(x.channels) // 4), rng)
    return _residual(b, x, b.conv(y, width), stride)


def _basic(b: GraphBuilder, x: Tensor, width: int, stride: int, rng: Rng) -> Tensor:
    width = max(16, 2 * width // 3 // 8 * 8)
    activation = str(rng.choice(("relu", "relu", "silu")))
    y = b.conv(x, width, 3, stride=stride, activation=activation)
    return _residual(b, x, b.conv(y, width, 3), stride, activation)


def _bottleneck(b: GraphBuilder, x: Tensor, width: int, stride: int, rng: Rng) -> Tensor:
    inner = max(16, width // 4)
    y = b.conv(x, inner, activation="relu")
    y = b.conv(y, inner, int(rng.choice((3, 5))), stride=stride, activation="relu")
    return _residual(b, x, b.conv(y, width), stride)


def _residual(
    b: GraphBuilder, x: Tensor, y: Tensor, stride: int, activation: str = "relu"
) -> Tensor:
    if stride > 1 or x.channels != y.channels:
        x = b.conv(x, y.channels, stride=stride, main=False)
    return b.add(y, x, activation)


def _shuffled(b: GraphBuilder, x: Tensor, width: int, stride: int, rng: Rng) -> Tensor:
    """A block of ShuffleNetV2: half of the channels pass by, then all are shuffled."""
    half = max(8, width // 2 + int(rng.choice((0, 0, 2))))
    if stride == 1 and x.channels % 2 == 0:
        kept, x = b.split(x, 2)
        half = int(kept.channels)
    else:
        kept = b.conv(x, x.channels, 3, stride=stride, groups=x.channels)
        kept = b.conv(kept, half, activation="relu")
    y = b.conv(x, half, activation="relu")
    y = b.conv(y, half, 3, stride=stride, groups=half)
    y = b.conv(y, half, activation="relu")
    return b.shuffle(b.concat([kept, y]), 2)


def _branched(b: GraphBuilder, x: Tensor, width: int, stride: int, rng: Rng) -> Tensor:
    """Branches of several kernels whose maps are concatenated, as Inception and DenseNet do."""
    each = max(16, width // 3 // 8 * 8)
    branches = [b.conv(x, each, kernel, activation="relu") for kernel in (1, 3)]
    if rng.random() < 0.5:
        branches.append(b.conv(b.pool(x, "max_pool", 3, 1), each, activation="relu"))
    y = b.concat(branches)
    if stride == 1:
        return y
    return b.pool(y, "max_pool", 3, 2) if rng.random() < 0.5 else b.pool(y, "avg_pool", 2, 2)


BLOCKS: dict[str, Block] = {
    "inverted": _inverted,
    "grouped": _grouped,
    "basic": _basic,
    "shuffled": _shuffled,
    "bottleneck": _bottleneck,
    "branched": _branched,
}

KINDS = (
    *("transformer", "grouped", "shuffled", "pyramid", "inverted"),
    *("head", "branched", "basic", "bottleneck"),
)
"""Kinds of probes: BLOCKS and three more. The first five run every class of kernel between them."""


def _pyramid(b: GraphBuilder, rng: Rng) -> None:
    """A feature pyramid (https://arxiv.org/abs/1612.03144) with heads of dense convolutions."""
    x = _stem(b, rng)
    levels = []
    for _ in range(3):
        x = _bottleneck(b, x, _width(rng, x.size), 2, rng)
        levels.append(x)
    width = int(rng.choice((64, 96, 128, 256)))
    lateral = [b.conv(level, width) for level in levels]
    top = lateral[-1]
    merge = rng.random() < 0.7
    maps = [top]
    for side in lateral[-2::-1]:
        up = b.upsample(top, 2)
        if up.size != side.size:
            break
        top = b.add(side, up) if merge else b.conv(b.concat([side, up]), width, activation="relu")
        maps.append(top)
    classes = int(rng.choice((36, 80, 180, 720, 819)))
    for b.stage, level in enumerate(maps, 1):
        y = b.conv(level, width, 3)
        for _ in range(int(rng.integers(0, 3))):
            y = b.conv(y, width, 3, activation="relu")
        b.output(b.conv(y, classes, 3))


def _transformer(b: GraphBuilder, rng: Rng) -> None:
    """Patches, attention and wide layers, as a ViT has them; every second GELU in its own steps."""
    side = int(rng.choice((8, 16, 16, 32)))
    width = int(rng.choice((64, 96, 128, 192, 192, 256, 384)))
    heads = max(2, width // int(rng.choice((32, 64)))) if width % 64 == 0 else width // 32
    x = b.conv(b.input, width, side, stride=side, padded=False)
    if x.size[0] * x.size[1] > 400:
        x = b.pool(x, "avg_pool", 2, 2)
    x = b.tokens(x)
    whole = rng.random() < 0.5
    for _ in range(int(rng.integers(1, 4))):
        x = b.add(x, b.attention(b.layer_norm(x), heads))
        y = b.linear(b.layer_norm(x), int(width * float(rng.choice((2, 3, 4)))))
        if whole:
            y = b.unary(y, "gelu")
        else:
            erf = b.unary(b.unary(y, "scale"), "erf")
            y = b.mul(y, b.unary(b.unary(erf, "shift"), "scale"))
        x = b.add(x, b.linear(y, width))
    b.output(b.layer_norm(x))


def _products(graph: Graph) -> float:
    """Multiply-adds of the products of two feature maps, which the cost `flops` leaves out."""
    return float(
        sum(
            layer.in_channels // layer.groups * layer.out_channels * layer.out_size[0]
            for layer in graph.layers
            if layer.op == "matmul"
        )
    )

"""Public measurements on the Pixel 2's chip and its predecessor, read as kernels with seconds."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import known_networks
import numpy as np
from numpy.typing import NDArray

from hwnas.architecture import Graph
from hwnas.latency.columns import Columns, from_kernels
from hwnas.lowering.fusing import fuse
from hwnas.lowering.kernels import Fusion, Kernel

MODELS: dict[str, tuple[Graph, tuple[str, ...]]] = {
    "MobileNetV1": (known_networks.mobilenetv1(), ("MobileNetV1_1.0_224", "MobileNetV1")),
    "MobileNetV2": (known_networks.mobilenetv2(), ("MobileNetV2_1.0_224", "MobileNetV2")),
    "MobileNetV3-Large": (
        known_networks.mobilenetv3(large=True),
        ("MobileNetV3_Large_224", "MobileNetV3_large_x1_0", "MobileNetV3_Large_1.0_224"),
    ),
    "MobileNetV3-Small": (
        known_networks.mobilenetv3(large=False),
        ("MobileNetV3_Small_224", "MobileNetV3_small_x1_0", "MobileNetV3_Small_1.0_224"),
    ),
    "ResNet-50": (known_networks.resnet50(), ("ResNet50",)),
}
"""Graphs of the networks whose times are published, and what the tables call them."""

FITTED = ("XNNPACK", "Paddle-Lite")
"""Runtimes whose whole-network times give the scale; they agree within a few per cent."""


@dataclass(frozen=True)
class Source:
    """Measured sums of kernels: `rows` gives for each kernel the measurement it is part of."""

    columns: Columns
    rows: NDArray[np.int64]
    seconds: NDArray[np.float64]

    @classmethod
    def of(cls, parts: Sequence[tuple[Sequence[Kernel], float]]) -> Source:
        """Return the source of measurements, each some kernels and their seconds together."""
        rows = np.repeat(np.arange(len(parts)), [len(kernels) for kernels, _ in parts])
        columns = from_kernels([kernel for kernels, _ in parts for kernel in kernels])
        return cls(columns, rows, np.array([seconds for _, seconds in parts]))


@dataclass(frozen=True)
class Published:
    """A published time of a whole network on one big core."""

    model: str
    device: str
    runtime: str
    latency_ms: float
    source: str


def published(path: Path) -> list[Published]:
    """Read the rows of the known models on a Pixel 2 or its chip, FP32, one thread."""
    names = {name: model for model, (_, known) in MODELS.items() for name in known}
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Published(
                names[row["model"]], row["device"], row["runtime"], float(row["ms"]), row["source"]
            )
            for row in csv.DictReader(file)
            if row["device"] in ("Pixel2", "SD835")
            and (row["threads"], row["batch"], row["precision"]) == ("1", "1", "fp32")
            and row["model"] in names
        ]


def tvm(path: Path) -> Source:
    """Read the convolutions that TVM compiled for all big cores of a Snapdragon 835.

    Dense 3x3 of stride 1 are left out: many run faster than the cores can multiply, because TVM
    chose Winograd's algorithm, which XNNPACK does not have.
    """
    parts = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            batch, channels, height, width = map(int, row["data"].split("x"))
            out, _, kernel_h, kernel_w = map(int, row["weight"].split("x"))
            strides, pads = json.loads(row["stride"]), json.loads(row["pad"])
            depthwise = "depthwise" in row["task"]
            if not depthwise and (kernel_h, kernel_w, strides[0]) == (3, 3, 1):
                continue
            size = (
                (height + 2 * pads[0] - kernel_h) // strides[0] + 1,
                (width + 2 * pads[1] - kernel_w) // strides[1] + 1,
            )
            kernel = Kernel(
                "conv",
                batch,
                channels,
                (height, width),
                channels if depthwise else out,
                size,
                (kernel_h, kernel_w),
                (strides[0], strides[1]),
                channels if depthwise else 1,
            )
            parts.append(([kernel], float(row["ms"]) / 1e3))
    return Source.of(parts)


def proxyless(path: Path) -> Source:
    """Read ProxylessNAS' table of inverted residuals on a Pixel 1 (TFLite)."""
    pattern = re.compile(
        r"expanded_conv-input:(\d+)x\d+x(\d+)-output:\d+x\d+x(\d+)-expand:(\d)-kernel:(\d)"
        r"-stride:(\d)-idskip:(\d):\s+count: \d+\s+mean: ([\d.]+)"
    )
    parts = []
    for *numbers, ms in pattern.findall(path.read_text(encoding="utf-8")):
        side, into, out, expansion, kernel, stride, skip = map(int, numbers)
        block = _inverted_residual(side, into, out, expansion, kernel, stride, bool(skip))
        parts.append((block, float(ms) / 1e3))
    return Source.of(parts)


def single_path(path: Path) -> Source:
    """Read Single-Path NAS' 22 positions of inverted residuals on a Pixel 1 (TFLite).

    Choices 0 to 3 are kernel 3 and 5, each with expansion 3 and 6. The first position has none: one
    block of expansion 1, whose 3x3 is taken.
    """
    table = json.loads(path.read_text(encoding="utf-8"))
    parts = [(_inverted_residual(112, 32, 16, 1, 3, 1, False), table["0"]["0"] / 1e3)]
    for position, (side, into, out, stride) in enumerate(_single_path_positions(), 1):
        for choice, (kernel, expansion) in enumerate(((3, 3), (3, 6), (5, 3), (5, 6))):
            skip = stride == 1 and into == out
            block = _inverted_residual(side, into, out, expansion, kernel, stride, skip)
            parts.append((block, table[str(position)][str(choice)] / 1e3))
    return Source.of(parts)


def fbnet(path: Path, fusion: Fusion) -> Source:
    """Read the FBNets measured on a Pixel 2; threads and runtime are not stated."""
    parts = []
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            graph = known_networks.fbnet([int(choice) for choice in row["ops"].split()])
            parts.append((fuse(graph, fusion), float(row["latency_ms"]) / 1e3))
    return Source.of(parts)


def fbnet_choices(path: Path) -> NDArray[np.int64]:
    """Return the choices of the same networks [networks, 22]."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return np.array([[int(c) for c in row["ops"].split()] for row in csv.DictReader(file)])


def _single_path_positions() -> Iterator[tuple[int, int, int, int]]:
    """Yield input side, channels in and out, and stride of the positions after the first."""
    side, into = 112, 16
    for out, blocks, first_stride in (
        (24, 4, 2),
        (40, 4, 2),
        (80, 4, 2),
        (96, 4, 1),
        (192, 4, 2),
        (320, 1, 1),
    ):
        for i in range(blocks):
            stride = first_stride if i == 0 else 1
            yield side, into, out, stride
            side, into = side // stride, out


def _inverted_residual(
    side: int, into: int, out: int, expansion: int, kernel: int, stride: int, skip: bool
) -> list[Kernel]:
    hidden, before, after = into * expansion, (side, side), (side // stride, side // stride)
    depthwise = Kernel(
        "conv", 1, hidden, before, hidden, after, (kernel, kernel), (stride, stride), hidden
    )
    kernels = [depthwise, Kernel("conv", 1, hidden, after, out, after)]
    if expansion > 1:
        kernels.insert(0, Kernel("conv", 1, into, before, hidden, before))
    if skip:
        kernels.append(Kernel("add", 1, out, after, out, after))
    return kernels

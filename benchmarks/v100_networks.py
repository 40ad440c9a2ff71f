"""Whole networks on the V100: what was published, and whether sums of kernels behave."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from known_networks import RESNETS, resnet

from hwnas.architecture import lower, zoo
from hwnas.architecture.genotype import Architecture
from hwnas.architecture.graph import Size
from hwnas.devices import spec
from hwnas.latency.columns import from_kernels
from hwnas.latency.predictor import Predictor
from hwnas.lowering.fusing import fuse
from hwnas.lowering.kernels import Fusion, Kernel
from hwnas.workflows.predict import load_predictor

PRECISIONS = ("fp32", "fp16", "int8")
NETWORKS = ("resnet50", "resnet101", "maedet-s", "maedet-m", "maedet-l", "mobilenetv2-1.0")
BATCHES = (1, 2, 8, 16, 24, 32, 48, 64, 96, 128, 256)
SIZES: tuple[Size, ...] = ((224, 224), (480, 480), (384, 1280), (1280, 384), (1280, 1280))
DEFAULT_BATCH, DEFAULT_SIZE = 32, (480, 480)
SWEPT = ("resnet50", "maedet-m")
SWEEP = range(-64, 72, 8)
"""Channels added to a width of a network."""

WIDTHS = range(8, 2056, 8)
"""Output channels of the kernels that are swept."""


def seconds(predictor: Predictor, network: Architecture, size: Size, batch: int) -> float:
    kernels = fuse(lower(network, size, batch=batch), Fusion())
    return predictor.predict(kernels).latency_s


def network_reports(published: Path) -> dict[str, str]:
    """Return the tables of whole networks, as the shipped predictors answer."""
    predictors = {p: load_predictor(spec.load(f"v100-trt-{p}")) for p in PRECISIONS}
    return {
        "published": _published(predictors, published),
        "batches": _batches(predictors),
        "sizes": _sizes(predictors),
        "steps": _steps(predictors),
    }


def _published(predictors: dict[str, Predictor], path: Path) -> str:
    lines = [
        "| FP32, batch 1, 224x224 | published, ms | predicted, ms | 90 % interval | error |",
        "|---|---|---|---|---|",
    ]
    with path.open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if "TRT" in r["runtime"] and r["batch"] == "1"]
    known = {f"ResNet{depth}": depth for depth in RESNETS}
    for row in rows:
        if row["model"] not in known:
            continue
        graph = resnet(known[row["model"]])
        told = predictors[row["precision"]].predict(fuse(graph, Fusion()))
        ms = float(row["ms"])
        low, high = (1e3 * s for s in told.interval_s)
        lines.append(
            f"| {row['model']} | {ms:.2f} {row['runtime']} | {1e3 * told.latency_s:.2f} | "
            f"{low:.2f} to {high:.2f} | {told.latency_s * 1e3 / ms - 1:+.0%} |"
        )
    return "\n".join(lines) + "\n"


def _batches(predictors: dict[str, Predictor]) -> str:
    columns = {f"batch {b}": (DEFAULT_SIZE, b) for b in BATCHES}
    return _latencies("ms at 480x480", columns, predictors)


def _sizes(predictors: dict[str, Predictor]) -> str:
    columns = {f"{h}x{w}": ((h, w), DEFAULT_BATCH) for h, w in SIZES}
    return _latencies("ms in batches of 32", columns, predictors)


def _latencies(
    title: str,
    columns: dict[str, tuple[tuple[int, int], int]],
    predictors: dict[str, Predictor],
) -> str:
    """Return a table of networks and precisions by columns of a size and a batch."""
    lines = [
        f"| {title} | precision | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for name in NETWORKS:
        for precision, predictor in predictors.items():
            told = [seconds(predictor, zoo.get(name), *place) for place in columns.values()]
            cells = " | ".join(f"{1e3 * s:.2f}" for s in told)
            lines.append(f"| {name} | {precision.upper()} | {cells} |")
    return "\n".join(lines) + "\n"


def _steps(predictors: dict[str, Predictor]) -> str:
    lines = [
        "| precision | of a network, one width by 8 | of a kernel, output channels by 8 | "
        "falls with a step |",
        "|---|---|---|---|",
    ]
    for precision, predictor in predictors.items():
        of_network = max(
            float(np.abs(np.diff(np.log(width_sweep(predictor, zoo.get(name))), axis=1)).max())
            for name in SWEPT
        )
        changes = np.diff(np.log(kernel_sweep(predictor)), axis=1)
        lines.append(
            f"| {precision.upper()} | {np.expm1(of_network):.1%} | "
            f"{np.expm1(np.abs(changes).max()):.0%} | {(changes < 0).mean():.1%} |"
        )
    return "\n".join(lines) + "\n"


def width_sweep(predictor: Predictor, network: Architecture) -> np.ndarray:
    """Return seconds [widths, SWEEP] as one output width of a network changes by 8 at a time."""
    table = []
    for i, stage in enumerate(network.stages):
        for j, row in enumerate(stage):
            line = []
            for more in SWEEP:
                changed = (*stage[:j], replace(row, out=max(8, row.out + more)), *stage[j + 1 :])
                stages = (*network.stages[:i], changed, *network.stages[i + 1 :])
                other = replace(network, stages=stages)
                line.append(seconds(predictor, other, DEFAULT_SIZE, DEFAULT_BATCH))
            table.append(line)
    return np.array(table)


def kernel_sweep(predictor: Predictor) -> np.ndarray:
    """Return seconds [kernels, widths] of the default's maps as output channels grow by 8."""
    return predictor.seconds(from_kernels(swept_kernels())).reshape(-1, len(WIDTHS))


def swept_kernels() -> list[Kernel]:
    """Return kernels of the default's maps, each at all of WIDTHS."""
    return [
        Kernel("conv", DEFAULT_BATCH, into, (side, side), out, (side, side), (k, k))
        for side in (240, 120, 60, 30, 15)
        for into in (32, 64, 120, 256, 512, 1024)
        for k in (1, 3, 5)
        for out in WIDTHS
    ]

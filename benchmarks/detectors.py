"""The paper's figures of whole detectors: FLOPs and parameters, and how fast they are.

    python benchmarks/detectors.py                      costs, predicted speed on V100 and Pixel 2
    python benchmarks/detectors.py --measure 400x640    speed on this machine's processor (minutes)

Prints the tables of docs/detectors.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from hwnas import costs
from hwnas.architecture import Architecture, lower, zoo
from hwnas.architecture.detectors import attach, parse
from hwnas.architecture.graph import Size
from hwnas.devices import spec
from hwnas.units import parse_resolution
from hwnas.workflows.measure import measure
from hwnas.workflows.predict import predict
from hwnas.workflows.problem import Request
from hwnas.workflows.search import Settings, search

COCO, VOC, CITYSCAPES = (800, 1280), (600, 1000), (1024, 2048)

# table of the paper, backbone, detector, height and width, GFLOPs, million parameters
FIGURES: list[tuple[str, str, str, Size, float | None, float | None]] = [
    ("3", "maedet-m", "gfl", COCO, 215, 34.9),
    ("2", "maedet-l", "gfl", COCO, 279, None),
    ("5", "resnet50", "fcos:classes=20", VOC, 120, None),
    ("5", "maedet-m", "fcos:classes=20", VOC, 123, None),
    ("5", "resnet50", "fcos:classes=8", CITYSCAPES, 411, None),
    ("5", "maedet-m", "fcos:classes=8", CITYSCAPES, 426, None),
    ("5", "resnet50", "mask-rcnn", COCO, 375, None),
    ("5", "maedet-m", "mask-rcnn", COCO, 379, None),
    ("5", "resnet50", "scnet", COCO, 671, None),
    ("5", "maedet-m", "scnet", COCO, 675, None),
]

FURTHER: list[tuple[str, str, Size]] = [
    ("resnet50", "fcos", VOC),
    ("maedet-m", "fcos", VOC),
    ("resnet50", "fcos", CITYSCAPES),
    ("maedet-m", "fcos", CITYSCAPES),
    ("resnet50", "mask-rcnn", (800, 1333)),
    ("maedet-m", "mask-rcnn", (800, 1333)),
    ("resnet50", "retinanet", COCO),
    ("resnet50", "fcos", COCO),
    ("resnet50", "gfl", COCO),
    ("maedet-s", "gfl:width=192", COCO),
    ("resnet50", "yolof", COCO),
    ("mobilenetv2-1.0", "ssdlite", (320, 320)),
    ("mobilenetv2-0.5", "ssdlite", (320, 320)),
]

PASSES = {"semantic": 0, "context": 0, "relay": 0, "mask": 3}
"""How often mmdetection's dummy pass, which SCNet inherits from a cascade, runs each part."""

# Table 1: FPS of the full model on a V100, PyTorch, FP32, batch 32
FPS = {
    "resnet50": {"retinanet": 23.2, "fcos": 27.6, "gfl": 24.2},
    "resnet101": {"retinanet": 18.7, "fcos": 21.6, "gfl": 19.4},
    "maedet-s": {"retinanet": 35.5, "fcos": 43.0, "gfl": 37.2},
    "maedet-m": {"retinanet": 21.5, "fcos": 24.2, "gfl": 22.2},
    "maedet-l": {"retinanet": 17.6, "fcos": 19.2, "gfl": 18.1},
}

# Table 6: budgets, and FPS of the full model on one core of a Pixel 2
MOBILE_FPS = {
    "mobilenetv2-1.0": (None, 6.6),
    "mobilenetv2-0.5": (None, 13.5),
    "found, as MB-S": (("flops=201M", "params=0.6M"), 13.8),
    "found, as MB-M": (("flops=645M", "params=2.0M"), 6.3),
}
MOBILE_SIZE = (320, 320)


def whole(architecture: Architecture, detector: str, size: Size) -> tuple[dict[str, int], int]:
    """Return the FLOPs by part as mmcv counts, and the parameters."""
    flops: dict[str, int] = {}
    params = 0
    for part in attach(lower(architecture, size), parse(detector)):
        for name, count in costs.mmcv_by_part(part.graph, architecture.flops_rule).items():
            flops[name or "backbone"] = count
        params += costs.total_params(part.graph)
    return flops, params


def print_costs() -> None:
    """Print the paper's figures beside those of the graphs."""
    print("| table | backbone | detector | HxW | GFLOPs | paper | | params, M | paper |")
    print("|---|---|---|---|---|---|---|---|---|")
    for table, name, detector, size, paper, paper_params in FIGURES:
        flops, params = whole(zoo.get(name), detector, size)
        if detector == "scnet":
            flops = {part: PASSES.get(part, 1) * count for part, count in flops.items()}
        total = sum(flops.values()) / 1e9
        print(
            f"| {table} | {name} | {detector} | {size[0]}x{size[1]} | {total:.2f} | {paper} "
            f"| {total / paper - 1:+.2%} | {params / 1e6:.2f} | {paper_params or ''} |"
        )
    print("\nGFLOPs by part, as mmcv counts one pass of each:\n")
    for name, detector, size in [*((f[1], f[2], f[3]) for f in FIGURES), *FURTHER]:
        flops, params = whole(zoo.get(name), detector, size)
        total = sum(flops.values()) / 1e9
        parts = ", ".join(f"{part} {count / 1e9:.2f}" for part, count in flops.items())
        print(
            f"- {name} {detector} {size[0]}x{size[1]}: {total:.2f} G, {params / 1e6:.2f} M: {parts}"
        )
    layers = attach(lower(zoo.get("resnet50"), COCO), parse("mask-rcnn"))[0].graph.layers
    norms = sum(2 * costs.elements(layer) for layer in layers if layer.norm)
    proposing = [layer for layer in layers if layer.part == "rpn" and layer.op == "conv"]
    relus = sum(costs.elements(layer) for layer in proposing if layer.activation)
    print(f"- normalisations of ResNet-50, which its rule leaves out: {norms / 1e9:.2f} G")
    print(f"- ReLUs of the RPN: {relus / 1e9:.2f} G")


def mobile_networks() -> dict[str, Architecture]:
    """Return MobileNetV2 and networks found under the budgets of Table 6."""
    found = {}
    for name, (budgets, _) in MOBILE_FPS.items():
        if budgets is None:
            found[name] = zoo.get(name)
            continue
        request = Request(budgets, "pixel2-cpu-fp32", "mobile", MOBILE_SIZE)
        with tempfile.TemporaryDirectory() as folder:
            result = search(request, Settings(), Path(folder) / "run")
        found[name] = result.architecture
    return found


def width_of(name: str, detector: str) -> str:
    """Return a detector as the paper puts it on a backbone: 192 wide on MAE-DET-S, else 256."""
    return f"{detector}:width=192" if name == "maedet-s" else detector


def print_speed(seconds: Callable[[Architecture, str, Size], float], size: Size) -> None:
    """Print how fast the networks of Table 1 are relative to ResNet-50, beside the paper."""
    print("| backbone | " + " | ".join(f"{d} | paper" for d in FPS["resnet50"]) + " |")
    print("|---|" + "---|" * 6)
    base: dict[str, float] = {}
    for name, paper in FPS.items():
        cells = []
        for detector, fps in paper.items():
            took = seconds(zoo.get(name), width_of(name, detector), size)
            base.setdefault(detector, took)
            ratio = base[detector] / took
            cells.append(
                f"{ratio:.2f} ({took * 1e3:.0f} ms) | {fps / FPS['resnet50'][detector]:.2f}"
            )
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def print_mobile_speed(
    networks: dict[str, Architecture], seconds: Callable[[Architecture, str, Size], float]
) -> None:
    """Print how fast the networks of Table 6 are relative to MobileNetV2-1.0."""
    print("| backbone | M FLOPs | M params | ratio | paper |")
    print("|---|---|---|---|---|")
    base = 0.0
    for name, architecture in networks.items():
        took = seconds(architecture, "ssdlite", MOBILE_SIZE)
        base = base or took
        graph = lower(architecture, MOBILE_SIZE)
        paper = MOBILE_FPS[name][1] / MOBILE_FPS["mobilenetv2-1.0"][1]
        print(
            f"| {name} | {costs.flops(graph) / 1e6:.0f} | {costs.total_params(graph) / 1e6:.2f} "
            f"| {base / took:.2f} ({took * 1e3:.0f} ms) | {paper:.2f} |"
        )


def predicted(device: str) -> Callable[[Architecture, str, Size], float]:
    """Return what predicts the seconds of a whole detector on a device, for its batch."""
    place = spec.load(device)

    def seconds(architecture: Architecture, detector: str, size: Size) -> float:
        graph = lower(architecture, size, batch=place.batch)
        return predict(graph, place, detector=parse(detector)).prediction.latency_s

    return seconds


def measured(architecture: Architecture, detector: str, size: Size) -> float:
    """Return the seconds of a whole detector on this machine's processor, one image at a time."""
    timed = measure(architecture, "cpu", size, 1, 0.5, detector=parse(detector))
    if timed["contended"]:
        print(f"(contended: {architecture.name} {detector})")
    return float(timed["latency_s"])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", metavar="HxW", help="measure on this processor instead")
    size = parser.parse_args().measure
    if size:
        print(f"Measured on this processor, one image at {size}, one thread:\n")
        print_speed(measured, parse_resolution(size))
        print("\nMeasured with SSDLite at 320x320:\n")
        print_mobile_speed(mobile_networks(), measured)
        return
    print_costs()
    for device in ("v100-trt-fp32", "v100-trt-fp16"):
        print(f"\nPredicted on {device}, batches of 32 at 800x1280:\n")
        print_speed(predicted(device), COCO)
    print("\nPredicted on pixel2-cpu-fp32 with SSDLite, one image at 320x320:\n")
    print_mobile_speed(mobile_networks(), predicted("pixel2-cpu-fp32"))


if __name__ == "__main__":
    main()

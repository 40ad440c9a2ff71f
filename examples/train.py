"""From a search to a trained detector, on two cores in a few minutes.

    python examples/train.py                        # search, train, AP@0.5; about two minutes
    python examples/train.py --seeds 0 1 2          # and a scaled ResNet-50 of the same FLOPs

1. search a backbone whose whole detector (FCOS) keeps a budget of FLOPs;
2. build the detector as a torch module;
3. train it on shapes that are drawn on the fly (examples/shapes.py);
4. report AP@0.5 on images that it has not seen.

With several seeds a ResNet-50 whose widths are scaled until its detector has the same FLOPs is
trained in the same way: the same images in the same order, the same steps and learning rate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fcos
import shapes
import torch

from hwnas.architecture import Architecture, lower, zoo
from hwnas.architecture.detectors import attach, parse
from hwnas.costs import flops, main_layers, total_params
from hwnas.lowering.detector_writer import to_torch
from hwnas.workflows.problem import Request
from hwnas.workflows.search import Settings, search

DETECTOR = f"fcos:width=64,classes={len(shapes.CLASSES)}"
SIDE = 64
BATCH = 8
TEST_IMAGES = 256
TEST_SEED = 1_000_000


def found(budget: int, layers: int) -> Architecture:
    """Return the backbone of highest entropy whose detector keeps a budget of FLOPs."""
    request = Request(
        (f"flops={budget / 1e6}M", f"layers={layers}"),
        "v100-trt-fp16",  # only its alignment of channels matters here
        "resnet",
        (SIDE, SIDE),
        detector=DETECTOR,
    )
    with tempfile.TemporaryDirectory() as folder:
        return search(request, Settings(), Path(folder) / "found").architecture


def scaled_resnet(factor: float) -> Architecture:
    """Return ResNet-50 with all widths times a factor."""

    def width(channels: int) -> int:
        return max(4, round(channels * factor / 4) * 4)

    resnet = zoo.get("resnet50")
    return replace(
        resnet,
        name="resnet50-scaled",
        stem=replace(resnet.stem, channels=width(resnet.stem.channels)),
        stages=tuple(
            tuple(replace(row, out=width(row.out), inner=width(row.inner)) for row in stage)
            for stage in resnet.stages
        ),
    )


def detector_flops(architecture: Architecture) -> int:
    """Return the multiply-adds of a whole detector for one image."""
    parts = attach(lower(architecture, (SIDE, SIDE)), parse(DETECTOR))
    return sum(flops(part.graph) for part in parts)


def batches(seed: int) -> Iterator[tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]]:
    """Yield images, boxes and classes of one batch after the other."""
    stream = shapes.samples(SIDE, seed)
    while True:
        drawn = [next(stream) for _ in range(BATCH)]
        yield (
            torch.stack([torch.from_numpy(one.image) for one in drawn]),
            [torch.from_numpy(one.boxes) for one in drawn],
            [torch.from_numpy(one.labels) for one in drawn],
        )


def train(
    architecture: Architecture, steps: int, seed: int, rate: float = 2e-3
) -> tuple[torch.nn.Module, list[float]]:
    """Return the trained detector and the loss of each step."""
    torch.manual_seed(seed)
    network = to_torch(architecture, parse(DETECTOR))["image"].train()
    fcos.begin(network)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-4)
    warm = max(2, steps // 10)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, pct_start=warm / steps
    )
    losses = []
    for _, (images, boxes, labels) in zip(range(steps), batches(seed), strict=False):
        total, _ = fcos.loss(network(images), boxes, labels)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        losses.append(float(total.detach()))
    return network, losses


def evaluate(network: torch.nn.Module, images: int = TEST_IMAGES) -> float:
    """Return AP@0.5 on images that were not trained on."""
    network.eval()
    found, boxes, labels = [], [], []
    for _, (batch, at, kinds) in zip(range(images // BATCH), batches(TEST_SEED), strict=False):
        with torch.no_grad():
            found += fcos.detect(network(batch))
        boxes += at
        labels += kinds
    return fcos.average_precision(found, boxes, labels, len(shapes.CLASSES))


def main() -> None:
    """Search, train, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400, help="training steps")
    parser.add_argument("--factor", type=float, default=0.3, help="widths of the scaled ResNet-50")
    parser.add_argument("--layers", type=int, default=49, help="limit of the search")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", choices=["found", "resnet"], help="train one of the two")
    parser.add_argument("--json", type=Path, help="append a line a run to this file")
    options = parser.parse_args()
    resnet = scaled_resnet(options.factor)
    budget = detector_flops(resnet)
    wanted = [options.only] if options.only else ["found", "resnet"][: len(options.seeds)]
    backbones = {
        name: resnet if name == "resnet" else found(budget, options.layers) for name in wanted
    }
    for name, architecture in backbones.items():
        graph = lower(architecture, (SIDE, SIDE))
        print(
            f"{name}: detector {detector_flops(architecture) / 1e6:.1f} M FLOPs at {SIDE}x{SIDE}; "
            f"backbone {flops(graph) / 1e6:.1f} M, {total_params(graph) / 1e6:.2f} M parameters, "
            f"{main_layers(graph)} layers"
        )
    for name, architecture in backbones.items():
        precisions = []
        for seed in options.seeds:
            began = time.perf_counter()
            network, losses = train(architecture, options.steps, seed)
            tenth = max(1, len(losses) // 10)
            first, last = statistics.mean(losses[:tenth]), statistics.mean(losses[-tenth:])
            precisions.append(evaluate(network))
            print(
                f"{name}, seed {seed}: loss {first:.2f} -> {last:.2f}, "
                f"AP@0.5 {precisions[-1]:.3f}, {time.perf_counter() - began:.0f} s",
                flush=True,
            )
            if options.json:
                row = {
                    "backbone": name, "seed": seed, "steps": options.steps,
                    "layers": options.layers, "first": first, "last": last,
                    "ap50": precisions[-1],
                }  # fmt: skip
                with options.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
        if len(precisions) > 1:
            print(
                f"{name}: AP@0.5 {statistics.mean(precisions):.3f} "
                f"+- {statistics.stdev(precisions):.3f} over {len(precisions)} seeds"
            )


if __name__ == "__main__":
    main()

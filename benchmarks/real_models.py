"""Networks that others designed, predicted and measured: how far off is a predictor of `cpu`?

pip install torch torchvision timm onnx onnxscript
python benchmarks/real_models.py export --models MODELS [--fresh]
hwnas profile --device cpu
python benchmarks/real_models.py compare --models MODELS

The export needs torchvision and timm, the comparison needs neither. Weights are random. `--fresh`
exports models that were chosen after the classes of kernels had been settled.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

RESOLUTION, OPSET = 224, 18
PASSES = 3


def builders() -> dict[str, Callable[[], Any]]:
    """Return what makes each model."""
    import timm
    import torch
    from torchvision import models
    from torchvision.models.detection import retinanet_resnet50_fpn

    class Detector(torch.nn.Module):
        """Backbone, feature pyramid and the convolutions of the heads; no anchors, no NMS."""

        def __init__(self) -> None:
            super().__init__()
            whole = retinanet_resnet50_fpn(weights=None, weights_backbone=None)
            self.backbone, self.head = whole.backbone, whole.head

        def forward(self, images: Any) -> list[Any]:
            classes, boxes = self.head.classification_head, self.head.regression_head
            return [
                output
                for level in self.backbone(images).values()
                for output in (
                    classes.cls_logits(classes.conv(level)),
                    boxes.bbox_reg(boxes.conv(level)),
                )
            ]

    names = (
        "resnet18",
        "resnet50",
        "mobilenet_v2",
        "mobilenet_v3_large",
        "mobilenet_v3_small",
        "efficientnet_b0",
        "regnet_x_400mf",
        "regnet_y_400mf",
        "shufflenet_v2_x1_0",
    )
    return {
        **{name: getattr(models, name) for name in names},
        "retinanet_resnet50_fpn": Detector,
        "deit_tiny": lambda: timm.create_model("deit_tiny_patch16_224"),
    }


def fresh() -> dict[str, Callable[[], Any]]:
    """Return what makes each model that no class of kernels was settled by."""
    import timm
    from torchvision import models

    torchvision_names = (
        "mnasnet1_0",
        "squeezenet1_1",
        "densenet121",
        "regnet_x_800mf",
        "resnext50_32x4d",
        "resnet34",
        "efficientnet_b1",
        "shufflenet_v2_x1_5",
    )
    timm_names = ("mobilenetv2_140", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "resnet26d")
    return {
        **{name: getattr(models, name) for name in torchvision_names},
        **{name: partial(timm.create_model, name) for name in timm_names},
    }


def export(folder: Path, made: dict[str, Callable[[], Any]]) -> None:
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    for name, build in made.items():
        if (folder / f"{name}.onnx").exists():
            continue
        torch.manual_seed(0)
        torch.onnx.export(
            build().eval(),
            (torch.randn(1, 3, RESOLUTION, RESOLUTION),),
            str(folder / f"{name}.onnx"),
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
        )
        print(name, flush=True)


def compare(folder: Path, device: str, seconds: float, confidence: float) -> None:
    from hwnas.devices import spec
    from hwnas.lowering.onnx_reader import read
    from hwnas.workflows.measure import measure
    from hwnas.workflows.predict import predict

    place = spec.load(device)
    print(
        "| model | predicted | measured | measured / predicted | within the interval "
        "| unlike any measured |\n"
        "|---|---|---|---|---|---|"
    )
    paths = sorted(folder.glob("*.onnx"))
    # Other work on the machine only ever adds: of several visits, minutes apart, the least counts.
    visits = [
        [measure(path, device, seconds=seconds)["latency_s"] for path in paths]
        for _ in range(PASSES)
    ]
    ratios, inside = [], 0
    for path, latency_s, most_s in zip(
        paths, np.min(visits, axis=0), np.max(visits, axis=0), strict=True
    ):
        p = predict(read(path), place, confidence).prediction
        low, high = p.interval_s
        ratios.append(latency_s / p.latency_s)
        inside += low <= latency_s <= high
        print(
            f"| {path.stem} | {1e3 * p.latency_s:.2f} ms | {1e3 * latency_s:.2f} ms "
            f"(to {1e3 * most_s:.2f}) | {ratios[-1]:.3f} | "
            f"{'yes' if low <= latency_s <= high else 'no'} "
            f"({1e3 * low:.2f} to {1e3 * high:.2f} ms) | {p.extrapolated_share:.1%} |",
            flush=True,
        )
    errors = np.abs(1 / np.array(ratios) - 1)
    print(
        f"\nMAPE {errors.mean():.1%}, largest error {errors.max():.1%}; {inside} of {len(ratios)} "
        f"within the {confidence:.0%} interval"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("export", "compare"):
        command = commands.add_parser(name)
        command.add_argument("--models", type=Path, required=True)
        if name == "export":
            command.add_argument("--fresh", action="store_true")
        if name == "compare":
            command.add_argument("--device", default="cpu")
            command.add_argument("--seconds", type=float, default=3.0)
            command.add_argument("--confidence", type=float, default=0.9)
    options = parser.parse_args()
    if options.command == "export":
        export(options.models, fresh() if options.fresh else builders())
    else:
        compare(options.models, options.device, options.seconds, options.confidence)


if __name__ == "__main__":
    main()

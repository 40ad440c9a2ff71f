"""Fit the predictor of a Pixel 2's big core to public measurements, and say how good it is.

    python benchmarks/pixel2.py --data FOLDER [--out .]

FOLDER holds published_models.csv, snapdragon835_conv.csv, pixel1_proxyless_lut.yaml,
pixel1_singlepath_mbconv.json and fbnet_pixel2.csv.gz. The relative speeds of dense, 1x1 and
depthwise convolutions of all sizes come from the tables, each with a scale of its own; the scale
that is kept comes from whole networks. `--out` writes predictors/ and profiles/ there.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import known_networks
import numpy as np
import pixel_sources
from numpy.typing import NDArray
from pixel_fit import Networks, Shape, fit, of_source, summing
from pixel_sources import FITTED, MODELS, Source

from hwnas.architecture import lower, zoo
from hwnas.devices import spec
from hwnas.latency import tables
from hwnas.latency.columns import Columns, from_kernels
from hwnas.latency.evaluation import accuracy
from hwnas.latency.fitting import ranges
from hwnas.latency.intervals import quantiles, quantiles_of_few
from hwnas.latency.predictor import Card, Overhead, Predictor
from hwnas.latency.roofline import Roofline
from hwnas.lowering.fusing import fuse
from hwnas.lowering.kernels import Kernel

NAME = "pixel2-cpu-fp32"
DEVICE = spec.load(NAME)
REPLACE = f"hwnas profile --device adb:SERIAL --name {NAME}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = pixel_sources.published(options.data / "published_models.csv")
    fbnets = pixel_sources.fbnet(options.data / "fbnet_pixel2.csv.gz", DEVICE.fusion)
    shown = np.arange(len(fbnets.seconds)) % 2 == 0
    shapes = [
        Shape("TVM", _read(options.data, "tvm"), 0.25, 40, (0.5, 5e-6, 1e-9)),
        Shape("ProxylessNAS", _read(options.data, "proxyless"), 0.2, 40, (1.5, 5e-6, 1e-9)),
        Shape("Single-Path NAS", _read(options.data, "single_path"), 0.2, 40, (1.5, 5e-6, 1e-9)),
        Shape("FBNet, every other", _some(fbnets, shown), 0.1, 320, (2.0, 5e-5, 5e-3)),
    ]
    networks = {
        model: (
            from_kernels(fuse(graph, DEVICE.fusion)),
            np.array([r.latency_ms / 1e3 for r in rows if (r.model, r.runtime) in _fitted(model)]),
        )
        for model, (graph, _) in MODELS.items()
    }
    roofline, scales = fit(shapes, networks)
    print(f"roofline {asdict(roofline)}\n")
    _print_shapes(shapes, roofline, scales)
    measured, unseen = _leave_one_out(shapes, networks, roofline, rows)
    told = {"networks, each left out in turn": accuracy(measured, unseen)}
    told["networks, fitted to them"] = accuracy(
        measured, np.array([roofline.seconds(c).sum() for c, _ in networks.values()])
    )
    ranks = _fbnet_ranks(options.data, fbnets, shown, roofline)
    predictor = Predictor(
        _card(roofline, shapes, scales, networks, np.log(measured / unseen), told, ranks)
    )
    _print_ratios(predictor)
    if options.out:
        predictor.save(options.out / "predictors" / NAME)
        _write_profile(options.out / "profiles" / NAME, rows, predictor)


def _read(folder: Path, kind: str) -> Source:
    names = {
        "tvm": (pixel_sources.tvm, "snapdragon835_conv.csv"),
        "proxyless": (pixel_sources.proxyless, "pixel1_proxyless_lut.yaml"),
        "single_path": (pixel_sources.single_path, "pixel1_singlepath_mbconv.json"),
    }
    read, name = names[kind]
    return read(folder / name)


def _fitted(model: str) -> set[tuple[str, str]]:
    return {(model, runtime) for runtime in FITTED}


def _some(source: Source, chosen: NDArray[np.bool_]) -> Source:
    of_kernel = chosen[source.rows]
    rows = (np.cumsum(chosen) - 1)[source.rows[of_kernel]]
    return Source(source.columns.take(of_kernel), rows, source.seconds[chosen])


def _print_shapes(shapes: Sequence[Shape], roofline: Roofline, scales: NDArray[np.float64]) -> None:
    """Print how well one roofline fits each source, up to what its runtime differs by."""
    for shape, scale in zip(shapes, scales, strict=True):
        predicted = of_source(summing(shape.source), roofline, scale)
        told = accuracy(shape.source.seconds, predicted)
        print(
            f"{shape.name:20} {told['rows']:5.0f} rows  MAPE {told['mape']:.1%}  median "
            f"{told['median_ape']:.1%}  its own scale {scale[0]:.2f}"
        )


def _leave_one_out(
    shapes: Sequence[Shape],
    networks: Networks,
    roofline: Roofline,
    rows: Sequence[pixel_sources.Published],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Print and return measured seconds, and those predicted without the network's own rows."""
    print("\nmodel              published ms                  predicted  unseen   error")
    measured, unseen = [], []
    for model, (columns, seconds) in networks.items():
        others = {name: found for name, found in networks.items() if name != model}
        without, _ = fit(shapes, others)
        measured.append(float(np.exp(np.log(seconds).mean())))
        unseen.append(float(without.seconds(columns).sum()))
        of_model = [r for r in rows if (r.model, r.runtime) in _fitted(model)]
        listed = ", ".join(f"{r.latency_ms:g} {r.runtime}" for r in of_model)
        print(
            f"{model:18} {listed:30} {1e3 * roofline.seconds(columns).sum():8.1f} "
            f"{1e3 * unseen[-1]:8.1f} {unseen[-1] / measured[-1] - 1:+8.1%}"
        )
    result = np.array(measured), np.array(unseen)
    print(f"leave-one-model-out MAPE {accuracy(*result)['mape']:.1%}")
    for row in rows:
        if row.runtime not in FITTED:
            ratio = row.latency_ms / 1e3 / roofline.seconds(networks[row.model][0]).sum()
            print(f"not fitted: {row.model}, {row.runtime} {row.latency_ms:g}, {ratio:.2f} times")
    return result


def _fbnet_ranks(
    folder: Path, fbnets: Source, shown: NDArray[np.bool_], roofline: Roofline
) -> dict[str, float]:
    """Print and return rank correlations on the FBNets, beside what any sum over blocks reaches.

    The limit is a ridge regression on which of the 9 choices each of the 22 positions takes, fitted
    to the shown half of these measurements themselves.
    """
    from scipy.stats import spearmanr
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import Ridge

    predicted = summing(fbnets)(roofline, 0.0)
    macs = np.bincount(fbnets.rows, weights=fbnets.columns.macs)
    choices = pixel_sources.fbnet_choices(folder / "fbnet_pixel2.csv.gz")
    one_hot = (choices[:, :, None] == np.arange(9)).reshape(len(choices), -1).astype(float)
    logs = np.log(fbnets.seconds)
    ridge = Ridge(10.0).fit(one_hot[shown], logs[shown]).predict(one_hot[~shown])
    trees = HistGradientBoostingRegressor(random_state=0).fit(one_hot[shown], logs[shown])
    ratio = logs[~shown] - ridge
    rng = np.random.default_rng(0)
    repeated = [
        spearmanr(ridge, np.round(1e3 * np.exp(ridge + rng.choice(ratio, len(ratio))))).statistic
        for _ in range(20)
    ]
    hidden = fbnets.seconds[~shown]
    ranks = {
        "unseen_half": float(spearmanr(predicted[~shown], hidden).statistic),
        "all": float(spearmanr(predicted, fbnets.seconds).statistic),
        "macs_unseen_half": float(spearmanr(macs[~shown], hidden).statistic),
        "limit_unseen_half": float(spearmanr(ridge, hidden).statistic),
        "limit_by_noise": float(np.mean(repeated)),
    }
    edges = np.arange(-0.2, 0.25, 0.05)
    shares = np.histogram(ratio, edges)[0] / len(ratio)
    heaps = ", ".join(f"{100 * x:+.0f}: {y:.0%}" for x, y in zip(edges[:-1], shares, strict=True))
    by_trees = spearmanr(trees.predict(one_hot[~shown]), hidden).statistic
    print(
        f"\nFBNet, {len(choices):,} networks, Spearman: {ranks['unseen_half']:.3f} on the half "
        f"that was not shown ({ranks['all']:.3f} on all)\n"
        f"  multiply-adds alone {ranks['macs_unseen_half']:.3f}\n"
        "  fitted to the shown half itself: a free cost of each choice at each position "
        f"{ranks['limit_unseen_half']:.3f}, boosted trees {by_trees:.3f}\n"
        f"  those free costs against themselves plus their own residuals: "
        f"{ranks['limit_by_noise']:.3f}\n"
        f"  these residuals, from so many per cent up: {heaps}"
    )
    return ranks


def _card(
    roofline: Roofline,
    shapes: Sequence[Shape],
    scales: NDArray[np.float64],
    networks: Networks,
    log_ratios: NDArray[np.float64],
    told: dict[str, dict[str, float]],
    ranks: dict[str, float],
) -> Card:
    kernels = shapes[0].source
    ratios = np.log(kernels.seconds / of_source(summing(kernels), roofline, scales[0]))
    joined = from_kernels([k for graph, _ in MODELS.values() for k in fuse(graph, DEVICE.fusion)])
    convolutions = [shape.source.columns for shape in shapes] + [joined]
    every = Columns(
        *(
            np.concatenate([getattr(c, name) for c in convolutions])
            for name in Columns.__dataclass_fields__
        )
    )
    return Card(
        device=NAME,
        runtime="XNNPACK's class of kernels (XNNPACK 2020, Paddle-Lite 2.11), from published times",
        precision=DEVICE.precision,
        feature_set="",
        roofline=roofline,
        overhead=Overhead(),
        kernel_quantiles={
            "all": quantiles(ratios, "kernels of another runtime, TVM on all big cores, scaled")
        },
        network_quantiles=quantiles_of_few(
            log_ratios, "whole networks, each left out of the fit in turn; Student's t"
        ),
        measured=ranges(every.take(every.kind <= 2)),
        features=(),
        provenance={
            "rests_on": f"{len(networks)} whole networks for the scale, no measurement of hwnas; "
            "another runtime on the same phone may differ by a factor of two",
            "replace_by": REPLACE,
            "networks": "google/XNNPACK README (BSD-3-Clause), 4 networks on a Pixel 2; "
            "PaddlePaddle/Paddle-Lite benchmark (Apache-2.0), 5 on a Xiaomi Mi 6, the same chip; "
            "listed in profiles/pixel2-cpu-fp32/published.csv",
            "shape_tvm": f"tlc-pack/tophub (no licence stated), {len(kernels.seconds)} "
            "convolutions, Snapdragon 835, all big cores; 3x3 of stride 1 left out",
            "shape_proxyless": "han-cai/files (no licence stated), "
            f"{len(shapes[1].source.seconds)} blocks, Pixel 1, TFLite",
            "shape_single_path": "dstamoulis/single-path-nas (Apache-2.0), "
            f"{len(shapes[2].source.seconds)} blocks, Pixel 1, TFLite",
            "shape_fbnet": f"HayeonLee/HELP (MIT), {len(shapes[3].source.seconds)} networks, "
            "Pixel 2, runtime and threads not stated: relative times only",
            "fbnet_spearman": {name: round(value, 3) for name, value in ranks.items()},
            "command": "python benchmarks/pixel2.py --data FOLDER --out .",
        },
        accuracy=told,
    )


def _print_ratios(predictor: Predictor) -> None:
    print(f"\nMobileNetV2 at 320x320, backbones, on {NAME}:")
    found = {}
    for width in ("0.5", "1.0"):
        graph = lower(zoo.get(f"mobilenetv2-{width}"), DEVICE.resolution)
        found[width] = predictor.predict(fuse(graph, DEVICE.fusion))
        low, high = found[width].interval_s
        print(
            f"  width {width}: {1e3 * found[width].latency_s:.1f} ms "
            f"({1e3 * low:.1f} to {1e3 * high:.1f} at 90 %)"
        )
    ratio = found["1.0"].latency_s / found["0.5"].latency_s
    print(
        "The paper's Table 6 gives frames per second of full detectors with SSDLite heads on a\n"
        f"Pixel 2, so only ratios compare: 0.5 over 1.0 is {13.5 / 6.6:.2f} there, {ratio:.2f} "
        "here for the backbones.\n"
        f"MAE-DET-MB-S, -M, -M-SE over MobileNetV2-1.0: {13.8 / 6.6:.2f}, {6.3 / 6.6:.2f}, "
        f"{5.6 / 6.6:.2f} there; the paper does not print these networks."
    )


def _write_profile(
    folder: Path, rows: Sequence[pixel_sources.Published], predictor: Predictor
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "published.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ("model", "resolution", "device", "runtime", "latency_ms", "used_in_fit", "source")
        )
        for row in sorted(rows, key=lambda r: (list(MODELS).index(r.model), r.runtime)):
            used = "yes" if row.runtime in FITTED else "no"
            writer.writerow(
                (row.model, 224, row.device, row.runtime, f"{row.latency_ms:g}", used, row.source)
            )
    graphs = [graph for graph, _ in MODELS.values()]
    graphs += [
        lower(zoo.get(f"mobilenetv2-{width}"), DEVICE.resolution) for width in ("0.5", "1.0")
    ]
    graphs.append(known_networks.mobilenetv2(size=DEVICE.resolution))
    kernels = list(dict.fromkeys(k for graph in graphs for k in fuse(graph, DEVICE.fusion)))
    seconds = predictor.shares(from_kernels(kernels))
    with (folder / "kernels_predicted.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*tables.COLUMNS[:-1], "predicted_ms"))
        for kernel, time_s in sorted(zip(kernels, seconds.tolist(), strict=True), key=_order):
            writer.writerow((*_cells(kernel), f"{1e3 * time_s:.5f}"))


def _order(row: tuple[Kernel, float]) -> Any:
    return tuple(str(cell).rjust(8) for cell in _cells(row[0]))


def _cells(kernel: Kernel) -> tuple[Any, ...]:
    kind = kernel.op
    if kind == "conv":
        kind = "Depthwise" if kernel.groups == kernel.in_channels else "Regular"
    return (
        kind,
        kernel.batch,
        kernel.in_channels,
        *kernel.in_size,
        kernel.out_channels,
        kernel.kernel[0],
        kernel.stride[0],
        int(kernel.fused_add),
    )


if __name__ == "__main__":
    main()

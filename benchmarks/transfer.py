"""A new device from few samples: a known device's predictor adapted, beside a fit from scratch.

    python benchmarks/transfer.py [--data FOLDER] [--profiles FOLDER]

FOLDER of --data holds conv_fp16.csv.gz and the like, as for benchmarks/v100.py: single kernels of
a V100 in FP16, adapted from FP32 and INT8 predictors that are fitted here, as the shipped ones have
seen the FP16 rows. --profiles holds whole networks of this machine's processor, a profile a folder
(by default the shipped ones): two threads, INT8 and onnxruntime's basic optimisation, each adapted
from the reference profile. Every figure is the mean over random choices of the samples, told on all
other networks or on 4,000 other kernels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from hwnas.architecture import lower
from hwnas.devices import spec
from hwnas.latency.columns import from_kernels
from hwnas.latency.evaluation import accuracy
from hwnas.latency.fitting import fit
from hwnas.latency.predictor import Predictor
from hwnas.latency.regressors import Mlp, Trees
from hwnas.latency.tables import read
from hwnas.latency.together import Measured, learn
from hwnas.latency.transfer import OWN, Samples, transfer
from hwnas.lowering.fusing import fuse
from hwnas.lowering.kernels import Fusion
from hwnas.profiling.profile import Profile, load
from hwnas.workflows.profiled import fit_profile

SIZES = (10, 20, 50)
DRAWS = 10
LEAST_HELD = 7
"""Networks that must be left to judge by."""

TARGETS = ("cpu-2threads", "cpu-int8", "cpu-basic")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--profiles", type=Path, default=Path(__file__).parent.parent / "profiles")
    options = parser.parse_args()
    print(
        "| device | samples | adapted from | MAPE | within 10 % "
        "| from scratch: MAPE | within 10 % |"
    )
    print("|---|---|---|---|---|---|---|")
    if options.data:
        _v100(options.data)
    reference = options.profiles / "cpu-reference"
    if reference.is_dir():
        source = fit_profile(load(reference), spec.load("cpu"))
        for name in TARGETS:
            if (options.profiles / name).is_dir():
                _processor(load(options.profiles / name), {"cpu": source})


def _v100(folder: Path) -> None:
    tables = []
    for precision, size in (("fp32", 4.0), ("int8", 1.0)):
        rows = read(folder / f"conv_{precision}.csv.gz")
        tables.append(Measured(from_kernels(rows.kernels), rows.seconds, size))
    sources = {
        name: fit(
            measured.columns,
            measured.seconds,
            device=name,
            runtime="",
            precision="",
            feature_set="gpu",
            bytes_per_value=measured.bytes_per_value,
            provenance={},
            folds=np.where(np.arange(len(measured.columns)) < 1000, 0, -1),  # told nowhere
            regressor=learned,
        )
        for name, measured, learned in zip(
            ("v100-trt-fp32", "v100-trt-int8"), tables, learn(tables, "gpu", [Mlp()]), strict=True
        )
    }
    table = read(folder / "conv_fp16.csv.gz")
    columns = from_kernels(table.kernels)
    everyone = Samples(columns, np.arange(len(columns)), table.seconds, whole=False)
    rng = np.random.default_rng(0)
    for size in SIZES:
        orders = [rng.permutation(len(columns)) for _ in range(DRAWS)]
        parts = [(order[:size], order[size : size + 4000]) for order in orders]
        _row("v100-trt-fp16", f"{size} kernels", sources, everyone, parts)


def _processor(profile: Profile, sources: dict[str, Predictor]) -> None:
    networks = [n for n in profile.networks if n.architecture is not None]
    fusion = _fusion(profile)
    kernels = [
        fuse(lower(n.architecture, n.resolution, batch=n.batch), fusion)
        for n in networks
        if n.architecture is not None
    ]
    everyone = Samples(
        from_kernels([kernel for each in kernels for kernel in each]),
        np.repeat(np.arange(len(kernels)), [len(each) for each in kernels]),
        np.array([network.median_s for network in networks]),
        whole=True,
    )
    rng = np.random.default_rng(0)
    for size in SIZES:
        if size + LEAST_HELD > len(networks):
            break
        orders = [rng.permutation(len(networks)) for _ in range(DRAWS)]
        parts = [(order[:size], order[size:]) for order in orders]
        _row(profile.device, f"{size} networks", sources, everyone, parts)


def _fusion(profile: Profile) -> Fusion:
    """Return what the runtime fused when the profile was measured."""
    if profile.provenance.get("precision") == "int8":
        return Fusion(add=False, output="dequantize", input="quantize", rules="onnxruntime-int8")
    if profile.provenance.get("optimization") == "basic":
        return Fusion(add=False, rules="onnxruntime-basic")
    return spec.load("cpu").fusion


def _row(
    device: str,
    label: str,
    sources: dict[str, Predictor],
    everyone: Samples,
    parts: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    """Print the mean accuracy of both ways over random choices of the samples."""
    adapted, scratch, chosen = [], [], []
    for few, held in parts:
        samples, others = everyone.take(few), everyone.take(held)
        predictor = transfer(
            sources, samples, device=device, runtime="", precision="", provenance={}
        )
        chosen.append(predictor.card.provenance["adapted_from"])
        adapted.append(accuracy(others.seconds, _times(predictor, others)))
        scratch.append(accuracy(others.seconds, _times(_from_scratch(samples, sources), others)))
    of = ", ".join(f"{name} {chosen.count(name)}x" for name in (*sources, OWN) if name in chosen)
    cells = [
        f"{np.mean([a[key] for a in way]):.1%}"
        for way in (adapted, scratch)
        for key in ("mape", "within_10")
    ]
    print(f"| {device} | {label} | {of} | {' | '.join(cells)} |", flush=True)


def _times(predictor: Predictor, samples: Samples) -> np.ndarray:
    if not samples.whole:
        return predictor.seconds(samples.columns)
    shares = predictor.shares(samples.columns)
    return predictor.constant_s + np.bincount(samples.rows, weights=shares)


def _from_scratch(samples: Samples, sources: dict[str, Predictor]) -> Predictor:
    """Return a predictor fitted to the same samples alone, by what hwnas offers for them."""
    feature_set = next(iter(sources.values())).card.feature_set
    return fit(
        samples.columns,
        samples.seconds,
        device="",
        runtime="",
        precision="",
        feature_set=feature_set,
        bytes_per_value=4,
        provenance={},
        blocks=samples.rows if samples.whole else None,
        regressor=Trees(count=50, leaves=8, learning_rate=0.1, min_leaf=5),
    )


if __name__ == "__main__":
    main()

"""How good is a predictor on networks as they come? They are measured here, and none is fitted to.

    hwnas profile --device cpu --minutes 3
    python benchmarks/unseen.py

The networks are drawn as `hwnas profile` draws them, with another seed, but not chosen: random
ones and ones that searches end with, and one of another kind behind each three. One visit to a
network says as much of the machine's moment as of the network: each is visited several times,
minutes apart, and takes the median of what it took. How far single visits lie from it is told
beside the predictor's errors: no predictor comes nearer to a single visit than that.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import islice

import numpy as np
from reference import SEED

from hwnas.devices import spec
from hwnas.devices.lease import lease
from hwnas.devices.registry import connect
from hwnas.latency.evaluation import accuracy
from hwnas.latency.predictor import load
from hwnas.lowering.fusing import fuse
from hwnas.lowering.onnx_writer import to_onnx
from hwnas.lowering.weights import filler
from hwnas.profiling.session import Sample
from hwnas.store import shelf
from hwnas.workflows.profile import drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", type=int, default=120)
    parser.add_argument("--visits", type=int, default=5)
    options = parser.parse_args()
    device = spec.load(options.device)
    predictor = load(shelf.find("predictors", device.name))
    samples = list(islice(drawn(SEED, device, whole=False), options.networks))
    predictions = [predictor.predict(fuse(sample.graph(), device.fusion)) for sample in samples]
    predicted_s = np.array([prediction.latency_s for prediction in predictions])
    low, high = np.array([prediction.interval_s for prediction in predictions]).T
    visits_s = visited(device.name, samples, options.visits)
    measured_s = np.median(visits_s, axis=1)
    kinds = np.array([kind(sample) for sample in samples])
    spaces = kinds != OTHER
    print(
        "| networks | | predicted: MAPE | within 5 % | within 10 % | median ratio | in interval |"
    )
    print("|---|---|---|---|---|---|---|")
    row = _row(measured_s, predicted_s, (low <= measured_s) & (measured_s <= high))
    row("of the search spaces", spaces)
    for name in np.unique(kinds):
        row(f"of `{name}`" if name != OTHER else name, kinds == name)
    away = np.abs(visits_s / measured_s[:, None] - 1)[spaces]
    print(
        f"\nA visit lies {away.mean():.2%} from the median of its network's {options.visits}, "
        f"{(away <= 0.05).mean():.1%} of them within 5 %, {(away <= 0.1).mean():.1%} within 10 %."
    )


OTHER = "of another kind"


def kind(sample: Sample) -> str:
    """Return the family of a network's blocks, or that it is no network of a space."""
    return OTHER if sample.architecture is None else sample.architecture.family.name


def visited(name: str, samples: list[Sample], visits: int) -> np.ndarray:
    """Return what each network took in each visit, in seconds [networks, visits]."""
    runtime = connect(spec.load(name))
    graphs = [sample.graph() for sample in samples]
    models = [to_onnx(graph, filler(graph)).SerializeToString() for graph in graphs]
    with lease(runtime.resource):
        times = [
            [runtime.measure(model, least_runs=5, least_s=0.1).typical_s for model in models]
            for _ in range(visits)
        ]
    return np.array(times).T


def _row(
    measured_s: np.ndarray, predicted_s: np.ndarray, inside: np.ndarray
) -> Callable[[str, np.ndarray], None]:
    def row(label: str, rows: np.ndarray) -> None:
        a = accuracy(measured_s[rows], predicted_s[rows])
        ratio = np.median(measured_s[rows] / predicted_s[rows])
        print(
            f"| {label} | {rows.sum()} | {a['mape']:.2%} | {a['within_5']:.1%} | "
            f"{a['within_10']:.1%} | {ratio:.3f} | {inside[rows].mean():.1%} |"
        )

    return row


if __name__ == "__main__":
    main()

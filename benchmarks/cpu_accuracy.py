"""How good a processor's predictor is, by the number of networks measured; nothing is measured.

    python benchmarks/cpu_accuracy.py [PROFILE]

PROFILE is the folder of a profile, by default profiles/cpu-reference. Every network that a
predictor is judged by was measured, and none of its kernels was seen by the fit; those that were
measured in calm are told apart. Beside it, fitted to the same networks: one rate for all
multiply-adds, and one scale for the sum of predicted kernels where kernels are fitted to the
profiler's times as they are. `chosen` are networks picked as `hwnas profile` picks them, from a
half of the profile that is not judged by.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from hwnas.devices import spec
from hwnas.latency import features
from hwnas.latency.columns import CLASSES, Columns, from_kernels
from hwnas.latency.committee import Committee
from hwnas.latency.evaluation import accuracy
from hwnas.latency.fitting import LEAST_CALM, fit, sequence_of
from hwnas.latency.predictor import Predictor
from hwnas.latency.regressors import Radial
from hwnas.profiling.profile import Profile, load
from hwnas.profiling.session import CHOICE, SPELL, UNCHOSEN
from hwnas.workflows.profiled import fit_profile, kernel_times

DRAWS = {20: 8, 40: 5, 60: 5, 100: 3}
"""Networks fitted to, and how many random choices of them."""

Split = tuple[np.ndarray, np.ndarray]
"""Networks fitted to, networks judged by."""


class Measured:
    """A profile's networks as arrays."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        networks = profile.networks
        kernels, self.seconds = kernel_times(profile)
        self.columns: Columns = from_kernels(kernels)
        self.rows = sequence_of([len(network.kernels) for network in networks])
        self.latency_s = np.bincount(self.rows, weights=self.seconds)
        self.calm = np.array([not network.contended for network in networks])
        self.flops = self.sums(self.columns.macs * self.columns.multiplies)
        self.raw_s = np.array([s for network in networks for _, s in network.kernels])

    def some(self, chosen: np.ndarray) -> Profile:
        """Return the profile with some of its networks."""
        return replace(self.profile, networks=tuple(self.profile.networks[i] for i in chosen))

    def kernels(self, chosen: np.ndarray) -> tuple[Columns, np.ndarray, np.ndarray]:
        """Return kernels, seconds and the network of each kernel of some networks, in order."""
        first = np.searchsorted(self.rows, np.arange(len(self.latency_s) + 1))
        rows = np.concatenate([np.arange(first[i], first[i + 1]) for i in chosen])
        counts = [int(first[i + 1] - first[i]) for i in chosen]
        return self.columns.take(rows), self.seconds[rows], sequence_of(counts)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sum over each network's kernels."""
        return np.bincount(self.rows, weights=values, minlength=len(self.latency_s))

    def predicted(self, predictor: Predictor) -> np.ndarray:
        """Return the predicted latency of each network."""
        return predictor.constant_s + self.sums(predictor.shares(self.columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shipped = Path(__file__).parent.parent / "profiles" / "cpu-reference"
    parser.add_argument("profile", type=Path, nargs="?", default=shipped)
    options = parser.parse_args()
    measured = Measured(load(options.profile))
    count = len(measured.latency_s)
    about = measured.profile.provenance
    print(", ".join(f"{key} {about[key]}" for key in ("cpu", "runtime", "date") if key in about))
    print(f"{count} networks, {len(measured.rows):,} kernels\n")
    print("| networks fitted to | judged by | | MAPE | within 5 % | within 10 % | seconds to fit |")
    print("|---|---|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    for size, draws in DRAWS.items():
        halves = [np.array_split(rng.permutation(count), 2) for _ in range(draws)]
        splits = [(known[:size], judged) for known, judged in halves]
        _row(measured, splits, f"{size} ({draws} random choices)")
        if size > UNCHOSEN:
            splits = [(_chosen(measured, known, size), judged) for known, judged in halves]
            _row(measured, splits, f"{size} ({draws} times chosen)")
    folds = np.array_split(rng.permutation(count), 5)
    splits = [(np.concatenate([f for f in folds if f is not fold]), fold) for fold in folds]
    _row(measured, splits, f"{len(splits[0][0])} (5 folds)")
    print()
    _coverage(measured, rng.permutation(count))


def _chosen(measured: Measured, order: np.ndarray, size: int) -> np.ndarray:
    """Return networks picked from `order` as a session picks them."""
    known, rest = order[:UNCHOSEN], order[UNCHOSEN:]
    while len(known) < size:
        pool, rest = rest[: CHOICE * SPELL], rest[CHOICE * SPELL :]
        committee = Committee(
            *measured.kernels(known), feature_set="cpu", bytes_per_value=4, seed=len(known)
        )
        columns, _, rows = measured.kernels(pool)
        unsure = committee.disagreement(columns, rows)
        known = np.concatenate([known, pool[np.argsort(-unsure)[: min(SPELL, size - len(known))]]])
    return known


def _row(measured: Measured, splits: list[Split], label: str) -> None:
    answers: dict[str, list[np.ndarray]] = {"hwnas": [], "kernels, one scale": [], "FLOPs": []}
    began = time.process_time()
    for known, _ in splits:
        predictor = fit_profile(measured.some(known), spec.load("cpu"))
        answers["hwnas"].append(measured.predicted(predictor))
    seconds = (time.process_time() - began) / len(splits)
    for known, _ in splits:
        sums = _plain(measured, known)
        for name, values in (("kernels, one scale", sums), ("FLOPs", measured.flops)):
            ratio = np.median(measured.latency_s[known] / values[known])
            answers[name].append(values * ratio)
    judged = np.concatenate([judged for _, judged in splits])
    for name, values in answers.items():
        predicted = np.concatenate([v[held] for v, (_, held) in zip(values, splits, strict=True)])
        spent = f"{seconds:.1f}" if name == "hwnas" else ""
        _figures(label, name, measured.latency_s[judged], predicted, spent)
        calm = measured.calm[judged]
        if name == "hwnas" and LEAST_CALM <= calm.sum() < len(calm):
            truth = measured.latency_s[judged][calm]
            _figures(label, "hwnas, on those measured in calm", truth, predicted[calm], "")


def _figures(label: str, name: str, truth: np.ndarray, predicted: np.ndarray, spent: str) -> None:
    a = accuracy(truth, predicted)
    print(
        f"| {label} | {len(truth)} | {name} | {a['mape']:.2%} | {a['within_5']:.1%} | "
        f"{a['within_10']:.1%} | {spent} |",
        flush=True,
    )


def _plain(measured: Measured, chosen: np.ndarray) -> np.ndarray:
    """Return sums of kernels predicted from the profiler's times as they are."""
    rows = np.isin(measured.rows, chosen)
    predictor = fit(
        measured.columns.take(rows),
        measured.raw_s[rows],
        device="cpu",
        runtime="",
        precision="fp32",
        feature_set="cpu",
        bytes_per_value=4,
        provenance={},
        folds=np.where(np.arange(rows.sum()) % 50, -1, 0),
        regressor=Radial(features.classes("cpu")),
    )
    return measured.sums(predictor.seconds(measured.columns))


def _coverage(measured: Measured, order: np.ndarray) -> None:
    """Print how often intervals hold on networks that neither fit nor calibration saw."""
    halves = np.array_split(order, 2)
    networks, kernels, kinds = [], [], []
    for known, held in (halves, halves[::-1]):
        predictor = fit_profile(measured.some(known), spec.load("cpu"))
        ratio = measured.latency_s / measured.predicted(predictor)
        low, high = predictor.card.network_quantiles.factors(0.9)
        networks.append((low <= ratio[held]) & (ratio[held] <= high))
        rows = np.isin(measured.rows, held)
        columns = measured.columns.take(rows)
        ratio = measured.seconds[rows] / predictor.seconds(columns)
        low_k, high_k = predictor.kernel_factors(columns, 0.9)
        kernels.append((low_k <= ratio) & (ratio <= high_k))
        kinds.append(columns.kind)
    print("90 % intervals, calibrated on one half of the networks and checked on the other:")
    holds = np.concatenate(networks)
    print(f"networks {holds.mean():.1%} of {len(holds)}")
    holds, kind = np.concatenate(kernels), np.concatenate(kinds)
    for i, name in enumerate(CLASSES):
        if (kind == i).any():
            print(f"{name} kernels {holds[kind == i].mean():.1%} of {(kind == i).sum():,}")


if __name__ == "__main__":
    main()

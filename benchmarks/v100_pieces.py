"""The pieces of the V100 benchmark: one model, fitted on one split of one table, kept on disk.

A piece takes about a minute; the benchmark runs those that are missing, so that it may be
interrupted, and run in parts.
"""

from __future__ import annotations

import functools
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from v100_baselines import BASELINES
from v100_splits import Split, split

from hwnas.latency import features, roofline
from hwnas.latency.columns import Columns, from_kernels
from hwnas.latency.predictor import session
from hwnas.latency.regressors import Mlp, Regressor, Trees
from hwnas.latency.regressors.base import INPUT
from hwnas.latency.tables import KernelTable, read
from hwnas.store.files import new_folder

BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0}
FEATURES = "gpu"

SHIPPED = "perceptrons"
REGRESSORS: dict[str, Regressor] = {SHIPPED: Mlp(), "trees": Trees(500, 63, 0.15, 10)}
BLENDED = {SHIPPED: 0.7, "trees": 0.3}
MODELS = (*REGRESSORS, "blend", *BASELINES)

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Data:
    """A precision's table as arrays."""

    table: KernelTable
    columns: Columns


@dataclass(frozen=True)
class HeldOutPiece:
    """Rows that were held out, what they took and what a model that had not seen them says."""

    columns: Columns
    both: NDArray[np.bool_]
    measured_s: Seconds
    predicted_s: Seconds


class Pieces:
    """Runs pieces and keeps their predictions.

    Args:
        data: folder of the measured tables.
        work: folder of the pieces that were run.
    """

    def __init__(self, data: Path, work: Path) -> None:
        self._data = data
        self._work = work

    @functools.cache  # noqa: B019 (one object a run)
    def data(self, precision: str) -> Data:
        table = read(self._data / f"conv_{precision}.csv.gz")
        return Data(table, from_kernels(table.kernels))

    def split(self, precision: str, name: str, seed: int) -> Split:
        return split(name, self.data(precision).columns, seed)

    def path(self, precision: str, name: str, seed: int, model: str) -> Path:
        settings = repr(REGRESSORS.get(model, model))
        if model in REGRESSORS:
            one = self.data(precision).columns.take([0])
            settings += repr(features.build(FEATURES, one, np.ones(1))[0])
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        return self._work / f"{precision}-{name}-{seed}-{model}-{digest}"

    def missing(self, precision: str, name: str, seed: int, model: str) -> bool:
        parts = BLENDED if model == "blend" else (model,)
        return any(not self.path(precision, name, seed, part).exists() for part in parts)

    def get(self, precision: str, name: str, seed: int, model: str) -> HeldOutPiece:
        """Return a piece, running it where it is missing."""
        found = self.data(precision)
        held = self.split(precision, name, seed)
        if model == "blend":
            logs = sum(
                share * np.log(self.get(precision, name, seed, part).predicted_s)
                for part, share in BLENDED.items()
            )
            predicted = np.exp(logs)
        else:
            path = self.path(precision, name, seed, model)
            if not path.exists():
                began = time.process_time()
                answers = run(model, precision, found, held, seed)
                with new_folder(path) as folder:
                    np.save(folder / "predicted.npy", answers)
                spent = time.process_time() - began
                print(f"ran {precision} {name} {seed} {model} in {spent:.0f} s", flush=True)
            predicted = np.load(path / "predicted.npy")
        return HeldOutPiece(
            found.columns.take(held.test),
            held.both[held.test],
            found.table.seconds[held.test],
            predicted,
        )


def run(model: str, precision: str, data: Data, held: Split, seed: int) -> Seconds:
    """Fit a model to a split's rows and return what it says of those held out."""
    known, asked = data.columns.take(held.train), data.columns.take(held.test)
    seconds = data.table.seconds[held.train]
    if model in BASELINES:
        return BASELINES[model](known, seconds, asked, seed)
    peaks = roofline.fit(known, seconds, BYTES[precision])
    at_peak, of_asked = peaks.seconds(known), peaks.seconds(asked)
    written = REGRESSORS[model].fit(
        features.build(FEATURES, known, at_peak)[1], np.log(seconds / at_peak), None
    )
    table = features.build(FEATURES, asked, of_asked)[1]
    (ratio,) = session(written.SerializeToString()).run(None, {INPUT: table})
    return of_asked * np.exp(ratio[:, 0].astype(np.float64))

"""The pieces of the V100 benchmark: one model, fitted on one split of the tables, kept on disk.

A piece takes about a minute; the benchmark runs those that are missing, so that it may be
interrupted, and run in parts. What answers with the mean of several perceptrons is made of theirs.
"""

from __future__ import annotations

import functools
import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from v100_baselines import BASELINES
from v100_splits import Split, split

from hwnas.latency import features, roofline
from hwnas.latency.columns import Columns, from_kernels
from hwnas.latency.regressors import Mlp, Regressor, Trees
from hwnas.latency.residual import INPUT, session
from hwnas.latency.tables import KernelTable, read
from hwnas.latency.together import Learned, Measured, learn, merged

BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0}
FEATURES = "gpu"

SHIPPED = "perceptrons"
HIDING = Mlp(hidden_inputs=features.repeating(FEATURES), hidden_share=0.3)
# Learned from all precisions at once; several answer with their mean.
TOGETHER = {
    SHIPPED: tuple(replace(HIDING, seed=seed) for seed in range(3)),
    "one perceptron": (HIDING,),
    "nothing hidden": (Mlp(),),
}
REGRESSORS: dict[str, Regressor] = {"trees": Trees(500, 63)}
MODELS = (*TOGETHER, *REGRESSORS, *BASELINES)

Part: TypeAlias = Mlp | str
"""What is fitted by itself: a perceptron, or a model by its name."""

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOutPiece:
    """Kernels that were held out, what they took and what a model that had not seen them says.

    `rows` are their places in the table.
    """

    rows: NDArray[np.int64]
    columns: Columns
    resolution: NDArray[np.bool_]
    channels: NDArray[np.bool_]
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
    def table(self, precision: str) -> KernelTable:
        return read(self._data / f"conv_{precision}.csv.gz")

    @functools.cached_property
    def _together(self) -> tuple[Columns, dict[str, NDArray[np.int64]]]:
        """The distinct kernels of all precisions, and which of them a table's rows are."""
        kernels, rows = merged([from_kernels(self.table(p).kernels) for p in BYTES])
        return kernels, dict(zip(BYTES, rows, strict=True))

    def measured(self, precision: str, fitted: NDArray[np.bool_] | None = None) -> Measured:
        """Return a table's rows, or those whose kernels a split leaves in."""
        kernels, rows = self._together
        seconds = self.table(precision).seconds
        place = rows[precision]
        keep = np.ones(len(place), dtype=bool) if fitted is None else fitted[place]
        return Measured(kernels.take(place[keep]), seconds[keep], BYTES[precision])

    @functools.lru_cache(maxsize=4)  # noqa: B019
    def split(self, name: str, seed: int) -> Split:
        return split(name, self._together[0], seed)

    def missing(self, precision: str, name: str, seed: int, model: str) -> bool:
        paths = (self._path(precision, name, seed, part) for part in parts(model))
        return not all(path.exists() for path in paths)

    def get(self, precision: str, name: str, seed: int, model: str) -> HeldOutPiece:
        """Return a piece, running it where it is missing."""
        held = self.split(name, seed)
        told = [self._part(precision, name, seed, part) for part in parts(model)]
        place = self._together[1][precision]
        test = np.flatnonzero(held.test[place])
        return HeldOutPiece(
            test,
            self._together[0].take(place[test]),
            held.resolution[place[test]],
            held.channels[place[test]],
            self.table(precision).seconds[test],
            np.exp(np.mean(np.log(told), axis=0)),
        )

    def shipped(self) -> dict[str, Learned]:
        """Return what is learned from all rows, learning it where it is missing."""
        paths = {p: self._work / f"all-{p}-{digest(TOGETHER[SHIPPED])}.onnx" for p in BYTES}
        if not all(path.exists() for path in paths.values()):
            began = time.process_time()
            learned = learn([self.measured(p) for p in BYTES], FEATURES, TOGETHER[SHIPPED])
            self._work.mkdir(parents=True, exist_ok=True)
            for path, each in zip(paths.values(), learned, strict=True):
                path.write_bytes(each.model.SerializeToString())
            print(f"learned all rows in {time.process_time() - began:.0f} s", flush=True)
        return {p: Learned(onnx.load(path)) for p, path in paths.items()}

    def _path(self, precision: str, name: str, seed: int, part: Part) -> Path:
        return self._work / f"{name}-{seed}-{precision}-{label(part)}-{digest(part)}.npy"

    def _part(self, precision: str, name: str, seed: int, part: Part) -> Seconds:
        """Return what a part of a model says, running it where it is missing."""
        path = self._path(precision, name, seed, part)
        if not path.exists():
            began = time.process_time()
            # What learns the precisions together answers for all of them.
            precisions = tuple(BYTES) if isinstance(part, Mlp) else (precision,)
            answers = self._run(precisions, self.split(name, seed), part, seed)
            for each, predicted in answers.items():
                save(self._path(each, name, seed, part), predicted)
            spent = time.process_time() - began
            ran = f"{name} {seed} {' '.join(precisions)} {label(part)} {digest(part)}"
            print(f"ran {ran} in {spent:.0f} s", flush=True)
        predicted: Seconds = np.load(path)
        return predicted

    def _run(
        self, precisions: tuple[str, ...], held: Split, part: Part, seed: int
    ) -> dict[str, Seconds]:
        """Fit a part of a model to a split's rows; return what it says of those held out."""
        fitted = [self.measured(p, held.train) for p in precisions]
        asked = [self.measured(p, held.test).columns for p in precisions]
        if isinstance(part, Mlp):
            written = [learned.model for learned in learn(fitted, FEATURES, [part])]
        elif part in REGRESSORS:
            written = [learn_alone(fitted[0], REGRESSORS[part])]
        else:
            known = fitted[0]
            answers = BASELINES[part](known.columns, known.seconds, asked[0], seed)
            return {precisions[0]: answers}
        return {
            precision: seconds(learned, known, columns)
            for precision, learned, known, columns in zip(
                precisions, written, fitted, asked, strict=True
            )
        }


def parts(model: str) -> tuple[Part, ...]:
    """Return what is fitted by itself of a model."""
    return TOGETHER.get(model, (model,))


def label(part: Part) -> str:
    """Return what a part of a model is called."""
    return "perceptron" if isinstance(part, Mlp) else part


def digest(part: Part | tuple[Mlp, ...]) -> str:
    """Return a short name of what decides a fit: another one is another piece."""
    settings = repr(REGRESSORS.get(part, part) if isinstance(part, str) else part)
    if part not in BASELINES:
        settings += repr(features.names(FEATURES))
    return hashlib.sha256(settings.encode()).hexdigest()[:8]


def learn_alone(known: Measured, regressor: Regressor) -> onnx.ModelProto:
    """Return a regressor's model of one table."""
    peaks = roofline.fit(known.columns, known.seconds, known.bytes_per_value)
    at_peak = peaks.seconds(known.columns)
    inputs = features.build(FEATURES, known.columns, at_peak)[1]
    return regressor.fit(inputs, np.log(known.seconds / at_peak), None)


def seconds(model: onnx.ModelProto, known: Measured, asked: Columns) -> Seconds:
    """Return what a model says that was fitted to `known`."""
    peaks = roofline.fit(known.columns, known.seconds, known.bytes_per_value)
    at_peak = peaks.seconds(asked)
    inputs = features.build(FEATURES, asked, at_peak)[1]
    (ratio,) = session(model.SerializeToString()).run(None, {INPUT: inputs})
    return at_peak * np.exp(ratio[:, 0].astype(np.float64))


def save(path: Path, values: Seconds) -> None:
    """Write an array so that it appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part.npy")
    np.save(beside, values)
    beside.replace(path)

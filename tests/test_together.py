"""Learning precisions together: which rows are the same kernel, and models that stand alone."""

from __future__ import annotations

import numpy as np

from hwnas.latency.columns import Columns, from_kernels
from hwnas.latency.evaluation import accuracy
from hwnas.latency.fitting import fit
from hwnas.latency.intervals import HeldOut
from hwnas.latency.regressors import Mlp
from hwnas.latency.together import Measured, learn, merged
from hwnas.lowering.kernels import Kernel


def kernels(count: int, seed: int) -> Columns:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        side, into, out = (int(v) for v in rng.integers((4, 8, 8), (64, 512, 512)))
        found.append(Kernel("conv", 32, into, (side, side), out, (side, side), (3, 3)))
    return from_kernels(found)


def seconds(c: Columns, macs_per_s: float) -> np.ndarray:
    """A device that is slow where channels do not fill its tiles."""
    return 1e-5 + c.macs / macs_per_s * (1 + 64 / c.out_channels)


def test_merging_keeps_every_row() -> None:
    a, b = kernels(50, 0), kernels(50, 1)
    tables = [a, b.take(slice(None, None, -1)), a.take([7, 3])]
    distinct, rows = merged(tables)
    assert len(distinct) == 100
    for table, where in zip(tables, rows, strict=True):
        for name in Columns.__dataclass_fields__:
            assert np.array_equal(getattr(distinct.take(where), name), getattr(table, name))
    assert distinct.kind.dtype == a.kind.dtype


def test_precisions_learned_together_are_predicted_apart() -> None:
    rates = (1e12, 4e12)
    tables = []
    for seed, rate in enumerate(rates):
        columns = kernels(1500, seed)
        tables.append(Measured(columns, seconds(columns, rate), 4.0 / (seed + 1)))
    learned = learn(tables, "gpu", [Mlp(width=32, layers=2, epochs=15, batch=128)])
    asked = kernels(300, 9)
    for table, regressor, rate in zip(tables, learned, rates, strict=True):
        predictor = fit(
            table.columns,
            table.seconds,
            device="d",
            runtime="r",
            precision="p",
            feature_set="gpu",
            bytes_per_value=table.bytes_per_value,
            provenance={},
            held_out={"asked": HeldOut(asked.kind, seconds(asked, rate), seconds(asked, rate))},
            regressor=regressor,
        )
        assert accuracy(seconds(asked, rate), predictor.seconds(asked))["mape"] < 0.05

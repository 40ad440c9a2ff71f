"""Compare a predictor with measured kernels, or blocks of kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..devices.spec import DeviceSpec
from ..latency.columns import from_kernels
from ..latency.evaluation import accuracy, kendall_tau
from ..latency.tables import read
from .exchange import account_of, refuse
from .predict import load_predictor


def evaluate(
    path: Path,
    device: DeviceSpec,
    confidence: float = 0.9,
    *,
    format: str | None = None,
    bad_rows: str = "skip",
) -> dict[str, Any]:
    """Return errors, rank correlation and interval coverage of a device's predictor on a table.

    Rows that make no sense are left out and named; with `bad_rows="stop"` they are refused.

    Raises:
        UsageError: the table cannot be read, or has bad rows that are not to be skipped.
        HwnasError: the device has no predictor yet.
    """
    predictor = load_predictor(device)
    table = read(path, format, batch=device.batch, fusion=device.fusion)
    account = account_of(table)
    if bad_rows == "stop":
        refuse(path, account)
    columns = from_kernels(table.kernels)
    predicted = predictor.seconds(columns)
    low: Any
    high: Any
    if table.of == "blocks":
        predicted = np.bincount(table.rows, weights=predicted).astype(np.float64)
        low, high = predictor.card.network_quantiles.factors(confidence)
    else:
        low, high = predictor.kernel_factors(columns, confidence)
    covered = (low * predicted <= table.seconds) & (table.seconds <= high * predicted)
    return {
        "schema": "hwnas.evaluate/1",
        "device": device.name,
        **accuracy(table.seconds, predicted),
        "of": table.of,
        "kendall_tau": kendall_tau(table.seconds, predicted),
        "coverage": float(np.mean(covered)),
        "confidence": confidence,
        **account,
    }

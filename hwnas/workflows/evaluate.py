"""Compare a predictor with measured kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..devices.spec import DeviceSpec
from ..latency.columns import from_kernels
from ..latency.evaluation import accuracy, kendall_tau
from ..latency.tables import read
from .predict import load_predictor


def evaluate(path: Path, device: DeviceSpec, confidence: float = 0.9) -> dict[str, Any]:
    """Return errors, rank correlation and interval coverage of a device's predictor on a table.

    Raises:
        UsageError: the table cannot be read.
        HwnasError: the device has no predictor yet.
    """
    predictor = load_predictor(device)
    table = read(path)
    columns = from_kernels(table.kernels)
    predicted = predictor.seconds(columns)
    low, high = predictor.kernel_factors(columns, confidence)
    covered = (low * predicted <= table.seconds) & (table.seconds <= high * predicted)
    return {
        "schema": "hwnas.evaluate/1",
        "device": device.name,
        **accuracy(table.seconds, predicted),
        "rows": len(table.seconds),
        "kendall_tau": kendall_tau(table.seconds, predicted),
        "coverage": float(np.mean(covered)),
        "confidence": confidence,
        "failed_rows": table.failed,
        "bad_rows": list(table.bad),
    }

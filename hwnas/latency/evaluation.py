"""How good predictions are: errors, rank correlation, and whether intervals keep their word."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def accuracy(measured: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, float]:
    """Return mean and median absolute relative error and the shares within 5, 10 and 20 %."""
    error = np.abs(predicted / measured - 1)
    return {
        "rows": float(len(error)),
        "mape": float(error.mean()),
        "median_ape": float(np.median(error)),
        **{f"within_{p}": float((error <= p / 100).mean()) for p in (5, 10, 20)},
    }


def kendall_tau(measured: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Return Kendall's rank correlation."""
    from scipy.stats import kendalltau

    return float(kendalltau(measured, predicted).statistic)

"""What every regressor promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

Table = NDArray[np.float32]
Target = NDArray[np.float64]


class Regressor(Protocol):
    """Learns one number from a row of features."""

    def fit(self, table: Table, target: Target, weight: Target | None) -> onnx.ModelProto:
        """Return the fitted model, as `latency.residual` describes it.

        Args:
            table: features [kernels, features].
            target: log(measured / roofline) [kernels].
            weight: what each kernel counts [kernels]; None where all count the same.
        """

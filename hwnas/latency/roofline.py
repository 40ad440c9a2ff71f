"""The roofline: what a kernel takes at the device's peaks. Every prediction starts from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .columns import CLASSES, Column, Columns

LIKE = {
    "grouped": "dense",
    "matmul": "pointwise",
    "reduce": "pool",
    **dict.fromkeys(("elementwise", "normalise", "transpose", "resize", "rearrange"), "copy"),
    "transcendental": "other",
}
"""The class whose peak also stands for another's; their measured ratio is learned."""


@dataclass(frozen=True)
class Roofline:
    """A smooth maximum of arithmetic and memory time, plus a launch cost (Williams et al. 2009).

    Attributes:
        macs_per_s: peak multiply-adds per second, by class of kernel; a class that is not named
            takes the peak of the class that it is `LIKE`.
        bytes_per_s: memory bandwidth.
        launch_s: what every kernel costs.
        bytes_per_value: size of an activation or a weight.
        half: by class of convolution, how many output positions, output channels and multiply-adds
            per output element cost as much again as the kernel's own: a kernel that is that
            small in one of the three runs at half its peak (n_1/2 of Hockney and Jesshope, 1981).
            A class that is absent runs at its peak at any size.
    """

    macs_per_s: dict[str, float]
    bytes_per_s: float
    launch_s: float
    bytes_per_value: float
    half: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def peak(self, name: str) -> float:
        """Return the multiply-adds per second of a class."""
        if name in self.macs_per_s:
            return self.macs_per_s[name]
        return self.macs_per_s[LIKE[name]]

    def seconds(self, columns: Columns) -> Column:
        """Return the time of each kernel at the device's peaks; positive for every operator."""
        peaks = np.array([self.peak(name) for name in CLASSES])
        arithmetic = self._work(columns) / peaks[columns.kind]
        values = columns.values_in + columns.values_out + columns.values_weight
        memory = self.bytes_per_value / self.bytes_per_s * values
        # A fourth power bends smoothly where the two meet; square roots are quicker than **0.25.
        squares = np.square(np.square(arithmetic)) + np.square(np.square(memory))
        seconds: Column = np.sqrt(np.sqrt(squares)) + self.launch_s
        return seconds

    def _work(self, columns: Columns) -> Column:
        """Return multiply-adds, plus those that the time of filling and draining would do."""
        if not self.half:
            return columns.macs
        none = (0.0, 0.0, 0.0)
        alike = {a: b for a, b in LIKE.items() if a not in self.macs_per_s}
        by_class = [self.half.get(alike.get(name, name), none) for name in CLASSES]
        rows, width, depth = np.array(by_class).T[:, columns.kind]
        filled: Column = (columns.rows + rows) * (columns.out_channels + width)
        filled *= np.where(columns.multiplies, columns.depth, columns.kernel) + depth
        return filled


def fit(
    columns: Columns,
    seconds: NDArray[np.float64],
    bytes_per_value: float,
    blocks: NDArray[np.int64] | None = None,
) -> Roofline:
    """Fit the peaks to measured kernels by robust least squares of log(measured / roofline).

    Classes that are alike share a peak: few rows of one would not tell it. The product of one row
    in a classifier, say, waits for its weights; by a peak fitted to a few of these, a transformer's
    products would take ten times as long as they do.

    Args:
        columns: the kernels.
        seconds: what each took; with `blocks`, what each block took.
        bytes_per_value: size of an activation.
        blocks: the block of each kernel, ascending, where only sums were measured.
    """
    from scipy.optimize import least_squares

    roots = [name for name in CLASSES if name not in LIKE]
    known = {CLASSES[kind] for kind in np.unique(columns.kind)}
    measured = sorted({LIKE.get(name, name) for name in known}, key=CLASSES.index)
    rng = np.random.default_rng(0)
    some = rng.permutation(len(seconds))[:5000]
    target = np.log(seconds[some])
    if blocks is None:
        few = columns.take(some)
        starts = np.arange(len(some))
    else:
        first, last = (np.searchsorted(blocks, some, side) for side in ("left", "right"))
        ranges = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
        few = columns.take(np.concatenate(ranges))
        starts = np.concatenate([[0], np.cumsum(last - first)[:-1]])

    def build(logs: NDArray[np.float64]) -> Roofline:
        values = np.exp(logs)
        peaks = dict(zip(measured, values[2:].tolist(), strict=True))
        default = peaks.get("dense", max(peaks.values()))
        return Roofline(
            {name: peaks.get(name, default) for name in roots},
            float(values[0]),
            float(values[1]),
            bytes_per_value,
        )

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        difference: NDArray[np.float64] = (
            np.log(np.add.reduceat(build(logs).seconds(few), starts)) - target
        )
        return difference

    seconds, values = seconds[some], few.values_in + few.values_out + few.values_weight
    best_rate = float(np.quantile(np.add.reduceat(few.macs, starts) / seconds, 0.99))
    values = np.add.reduceat(values, starts)
    best_bytes = bytes_per_value * float(np.quantile(values / seconds, 0.95))
    start = np.log([best_bytes, float(np.quantile(seconds, 0.02)), *[best_rate] * len(measured)])
    bounds = (start - np.log(1e3), start + np.log(1e2))
    return build(least_squares(residuals, start, bounds=bounds, loss="soft_l1", f_scale=0.2).x)

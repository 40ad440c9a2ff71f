"""One roofline from several sources: tables give its shape, whole networks its scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pixel_sources import Source

from hwnas.latency.columns import CLASSES, Columns
from hwnas.latency.roofline import Roofline

BYTES_PER_VALUE = 4.0
Networks = dict[str, tuple[Columns, NDArray[np.float64]]]
"""Kernels and published seconds by network."""

Summing = Callable[[Roofline, float], NDArray[np.float64]]
"""From a roofline and a further launch cost to the seconds of each measurement of a source."""

# What is fitted, in logarithms: a first guess, and by how many e-folds the truth may differ.
PARAMETERS = {
    "macs_per_s": (8e9, 9.0),
    "dense_over_pointwise": (1.0, 0.3),
    "depthwise_over_pointwise": (0.4, 0.9),
    "bytes_per_s": (5e9, 0.5),
    "launch_s": (2e-6, 1.5),
    "half_rows": (4.0, 1.0),
    "half_width": (8.0, 1.0),
    "half_depth": (8.0, 1.0),
    "half_depth_depthwise": (3.0, 1.0),
}
COUNT = len(PARAMETERS)
NETWORK_SPREAD = 0.03
"""How far two runtimes of one class lie apart on one network, as a logarithm."""


@dataclass(frozen=True)
class Shape:
    """A source of relative speeds. Its runtime has scale, launch cost and constant of its own.

    `spread` is what its kernels scatter about any roofline, `weight` how many measurements the
    source counts as: the rows of one table share their errors.
    """

    name: str
    source: Source
    spread: float
    weight: float
    start: tuple[float, float, float]


def roofline_of(values: Sequence[float]) -> Roofline:
    """Return the roofline of the values of PARAMETERS."""
    named = dict(zip(PARAMETERS, values, strict=True))
    peak = named["macs_per_s"]
    full = (named["half_rows"], named["half_width"], named["half_depth"])
    peaks = dict.fromkeys(CLASSES, peak)
    peaks["dense"] = peak * named["dense_over_pointwise"]
    peaks["depthwise"] = peak * named["depthwise_over_pointwise"]
    return Roofline(
        peaks,
        named["bytes_per_s"],
        named["launch_s"],
        BYTES_PER_VALUE,
        {
            **dict.fromkeys(("dense", "pointwise", "grouped"), full),
            "depthwise": (0.0, 0.0, named["half_depth_depthwise"]),
        },
    )


def fit(shapes: Sequence[Shape], networks: Networks) -> tuple[Roofline, NDArray[np.float64]]:
    """Return the roofline and [sources, 3] of what each source's runtime differs by."""
    from scipy.optimize import least_squares

    sums = [summing(shape.source) for shape in shapes]
    start = np.log(
        [guess for guess, _ in PARAMETERS.values()] + [v for shape in shapes for v in shape.start]
    )
    widths = [width for _, width in PARAMETERS.values()] + [9.0, 1.0, 9.0] * len(shapes)

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        values = np.exp(logs)
        roofline = roofline_of(values[:COUNT].tolist())
        parts = [(logs - start) / widths]
        for shape, total, scale in zip(shapes, sums, values[COUNT:].reshape(-1, 3), strict=True):
            predicted = of_source(total, roofline, scale)
            ratio = np.log(predicted / shape.source.seconds) / shape.spread
            # soft_l1 by hand: tables have rows that are off by a factor, published networks none
            bent = np.sign(ratio) * np.sqrt(2 * (np.sqrt(1 + np.square(ratio)) - 1))
            parts.append(bent * np.sqrt(min(1.0, shape.weight / len(ratio))))
        for columns, seconds in networks.values():
            ratio = np.log(roofline.seconds(columns).sum()) - np.log(seconds).mean()
            parts.append(np.array([ratio / NETWORK_SPREAD]))
        return np.concatenate(parts)

    values = np.exp(least_squares(residuals, start).x)
    return roofline_of(values[:COUNT].tolist()), values[COUNT:].reshape(-1, 3)


def summing(source: Source) -> Summing:
    """Return what sums a source's kernels; equal kernels, as FBNets share many, are asked once."""
    from scipy.sparse import csr_matrix

    table = np.stack([getattr(source.columns, n) for n in Columns.__dataclass_fields__], axis=1)
    _, first, which = np.unique(table, axis=0, return_index=True, return_inverse=True)
    distinct = source.columns.take(first)
    counts = csr_matrix((np.ones(len(which)), (source.rows, which.ravel())))

    def total(roofline: Roofline, extra_launch_s: float) -> NDArray[np.float64]:
        result: NDArray[np.float64] = counts @ (roofline.seconds(distinct) + extra_launch_s)
        return result

    return total


def of_source(
    total: Summing, roofline: Roofline, scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the seconds of a source's measurements under its own scale, launch and constant."""
    return scale[2] + scale[0] * total(roofline, scale[1] - roofline.launch_s)

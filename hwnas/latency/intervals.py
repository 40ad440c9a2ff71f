"""Intervals: quantiles of measured / predicted on what a fit had not seen, by class of kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .columns import CLASSES
from .draws import widened
from .predictor import Quantiles

CONFIDENCES = (0.5, 0.8, 0.9, 0.95, 0.98)

LEAST_OF_A_CLASS = 200
"""Held-out kernels from which a class has quantiles of its own alone; below, it is rare."""

LEAST_OF_RARE = 20
"""Held-out kernels of rare classes, together, that 90 % intervals can be told from."""

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Kernels with their class, and what models that had not seen them predicted.

    `draws` says which kernels were held out together, where several draws were made and intervals
    are to hold for the next.
    """

    kind: NDArray[np.int8]
    measured_s: Seconds
    predicted_s: Seconds
    draws: NDArray[np.int64] | None = None


def quantiles(log_ratios: Seconds, of: str) -> Quantiles:
    """Return split-conformal bounds: the ranks that cover at least the stated share."""
    ordered = np.sort(log_ratios)
    count = len(ordered)
    low, high = [], []
    for confidence in CONFIDENCES:
        tail = (1 - confidence) / 2
        rank = int(np.floor(tail * (count + 1)))
        low.append(float(ordered[max(rank - 1, 0)]))
        high.append(float(ordered[min(count - rank, count - 1)]))
    return Quantiles(CONFIDENCES, tuple(low), tuple(high), count, of)


def quantiles_of_few(log_ratios: Seconds, of: str) -> Quantiles:
    """Return bounds for one more of the same kind, from too few ratios for split conformal bounds.

    These need 1 / (1 - confidence) ratios, so as many are assumed to be normal about zero, with
    the spread that they show: Student's t with one degree of freedom less than there are ratios.
    """
    from scipy.stats import t

    count = len(log_ratios)
    spread = np.sqrt(np.mean(np.square(log_ratios)) * (1 + 1 / count))
    high = spread * t.ppf((1 + np.array(CONFIDENCES)) / 2, count - 1)
    return Quantiles(CONFIDENCES, tuple((-high).tolist()), tuple(high.tolist()), count, of)


def kernel_quantiles(held_out: HeldOut) -> dict[str, Quantiles]:
    """Return quantiles of all held-out kernels, and of each class by itself.

    Rare classes are harder to predict than all kernels on the whole, and their few rows, mostly of
    very few networks, tell little about others. So each has the wider of two bounds: those of its
    own rows, if there are any, and those of the rows of all rare classes together.
    """
    ratios = np.log(held_out.measured_s / held_out.predicted_s)
    count = np.bincount(held_out.kind, minlength=len(CLASSES))
    rare = (count < LEAST_OF_A_CLASS)[held_out.kind]

    def bounds(rows: NDArray[np.bool_], of: str = "kernels") -> Quantiles:
        found = quantiles(ratios[rows], of)
        draws = held_out.draws
        return found if draws is None else widened(found, ratios[rows], draws[rows])

    found = {"all": bounds(np.ones(len(ratios), dtype=bool))}
    shared = bounds(rare, "kernels of rare classes") if rare.sum() >= LEAST_OF_RARE else None
    for kind, name in enumerate(CLASSES):
        of_class = held_out.kind == kind
        if count[kind] >= LEAST_OF_A_CLASS:
            found[name] = bounds(of_class)
        elif shared is not None:
            found[name] = _wider(shared, bounds(of_class)) if count[kind] else shared
    return found


def _wider(a: Quantiles, b: Quantiles) -> Quantiles:
    """Return bounds that are no narrower than either; what they rest on is told as of `a`."""
    return replace(a, low=tuple(map(min, a.low, b.low)), high=tuple(map(max, a.high, b.high)))


def no_quantiles() -> Quantiles:
    """Return what stands for bounds until they are known."""
    return Quantiles((0.0, 1.0), (0.0, 0.0), (0.0, 0.0), 0, "nothing")

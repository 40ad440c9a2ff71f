"""What the V100 predictors are compared with, each written from its description.

- `interpolation`: the method of the reference toolbox (alibaba/lightweight-neural-architecture-
  search): for each kind of kernel, batch and ratio of channels, linear interpolation over output
  channels and resolution, the nearest point outside the hull, linear between ratios.
- `forest`: nn-Meter's (Zhang et al., MobiSys 2021): resolution, channels, kernel, stride, FLOPs
  and parameters, one random forest for convolutions and one for depthwise ones; batch and the
  fused addition, which its kernels do not have, are added to its features.
- `flops`: seconds proportional to multiply-adds plus a constant, by class of kernel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.latency.columns import CLASSES, Columns

Seconds = NDArray[np.float64]


def interpolation(known: Columns, seconds: Seconds, asked: Columns, seed: int) -> Seconds:
    """Interpolate the table; a kind of kernel without a table takes its nearest ratio's."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
    from scipy.spatial import QhullError

    def ratio(c: Columns) -> Seconds:
        # Images have three channels whatever the output's: a table of their own.
        return np.where(c.in_channels == 3, 0.0, c.in_channels / c.out_channels)

    def keys(c: Columns) -> list[tuple[float, ...]]:
        depthwise = c.kind == CLASSES.index("depthwise")
        return list(
            zip(*(v.tolist() for v in (depthwise, c.stride, c.fused_add, c.kernel, c.batch)),
                strict=True)
        )  # fmt: skip

    def points(c: Columns, rows: NDArray[np.int64]) -> Seconds:
        return np.stack([c.out_channels[rows], c.in_height[rows]], axis=1)

    tables: dict[tuple[float, ...], dict[float, list[int]]] = {}
    for row, (key, share) in enumerate(zip(keys(known), ratio(known).tolist(), strict=True)):
        tables.setdefault(key, {}).setdefault(share, []).append(row)
    answers = np.empty(len(asked))
    wanted: dict[tuple[float, ...], list[int]] = {}
    for row, key in enumerate(keys(asked)):
        wanted.setdefault(key, []).append(row)
    for key, listed in wanted.items():
        rows = np.array(listed)
        at, shares = points(asked, rows), ratio(asked)[rows]
        levels = np.array(sorted(tables[key]))
        surfaces = np.empty((len(levels), len(rows)))
        for i, level in enumerate(levels):
            where = np.array(tables[key][level])
            base, values = points(known, where), seconds[where]
            nearest = NearestNDInterpolator(base, values, rescale=True)(at)
            try:
                linear = LinearNDInterpolator(base, values)(at)
            except QhullError:  # too few points for a surface
                linear = np.full(len(at), np.nan)
            surfaces[i] = np.where(linear > 0, linear, nearest)
        answers[rows] = [
            _between(levels, surface, share)
            for surface, share in zip(surfaces.T, shares.tolist(), strict=True)
        ]
    return answers


def _between(levels: Seconds, surface: Seconds, share: float) -> float:
    """Interpolate between ratios of channels, over those where the latency increases."""
    if (exact := np.flatnonzero(levels == share)).size:
        return float(surface[exact[0]])
    ratios, values = levels[levels > 0], surface[levels > 0]
    keep = [0]
    for i in range(1, len(values)):
        if len(keep) < 2 or values[i] > values[keep[-1]]:
            keep.append(i)
    x, y = ratios[keep], values[keep]
    if len(x) == 1 or x[0] <= share <= x[-1]:
        return float(np.interp(share, x, y))
    near = slice(0, 2) if share < x[0] else slice(-2, None)
    slope, start = np.polyfit(x[near], y[near], 1)
    guess = float(slope * share + start)
    return guess if guess > 0 else float(share / x[0] * y[0])


def forest(known: Columns, seconds: Seconds, asked: Columns, seed: int) -> Seconds:
    """Predict by random forests on nn-Meter's features."""
    from sklearn.ensemble import RandomForestRegressor

    def features(c: Columns) -> Seconds:
        sizes = (c.in_height, c.in_channels, c.out_channels, np.sqrt(c.kernel), c.stride)
        work = (c.macs / c.batch / 1e6, c.values_weight / 1e6)
        return np.stack([*sizes, *work, c.batch, c.fused_add], axis=1)

    answers = np.empty(len(asked))
    depthwise = CLASSES.index("depthwise")
    for group in (False, True):
        fitted, rows = (known.kind == depthwise) == group, (asked.kind == depthwise) == group
        if rows.any():
            model = RandomForestRegressor(100, max_features=6, random_state=seed)
            model.fit(features(known.take(fitted)), seconds[fitted])
            answers[rows] = model.predict(features(asked.take(rows)))
    return answers


def flops(known: Columns, seconds: Seconds, asked: Columns, seed: int) -> Seconds:
    """Fit rate and constant to relative errors; neither is negative."""
    from scipy.optimize import nnls

    answers = np.empty(len(asked))
    for kind in np.unique(asked.kind):
        fitted, rows = known.kind == kind, asked.kind == kind
        scale = known.macs.max()
        design = np.stack([np.ones(fitted.sum()), known.macs[fitted] / scale], axis=1)
        weights, _ = nnls(design / seconds[fitted, None], np.ones(len(design)))
        answers[rows] = weights[0] + weights[1] * asked.macs[rows] / scale
    return answers


BASELINES = {"interpolation": interpolation, "forest": forest, "flops": flops}

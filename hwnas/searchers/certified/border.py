"""The border's share bounded from above, per row, kernel, depth and layers so far.

What zero padding takes away in a row depends on the profile that enters, and so on all kernels and
depths before. Where these are too many to follow one by one, one profile p stands for similar ones
q, within a distance: Hilbert's projective metric, the range of log(q/p). Box sums are positive
linear maps, under which it never grows. So at each row the others are p times a factor between 1
and exp(distance) by position, and the largest ratio of means over all such factors is their bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...scores.border import BorderState, box_mean
from .states import States
from .terms import Array, RowTerms

MOST_PASTS = 4096
"""Pasts that are followed one by one."""

SPLITS = 9
"""How often more of them are split in two halves, each of which is then represented by one."""

BorderBound: TypeAlias = "list[dict[tuple[int, int], Array]]"
"""Per row, by kind and depth: the most that the border can add to the score, an array over the
states before the row; minus infinity where a state is not reached."""


@dataclass(frozen=True)
class _Axis:
    """Profiles of rows or of columns that may enter a row of a space.

    Attributes:
        profiles: (pasts, length), each of mean 1.
        distance: (pasts,) how far those that a profile stands for may lie from it.
    """

    profiles: Array
    distance: Array

    def most(self, kept: Array) -> Array:
        """Return the largest log mean behind layers that keep the share `kept` of each position."""
        order = np.argsort(-kept, kind="stable")
        mass = self.profiles[:, order]
        extra = np.expm1(self.distance)[:, None]
        zero = np.zeros((len(mass), 1))
        # Raised by exp(distance) are the positions that are kept best, as many as it pays.
        raised = np.concatenate([zero, np.cumsum(mass, axis=1)], axis=1) * extra
        raised_kept = np.concatenate([zero, np.cumsum(mass * kept[order], axis=1)], axis=1) * extra
        means = ((mass @ kept[order])[:, None] + raised_kept) / (mass.sum(axis=1)[:, None] + raised)
        best: Array = np.log(means.max(axis=1))
        return best

    def thinned(self, groups: Sequence[NDArray[np.intp]]) -> _Axis:
        """Return one profile per group, with the distance that reaches all of it."""
        profiles, distance = [], []
        for group in groups:
            chosen = self.profiles[group[len(group) // 2]]
            ratio = np.log(self.profiles[group] / chosen)
            apart = self.distance[group] + ratio.max(axis=1) - ratio.min(axis=1)
            profiles.append(chosen)
            distance.append(apart.max())
        return _Axis(np.stack(profiles), np.array(distance))


@dataclass(frozen=True)
class _Pasts:
    """What may enter a row: profiles per axis (one where the map is square), and `reached`, the
    mask over (pasts, states before the row) of what leads where."""

    axes: tuple[_Axis, ...]
    reached: NDArray[np.bool_]


def border_bound(
    rows: Sequence[RowTerms], states: States, image: BorderState | None
) -> BorderBound:
    """Return the bound for the rows of a space; 0 without an image."""
    if image is None:
        return [
            {
                (kind, depth): np.zeros(len(states.layers[r]))
                for kind in row.row.kinds
                for depth in row.row.depths
            }
            for r, row in enumerate(rows)
        ]
    axes = tuple(_Axis(profile[None], np.zeros(1)) for profile in image.profiles)
    pasts = _Pasts(axes, np.ones((1, 1), dtype=bool))
    bounds = []
    for r, row in enumerate(rows):
        bound: dict[tuple[int, int], Array] = {}
        behind = []
        for kind in row.row.kinds:
            for depth, gain, after in _followed(row, states, r, kind, pasts):
                most = np.where(pasts.reached, gain[:, None], -np.inf).max(axis=0)
                bound[kind, depth] = row.entropy.passed_on * most
                behind.append(after)
        bounds.append(bound)
        if r + 1 < len(rows):
            pasts = _joined(behind)
    return bounds


def _followed(
    row: RowTerms, states: States, r: int, kind: int, pasts: _Pasts
) -> Iterator[tuple[int, Array, _Pasts]]:
    """Yield, per depth, the most that the border adds to H in the row, and the pasts behind it."""
    patterns = {choice.activated for choice in row.choices if choice.kind == kind}
    first, rest = row.entropy.steps[kind]
    share = 0.5 if len(pasts.axes) == 2 else 1.0  # a square map has one profile for both axes
    profiles = [axis.profiles for axis in pasts.axes]
    units = [np.eye(axis.profiles.shape[1]) for axis in pasts.axes]
    for number in range(1, row.row.depths[-1] * row.row.unit + 1):
        for step in first if number == 1 else rest:
            profiles = [box_mean(profile, *step) for profile in profiles]
            units = [box_mean(unit, *step) for unit in units]
        depth, more = divmod(number, row.row.unit)
        if more or depth < row.row.depths[0]:
            continue
        kept = [len(unit) * unit.mean(axis=1) for unit in units]
        gains = [axis.most(k) for axis, k in zip(pasts.axes, kept, strict=True)]
        gain = share * np.sum(gains, axis=0)
        reached = np.zeros((len(pasts.reached), len(states.layers[r + 1])), dtype=np.bool_)
        for move in states.moves[r]:
            if move.depth == depth and move.activated in patterns:
                possible = np.flatnonzero(move.to >= 0)
                reached[:, move.to[possible]] |= pasts.reached[:, possible]
        axes = tuple(
            _Axis(profile / profile.mean(axis=1, keepdims=True), axis.distance)
            for profile, axis in zip(profiles, pasts.axes, strict=True)
        )
        yield depth, gain, _Pasts(axes, reached)


def _joined(behind: list[_Pasts]) -> _Pasts:
    """Join what several kernels and depths leave; where it is much, one stands for its like."""
    reached = np.concatenate([pasts.reached for pasts in behind])
    alive = np.flatnonzero(reached.any(axis=1))
    axes = [
        _Axis(
            np.concatenate([axis.profiles for axis in parts])[alive],
            np.concatenate([axis.distance for axis in parts])[alive],
        )
        for parts in zip(*(pasts.axes for pasts in behind), strict=True)
    ]
    reached = reached[alive]
    if len(alive) > MOST_PASTS:
        groups = _alike(np.log(np.concatenate([axis.profiles for axis in axes], axis=1)))
        axes = [axis.thinned(groups) for axis in axes]
        reached = np.stack([reached[group].any(axis=0) for group in groups])
    return _Pasts(tuple(axes), reached)


def _alike(points: Array) -> list[NDArray[np.intp]]:
    """Return groups of similar points: halves of halves along the axis of their largest range."""
    groups = [np.arange(len(points))]
    for _ in range(SPLITS):
        halves = []
        for group in groups:
            inside = points[group]
            widest = int((inside.max(axis=0) - inside.min(axis=0)).argmax())
            order = np.argsort(inside[:, widest], kind="stable")
            halves += [group[half] for half in np.array_split(order, 2) if len(half)]
        groups = halves
    return groups

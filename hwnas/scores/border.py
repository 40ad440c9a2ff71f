"""What zero padding takes away: the border's share in the second moment of a feature map.

With a constant interior, the second moment of a layer is a product of a row profile and a column
profile at every position, so one box sum per axis and per kxk layer follows it exactly. Profiles
are kept relative to the interior and to their own mean, whose logarithm is the gain.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..architecture.graph import Size

Profile = NDArray[np.float64]

Steps: TypeAlias = tuple[tuple[int, int], ...]
"""Kernel and stride of each layer that the border notices."""


class BorderState:
    """The profiles after a sequence of layers, and what the border has cost so far.

    `profiles` are those of rows and columns, one where the map is square, each of mean 1.
    `log_gain` is half the logarithm of the map's mean second moment over its interior value: what
    the border adds to H(Ci), never positive.
    """

    __slots__ = ("_next", "log_gain", "profiles")

    def __init__(self, profiles: tuple[Profile, ...], log_gain: float) -> None:
        self.profiles = profiles
        self._next: dict[Steps, BorderState] = {}
        self.log_gain = log_gain

    def step(self, kernel: int, stride: int) -> BorderState:
        """Return the state behind a layer of this kernel and stride; remembered once computed."""
        if kernel == 1 and stride == 1:
            return self
        return self.behind(((kernel, stride),))

    def behind(self, steps: Steps) -> BorderState:
        """Return the state behind several layers, each a kernel and a stride."""
        found = self._next.get(steps)
        if found is None:
            found = self._next[steps] = self._compute(steps) if steps else self
        return found

    def _compute(self, steps: Steps) -> BorderState:
        log_gain = self.log_gain
        profiles = []
        for profile in self.profiles:
            profile = _box(len(profile), steps).dot(profile)
            mean = float(_mean(len(profile)).dot(profile))
            # A square map has one profile for both axes.
            log_gain += (0.5 if len(self.profiles) == 2 else 1.0) * math.log(mean)
            profiles.append(profile / mean)
        return BorderState(tuple(profiles), log_gain)


def image(size: Size) -> BorderState:
    """Return the state of an image: second moment 1 everywhere."""
    axes = size[:1] if size[0] == size[1] else size
    return BorderState(tuple(np.ones(length) for length in axes), 0.0)


def box_mean(profiles: Profile, kernel: int, stride: int) -> Profile:
    """Return the profiles behind a kxk layer, relative to its interior, along the last axis.

    These are sums over a padded window, divided by its length, at every stride-th position.
    """
    padding = kernel // 2
    length = profiles.shape[-1]
    sums = np.zeros((*profiles.shape[:-1], length + 2 * padding + 1))
    np.cumsum(profiles, axis=-1, out=sums[..., padding + 1 : padding + 1 + length])
    sums[..., padding + 1 + length :] = sums[..., padding + length, None]
    windows: Profile = (sums[..., kernel::stride] - sums[..., :-kernel:stride]) / kernel
    return windows


@cache
def _box(length: int, steps: Steps) -> Profile:
    """Return `box_mean`, layer after layer, as one matrix for profiles of that length.

    Profiles are short: one product is quicker than sums, and a row of layers costs no more.
    """
    profiles = np.eye(length)
    for step in steps:
        profiles = box_mean(profiles, *step)
    return np.ascontiguousarray(profiles.T)


@cache
def _mean(length: int) -> Profile:
    """Return the mean as a vector to multiply with."""
    return np.full(length, 1.0 / length)

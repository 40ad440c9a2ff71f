"""The finite-width term: the mean of a logarithm lies below the logarithm of the mean.

With n_l channels in layer l, the second moment of a feature map fluctuates with the weights; each
layer adds a relative variance v_l / n_l. Far-apart positions of a feature map are correlated by c,
which is 0 at the input, grows with each ReLU and is left alone by a linear layer. Both v and c
depend only on the number of ReLUs before a layer, so they are tables.
"""

from __future__ import annotations

import math
from functools import cache


@cache
def correlation(relus: int) -> float:
    """Return the correlation of far-apart positions behind that many ReLUs."""
    if relus == 0:
        return 0.0
    c = correlation(relus - 1)
    t = math.acos(min(1.0, c))
    return (math.sin(t) + (math.pi - t) * math.cos(t)) / math.pi


@cache
def variance(relus: int, activated: bool) -> float:
    """Return v of a layer behind that many ReLUs, itself followed by a ReLU or linear."""
    c = correlation(relus)
    if not activated:
        return 2 * c * c
    t = math.acos(min(1.0, c))
    both = 3 * math.sin(t) * math.cos(t) + (math.pi - t) * (1 + 2 * math.cos(t) ** 2)
    return 2 / math.pi * both - 1


@cache
def read_out(relus: int, activated: bool) -> float:
    """Return by how much v of a layer changes where H is read at it instead of passed through.

    H(Ci) is read before the activation, so the layer counts as linear, and its sample variance
    over positions lacks the share 1/n that the positions have in common: -c/(2n) = -1/4 * 2c/n.
    """
    return variance(relus, False) + 2 * correlation(relus) - variance(relus, activated)

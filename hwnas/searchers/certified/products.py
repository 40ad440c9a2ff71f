"""Banded (max, +) products: the best inner size for each pair of channels in and out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .terms import Array, Parts

BLOCK = 12
"""Channels in of one step: neighbours, which have nearly the same best inner sizes."""


def products(parts: Parts, valid: NDArray[np.bool_]) -> Array:
    """Return io + max over m of (im + mo), an array (k, i, o).

    Args:
        parts: `mo` has a leading axis k, the others may.
        valid: the mask over (i, o) of pairs that are wanted; others become minus infinity.
    """
    count, inners = parts.mo.shape[:2]
    if inners == 1:
        total = parts.im + parts.mo + parts.io
    elif parts.im.ndim == 2:
        im = np.broadcast_to(parts.im, (len(valid), inners))
        mo = np.broadcast_to(parts.mo, (count, inners, valid.shape[1]))
        total = _best(im, mo.transpose(1, 0, 2), valid).transpose(1, 0, 2)
        total += parts.io
    else:
        each = [
            Parts(im, mo[None], np.zeros((1, 1))) for im, mo in zip(parts.im, parts.mo, strict=True)
        ]
        total = np.concatenate([products(part, valid) for part in each]) + parts.io
    return np.where(valid, total, -np.inf)


def _best(im: Array, mo: Array, valid: NDArray[np.bool_]) -> Array:
    """Return max over m of im[i, m] + mo[m, k, o] as an array (i, k, o).

    In a block of neighbouring channels in, an inner size is only tried where it can be the best of
    the block: where it at its best reaches another at its worst.
    """
    total = np.full((len(im), *mo.shape[1:]), -np.inf)
    for low in range(0, len(im), BLOCK):
        rows = slice(low, low + BLOCK)
        columns = np.flatnonzero(valid[rows].any(axis=0))
        if not len(columns):
            continue
        band = slice(columns[0], columns[-1] + 1)
        here, inside = im[rows], mo[:, :, band]
        worst = (inside + here.min(axis=0)[:, None, None]).max(axis=0)
        useful = (inside + here.max(axis=0)[:, None, None] >= worst).any(axis=1)
        useful &= np.isfinite(inside).any(axis=1)
        for m in np.flatnonzero(useful.any(axis=1)):
            columns = np.flatnonzero(useful[m])
            span = slice(band.start + columns[0], band.start + columns[-1] + 1)
            sums = here[:, m, None, None] + mo[m, :, span]
            np.maximum(total[rows, :, span], sums, out=total[rows, :, span])
    return total

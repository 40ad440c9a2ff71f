"""Mutations of candidates (Algorithm 2 of the paper, and the default that does better)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ..architecture.spaces import Candidate, RowSpace, Space

SCALES = (1 / 1.5, 1 / 1.25, 1.0, 1.25, 1.5, 2.0)
"""Width factors of the paper's appendix A."""

DEPTH_STEPS = (-2, -1, 1, 2)
DRAWS = 9
"""Uniform numbers that one mutation may consume."""


class Mutation(Protocol):
    """Makes a mutant; `draw` yields uniform numbers in [0, 1).

    Each gene of a mutant is a value of the space, but neighbouring rows may not suit each other:
    whoever evaluates it drops it then.
    """

    def __call__(self, parent: Candidate, draw: Iterator[float], fine: bool) -> Candidate:
        """Return a mutant, coarse (all attributes) or fine (block kinds and widths only)."""


class BlockMutation:
    """Algorithm 2 to the letter: one uniformly chosen block, all its attributes at once.

    Kind (family and kernel) and widths always, depth by one or two pairs in the coarse half only.
    """

    def __init__(self, space: Space) -> None:
        self._space = space

    def __call__(self, parent: Candidate, draw: Iterator[float], fine: bool) -> Candidate:
        """Return the mutant; see `Mutation`."""
        space = self._space
        mutant = list(parent)
        block = int(next(draw) * len(parent))
        if block == 0:
            mutant[0] = _scaled(parent[0], next(draw), SCALES, space.stem_widths)
        else:
            row = space.rows[block - 1]
            _, out, inner, depth = parent[block]
            mutant[block] = (
                kind := _pick(row.kinds, next(draw)),
                _scaled(out, next(draw), SCALES, row.outs),
                _inner(row, kind, inner, next(draw), SCALES),
                depth if fine else _deeper(depth, next(draw), row.depths),
            )
        return tuple(mutant)


class AttributeMutation:
    """One or two mutations, each of one attribute of one block.

    Smaller steps than Algorithm 2 find better networks at the same number of iterations. Two at a
    time pass blocks that bound each other's widths, and depth may move from block to block, as
    it must where the number of layers is limited (`benchmarks/evolution.py`).
    """

    _scales = tuple(scale for scale in SCALES if scale != 1.0)

    def __init__(self, space: Space) -> None:
        self._space = space

    def __call__(self, parent: Candidate, draw: Iterator[float], fine: bool) -> Candidate:
        """Return the mutant; see `Mutation`."""
        mutant = list(parent)
        self._mutate(mutant, draw, fine)
        if next(draw) < 0.5:
            self._mutate(mutant, draw, fine)
        return tuple(mutant)

    def _mutate(self, mutant: list[Any], draw: Iterator[float], fine: bool) -> None:
        block = int(next(draw) * len(mutant))
        if block == 0:
            widths = self._space.stem_widths
            mutant[0] = _scaled(mutant[0], next(draw), self._scales, widths)
            return
        row = self._space.rows[block - 1]
        kind, out, inner, depth = mutant[block]
        attribute = int(next(draw) * (3 if fine else 4))
        if attribute == 0:
            kind = _other(row.kinds, kind, next(draw))
            if inner not in row.inners(kind):
                inner = _pick(row.inners(kind), next(draw))
        elif attribute == 1:
            out = _scaled(out, next(draw), self._scales, row.outs)
        elif attribute == 2:
            inner = _inner(row, kind, inner, next(draw), self._scales)
        else:
            before, depth = depth, _deeper(depth, next(draw), row.depths)
            other = 1 + int(next(draw) * 2 * len(self._space.rows))
            if other < len(mutant) and other != block:
                *rest, theirs = mutant[other]
                mutant[other] = (
                    *rest,
                    _within(theirs - depth + before, self._space.rows[other - 1].depths),
                )
        mutant[block] = (kind, out, inner, depth)


MUTATIONS: dict[str, Callable[[Space], Mutation]] = {
    "attributes": AttributeMutation,
    "paper": BlockMutation,
}

DEFAULT_MUTATION = "attributes"


def _pick(values: tuple[int, ...], u: float) -> int:
    return values[int(u * len(values))]


def _other(values: tuple[int, ...], current: int, u: float) -> int:
    """Return one of the other values; the only one where there is no other."""
    others = [value for value in values if value != current]
    return others[int(u * len(others))] if others else current


def _scaled(width: int, u: float, scales: tuple[float, ...], grid: tuple[int, ...]) -> int:
    """Scale a width and return the nearest one of the evenly spaced grid."""
    step = grid[1] - grid[0] if len(grid) > 1 else 1
    position = round((width * scales[int(u * len(scales))] - grid[0]) / step)
    return grid[max(0, min(len(grid) - 1, position))]


def _inner(row: RowSpace, kind: int, inner: int, u: float, scales: tuple[float, ...]) -> int:
    if row.inner_is_width(kind):
        return _scaled(inner, u, scales, row.mids)
    return _pick(row.expansions, u)


def _deeper(depth: int, u: float, depths: tuple[int, ...]) -> int:
    return _within(depth + DEPTH_STEPS[int(u * len(DEPTH_STEPS))], depths)


def _within(depth: int, depths: tuple[int, ...]) -> int:
    return max(depths[0], min(depths[-1], depth))

"""Mutations of candidates (Algorithm 2 of the paper, and the default that does better)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias

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


Near: TypeAlias = dict[int, tuple[int, ...]]
"""By the value of a gene: the values that a mutation may give it, equally likely."""


class BlockMutation:
    """Algorithm 2 to the letter: one uniformly chosen block, all its attributes at once.

    Kind (family and kernel) and widths always, depth by one or two pairs in the coarse half only.
    """

    def __init__(self, space: Space) -> None:
        self._stem = _widths(space.stem_widths, SCALES)
        self._rows = [
            (_all(row.kinds), _widths(row.outs, SCALES), _inners(row, SCALES), _depths(row))
            for row in space.rows
        ]

    def __call__(self, parent: Candidate, draw: Iterator[float], fine: bool) -> Candidate:
        """Return the mutant; see `Mutation`."""
        mutant = list(parent)
        block = int(next(draw) * len(parent))
        if block == 0:
            mutant[0] = _pick(self._stem[parent[0]], next(draw))
        else:
            kinds, outs, inners, depths = self._rows[block - 1]
            kind, out, inner, depth = parent[block]
            kind = _pick(kinds[kind], next(draw))
            out = _pick(outs[out], next(draw))
            inner = _pick(inners[kind][inner], next(draw))
            if not fine:
                depth = _pick(depths[depth], next(draw))
            mutant[block] = (kind, out, inner, depth)
        return tuple(mutant)


class AttributeMutation:
    """One or two mutations, each of one attribute of one block.

    Smaller steps than Algorithm 2 find better networks at the same number of iterations. Two at a
    time pass blocks that bound each other's widths, and depth may move from block to block, as
    it must where the number of layers is limited (`benchmarks/evolution.py`).
    """

    def __init__(self, space: Space) -> None:
        scales = tuple(scale for scale in SCALES if scale != 1.0)
        self._stem = _widths(space.stem_widths, scales)
        self._rows: list[tuple[Any, ...]] = [
            (_others(row.kinds), _widths(row.outs, scales), _inners(row, scales), _depths(row))
            for row in space.rows
        ]
        self._depths = [row.depths for row in space.rows]
        self._inners = [{kind: row.inners(kind) for kind in row.kinds} for row in space.rows]

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
            mutant[0] = _pick(self._stem[mutant[0]], next(draw))
            return
        genes = list(mutant[block])
        attribute = int(next(draw) * (3 if fine else 4))
        before = genes[attribute]
        tables = self._rows[block - 1]
        near = (tables[2][genes[0]] if attribute == 2 else tables[attribute])[before]
        genes[attribute] = after = near[int(next(draw) * len(near))]
        if attribute == 0 and genes[2] not in self._inners[block - 1][after]:
            genes[2] = _pick(self._inners[block - 1][after], next(draw))
        mutant[block] = tuple(genes)
        if attribute == 3:
            other = 1 + int(next(draw) * 2 * len(self._rows))
            if other < len(mutant) and other != block:
                *rest, theirs = mutant[other]
                depth = _within(theirs - after + before, self._depths[other - 1])
                mutant[other] = (*rest, depth)


MUTATIONS: dict[str, Callable[[Space], Mutation]] = {
    "attributes": AttributeMutation,
    "paper": BlockMutation,
}

DEFAULT_MUTATION = "attributes"


def _pick(values: tuple[int, ...], u: float) -> int:
    return values[int(u * len(values))]


def _all(values: tuple[int, ...]) -> Near:
    return dict.fromkeys(values, values)


def _others(values: tuple[int, ...]) -> Near:
    """Return, by value, the other ones; the only one where there is no other."""
    return {value: tuple(v for v in values if v != value) or (value,) for value in values}


def _widths(grid: tuple[int, ...], scales: tuple[float, ...]) -> Near:
    """Return, by width, the nearest ones of the evenly spaced grid to that width scaled."""
    step = grid[1] - grid[0] if len(grid) > 1 else 1
    last = len(grid) - 1
    return {
        width: tuple(
            grid[max(0, min(last, round((width * scale - grid[0]) / step)))] for scale in scales
        )
        for width in grid
    }


def _inners(row: RowSpace, scales: tuple[float, ...]) -> dict[int, Near]:
    """Return, by kind, what may follow each inner size: any of its own, where it is another's."""
    found = {}
    for kind in row.kinds:
        own = row.inners(kind)
        near = dict.fromkeys({*row.mids, *row.expansions}, own)
        found[kind] = near | (_widths(own, scales) if row.inner_is_width(kind) else _all(own))
    return found


def _depths(row: RowSpace) -> Near:
    return {
        depth: tuple(_within(depth + step, row.depths) for step in DEPTH_STEPS)
        for depth in row.depths
    }


def _within(depth: int, depths: tuple[int, ...]) -> int:
    return max(depths[0], min(depths[-1], depth))

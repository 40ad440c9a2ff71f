"""Tables of additive terms: what each row of a space adds to a score or a cost.

A row's terms depend only on its genes and on the channels that enter it. They are read once, for
all candidates, off the row's fragments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..architecture.graph import Graph, Size
from ..architecture.spaces import Candidate, Genes, Space
from .fragments import RowFragments, row_fragments, stem_fragment

Table: TypeAlias = NDArray[np.float64]
"""Values over (channels in, inner size, channels out); an axis of length 1 does not matter."""


Cell: TypeAlias = tuple[Callable[[int], float], int, int, int]
"""Reads a table at a flat position, and how far a step along each axis moves that position."""


class Term(Protocol):
    """Whatever is a sum over the parts of a graph: an additive oracle, or a score's gain."""

    @property
    def resolution(self) -> Size:
        """Height and width of the input."""

    @property
    def batch(self) -> int:
        """Images at a time."""

    def parts(self, graph: Graph, where: Any = None) -> list[Any]:
        """Return one value, or one array of values, per part."""


class RowTables:
    """An additive term of one row: the sum over its blocks, as a function of its genes.

    `pieces` holds, per kind (and expansion where it has one): the kind, its inner sizes, the tables
    of the first block and those of each later one. `valid` is the mask over (channels in, channels
    out) of pairs that the space allows.
    """

    def __init__(self, fragments: Sequence[RowFragments], term: Term) -> None:
        self.row = fragments[0].row
        self.valid = fragments[0].valid[:, 0, :]
        self._in = {width: i for i, width in enumerate(fragments[0].ins)}
        self._out = {width: i for i, width in enumerate(self.row.outs)}
        # Of an expansion there is nothing to find: it has tables of its own.
        self._inner = dict.fromkeys(self.row.expansions, 0)
        self._inner |= {size: i for i, size in enumerate(self.row.mids)}
        self._tables: dict[tuple[int, int], tuple[list[Table], list[Table]]] = {}
        self._cells: dict[tuple[int, int], tuple[list[Cell], list[Cell]]] = {}
        self.pieces: list[tuple[int, tuple[int, ...], list[Table], list[Table]]] = []
        for f in fragments:
            first = merge(term.parts(f.first, f.valid) + term.parts(f.end))
            rest = merge(term.parts(f.rest))
            self.pieces.append((f.kind, f.inners, first, rest))
            cells = [cell(table) for table in first], [cell(table) for table in rest]
            for inner in f.inners:
                self._tables[f.kind, inner] = (first, rest)
                self._cells[f.kind, inner] = cells

    def index(self, channels: int, genes: Genes) -> tuple[int, int, int]:
        """Return the position on the tables' axes: channels in, inner size, channels out."""
        return self._in[channels], self._inner[genes[2]], self._out[genes[1]]

    def __call__(self, channels: int, genes: Genes) -> float:
        """Return the term of a row of these genes behind that many channels."""
        return self.at(self.index(channels, genes), genes)

    def at(self, index: tuple[int, int, int], genes: Genes) -> float:
        """Return the term at a position; all terms of a row have the same axes."""
        i, m, o = index
        first, rest = self._cells[genes[0], genes[2]]
        value = 0.0
        for item, a, b, c in first:
            value += item(a * i + b * m + c * o)
        repeats = genes[3] * self.row.unit - 1
        for item, _, b, c in rest:
            value += repeats * item(b * m + c * o)
        return value

    def add(self, kind: int, value: float) -> None:
        """Add a number to the term of rows of that kind."""
        table = np.full((1, 1, 1), value)
        for known, inners, first, _ in self.pieces:
            if known == kind:
                first.append(table)
                self._cells[kind, inners[0]][0].append(cell(table))

    def extremes(self) -> tuple[float, float]:
        """Return the least and the greatest entry of all tables, NaN where one is no number."""
        ins, outs = self.valid.shape
        tables = [
            # Pairs of channels that the space does not allow are undefined.
            table[np.broadcast_to(self.valid[:, None, :], table.shape)]
            if (table.shape[0], table.shape[2]) == (ins, outs)
            else table
            for _, _, first, rest in self.pieces
            for table in first + rest
        ]
        lowest = np.min([table.min(initial=np.inf) for table in tables])
        return float(lowest), float(np.max([table.max(initial=-np.inf) for table in tables]))

    def arcs(self, depth: int) -> Iterator[tuple[int, int, Table]]:
        """Yield kind, inner size and the term over (channels in, channels out).

        Pairs of channels that the space does not allow have an infinite term.
        """
        repeats = depth * self.row.unit - 1
        for (kind, inner), (first, rest) in self._tables.items():
            m = self._inner[inner]
            fits = [self.row.inner_fits(kind, inner, out) for out in self.row.outs]
            term = np.where(self.valid & fits, 0.0, np.inf)
            for table in first + [repeats * table for table in rest]:
                term = term + table[:, m if table.shape[1] > 1 else 0, :]
            yield kind, inner, np.where(np.isnan(term), np.inf, term)


class AdditiveTerm:
    """An additive term on a space: a value per stem, and tables per row."""

    def __init__(self, space: Space, term: Term) -> None:
        fragment = stem_fragment(space, term.resolution, term.batch)
        total = np.ravel(sum(merge(term.parts(fragment))))
        values = np.broadcast_to(total, len(space.stem_widths)).tolist()
        self.stem: dict[int, float] = dict(zip(space.stem_widths, values, strict=True))
        self.rows = [
            RowTables(fragments, term)
            for fragments in row_fragments(space, term.resolution, term.batch)
        ]


def cell(table: Table) -> Cell:
    """Return a quick way to read single values of a table."""
    a, b, c = table.shape
    return table.ravel().item, b * c * (a > 1), c * (b > 1), int(c > 1)


def merge(parts: Sequence[Any]) -> list[Table]:
    """Add up arrays of the same shape, and each into a larger one that spans its axes.

    What does not depend on the channels in stays apart from what does, so that a kernel's own
    share never ends up in the tables that all kernels have in common.
    """
    by_shape: dict[tuple[int, ...], Table] = {}
    for part in parts:
        array = np.asarray(part, dtype=np.float64)
        array = array.reshape((1, 1, 1)) if array.ndim == 0 else array
        by_shape[array.shape] = by_shape.get(array.shape, 0.0) + array
    merged: list[Table] = []
    for shape in sorted(by_shape, key=lambda s: (s[0] > 1, -int(np.prod(s)))):
        for k, large in enumerate(merged):
            if np.broadcast_shapes(shape, large.shape) == large.shape:
                merged[k] = large + by_shape[shape]
                break
        else:
            merged.append(by_shape[shape])
    return merged


def cheapest(space: Space, costs: Sequence[AdditiveTerm], weights: Sequence[float]) -> Candidate:
    """Return the candidate with the lowest weighted sum of costs: a shortest path over the rows.

    Costs are not negative, so every row takes its least depth.
    """
    so_far = np.zeros(len(space.stem_widths))
    for weight, cost in zip(weights, costs, strict=True):
        so_far = so_far + weight * np.array([cost.stem[width] for width in space.stem_widths])
    steps: list[tuple[NDArray[np.intp], NDArray[np.int64]]] = []
    for r, row in enumerate(space.rows):
        best = np.full((len(so_far), len(row.outs)), np.inf)
        genes = np.zeros((*best.shape, 2), dtype=np.int64)
        for options in zip(*(cost.rows[r].arcs(row.depths[0]) for cost in costs), strict=True):
            total = sum(w * arc for w, (_, _, arc) in zip(weights, options, strict=True) if w > 0)
            better = np.asarray(total < best)
            best = np.where(better, total, best)
            genes[better] = options[0][:2]
        through = so_far[:, None] + best
        before = through.argmin(axis=0)
        so_far = through.min(axis=0)
        steps.append((before, genes[before, np.arange(len(row.outs))]))
    position = int(so_far.argmin())
    rows: list[Genes] = []
    for row, (before, chosen) in zip(reversed(space.rows), reversed(steps), strict=True):
        kind, inner = (int(gene) for gene in chosen[position])
        rows.append((kind, row.outs[position], inner, row.depths[0]))
        position = int(before[position])
    return (space.stem_widths[position], *reversed(rows))

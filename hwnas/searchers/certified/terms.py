"""The additive terms of a space as arrays: what each row adds to the score and to each budget.

Index letters: t terms (the score's gain, then one per budget), i channels in, m inner size, o
channels out. A block's terms are sums of arrays over at most two of i, m and o, as each of its
layers has one number of channels in and one out; where a term spans all three, each inner size
becomes a choice of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...architecture.spaces import RowSpace
from ..entropy import RowEntropy
from ..evaluator import Evaluator
from ..tables import RowTables, Table

Array: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True)
class Parts:
    """A function of (i, m, o) as a sum: `im` (i, m), `mo` (m, o) and `io` (i, o).

    Each may have a leading axis; an axis of length 1 does not matter. What depends on one of the
    three only is in `im` or `mo`.
    """

    im: Array
    mo: Array
    io: Array

    def take(self, ins: Index, inners: Index, outs: Index) -> Parts:
        """Return the parts on some of the channels in, inner sizes and channels out."""
        return Parts(
            _take(_take(self.im, ins, -2), inners, -1),
            _take(_take(self.mo, inners, -2), outs, -1),
            _take(_take(self.io, ins, -2), outs, -1),
        )

    def weighted(self, weights: Array) -> Parts:
        """Return the sum over the leading axis, weighted; several rows of weights keep one."""

        def total(array: Array) -> Array:
            flat: Array = weights @ array.reshape(len(array), -1)
            return flat.reshape(*weights.shape[:-1], *array.shape[1:])

        return Parts(total(self.im), total(self.mo), total(self.io))

    def at(self, i: Index, m: Index, o: Index) -> Array:
        """Return the values at some positions, behind the leading axis."""
        total: Array = _at(self.im, i, m) + _at(self.mo, m, o) + _at(self.io, i, o)
        return total


@dataclass(frozen=True)
class Choice:
    """What one kind (and expansion, where the family has one) makes of a row.

    Attributes:
        kind: its family and kernel; see `architecture.spaces.Genes`.
        inners: its inner sizes.
        allowed: (m, o), which inner sizes go with which channels out.
        first: terms of the first block, leading axis t.
        rest: terms of each later block, leading axis t.
        activated: of each layer of the first and of a later block, whether a ReLU follows.
        inverse: 1 / channels of each layer of the first and of a later block, leading axis layer.
    """

    kind: int
    inners: tuple[int, ...]
    allowed: NDArray[np.bool_]
    first: Parts
    rest: Parts
    activated: tuple[tuple[bool, ...], tuple[bool, ...]]
    inverse: Parts

    def take(self, ins: Index, inners: Index, outs: Index) -> Choice:
        """Return the choice on some of the channels in, inner sizes and channels out."""
        if len(self.inners) == 1:
            inners = np.zeros(1, dtype=np.intp)
        return replace(
            self,
            inners=tuple(self.inners[m] for m in inners),
            allowed=self.allowed[np.ix_(inners, outs)],
            first=self.first.take(ins, inners, outs),
            rest=self.rest.take(ins, inners, outs),
            inverse=self.inverse.take(ins, inners, outs),
        )

    def priced(self, prices: Array) -> tuple[Parts, Parts]:
        """Return the score less the priced costs, of the first block and of each later one."""
        weights = np.concatenate([[1.0], -prices])
        return self.first.weighted(weights), self.rest.weighted(weights)


@dataclass(frozen=True)
class RowTerms:
    """The terms of one row. `valid` is the mask over (i, o) that the space allows."""

    row: RowSpace
    entropy: RowEntropy
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    valid: NDArray[np.bool_]
    choices: tuple[Choice, ...]

    def take(self, ins: Index, inners: Index, outs: Index) -> RowTerms:
        """Return the row on some of its channels in, inner sizes and channels out."""
        return replace(
            self,
            ins=tuple(self.ins[i] for i in ins),
            outs=tuple(self.outs[o] for o in outs),
            valid=self.valid[np.ix_(ins, outs)],
            choices=tuple(choice.take(ins, inners, outs) for choice in self.choices),
        )


@dataclass(frozen=True)
class SpaceTerms:
    """The terms of a space: `stem` (t, stem widths), and its rows."""

    widths: tuple[int, ...]
    stem: Array
    rows: tuple[RowTerms, ...]

    def size(self) -> int:
        """Return the number of (channels in, channels out) pairs of all rows."""
        return sum(row.valid.size for row in self.rows)

    def every(self, step: int) -> SpaceTerms:
        """Return the terms on every `step`-th width of each axis that has enough of them."""

        def thin(count: int) -> Index:
            if count < 8 * step:
                return np.arange(count)
            return np.unique(np.append(np.arange(0, count, step), count - 1))

        before = thin(len(self.widths))
        stem, rows = before, []
        for row in self.rows:
            outs = thin(len(row.outs))
            most = max(len(choice.inners) for choice in row.choices)
            rows.append(row.take(before, thin(most), outs))
            before = outs
        return SpaceTerms(tuple(self.widths[i] for i in stem), self.stem[:, stem], tuple(rows))


def space_terms(evaluator: Evaluator, budgets: Sequence[int]) -> SpaceTerms:
    """Return the terms of an evaluator's score and of some of its additive budgets."""
    space, entropy = evaluator.space, evaluator.entropy
    terms = [evaluator.terms[k] for k in budgets]
    image = sum(evaluator.score.weights()) * entropy.image.log_gain if entropy.image else 0.0
    stem = [[entropy.stem[width] + image for width in space.stem_widths]]
    stem += [[term.stem[width] for width in space.stem_widths] for term in terms]
    rows, ins = [], space.stem_widths
    for r, row in enumerate(space.rows):
        tables = [entropy.rows[r].gain, *(term.rows[r] for term in terms)]
        choices = tuple(_choices(row, entropy.rows[r], tables))
        rows.append(RowTerms(row, entropy.rows[r], ins, row.outs, tables[0].valid, choices))
        ins = row.outs
    return SpaceTerms(space.stem_widths, np.array(stem), tuple(rows))


def _choices(row: RowSpace, entropy: RowEntropy, tables: Sequence[RowTables]) -> Iterator[Choice]:
    for pieces in zip(*(table.pieces for table in tables), strict=True):
        kind, inners = pieces[0][:2]
        firsts = [piece[2] for piece in pieces]
        rests = [piece[3] for piece in pieces]
        layers = entropy.layers[kind, inners[0]]
        inverse = [[table] for block in layers for _, table in block]
        first, rest = (tuple(relu for relu, _ in block) for block in layers)
        alone = any(
            min(table.shape) > 1 for group in (*firsts, *rests, *inverse) for table in group
        )
        for positions in [[m] for m in range(len(inners))] if alone else [range(len(inners))]:
            chosen = tuple(inners[m] for m in positions)
            yield Choice(
                kind,
                chosen,
                np.array(
                    [[row.inner_fits(kind, inner, out) for out in row.outs] for inner in chosen]
                ),
                _parts(firsts, list(positions)),
                _parts(rests, list(positions)),
                (first, rest),
                _parts(inverse, list(positions)),
            )


def _parts(groups: Sequence[Sequence[Table]], positions: list[int]) -> Parts:
    """Sort tables by the axes that they span; each group becomes one entry of the leading axis."""
    sums: list[list[Any]] = [[], [], []]
    for group in groups:
        im, mo, io = (np.zeros((1, 1)) for _ in range(3))
        for table in group:
            # Pairs of channels that the space does not allow are undefined; masks keep them out.
            part = np.nan_to_num(table, nan=0.0)
            if part.shape[1] > 1:
                part = part[:, positions]
            if part.shape[0] == 1:
                mo = mo + part[0]
            elif part.shape[2] == 1:
                im = im + part[:, :, 0]
            else:
                io = io + part[:, 0, :]
        for parts, part in zip(sums, (im, mo, io), strict=True):
            parts.append(part)
    return Parts(*(np.stack(np.broadcast_arrays(*parts)) for parts in sums))


def _take(array: Array, index: Index, axis: int) -> Array:
    return array if array.shape[axis] == 1 else np.take(array, index, axis)


def _at(array: Array, rows: Index, columns: Index) -> Array:
    """Return entries of the last two axes, either of which may have length 1."""
    rows = rows if array.shape[-2] > 1 else np.zeros_like(rows)
    columns = columns if array.shape[-1] > 1 else np.zeros_like(columns)
    found: Array = array[..., rows, columns]
    return found

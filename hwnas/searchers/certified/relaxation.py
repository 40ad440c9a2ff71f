"""The relaxed problem at given prices: its longest path over the rows.

Budgets are priced instead of kept, the border and the ReLUs so far are bounded from above. So the
value from a state to the end bounds what any architecture can add there, and the value of the whole
path plus prices times limits bounds every architecture that keeps the budgets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...architecture.spaces import Candidate
from .border import BorderBound
from .products import products
from .states import States
from .terms import Array, Choice, Index, Parts, RowTerms, SpaceTerms

ENTRIES = 1 << 16
"""Of an array that is worked on at once: as many as stay in the processor's cache."""


@dataclass(frozen=True)
class Arc:
    """The best that a move of a row can do, over (channels in, channels out).

    The width term takes off more the more ReLUs lie before the row. The best is convex in what it
    takes off, so a line between the fewest and the most ReLUs bounds it in between: it is
    `fewest + share * slope`, where `share` is an array over the states before the row, and `border`
    what is left of the border there.
    """

    fewest: Array
    slope: Array
    share: Array
    border: Array

    def at(self, share: float, ins: Any = slice(None)) -> Array:
        """Return the best over (channels in, channels out) at a share of the way."""
        best: Array = self.fewest[ins]
        return best + share * self.slope[ins] if share else best


@dataclass(frozen=True)
class Values:
    """The relaxed problem solved at some prices.

    Attributes:
        prices: of each budget, in score.
        priced: per row and choice, the terms of the first and of each later block at these prices.
        before: per row, and behind the last, the best that the rows from there on can add: an
            array (channels, states).
        arcs: per row, an arc per move.
        value: of the best path.
        best: the architecture of the best path.
    """

    prices: Array
    priced: tuple[tuple[tuple[Parts, Parts], ...], ...]
    before: tuple[Array, ...]
    arcs: tuple[tuple[Arc, ...], ...]
    value: float
    best: Candidate


class Relaxation:
    """The relaxed problem on the terms of a space; see the module."""

    def __init__(self, terms: SpaceTerms, states: States, border: BorderBound) -> None:
        self.terms = terms
        self.states = states
        self.border = border
        # The most of the border's share, by row, kind and depth, is known before the state is;
        # what the state takes from it is in `Arc.border`.
        self._most_border = [
            {key: float(bound.max()) for key, bound in bounds.items()} for bounds in border
        ]
        self._families = [_families(row) for row in terms.rows]
        self._spreads: dict[tuple[int, int, int, int], tuple[Array, int]] = {}
        self._lines = [
            [self._line(r, m) for m in range(len(moves))] for r, moves in enumerate(states.moves)
        ]

    def size(self) -> int:
        """Return the number of (channels in, channels out) pairs of all moves."""
        rows = zip(self.terms.rows, self.states.moves, strict=True)
        return sum(row.valid.size * len(moves) for row, moves in rows)

    def solve(self, prices: Array) -> Values:
        """Return the values at some prices."""
        rows = self.terms.rows
        priced = tuple(tuple(choice.priced(prices) for choice in row.choices) for row in rows)
        before = [np.zeros((len(rows[-1].outs), len(self.states.layers[-1])))]
        arcs: list[tuple[Arc, ...]] = []
        for r in reversed(range(len(rows))):
            arcs.append(self._arcs(r, priced[r]))
            before.append(self._before(r, arcs[-1], before[-1]))
        stem = self.terms.stem[0] - prices @ self.terms.stem[1:]
        totals = stem + before[-1][:, 0]
        before.reverse()
        arcs.reverse()
        best = self._best(int(totals.argmax()), priced, before, arcs)
        return Values(prices, priced, tuple(before), tuple(arcs), float(totals.max()), best)

    def _best(
        self,
        start: int,
        priced: Sequence[Sequence[tuple[Parts, Parts]]],
        before: Sequence[Array],
        arcs: Sequence[Sequence[Arc]],
    ) -> Candidate:
        """Return the architecture of the best path from a stem on."""
        i, s, rows = start, 0, []
        for r, row in enumerate(self.terms.rows):
            best = (-np.inf, 0, 0)
            for m, (move, arc) in enumerate(zip(self.states.moves[r], arcs[r], strict=True)):
                if move.to[s] >= 0:
                    ends = before[r + 1][:, move.to[s]] + arc.border[s]
                    total = arc.at(arc.share[s], i) + ends
                    best = max(best, (float(total.max()), m, int(total.argmax())))
            _, m, o = best
            move = self.states.moves[r][m]
            options = []
            for c, choice in enumerate(row.choices):
                if choice.activated == move.activated:
                    parts = self._parts(priced[r][c], r, c, [(m, self.states.relus[r][s])])
                    inners = np.arange(len(choice.inners))
                    totals = parts.at(np.full_like(inners, i), inners, np.full_like(inners, o))[0]
                    k = int(totals.argmax())
                    options.append((float(totals[k]), (choice.kind, choice.inners[k])))
            kind, inner = max(options)[1]
            rows.append((kind, row.outs[o], inner, move.depth))
            i, s = o, int(move.to[s])
        return (self.terms.widths[start], *rows)

    def spread(self, r: int, c: int, m: int, relus: int) -> tuple[Array, int]:
        """Return what each layer's 1 / channels takes from the score, and the ReLUs behind.

        Args:
            r: the row.
            c: the choice.
            m: the move.
            relus: before the row.
        """
        key = (r, c, m, relus)
        if key not in self._spreads:
            row = self.terms.rows[r]
            choice, move = row.choices[c], self.states.moves[r][m]
            factors, after = row.entropy.coefficients(
                choice.kind, choice.inners[0], move.depth, relus
            )
            self._spreads[key] = (row.entropy.lost * np.array(factors), after)
        return self._spreads[key]

    def _line(self, r: int, m: int) -> tuple[Array, Array]:
        """Return `share` and `border` of a move's arc, which no price changes."""
        move, choices = self.states.moves[r][m], self.terms.rows[r].choices
        border = [
            self.border[r][kind, move.depth] - self._most_border[r][kind, move.depth]
            for kind in {c.kind for c in choices if c.activated == move.activated}
        ]
        relus, where = np.unique(self.states.relus[r], return_inverse=True)
        return self._along(r, m, relus.tolist())[where], np.max(border, axis=0)

    def share(self, r: int, m: int, relus: int) -> float:
        """Return how far along an arc's line the width term is, that many ReLUs before the row."""
        fewest, most = min(self.states.relus[r]), max(self.states.relus[r])
        return float(self._along(r, m, [fewest, min(relus, most), most])[1])

    def _along(self, r: int, m: int, relus: Sequence[int]) -> Array:
        """Return `share` for ascending numbers of ReLUs; the line is from the first to the last."""
        choices, move = self.terms.rows[r].choices, self.states.moves[r][m]
        c = next(c for c, choice in enumerate(choices) if choice.activated == move.activated)
        spreads = np.array([self.spread(r, c, m, n)[0] for n in relus])
        ranges = spreads[-1] > spreads[0]
        if not ranges.any():
            return np.zeros(len(relus))
        spreads = spreads[:, ranges] - spreads[0, ranges]
        # The layers are not all as far along: the one that has come least counts.
        along: Array = (spreads / spreads[-1]).min(axis=1)
        return along

    def parts(self, values: Values, r: int, c: int, keys: Sequence[tuple[int, int]]) -> Parts:
        """Return the priced value of a choice, the most of the border included.

        The leading axis is that of `keys`, pairs of a move and the ReLUs before the row; `im` and
        `io` have none where they are the same for all.
        """
        return self._parts(values.priced[r][c], r, c, keys)

    def _parts(
        self, priced: tuple[Parts, Parts], r: int, c: int, keys: Sequence[tuple[int, int]]
    ) -> Parts:
        first, rest = priced
        choice, moves = self.terms.rows[r].choices[c], self.states.moves[r]
        lost = choice.inverse.weighted(np.stack([self.spread(r, c, m, n)[0] for m, n in keys]))
        repeats = np.array([moves[m].repeats for m, _ in keys])[:, None, None]
        border = np.array([self._most_border[r][choice.kind, moves[m].depth] for m, _ in keys])
        mo = first.mo + repeats * rest.mo - lost.mo + border[:, None, None]
        return Parts(
            first.im + repeats * rest.im - lost.im if rest.im.any() or lost.im.any() else first.im,
            np.where(choice.allowed, mo, -np.inf),
            first.io + repeats * rest.io - lost.io if rest.io.any() or lost.io.any() else first.io,
        )

    def _before(self, r: int, arcs: Sequence[Arc], after: Array) -> Array:
        """Return the best from each of (channels in, states) on."""
        row, states = self.terms.rows[r], self.states
        best = np.full((len(states.layers[r]), len(row.ins)), -np.inf)
        for move, arc in zip(states.moves[r], arcs, strict=True):
            going = np.flatnonzero(move.to >= 0)
            behind = after.T[move.to[going]]
            for ins, outs, at in self.through(r, arc, going):
                at += behind[:, None, outs]
                best[going, ins] = np.maximum(
                    best[going, ins], at.max(axis=2) + arc.border[going, None]
                )
        return np.ascontiguousarray(best.T)

    def through(self, r: int, arc: Arc, states: Index) -> Iterator[tuple[slice, slice, Array]]:
        """Yield an arc's best without the border, in blocks: an array (states, ins, outs)."""
        valid = self.terms.rows[r].valid
        share = arc.share[states, None, None]
        step = max(1, 2 * ENTRIES // (len(states) * valid.shape[1] + 1))
        for low in range(0, len(valid), step):
            ins = slice(low, low + step)
            columns = np.flatnonzero(valid[ins].any(axis=0))
            if len(columns):
                outs = slice(columns[0], columns[-1] + 1)
                at = share * arc.slope[ins, outs]
                at += arc.fewest[ins, outs]
                yield ins, outs, at

    def _arcs(self, r: int, priced: Sequence[tuple[Parts, Parts]]) -> tuple[Arc, ...]:
        row, relus, moves = self.terms.rows[r], self.states.relus[r], self.states.moves[r]
        ends = tuple(dict.fromkeys((min(relus), max(relus))))
        arcs: list[Arc | None] = [None] * len(moves)
        for activated in {move.activated for move in moves}:
            same = [m for m, move in enumerate(moves) if move.activated == activated]
            keys = [(m, n) for n in ends for m in same]
            best = None
            for family in self._families[r]:
                if row.choices[family[0]].activated == activated:
                    parts = [self._parts(priced[c], r, c, keys) for c in family]
                    mo = np.max([part.mo for part in parts], axis=0)
                    product = products(replace(parts[0], mo=mo), row.valid)
                    best = product if best is None else np.maximum(best, product)
            assert best is not None
            for k, m in enumerate(same):
                fewest, most = best[k], best[k - len(same)]
                slope = np.zeros_like(fewest)
                np.subtract(most, fewest, out=slope, where=row.valid)
                arcs[m] = Arc(fewest, slope, *self._lines[r][m])
        return tuple(arc for arc in arcs if arc is not None)


def _families(row: RowTerms) -> list[list[int]]:
    """Group choices that have all in common but what depends on (inner, out)."""
    families: list[list[int]] = []
    for c, choice in enumerate(row.choices):
        for family in families:
            other = row.choices[family[0]]
            if choice.inners == other.inners and choice.activated == other.activated:
                pairs = zip(_common(choice), _common(other), strict=True)
                if all(np.array_equal(own, known) for own, known in pairs):
                    family.append(c)
                    break
        else:
            families.append([c])
    return families


def _common(choice: Choice) -> list[Array]:
    blocks = (choice.first, choice.rest, choice.inverse)
    return [array for block in blocks for array in (block.im, block.io)]

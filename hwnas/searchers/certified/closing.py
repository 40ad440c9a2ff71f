"""Closing the gap: every path whose bound reaches a threshold, scored exactly.

Paths grow row by row from the stem. A partial path knows its score, border and width terms
included, and its costs exactly; the relaxed problem bounds what the rows to come can add. Paths
below the threshold are dropped, as are those over a budget and those that another one dominates:
the same channels, layers and border, costs not higher, score not lower. If the best one
found reaches the threshold, no architecture scores higher.

The bound holds at any prices. At the best ones it is tight for paths that just keep the budgets;
higher and lower ones see early which paths will exceed a budget, and which leave too much unused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...architecture.spaces import Candidate
from ...scores.border import BorderState
from .relaxation import Relaxation, Values
from .terms import Array, Index

ROUNDING = 1e-12
"""Relative room for rounding where costs meet their limits; the evaluator has the last word."""


NEIGHBOURS = 16
"""Better paths with the same end that each is compared with where there are several budgets."""


@dataclass(frozen=True)
class Labels:
    """Partial paths, one per entry of each array.

    Attributes:
        node: position of the channels that they end in.
        state: position of the layers so far.
        relus: the ReLUs so far.
        border: number of the border's state.
        score: the score so far.
        costs: (paths, budgets), the costs so far.
        before: each one's path before the last row.
        genes: (paths, 4), kind, channels out, inner size and depth of the last row.
    """

    node: Index
    state: Index
    relus: Index
    border: Index
    score: Array
    costs: Array
    before: Index
    genes: Index

    def take(self, index: Any) -> Labels:
        """Return some of the paths."""
        return Labels(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Found:
    """Complete paths in order of falling score; `complete` unless there were too many to follow.

    `paths` counts the partial paths that were looked at.
    """

    candidates: tuple[Candidate, ...]
    scores: tuple[float, ...]
    complete: bool
    paths: int


class Closing:
    """Enumerates paths at given prices.

    Args:
        relaxation: the relaxed problem on the whole space.
        values: its solutions at some prices, first at those whose bound is least.
        limits: of the priced budgets, less what every network costs.
        image: the border's state behind the stem, None where the border does not count.
    """

    def __init__(
        self,
        relaxation: Relaxation,
        values: Sequence[Values],
        limits: Array,
        image: BorderState | None,
    ) -> None:
        self._relaxation = relaxation
        self._values = values[0]
        self._others = values[1:]
        self._room = limits * (1 + ROUNDING)
        self._limits = limits
        self._offset = self._at_limits(values[0].prices)
        self._borders: list[BorderState | None] = [image]
        self._border_numbers: dict[BorderState, int] = {}
        self._border_steps: dict[tuple[int, int, int, int], tuple[int, float]] = {}

    def paths(self, threshold: float, most: int, keep: int = 1, like: int = 0) -> Found:
        """Return the best paths among all whose bound reaches the threshold.

        Args:
            threshold: a score.
            most: the number of partial paths after which to give up.
            keep: how many of the best complete paths to return.
            like: of partial paths with the same kernels and depths, follow only so many of the
                best; 0 follows all, without which nothing is proven.
        """
        terms = self._relaxation.terms
        labels = self._stems(threshold)
        history, seen = [labels], len(labels.node)
        for r in range(len(terms.rows)):
            grown = list(self._grow(r, labels, threshold, most - seen))
            if not grown:
                return Found((), (), True, seen)
            labels = _joined([part for part, _ in grown])
            seen += sum(count for _, count in grown)
            if seen > most:
                return Found((), (), False, seen)
            if not len(labels.node):
                return Found((), (), True, seen)
            if r + 1 < len(terms.rows):
                labels = labels.take(undominated(labels))
            if like:
                labels = labels.take(self._best_alike(r, labels, like))
            history.append(labels)
        order = np.argsort(-labels.score, kind="stable")[:keep]
        return Found(
            tuple(self._candidate(history, int(k)) for k in order),
            tuple(labels.score[order].tolist()),
            True,
            seen,
        )

    def _stems(self, threshold: float) -> Labels:
        terms = self._relaxation.terms
        score, costs = terms.stem[0], terms.stem[1:].T
        node = np.flatnonzero((costs <= self._room).all(axis=1))
        good = self._reaching(0, node, np.zeros_like(node), score[node], costs[node], threshold)
        node = node[good]
        zero = np.zeros(len(node), dtype=np.intp)
        genes = np.stack([zero, np.array(terms.widths)[node], zero, zero], axis=1)
        relus = zero + self._relaxation.states.relus[0][0]
        return Labels(node, zero, relus, zero, score[node], costs[node], zero, genes)

    def _grow(
        self, r: int, labels: Labels, threshold: float, most: int
    ) -> Iterator[tuple[Labels, int]]:
        """Yield the paths through one more row, and how many were looked at."""
        prices = self._values.prices
        reduced = labels.score - labels.costs @ prices + self._offset
        # Paths that end alike share their arcs; the best of them decides which are worth a look.
        _, first, group = np.unique(
            _key(labels.node, labels.state, labels.relus), return_index=True, return_inverse=True
        )
        order = np.lexsort((-reduced, group))
        starts = np.searchsorted(group[order], np.arange(len(first) + 1))
        top = reduced[order[starts[:-1]]]
        heads = labels.take(first)
        for arcs in self._arcs(r, heads, top, threshold):
            behind = self._values.before[r + 1][arcs.out, arcs.state] + arcs.border
            counts = np.diff(starts)[arcs.group]
            for part in _chunks(counts):
                arc = np.repeat(part, counts[part])
                within = np.arange(len(arc)) - np.repeat(
                    np.cumsum(counts[part]) - counts[part], counts[part]
                )
                path = order[starts[arcs.group[arc]] + within]
                good = reduced[path] + (arcs.reduced + behind)[arc] >= threshold
                path, arc = path[good], arc[good]
                costs = labels.costs[path] + arcs.costs[arc]
                kept = (costs <= self._room).all(axis=1)
                path, arc, costs = path[kept], arc[kept], costs[kept]
                border, added = self._bordered(
                    r, labels.border[path], arcs.genes[arc, 0], arcs.genes[arc, 3]
                )
                score = labels.score[path] + arcs.score[arc] + added
                good = self._reaching(
                    r + 1, arcs.out[arc], arcs.state[arc], score, costs, threshold
                )
                path, arc = path[good], arc[good]
                grown = Labels(
                    arcs.out[arc],
                    arcs.state[arc],
                    arcs.relus[arc],
                    border[good],
                    score[good],
                    costs[good],
                    path,
                    arcs.genes[arc],
                )
                most -= len(path)
                yield grown, len(path)
                if most < 0:
                    return

    def _reaching(
        self, r: int, node: Index, state: Index, score: Array, costs: Array, threshold: float
    ) -> NDArray[np.bool_]:
        """Return which paths before row r may reach the threshold, by the bounds at all prices."""
        good = np.ones(len(node), dtype=bool)
        for values in (self._values, *self._others):
            bound = score - costs @ values.prices + values.before[r][node, state]
            good &= bound + self._at_limits(values.prices) >= threshold
        return good

    def _at_limits(self, prices: Array) -> float:
        paid = prices > 0
        return float(prices[paid] @ self._limits[paid])

    def _arcs(self, r: int, heads: Labels, top: Array, threshold: float) -> Iterator[_Arcs]:
        """Yield the arcs through a row that may reach the threshold from the best of each group."""
        relaxation, values = self._relaxation, self._values
        row, states = relaxation.terms.rows[r], relaxation.states
        for state, relus in np.unique(np.stack([heads.state, heads.relus], axis=1), axis=0):
            here = np.flatnonzero((heads.state == state) & (heads.relus == relus))
            for m, (move, arc) in enumerate(zip(states.moves[r], values.arcs[r], strict=True)):
                to = int(move.to[state])
                if to < 0:
                    continue
                ends = values.before[r + 1][:, to] + arc.border[state]
                share = relaxation.share(r, m, int(relus))
                best = arc.at(share, heads.node[here]) + ends + top[here, None]
                at, out = np.nonzero(best >= threshold)
                group = here[at]
                for c, choice in enumerate(row.choices):
                    if choice.activated != move.activated or not len(group):
                        continue
                    spread, after = relaxation.spread(r, c, m, int(relus))
                    parts = relaxation.parts(values, r, c, [(m, int(relus))])
                    inners = np.arange(len(choice.inners))
                    every = parts.at(heads.node[group][:, None], inners[None, :], out[:, None])[0]
                    good = every + (ends[out] + top[group])[:, None] >= threshold
                    at, inner = np.nonzero(good)
                    if not len(at):
                        continue
                    i, o = heads.node[group[at]], out[at]
                    plain = choice.first.at(i, inner, o) + move.repeats * choice.rest.at(
                        i, inner, o
                    )
                    score = plain[0] - spread @ choice.inverse.at(i, inner, o)
                    genes = np.stack(
                        [
                            np.full(len(at), choice.kind),
                            np.array(row.outs)[o],
                            np.array(choice.inners)[inner],
                            np.full(len(at), move.depth),
                        ],
                        axis=1,
                    )
                    yield _Arcs(
                        group[at],
                        o,
                        np.full(len(at), to),
                        np.full(len(at), after),
                        score,
                        plain[1:].T,
                        every[at, inner],
                        np.full(len(at), arc.border[state]),
                        genes,
                    )

    def _bordered(self, r: int, border: Index, kernel: Index, depth: Index) -> tuple[Index, Array]:
        """Return the border's states behind a row, and what it takes from the score there.

        A state stands for kernels and depths so far; where the border does not count, for kinds and
        depths.
        """
        entropy = self._relaxation.terms.rows[r].entropy
        _, first, inverse = np.unique(
            _key(border, kernel, depth), return_index=True, return_inverse=True
        )
        past = np.stack([border[first], kernel[first], depth[first]], axis=1)
        states, added = [], []
        for number, k, d in past.tolist():
            key = (r, number, k, d)
            if key not in self._border_steps:
                before, after, share = self._borders[number], None, 0.0
                if before is not None:
                    after, _ = entropy.border(before, k, d)
                    share = entropy.passed_on * (after.log_gain - before.log_gain)
                known = len(self._borders)
                if after is not None:
                    # Families that notice the border alike leave the same state.
                    known = self._border_numbers.setdefault(after, known)
                if known == len(self._borders):
                    self._borders.append(after)
                self._border_steps[key] = (known, share)
            state, share = self._border_steps[key]
            states.append(state)
            added.append(share)
        return np.array(states, dtype=np.intp)[inverse], np.array(added)[inverse]

    def _best_alike(self, r: int, labels: Labels, count: int) -> Index:
        """Return the paths of highest bound, so many of each sequence of kernels and depths."""
        after = self._values.before[r + 1][labels.node, labels.state]
        order = np.lexsort(
            (labels.costs @ self._values.prices - labels.score - after, labels.border)
        )
        border = labels.border[order]
        rank = np.arange(len(order)) - np.searchsorted(border, border)
        return order[rank < count]

    def _candidate(self, history: list[Labels], k: int) -> Candidate:
        rows = []
        for labels in reversed(history[1:]):
            rows.append(tuple(int(gene) for gene in labels.genes[k]))
            k = int(labels.before[k])
        return (int(history[0].genes[k][1]), *reversed(rows))


@dataclass(frozen=True)
class _Arcs:
    """Ways through a row: from a group of paths to channels out, with score and priced value."""

    group: Index
    out: Index
    state: Index
    relus: Index
    score: Array
    costs: Array
    reduced: Array
    border: Array
    genes: Index


def undominated(labels: Labels) -> Index:
    """Return the paths without those that another one of the same end dominates.

    With one budget these are all that are dominated, with more some of them.
    """
    key = _key(labels.node, labels.state, labels.relus, labels.border)
    costs = labels.costs
    order = np.lexsort((*costs.T, -labels.score, key))
    key, costs = key[order], costs[order]
    if costs.shape[1] == 0:
        return np.asarray(order[np.concatenate([[True], key[1:] != key[:-1]])])
    if costs.shape[1] == 1:
        # In order of falling score, a path survives if it is cheaper than all before it. Ranks
        # that fall from group to group keep the groups apart.
        rank = np.empty(len(order), dtype=np.int64)
        rank[np.argsort(costs[:, 0], kind="stable")] = np.arange(len(order))
        group = np.cumsum(np.concatenate([[False], key[1:] != key[:-1]]))
        rank -= group * len(order)
        lowest = np.minimum.accumulate(rank)
        return np.asarray(order[np.concatenate([[True], rank[1:] < lowest[:-1]])])
    good = np.ones(len(order), dtype=bool)
    for back in range(1, min(NEIGHBOURS + 1, len(order))):
        same = key[back:] == key[:-back]
        good[back:] &= ~(same & (costs[:-back] <= costs[back:]).all(axis=1))
    return np.asarray(order[good])


def _key(*columns: Index) -> NDArray[np.int64]:
    """Return one number per entry that tells all combinations of the columns apart."""
    key = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        key = key * (int(column.max(initial=0)) + 1) + column
    return key


def _joined(parts: list[Labels]) -> Labels:
    return Labels(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in Labels.__dataclass_fields__
        )
    )


def _chunks(counts: Index, most: int = 1_000_000) -> Iterator[Index]:
    """Yield ranges of arcs with about so many pairs each."""
    ends = np.cumsum(counts)
    low = 0
    while low < len(counts):
        base = ends[low - 1] if low else 0
        high = max(low + 1, int(np.searchsorted(ends, base + most, side="right")))
        yield np.arange(low, high)
        low = high

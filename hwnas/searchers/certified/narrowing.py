"""What of a relaxed problem is left once a good architecture is known.

At given prices, the best path through a channel count, a number of layers or a depth bounds every
architecture there. Where that lies below a score that is known already, nothing needs to be looked
for, at no price. What is left is a relaxed problem of its own, mostly a small one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .relaxation import Relaxation, Values
from .states import Move, States
from .terms import Array, SpaceTerms


def narrowed(relaxation: Relaxation, values: Values, least: float) -> Relaxation:
    """Return the relaxed problem on what some path of at least that value passes through.

    Args:
        relaxation: the problem.
        values: its solution at some prices.
        least: a value at these prices that the best path reaches.
    """
    terms, known = relaxation.terms, relaxation.states
    ahead = np.full((1, len(terms.widths)), -np.inf)
    ahead[0] = terms.stem[0] - values.prices @ terms.stem[1:]
    alive = [ahead + values.before[0].T >= least]
    reached: list[list[NDArray[np.bool_]]] = []
    for r in range(len(terms.rows)):
        ahead, going = _followed(relaxation, values, r, ahead, least)
        reached.append(going)
        alive.append(ahead + values.before[r + 1].T >= least)
    nodes = [np.flatnonzero(level.any(axis=0)) for level in alive]
    kept = [np.flatnonzero(level.any(axis=1)) for level in alive]
    rows = tuple(
        row.take(nodes[r], np.arange(max(len(c.inners) for c in row.choices)), nodes[r + 1])
        for r, row in enumerate(terms.rows)
    )
    moves = []
    for r, options in enumerate(known.moves):
        index = np.full(len(known.layers[r + 1]) + 1, -1)
        index[kept[r + 1]] = np.arange(len(kept[r + 1]))  # the last one stands for none
        moves.append(
            tuple(
                Move(
                    move.activated,
                    move.depth,
                    move.repeats,
                    index[np.where(reached[r][m], move.to, -1)[kept[r]]],
                )
                for m, move in enumerate(options)
                if reached[r][m].any()
            )
        )
    states = States(
        tuple(tuple(level[s] for s in kept[r]) for r, level in enumerate(known.layers)),
        tuple(tuple(level[s] for s in kept[r]) for r, level in enumerate(known.relus)),
        tuple(moves),
    )
    border = [
        {key: bound[kept[r]] for key, bound in bounds.items()}
        for r, bounds in enumerate(relaxation.border)
    ]
    widths = tuple(terms.widths[i] for i in nodes[0])
    return Relaxation(SpaceTerms(widths, terms.stem[:, nodes[0]], rows), states, border)


def _followed(
    relaxation: Relaxation, values: Values, r: int, ahead: Array, least: float
) -> tuple[Array, list[NDArray[np.bool_]]]:
    """Return the best up to each of (states, channels out) of a row, and from where its moves go.

    `ahead` is the best up to each of (states, channels in).
    """
    row, states = relaxation.terms.rows[r], relaxation.states
    best = np.full((len(states.layers[r + 1]), len(row.outs)), -np.inf)
    reached = []
    for move, arc in zip(states.moves[r], values.arcs[r], strict=True):
        going = np.flatnonzero(move.to >= 0)
        moved = np.full((len(going), len(row.outs)), -np.inf)
        for ins, outs, at in relaxation.through(r, arc, going):
            at += ahead[going, ins, None]
            np.maximum(moved[:, outs], at.max(axis=1), out=moved[:, outs])
        moved += arc.border[going, None]
        to = move.to[going]
        best[to] = np.maximum(best[to], moved)
        good = np.zeros(len(move.to), dtype=np.bool_)
        good[going] = (moved + values.before[r + 1].T[to] >= least).any(axis=1)
        reached.append(good)
    return best, reached

"""What a path carries besides its channels: layers so far, and the least ReLUs these stand for.

The layers of the main path are few and often limited, so they are a state instead of a priced
budget. The finite-width term grows with the ReLUs so far; where a number of layers does not settle
them, as expansions of 1 have fewer, the least possible number bounds the score from above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .terms import Index, RowTerms

Activated = tuple[tuple[bool, ...], tuple[bool, ...]]
"""Of each layer of a row's first and later blocks, whether a ReLU follows."""


@dataclass(frozen=True)
class Move:
    """A depth of blocks of one pattern: from each state before the row to the one behind, or -1."""

    activated: Activated
    depth: int
    repeats: int
    to: Index


@dataclass(frozen=True)
class States:
    """The states between rows: `layers` and `relus` before each row and behind the last, and each
    row's moves."""

    layers: tuple[tuple[int, ...], ...]
    relus: tuple[tuple[int, ...], ...]
    moves: tuple[tuple[Move, ...], ...]


def states(rows: Sequence[RowTerms], limit: float) -> States:
    """Return the states from which a path can still end within so many layers."""
    patterns = [sorted({choice.activated for choice in row.choices}) for row in rows]
    steps = [
        [
            (pattern, depth, *_grow(pattern, depth * row.row.unit - 1))
            for pattern in options
            for depth in row.row.depths
        ]
        for row, options in zip(rows, patterns, strict=True)
    ]
    needed = [0]
    for options in reversed(steps):
        needed.append(needed[-1] + min(layers for _, _, layers, _ in options))
    needed.reverse()
    least: list[dict[int, int]] = [{1: 1}] if 1 + needed[0] <= limit else [{}]
    for options, rest in zip(steps, needed[1:], strict=True):
        behind: dict[int, int] = {}
        for layers, relus in least[-1].items():
            for _, _, more, activated in options:
                if layers + more + rest <= limit:
                    known = behind.get(layers + more, relus + activated)
                    behind[layers + more] = min(known, relus + activated)
        least.append(dict(sorted(behind.items())))
    moves = []
    for r, options in enumerate(steps):
        index = {layers: s for s, layers in enumerate(least[r + 1])}
        unit = rows[r].row.unit
        moves.append(
            tuple(
                Move(
                    pattern,
                    depth,
                    depth * unit - 1,
                    np.array([index.get(layers + more, -1) for layers in least[r]], dtype=np.intp),
                )
                for pattern, depth, more, _ in options
            )
        )
    return States(
        tuple(tuple(level) for level in least),
        tuple(tuple(level.values()) for level in least),
        tuple(moves),
    )


def _grow(activated: Activated, repeats: int) -> tuple[int, int]:
    """Return the layers and the ReLUs of a first and so many later blocks."""
    first, rest = activated
    return len(first) + repeats * len(rest), sum(first) + repeats * sum(rest)

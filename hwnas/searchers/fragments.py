"""A space cut into fragments: each row's blocks lowered once, on the axes of the space.

The channels of a fragment are arrays over the axes (channels in, inner size, channels out), so
whatever is read off its graph is a table over all rows of that kind that the space holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..architecture.builder import GraphBuilder
from ..architecture.families import family
from ..architecture.graph import Before, Channels, Graph, Size, carried_activation, checked
from ..architecture.spaces import RowSpace, Space


@dataclass(frozen=True)
class RowFragments:
    """A row of a given kind (and expansion): its first block, each later one, and its end.

    The first block is taken to follow the activation in which blocks of the first kind of the row
    before end. `valid` is the mask over (channels in, 1, channels out) of pairs that the space
    allows.
    """

    row: RowSpace
    kind: int
    expansion: int | None
    ins: tuple[int, ...]
    first: Graph
    rest: Graph
    end: Graph
    valid: NDArray[np.bool_]

    @property
    def inners(self) -> tuple[int, ...]:
        """The inner sizes that the fragments stand for."""
        return self.row.mids if self.expansion is None else (self.expansion,)

    @property
    def activated(self) -> bool:
        """Whether the row's result carries an activation."""
        return carried_activation(self.rest) is not None


def stem_fragment(space: Space, resolution: Size, batch: int) -> Graph:
    """Return the stem of a space; its channels lie along the axis of channels out."""
    b = GraphBuilder(3, resolution)
    widths = np.array(space.stem_widths, dtype=np.int64)[None, None, :]
    x = space.stem.layers(b, widths)
    if space.stem.max_pool:
        b.stage = 2
        b.pool(x, "max_pool", 3, 2)
    return b.build(batch=batch)


def row_fragments(space: Space, resolution: Size, batch: int) -> Iterator[list[RowFragments]]:
    """Yield the fragments of each row: one per kind, and per expansion where it has one."""
    stem = stem_fragment(space, resolution, batch)
    before = Before((stem,))
    size, ins, activation = stem.layers[-1].out_size, space.stem_widths, carried_activation(stem)
    for row in space.rows:
        fragments = [
            _fragments(row, kind, expansion, ins, size, batch, activation, before)
            for kind in row.kinds
            for expansion in ((None,) if row.inner_is_width(kind) else row.expansions)
        ]
        yield fragments
        size = (-(-size[0] // row.stride), -(-size[1] // row.stride))
        ins, activation = row.outs, carried_activation(fragments[0].rest)
        blocks = tuple(graph for f in fragments for graph in (f.first, f.rest))
        before = Before(blocks, row.ends_stage and row.stage > 1)


def _fragments(
    row: RowSpace,
    kind: int,
    expansion: int | None,
    ins: tuple[int, ...],
    size: Size,
    batch: int,
    activation: str | None,
    before: Before,
) -> RowFragments:
    blocks = family(row.family(kind))
    like = row.row((kind, row.outs[0], row.inners(kind)[0], row.depths[0]))
    into = np.array(ins, dtype=np.int64)[:, None, None]
    out = np.array(row.outs, dtype=np.int64)[None, None, :]
    inner: Channels = expansion or np.array(row.mids, dtype=np.int64)[None, :, None]

    def block(
        number: int, channels: Channels, size: Size, activation: str | None, before: Before
    ) -> Graph:
        b = GraphBuilder(channels, size, stage=row.stage)
        blocks.block(b, b.input, replace(like.options(number), out=out, inner=inner))
        return checked(b.build(batch=batch, input_activation=activation, before=before))

    first = block(0, into, size, activation, before)
    size_out = (-(-size[0] // row.stride), -(-size[1] // row.stride))
    rest = block(1, out, size_out, carried_activation(first), Before((first,)))
    end = GraphBuilder(out, size_out, stage=row.stage)
    if row.ends_stage and row.stage > 1:
        end.output(end.input)
    low, high = row.growth
    return RowFragments(
        row,
        kind,
        expansion,
        ins,
        first,
        rest,
        end.build(batch=batch, before=Before((first, rest))),
        (low * into <= out) & (out <= high * into),
    )

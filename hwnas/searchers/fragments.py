"""A space cut into fragments: each row's blocks lowered once, on the axes of the space.

The channels of a fragment are arrays over the axes (channels in, inner size, channels out), so
whatever is read off its graph is a table over all rows of that kind that the space holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..architecture.families import family
from ..architecture.graph import Channels, Graph, GraphBuilder, Size
from ..architecture.spaces import RowSpace, Space


@dataclass(frozen=True)
class RowFragments:
    """A row of a given kernel (and expansion): its first block, each later one, and its end.

    `valid` is the mask over (channels in, 1, channels out) of pairs that the space allows.
    """

    row: RowSpace
    kernel: int
    expansion: int | None
    ins: tuple[int, ...]
    first: Graph
    rest: Graph
    end: Graph
    valid: NDArray[np.bool_]


def stem_fragment(space: Space, resolution: Size, batch: int) -> Graph:
    """Return the stem of a space; its channels lie along the axis of channels out."""
    b = GraphBuilder(3, resolution)
    widths = np.array(space.stem_widths, dtype=np.int64)[None, None, :]
    b.conv(b.input, widths, 3, stride=2, activation=space.stem_activation)
    return b.build(batch=batch)


def row_fragments(space: Space, resolution: Size, batch: int) -> Iterator[list[RowFragments]]:
    """Yield the fragments of each row: one per kernel, and per expansion where it has one."""
    size: Size = (-(-resolution[0] // 2), -(-resolution[1] // 2))
    ins, activation = space.stem_widths, True
    for row in space.rows:
        choices: tuple[int | None, ...] = (None,) if row.inner_is_width else row.inners
        yield [
            _fragments(row, kernel, expansion, ins, size, batch, activation)
            for kernel in row.kernels
            for expansion in choices
        ]
        size = (-(-size[0] // row.stride), -(-size[1] // row.stride))
        ins, activation = row.outs, family(row.family).ends_in_activation


def _fragments(
    row: RowSpace,
    kernel: int,
    expansion: int | None,
    ins: tuple[int, ...],
    size: Size,
    batch: int,
    activated: bool,
) -> RowFragments:
    blocks = family(row.family)
    into = np.array(ins, dtype=np.int64)[:, None, None]
    out = np.array(row.outs, dtype=np.int64)[None, None, :]
    inner: Channels = expansion or np.array(row.inners, dtype=np.int64)[None, :, None]

    def block(channels: Channels, size: Size, stride: int, activated: bool) -> Graph:
        b = GraphBuilder(channels, size, stage=row.stage)
        blocks.block(
            b,
            b.input,
            out=out,
            inner=inner,
            kernel=kernel,
            stride=stride,
            first=channels is into,
            activation=blocks.activation,
            shortcut="pool",
        )
        return b.build(batch=batch, input_activation=blocks.activation if activated else None)

    size_out = (-(-size[0] // row.stride), -(-size[1] // row.stride))
    end = GraphBuilder(out, size_out, stage=row.stage)
    if row.ends_stage and row.stage > 1:
        end.output(end.input)
    low, high = row.growth
    return RowFragments(
        row,
        kernel,
        expansion,
        ins,
        block(into, size, row.stride, activated),
        block(out, size_out, 1, blocks.ends_in_activation),
        end.build(batch=batch),
        (low * into <= out) & (out <= high * into),
    )

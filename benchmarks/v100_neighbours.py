"""Rows of the V100 tables that contradict their neighbours, and what share of the error is theirs.

TensorRT chooses among kernels by timing them, and rows that differ in resolution alone may have got
kernels several times apart, now one and now the other. What no smooth function of the sizes passes
through, no predictor of this kind gets right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from v100_pieces import BYTES, SHIPPED, Pieces
from v100_report import DEPTHWISE, SETS, ready

from hwnas.latency.columns import Columns
from hwnas.latency.evaluation import accuracy

FAR = 1.5
"""By this factor off the line through its neighbours, a row contradicts them."""

NEAR = 2.0
"""Neighbours are at most by this factor of resolution apart from each other."""


def off_the_line(c: Columns, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far log(seconds) is off the line through the next smaller and larger resolution.

    All else of the three rows is equal; the line is straight in logarithms. NaN where a neighbour
    was not measured or is far.
    """
    sizes = (c.kind, c.kernel, c.stride, c.batch, c.in_channels, c.out_channels, c.fused_add)
    order = np.lexsort((c.in_height, *sizes))
    same = np.ones(len(c) - 1, dtype=bool)
    for values in sizes:
        same &= np.diff(values[order]) == 0
    side, time = np.log(c.in_height[order]), np.log(seconds[order])
    inner = np.flatnonzero(same[:-1] & same[1:]) + 1
    inner = inner[side[inner + 1] - side[inner - 1] < np.log(NEAR)]
    share = (side[inner] - side[inner - 1]) / (side[inner + 1] - side[inner - 1])
    line = (1 - share) * time[inner - 1] + share * time[inner + 1]
    found = np.full(len(c), np.nan)
    found[order[inner]] = np.abs(time[inner] - line)
    return found


def neighbours_report(pieces: Pieces, seeds: int) -> str:
    """Return the accuracy on rows that contradict their neighbours, and on the others."""
    lines = [
        "| held out, between two neighbours | precision | contradict them | MAPE | within 10 % | "
        "the others: MAPE | within 10 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ("random tenth", "random tenth, depthwise"):
        split, rows = SETS[name]
        for precision in BYTES:
            table = pieces.measured(precision)
            distance = off_the_line(table.columns, table.seconds)
            parts = []
            for seed in ready(pieces, precision, split, seeds, SHIPPED):
                piece = pieces.get(precision, split, seed, SHIPPED)
                told = np.stack([distance[piece.rows], piece.measured_s, piece.predicted_s])
                parts.append(told[:, rows(piece) & np.isfinite(told[0])])
            if parts:
                off, measured, predicted = np.concatenate(parts, axis=1)
                contradicts = off > np.log(FAR)
                cells = [f"{100 * contradicts.mean():.1f} %"]
                for some in (contradicts, ~contradicts):
                    good = accuracy(measured[some], predicted[some])
                    cells += [f"{100 * good['mape']:.2f} %", f"{100 * good['within_10']:.1f} %"]
                lines.append(f"| {name} | {precision.upper()} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def example_report(pieces: Pieces) -> str:
    """Return the times of kernels that differ in resolution alone, some several times apart."""
    table = pieces.measured("fp16")
    c = table.columns
    told = (c.kind == DEPTHWISE) & (c.kernel == 1) & (c.stride == 2)
    told &= (c.batch == 64) & (c.out_channels == 64) & (c.in_height >= 20) & (c.in_height <= 100)
    rows = np.flatnonzero(told)[np.argsort(c.in_height[told])]
    outputs = c.batch * c.out_channels * c.out_height**2
    each_ps = [f"{1e12 * s:.1f}" for s in table.seconds[rows] / outputs[rows]]
    sides = [f"{side:.0f}" for side in c.in_height[rows]]
    return (
        f"| resolution | {' | '.join(sides)} |\n{'|---' * (len(rows) + 1)}|\n"
        f"| ps an output | {' | '.join(each_ps)} |\n"
    )

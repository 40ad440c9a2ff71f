"""Features of one kernel, smooth in its sizes: what a regressor corrects the roofline by.

No feature names a size value; alignment and tiling appear as the share of work that is padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from .columns import CLASSES, Column, Columns

Feature = tuple[str, Column]

SM_COUNT = 80
"""Streaming multiprocessors of a V100: a wave of thread blocks fills them once."""

TILES = ((128, 128), (256, 128), (256, 64), (128, 64), (64, 64))
"""Rows and columns of the matrix product that one thread block computes."""


def build(
    feature_set: str, columns: Columns, roofline_s: Column
) -> tuple[list[str], NDArray[np.float32]]:
    """Return the names of a feature set and its values [kernels, features]."""
    named = list(FEATURE_SETS[feature_set](columns, roofline_s))
    table = np.empty((len(columns), len(named)), dtype=np.float32)
    for i, (_, values) in enumerate(named):
        table[:, i] = values
    return [name for name, _ in named], table


def _common(c: Columns, roofline_s: Column) -> Iterator[Feature]:
    log = np.log
    in_channels, out_channels = log(c.in_channels), log(c.out_channels)
    rows, depth = log(c.rows), log(np.maximum(c.depth, 1.0))
    macs = log(c.macs)
    values_in, values_out = log(c.values_in), log(c.values_out)
    values = log(c.values_in + c.values_out + c.values_weight)
    yield "kernel_area", c.kernel
    yield "stride", c.stride
    yield "fused_add", c.fused_add
    yield "log_in_channels", in_channels
    yield "log_out_channels", out_channels
    yield "log_out_over_in", out_channels - in_channels
    yield "log_in_height", log(c.in_height)
    yield "log_out_height", log(c.out_height)
    yield "log_rows", rows
    yield "log_depth", depth
    yield "log_macs", macs
    yield "log_values", values
    yield "log_values_in", values_in
    yield "log_values_out", values_out
    yield "log_values_weight", log(c.values_weight + 1.0)
    yield "log_intensity", macs - values
    yield "log_rows_over_depth", rows - depth
    yield "log_roofline", log(roofline_s)
    for width in (8, 16, 32):
        yield f"in_padding_{width}", _padding(c.in_channels, width)
        yield f"out_padding_{width}", _padding(c.out_channels, width)


def _cpu(c: Columns, roofline_s: Column) -> Iterator[Feature]:
    yield from _common(c, roofline_s)
    for i, name in enumerate(CLASSES):
        yield f"is_{name}", (c.kind == i).astype(np.float64)
    yield "log_out_width", np.log(c.out_width)
    # A vector kernel computes a few output columns at a time; what is left over runs apart.
    for width in (3, 6, 14):
        yield f"width_padding_{width}", _padding(c.out_width, width)
    yield "log_map_in", np.log(c.in_height * c.in_width)
    yield "log_out_blocks", np.log(np.ceil(c.out_channels / 16))
    yield "out_blocks_padding_4", _padding(np.ceil(c.out_channels / 16), 4)


def _gpu(c: Columns, roofline_s: Column) -> Iterator[Feature]:
    yield from _common(c, roofline_s)
    yield "is_depthwise", (c.groups > 1).astype(np.float64)
    yield "log_batch", np.log(c.batch)
    yield "in_padding_64", _padding(c.in_channels, 64)
    yield "out_padding_64", _padding(c.out_channels, 64)
    yield "out_padding_128", _padding(c.out_channels, 128)
    yield "depth_padding_32", _padding(c.depth, 32)
    yield "map_in_padding_8", _padding(c.in_height * c.in_width, 8)
    yield "map_out_padding_8", _padding(c.out_height * c.out_width, 8)
    yield "height_in_padding_2", _padding(c.in_height, 2)
    for rows, columns in TILES:
        blocks = np.ceil(c.rows / rows) * np.ceil(c.out_channels / columns)
        waves = np.ceil(blocks / SM_COUNT)
        yield f"log_blocks_{rows}x{columns}", np.log(blocks)
        yield f"wave_filling_{rows}x{columns}", blocks / SM_COUNT / waves
        yield f"log_wave_work_{rows}x{columns}", np.log(waves * rows * columns * c.depth)


FEATURE_SETS: dict[str, Callable[[Columns, Column], Iterator[Feature]]] = {
    "cpu": _cpu,
    "gpu": _gpu,
}


def _padding(values: Column, multiple: int) -> Column:
    """Return the share of a padded size that is padding."""
    share: Column = 1.0 - values / (np.ceil(values / multiple) * multiple)
    return share

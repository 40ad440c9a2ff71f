"""Features of kernels on a graphics processor: tiles, waves of thread blocks, alignment."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..columns import Column, Columns
from .common import Feature, common, padding

SM_COUNT = 80
"""Streaming multiprocessors of a V100: a wave of thread blocks fills them once."""

TILES = ((128, 128), (256, 128), (256, 64), (128, 64), (64, 64))
"""Rows and columns of the matrix product that one thread block computes."""


def gpu(c: Columns, roofline_s: Column) -> Iterator[Feature]:
    """Yield the common features, alignment to tensor cores, and the filling of waves by tile."""
    yield from common(c, roofline_s)
    yield "is_depthwise", (c.groups > 1).astype(np.float64)
    yield "log_batch", np.log(c.batch)
    yield "in_padding_64", padding(c.in_channels, 64)
    yield "out_padding_64", padding(c.out_channels, 64)
    yield "out_padding_128", padding(c.out_channels, 128)
    yield "depth_padding_32", padding(c.depth, 32)
    yield "map_in_padding_8", padding(c.in_height * c.in_width, 8)
    yield "map_out_padding_8", padding(c.out_height * c.out_width, 8)
    yield "height_in_padding_2", padding(c.in_height, 2)
    for rows, columns in TILES:
        blocks = np.ceil(c.rows / rows) * np.ceil(c.out_channels / columns)
        waves = np.ceil(blocks / SM_COUNT)
        yield f"log_blocks_{rows}x{columns}", np.log(blocks)
        yield f"wave_filling_{rows}x{columns}", blocks / SM_COUNT / waves
        yield f"log_wave_work_{rows}x{columns}", np.log(waves * rows * columns * c.depth)

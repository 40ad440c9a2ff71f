"""Features of kernels on a graphics processor: tiles, waves of thread blocks, alignment."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..columns import CLASSES, Column, Columns
from .common import Feature

SM_COUNT = 80
"""Streaming multiprocessors of a V100: a wave of thread blocks fills them once."""

TILES = ((128, 128), (256, 128), (256, 64), (128, 64), (64, 64))
"""Rows and columns of the matrix product that one thread block computes."""

Narrow = NDArray[np.float32]


def gpu(c: Columns, roofline_s: Column) -> Iterator[Feature]:
    """Yield sizes, work and intensity, alignment to tensor cores, and the filling of waves by tile.

    None depends on the roofline, so that precisions share them (`together`). Maps count by the side
    of a square of the same area. Everything is computed in single precision, in which features are
    kept: a logarithm is then several times quicker, and those of products are sums of a few.
    """
    batch, in_channels, out_channels = (_log(v) for v in (c.batch, c.in_channels, c.out_channels))
    map_in, map_out = _log(c.in_height * c.in_width), _log(c.out_height * c.out_width)
    depth = _log(np.maximum(c.depth, 1.0))
    rows = batch + map_out
    macs = rows + out_channels + depth
    values_in = batch + in_channels + map_in
    out_of_one = rows + out_channels
    values_out = out_of_one + np.float32(np.log(2.0)) * c.fused_add.astype(np.float32)
    values_weight = depth + out_channels
    values = _log(c.values_in + c.values_out + c.values_weight)
    yield "kernel_area", c.kernel
    yield "stride", c.stride
    yield "fused_add", c.fused_add
    yield "is_depthwise", (c.kind == CLASSES.index("depthwise")).astype(np.float32)
    yield "log_batch", batch
    yield "log_in_channels", in_channels
    yield "log_out_channels", out_channels
    yield "log_out_over_in", out_channels - in_channels
    yield "log_in_side", map_in / 2
    yield "log_out_side", map_out / 2
    yield "log_rows", rows
    yield "log_depth", depth
    yield "log_macs", macs
    yield "log_values", values
    yield "log_values_in", values_in
    yield "log_values_out", values_out
    yield "log_values_weight", values_weight
    yield "log_intensity", macs - values
    yield "log_rows_over_depth", rows - depth
    # A window wider than the map: general kernels take over, several times slower.
    side = np.minimum(c.in_height, c.in_width)
    yield "window_exceeds_map", (c.kernel > side * side).astype(np.float32)
    into, out = _narrow(c.in_channels), _narrow(c.out_channels)
    for width in (8, 16, 32, 64):
        yield f"in_padding_{width}", _padding(into, width)
    for width in (8, 16, 32, 64, 128):
        yield f"out_padding_{width}", _padding(out, width)
    yield "depth_padding_32", _padding(_narrow(c.depth), 32)
    yield "map_in_padding_8", _padding(_narrow(c.in_height * c.in_width), 8)
    yield "map_out_padding_8", _padding(_narrow(c.out_height * c.out_width), 8)
    # An odd height or width leaves half of the last pair of rows or columns unused.
    odd = _padding(_narrow(c.in_height), 2) + _padding(_narrow(c.in_width), 2)
    yield "side_padding_2", odd / 2
    positions = _narrow(c.rows)
    for height, width in TILES:
        blocks = np.ceil(positions * np.float32(1 / height)) * np.ceil(out * np.float32(1 / width))
        share = blocks / np.float32(SM_COUNT)
        waves = np.ceil(share)
        yield f"log_blocks_{height}x{width}", np.log(blocks)
        yield f"wave_filling_{height}x{width}", share / waves
        work = np.log(waves) + np.float32(np.log(height * width))
        yield f"log_wave_work_{height}x{width}", work + depth


def _narrow(values: Column) -> Narrow:
    return values.astype(np.float32)


def _log(values: Column) -> Narrow:
    logs: Narrow = np.log(values.astype(np.float32))
    return logs


def _padding(values: Narrow, multiple: int) -> Narrow:
    """Return the share of a padded size that is padding, as `common.padding` does."""
    share: Narrow = 1 - values / (np.ceil(values / np.float32(multiple)) * np.float32(multiple))
    return share

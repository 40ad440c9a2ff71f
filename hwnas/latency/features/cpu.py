"""Features of kernels on a processor: vector blocks and caches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..columns import CLASSES, Column, Columns
from .common import Feature, common, padding


def cpu(c: Columns, roofline_s: Column) -> Iterator[Feature]:
    """Yield the common features, the class, and how well sizes fill a vector kernel's blocks."""
    yield from common(c, roofline_s)
    for i, name in enumerate(CLASSES):
        yield f"is_{name}", (c.kind == i).astype(np.float64)
    yield "plain", c.plain
    yield "log_groups", np.log(c.groups)
    yield "log_out_width", np.log(c.out_width)
    # A vector kernel computes a few output columns at a time; what is left over runs apart.
    for width in (3, 6, 14):
        yield f"width_padding_{width}", padding(c.out_width, width)
    # Windows that hang over the map's edge are computed one by one, apart from those inside.
    side = np.sqrt(c.kernel)
    inside = _inside(c.in_width, side, c)
    yield "edge_columns", 1.0 - np.minimum(inside / c.out_width, 1.0)
    yield "edge_rows", 1.0 - np.minimum(_inside(c.in_height, side, c) / c.out_height, 1.0)
    pointwise = (c.kernel == 1) & (c.stride == 1)  # whose map is one row
    row = np.where(pointwise, c.out_height * c.out_width, np.maximum(inside, 1.0))
    for width in (3, 6):
        yield f"inside_padding_{width}", padding(row, width)
    yield "log_map_in", np.log(c.in_height * c.in_width)
    yield "log_out_blocks", np.log(np.ceil(c.out_channels / 16))
    yield "out_blocks_padding_4", padding(np.ceil(c.out_channels / 16), 4)


def _inside(size: Column, side: Column, c: Columns) -> Column:
    """Return along one axis how many windows lie inside a map of that size."""
    count: Column = np.maximum(np.floor((size - side) / c.stride) + 1.0, 0.0)
    return count

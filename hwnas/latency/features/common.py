"""Features that every device's regressor sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..columns import Column, Columns

Feature: TypeAlias = tuple[str, NDArray[np.floating[Any]]]
"""A name and one value per kernel."""


def common(c: Columns, roofline_s: Column) -> Iterator[Feature]:
    """Yield sizes, work and intensity of each kernel, in logarithms, and channel alignment."""
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
        yield f"in_padding_{width}", padding(c.in_channels, width)
        yield f"out_padding_{width}", padding(c.out_channels, width)


def padding(values: Column, multiple: int) -> Column:
    """Return the share of a padded size that is padding."""
    share: Column = 1.0 - values / (np.ceil(values / multiple) * multiple)
    return share

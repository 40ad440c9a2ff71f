"""Kernels as arrays: one column per property, and the work that each kernel does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..lowering import operators
from ..lowering.kernels import Kernel

Column = NDArray[np.float64]

CLASSES = (
    "dense",
    "pointwise",
    "depthwise",
    "pool",
    "copy",
    "other",
    "grouped",
    "matmul",
    "elementwise",
    "transcendental",
    "reduce",
    "normalise",
    "transpose",
    "resize",
    "rearrange",
)
"""Kinds of kernels that are limited by the same part of a device; `other` is none of them."""

_MULTIPLIES = np.array(
    [name in ("dense", "pointwise", "depthwise", "grouped", "matmul") for name in CLASSES]
)
_OPS = {
    **dict.fromkeys(operators.POOLS.values(), "pool"),
    **dict.fromkeys(operators.MOVING.values(), "rearrange"),
    **dict.fromkeys(("reorder_input", "reorder_plain", "quantize"), "rearrange"),
    # Handed out: written to memory that was not used before.
    **dict.fromkeys(("reorder_output", "dequantize"), "copy"),
    **dict.fromkeys(operators.ELEMENTWISE, "elementwise"),
    **dict.fromkeys(operators.TRANSCENDENTAL, "transcendental"),
    **dict.fromkeys(operators.REDUCING.values(), "reduce"),
    **dict.fromkeys(operators.NORMALISING.values(), "normalise"),
    **dict.fromkeys(operators.RESIZING.values(), "resize"),
    "transpose": "transpose",
    "matmul": "matmul",
}


@dataclass(frozen=True)
class Columns:
    """Kernels as arrays of one length. `kind` indexes CLASSES.

    `kernel` is the area of a window, or the nominal operations per value of other operators.
    """

    kind: NDArray[np.int8]
    batch: Column
    in_channels: Column
    in_height: Column
    in_width: Column
    out_channels: Column
    out_height: Column
    out_width: Column
    kernel: Column
    stride: Column
    groups: Column
    fused_add: Column
    plain: Column

    def __len__(self) -> int:
        """Return the number of kernels."""
        return len(self.kind)

    def take(self, rows: Any) -> Columns:
        """Return some of the kernels."""
        return Columns(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @property
    def multiplies(self) -> NDArray[np.bool_]:
        """Which kernels are products: convolutions and matrix products."""
        found: NDArray[np.bool_] = _MULTIPLIES[self.kind]
        return found

    @property
    def rows(self) -> Column:
        """Output positions of the whole batch: the rows of the matrix product."""
        return self.batch * self.out_height * self.out_width

    @property
    def depth(self) -> Column:
        """Multiply-adds per output element: the matrix product's inner length."""
        return self.in_channels / self.groups * self.kernel

    @property
    def macs(self) -> Column:
        """Multiply-adds of the whole batch; comparisons and additions of other operators."""
        return self.rows * self.out_channels * np.where(self.multiplies, self.depth, self.kernel)

    @property
    def values_in(self) -> Column:
        """Elements read, weights apart."""
        return self.batch * self.in_channels * self.in_height * self.in_width

    @property
    def values_out(self) -> Column:
        """Elements written, and those of a fused addition read."""
        return self.rows * self.out_channels * (1.0 + self.fused_add)

    @property
    def values_weight(self) -> Column:
        """Weights read."""
        return np.where(self.multiplies, self.depth * self.out_channels, 0.0)


def kind_of(kernel: Kernel) -> int:
    """Return the class of a kernel, as an index into CLASSES."""
    kernel = _as_convolution(kernel)
    if kernel.op != "conv":
        return CLASSES.index(_OPS.get(kernel.op, "other"))
    groups = np.asarray(kernel.groups)
    if np.all(groups > 1):
        each = np.all(groups == np.asarray(kernel.in_channels))
        return CLASSES.index("depthwise" if each else "grouped")
    return CLASSES.index("dense" if max(kernel.kernel) > 1 else "pointwise")


def from_kernels(kernels: Sequence[Kernel]) -> Columns:
    """Return the columns of kernels with whole-number channels."""
    table = np.array([_scalars(kernel) for kernel in kernels], dtype=np.float64).reshape(-1, 12)
    kinds = np.array([kind_of(kernel) for kernel in kernels], dtype=np.int8)
    return Columns(kinds, *table.T)


def from_table(kernel: Kernel, where: Any = None) -> Columns:
    """Return the columns of a kernel whose channels are arrays, in the order of their product.

    `where` is a mask over the broadcast shape; only its entries become rows.
    """
    into, out, groups = np.broadcast_arrays(kernel.in_channels, kernel.out_channels, kernel.groups)
    if where is not None:
        into, out, groups = into[where], out[where], groups[where]
    channels = [a.astype(np.float64).ravel() for a in (into, out, groups)]
    count = len(channels[0])
    fixed = _scalars(kernel._replace(in_channels=0, out_channels=0, groups=1))
    columns = [np.full(count, value) for value in fixed]
    for position, values in zip((1, 4, 9), channels, strict=True):
        columns[position] = values
    return Columns(np.full(count, kind_of(kernel), dtype=np.int8), *columns)


def _as_convolution(kernel: Kernel) -> Kernel:
    """Return a transposed convolution as the 1x1 convolution that does its multiply-adds."""
    if kernel.op != "conv_transpose":
        return kernel
    return kernel._replace(
        op="conv",
        out_channels=kernel.out_channels * kernel.kernel[0] * kernel.kernel[1],
        out_size=kernel.in_size,
        kernel=(1, 1),
        stride=(1, 1),
    )


def _scalars(kernel: Kernel) -> list[Any]:
    kernel = _as_convolution(kernel)
    return [
        kernel.batch,
        kernel.in_channels,
        *kernel.in_size,
        kernel.out_channels,
        *kernel.out_size,
        operators.WORK.get(kernel.op, kernel.kernel[0] * kernel.kernel[1]),
        max(kernel.stride),
        kernel.groups,
        kernel.fused_add,
        kernel.plain,
    ]

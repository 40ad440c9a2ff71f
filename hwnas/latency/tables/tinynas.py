"""The table of the TinyNAS toolbox: one convolution a line, `{Regular,1,64,56,56,64,3,1,0} 0.25`.

The fields are type, batch, input channels, input height, input width, output channels, kernel,
stride and fused residual addition, then milliseconds for the whole batch; -1 where the measurement
failed. The form is that of github.com/alibaba/lightweight-neural-architecture-search.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from ...errors import UsageError
from ...lowering.kernels import Kernel
from .table import (
    BadRow,
    Entry,
    KernelTable,
    RowError,
    Written,
    check_kernel,
    median_of_repeats,
    parse_size,
    parse_time,
)

FIELDS = ("batch", "in_channels", "in_height", "in_width", "out_channels", "kernel", "stride")
_LINE = re.compile(r"\{([^{}]*)\}\s*(\S*)\s*(?:ms)?")


def parse(text: str) -> Iterator[Entry | BadRow]:
    """Yield the rows of a table.

    Raises:
        UsageError: no line has the form.
    """
    lines = [(i, line.strip()) for i, line in enumerate(text.splitlines(), 1)]
    if not any(_LINE.fullmatch(line) for _, line in lines):
        raise UsageError("it has no line such as '{Regular,1,64,56,56,64,3,1,0} 0.25'.")
    for i, line in lines:
        if not line or line.startswith("#"):
            continue
        try:
            yield _entry(i, line)
        except RowError as error:
            yield error.at(i)


def _entry(i: int, line: str) -> Entry:
    found = _LINE.fullmatch(line)
    if found is None:
        raise RowError("malformed", "not of the form {Regular,1,64,56,56,64,3,1,0} 0.25")
    kind, *fields = (field.strip() for field in found[1].split(","))
    if len(fields) != len(FIELDS) + 1:
        raise RowError("malformed", f"{len(fields) + 1} fields in braces, expected 9")
    if kind not in ("Regular", "Depthwise"):
        raise RowError("unknown type", f"type is {kind[:24]!r}, expected Regular or Depthwise")
    sizes = (parse_size(field, name) for field, name in zip(fields, FIELDS, strict=False))
    batch, into, height, width, out, side, stride = sizes
    fused_add = parse_size(fields[-1], "fused_add", least=0)
    if fused_add > 1:
        raise RowError("out of range", f"fused_add is {fused_add}, expected 0 or 1")
    groups = into if kind == "Depthwise" else 1
    kernel = _conv(batch, into, (height, width), out, side, stride, groups, fused_add == 1)
    if re.fullmatch(r"-1(\.0*)?|(ms)?", found[2]):
        raise RowError("failed", "the time is missing")
    return Entry(i, (check_kernel(kernel),), parse_time(found[2].removesuffix("ms"), "the time"))


def _conv(
    batch: int,
    into: int,
    size: tuple[int, int],
    out: int,
    side: int,
    stride: int,
    groups: int,
    fused_add: bool,
) -> Kernel:
    out_size = (-(-size[0] // stride), -(-size[1] // stride))
    square, step = (side, side), (stride, stride)
    return Kernel("conv", batch, into, size, out, out_size, square, step, groups, fused_add, True)


def expressible(kernel: Kernel) -> Kernel | None:
    """Return the kernel as the form can say it, None where it cannot.

    It cannot say whether a result is activated; a convolution without reads back as one with.
    """
    into, groups = int(kernel.in_channels), int(kernel.groups)
    if kernel.op != "conv" or groups not in (1, into):
        return None
    bare = _conv(
        kernel.batch,
        into,
        kernel.in_size,
        int(kernel.out_channels),
        kernel.kernel[0],
        kernel.stride[0],
        groups,
        kernel.fused_add,
    )
    return bare if bare == kernel._replace(activation=True, unless_multiple=0) else None


def render(table: KernelTable) -> tuple[str, Written]:
    """Return a table as text; kernels that the form cannot tell apart become one, their median."""
    rows: list[tuple[tuple[Kernel, ...], float]] = []
    left_out: Counter[str] = Counter()
    for kernel, time_s in zip(table.kernels, table.seconds.tolist(), strict=True):
        told = expressible(kernel)
        if told is None:
            left_out[kernel.op] += 1
        else:
            rows.append(((told,), time_s))
    lines = []
    written = median_of_repeats(rows)
    for kernel, time_s in zip(written.kernels, written.seconds.tolist(), strict=True):
        kind = "Regular" if kernel.groups == 1 else "Depthwise"
        fields = (
            kind,
            kernel.batch,
            kernel.in_channels,
            *kernel.in_size,
            kernel.out_channels,
            kernel.kernel[0],
            kernel.stride[0],
            int(kernel.fused_add),
        )
        lines.append(f"{{{','.join(map(str, fields))}}} {1e3 * time_s:.9g}\n")
    return "".join(lines), Written(len(lines), dict(left_out))

"""Tables as CSV: one kernel a row, by name of column."""

from __future__ import annotations

import csv
import io
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
    parse_size,
    parse_time,
)

COLUMNS = (
    "type",
    "batch",
    "in_channels",
    "in_height",
    "in_width",
    "out_channels",
    "kernel",
    "stride",
    "fused_add",
    "latency_ms",
)
OPTIONAL = (
    "groups",
    "out_height",
    "out_width",
    "kernel_width",
    "stride_width",
    "activation",
    "plain",
)
"""Columns that a table may leave out; a cell that is empty takes its default, too."""

CONVOLUTIONS = ("Regular", "Depthwise", "Grouped")
OTHERS = ("avg_pool", "max_pool", "add", "reorder_input", "reorder_output")
PREFIX = "op:"
"""Before the name of an operator that hwnas knows nothing about, `op:Softmax` for example."""


def parse(text: str) -> Iterator[Entry | BadRow]:
    """Yield the rows of a table.

    Raises:
        UsageError: the text is not CSV, or lacks a column.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(f"it lacks the columns {', '.join(missing)}.")
        for row in reader:
            line = reader.line_num
            try:
                if None in row:
                    raise RowError("malformed", "more cells than columns")
                yield Entry(line, (_kernel(row),), parse_time(row["latency_ms"]))
            except RowError as error:
                yield error.at(line)
    except csv.Error as error:
        raise UsageError(f"it is not a CSV file: {error}.") from None


def _kernel(row: dict[str, str]) -> Kernel:
    def cell(name: str, default: int | None = None, least: int = 1) -> int:
        text = row.get(name)
        if default is not None and not (text or "").strip():
            return default
        return parse_size(text, name, least)

    def flag(name: str, default: int | None = None) -> bool:
        value = cell(name, default, least=0)
        if value > 1:
            raise RowError("out of range", f"{name} is {value}, expected 0 or 1")
        return value == 1

    kind = (row["type"] or "").strip()
    is_conv = kind in CONVOLUTIONS
    if not kind:
        raise RowError("missing", "type is missing")
    if not is_conv and kind not in OTHERS and not kind.startswith(PREFIX):
        known = ", ".join((*CONVOLUTIONS, *OTHERS, PREFIX + "NAME"))
        raise RowError("unknown type", f"type is {kind[:24]!r}, expected one of {known}")
    batch, into, out = cell("batch"), cell("in_channels"), cell("out_channels")
    size = cell("in_height"), cell("in_width")
    side, step = cell("kernel"), cell("stride")
    stride = step, cell("stride_width", step)
    groups = {"Regular": 1, "Depthwise": into, "Grouped": None}.get(kind, 1)
    if "groups" in row and kind != "Grouped" and cell("groups", groups) != groups:
        raise RowError("out of range", f"{row['groups']} groups in a {kind} row")
    return check_kernel(
        Kernel(
            "conv" if is_conv else kind.removeprefix(PREFIX),
            batch,
            into,
            size,
            out,
            (
                cell("out_height", -(-size[0] // stride[0])),
                cell("out_width", -(-size[1] // stride[1])),
            ),
            (side, cell("kernel_width", side)),
            stride,
            cell("groups", groups),
            flag("fused_add"),
            flag("activation", int(is_conv)),
            plain=flag("plain", 0),
        )
    )


def render(table: KernelTable) -> tuple[str, Written]:
    """Return a table as text, with all of its rows: every kernel can be written."""
    rows = [_cells(kernel) for kernel in table.kernels]
    optional = [name for name in OPTIONAL if any(name in row for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *optional], restval="", lineterminator="\n")
    writer.writeheader()
    for row, time_s in zip(rows, table.seconds.tolist(), strict=True):
        writer.writerow(row | {"latency_ms": f"{1e3 * time_s:.9g}"})
    return text.getvalue(), Written(len(rows), {})


def _cells(kernel: Kernel) -> dict[str, object]:
    """Return the cells of a kernel, those apart that their defaults already say."""
    into, groups = int(kernel.in_channels), int(kernel.groups)
    kind = kernel.op if kernel.op in OTHERS else PREFIX + kernel.op
    if kernel.op == "conv":
        kind = "Regular" if groups == 1 else "Depthwise" if groups == into else "Grouped"
    cells: dict[str, object] = {
        "type": kind,
        "batch": kernel.batch,
        "in_channels": into,
        "in_height": kernel.in_size[0],
        "in_width": kernel.in_size[1],
        "out_channels": int(kernel.out_channels),
        "kernel": kernel.kernel[0],
        "stride": kernel.stride[0],
        "fused_add": int(kernel.fused_add),
    }
    usual = tuple(
        -(-size // step) for size, step in zip(kernel.in_size, kernel.stride, strict=True)
    )
    if kernel.kernel[0] != kernel.kernel[1]:
        cells["kernel_width"] = kernel.kernel[1]
    if kernel.stride[0] != kernel.stride[1]:
        cells["stride_width"] = kernel.stride[1]
    if kernel.out_size != usual:
        cells["out_height"], cells["out_width"] = kernel.out_size
    if kind not in ("Regular", "Depthwise") and groups != 1:
        cells["groups"] = groups
    if kernel.activation != (kernel.op == "conv"):
        cells["activation"] = int(kernel.activation)
    if kernel.plain:
        cells["plain"] = 1
    return cells

"""Tables of measured kernels as people exchange them: one module a format, one `KernelTable`.

`csv` is this project's own, `tinynas` the text of the TinyNAS toolbox, `proxyless` look-up tables
of blocks in YAML, as ProxylessNAS exchanges them. A file may be packed by gzip.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from ...errors import UsageError, did_you_mean
from ...lowering.kernels import Fusion
from ...store.files import write_atomic
from . import csv_table, proxyless, tinynas
from .csv_table import COLUMNS
from .table import BadRow, Entry, KernelTable, Written, sort_out, table_of

__all__ = [
    "COLUMNS",
    "FORMATS",
    "BadRow",
    "KernelTable",
    "Written",
    "format_of",
    "read",
    "table_of",
    "write",
]

FORMATS = {
    "csv": (".csv",),
    "tinynas": (".txt", ".out"),
    "proxyless": (".yaml", ".yml"),
}
"""The formats and the endings that they are known by."""


def format_of(path: Path, format: str | None = None) -> str:
    """Return the format that is named, else that of the file's ending.

    Raises:
        UsageError: there is no such format, or the ending says none.
    """
    if format is not None:
        if format not in FORMATS:
            raise UsageError(
                f"unknown format '{format}'.{did_you_mean(format, FORMATS)} "
                f"Known: {', '.join(FORMATS)}."
            )
        return format
    ending = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    for name, endings in FORMATS.items():
        if ending.lower() in endings:
            return name
    known = ", ".join(ending for endings in FORMATS.values() for ending in endings)
    raise UsageError(
        f"{path}: the ending '{ending}' names no format of tables ({known} do): "
        f"say which with --format {'|'.join(FORMATS)}."
    )


def read(
    path: Path, format: str | None = None, *, batch: int = 1, fusion: Fusion | None = None
) -> KernelTable:
    """Read a table; rows that make no sense are left out, and named in its `bad`.

    Args:
        path: the file.
        format: one of FORMATS; by default that of the file's ending.
        batch: images at a time, for formats that do not state it.
        fusion: what the runtime fuses, for formats that hold blocks.

    Raises:
        UsageError: the file cannot be read, is not of its format, or holds no usable row.
    """
    chosen = format_of(path, format)
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}.") from None
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a table: {error}.") from None
    try:
        table = sort_out(_parse(text, chosen, batch, fusion or Fusion()))
    except UsageError as error:
        raise UsageError(f"{path} is not a table of the format '{chosen}': {error}") from None
    if not table.kernels:
        first = f" First: {table.bad[0]}." if table.bad else ""
        raise UsageError(f"{path} holds no usable row.{first}")
    return table


def _parse(text: str, format: str, batch: int, fusion: Fusion) -> Iterator[Entry | BadRow]:
    if format == "csv":
        return csv_table.parse(text)
    if format == "tinynas":
        return tinynas.parse(text)
    return proxyless.parse(text, batch, fusion)


def write(
    path: Path,
    table: KernelTable,
    format: str | None = None,
    *,
    fusion: Fusion | None = None,
    comment: str = "",
) -> Written:
    """Write a table and return what the file then holds.

    Args:
        path: the file, packed by gzip where it ends in `.gz`; it appears whole, or not at all.
        table: what to write.
        format: one of FORMATS; by default that of the file's ending.
        fusion: what the runtime fuses, for formats that hold blocks.
        comment: lines for the head of a YAML file, where the form allows them.

    Raises:
        UsageError: there is no such format, or it can say none of the rows.
        HwnasError: the file cannot be written.
    """
    chosen = format_of(path, format)
    if table.of == "blocks" and chosen != "proxyless":
        raise UsageError(
            f"the table holds times of blocks, not of kernels, which '{chosen}' cannot say: "
            "write it with --format proxyless."
        )
    if chosen == "csv":
        text, done = csv_table.render(table)
    elif chosen == "tinynas":
        text, done = tinynas.render(table)
    else:
        text, done = proxyless.render(table, fusion or Fusion())
        text = "".join(f"# {line}\n" for line in comment.splitlines()) + text
    if not done.rows:
        raise UsageError(f"the format '{chosen}' can say none of the table's rows.")
    data = text.encode()
    write_atomic(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return done

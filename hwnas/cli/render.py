"""How results are printed: text for people, or one JSON document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click


def emit(document: dict[str, Any], text: str, as_json: bool) -> None:
    """Print a result to standard output."""
    click.echo(json.dumps(document, indent=2) if as_json else text)


def say(message: str) -> None:
    """Tell the user something that is not a result; silent under -q."""
    context = click.get_current_context(silent=True)
    if context is None or not (context.find_root().obj or {}).get("quiet"):
        click.echo(message, err=True)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns, the first row being the head; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [
        all(not cell or cell[0].isdigit() or cell[0] in "-+<." for cell in column)
        for column in zip(*rows[1:], strict=True)
    ] or [False] * len(widths)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    )


def broken_text(broken: Sequence[dict[str, str]]) -> list[str]:
    """Return a line for each device whose file is malformed."""
    return [
        f"{each['name']} is broken, and left out: {each['reason']} Mend the file, or delete it."
        for each in broken
    ]


def score_text(name: str, value: float) -> str:
    """Return the value of a score that is not the entropy, and what a negative one means."""
    beyond = name == "deepmad" and value < 0
    return f"{value:.6g}" + (
        " (below zero: beyond its limit of depth over width)" if beyond else ""
    )

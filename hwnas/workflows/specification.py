"""What specifications of many runs have in common: keys that are known, folders new and old."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError, did_you_mean
from ..store.files import read_json


def check_schema(document: Mapping[str, Any], schema: str, source: str) -> dict[str, Any]:
    """Return a document without its schema.

    Raises:
        UsageError: it is of another schema; the message begins with `source`.
    """
    data = dict(document)
    found = data.pop("schema", None)
    if found != schema:
        raise UsageError(f"{source}: the schema is {found!r}, expected '{schema}'.")
    return data


def check_keys(table: Mapping[str, Any], known: Collection[str], place: str) -> None:
    """Raise where a table has a key that means nothing.

    Raises:
        UsageError: it has; the message begins with `place`.
    """
    for key in table:
        if key not in known:
            raise UsageError(
                f"{place}: unknown key '{key}'.{did_you_mean(key, known)} "
                f"Known: {', '.join(sorted(known))}."
            )


def first_repeat(values: Sequence[Any]) -> Any:
    """Return the first value that was there before; None where each is there once."""
    return next((value for k, value in enumerate(values) if value in values[:k]), None)


def check_new(out: Path, result: str, what: str, command: str) -> None:
    """Raise where a folder of results is there already.

    Args:
        out: the folder to make.
        result: the file that is written last.
        what: what the folder holds, for people.
        command: what goes on with an unfinished one.

    Raises:
        UsageError: there is something.
    """
    if out.exists():
        unfinished = (out / "spec.json").exists() and not (out / result).exists()
        hint = (
            f"It holds an unfinished {what}: go on with '{command} --resume {out}'."
            if unfinished
            else "Choose another folder with --out."
        )
        raise UsageError(f"{out} exists already. {hint}")


def saved(folder: Path, what: str) -> dict[str, Any]:
    """Return what was asked for in the folder of an earlier run, without where that ran.

    Args:
        folder: the folder.
        what: what it should hold, for people.

    Raises:
        UsageError: it is no such folder.
    """
    path = folder / "spec.json"
    if not path.is_file():
        raise UsageError(f"{folder} is not the folder of a {what}: it has no spec.json.")
    document = read_json(path)
    document.pop("environment", None)
    return document

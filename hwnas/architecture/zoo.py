"""Known architectures: the paper's, ResNets and MobileNetV2, read from `zoo.toml`."""

from __future__ import annotations

import sys
from functools import cache
from importlib.resources import files
from typing import Any

from ..errors import UsageError, did_you_mean
from .families import family
from .genotype import Architecture, Row, Stem

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def names() -> list[str]:
    """Return the names of the zoo."""
    return list(_entries())


def about(name: str) -> str:
    """Return one line about an entry of the zoo."""
    return str(_entries()[name]["about"])


def get(name: str) -> Architecture:
    """Return an architecture of the zoo.

    Raises:
        UsageError: the zoo has no such name.
    """
    entries = _entries()
    if name not in entries:
        raise UsageError(
            f"unknown architecture '{name}'.{did_you_mean(name, entries)} "
            "'hwnas zoo' lists the known ones; a file or a run folder does as well."
        )
    entry = entries[name]
    return Architecture(
        stem=Stem(**entry["stem"]),
        stages=tuple(
            tuple(_row(row, entry.get("shortcut", "pool")) for row in stage)
            for stage in entry["stages"]
        ),
        head=entry.get("head", 0),
        name=name,
        flops_rule=entry.get("flops_rule", ""),
    )


def _row(fields: list[Any], shortcut: str) -> Row:
    name, kernel, out, stride, inner, depth = fields
    return Row(name, out, inner, depth, kernel, stride, family(name).activation, shortcut)


@cache
def _entries() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("zoo.toml").read_text(encoding="utf-8"))

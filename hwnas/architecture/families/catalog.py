"""Which families there are: those that ship, and those of installed packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import UsageError, did_you_mean
from .base import Family
from .basic import Basic
from .bottleneck import Bottleneck
from .k1kx import K1KX
from .mobile import Mobile

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "hwnas.families"
"""The group under which a package declares its families: `name = module:Class`."""

FAMILIES: dict[str, Family] = {f.name: f for f in (Basic(), Bottleneck(), K1KX(), Mobile())}
"""The families that ship, and those of packages that were asked for."""


def family(name: str) -> Family:
    """Return the block family of that name.

    Raises:
        UsageError: there is no such family, or its package is broken.
    """
    if name not in FAMILIES:
        from importlib.metadata import entry_points

        declared = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
        if name not in declared:
            known = sorted({*FAMILIES, *declared})
            raise UsageError(
                f"unknown block family '{name}'.{did_you_mean(name, known)} "
                f"Known: {', '.join(known)}."
            )
        FAMILIES[name] = _loaded(declared[name])
    return FAMILIES[name]


def families_of(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of one or several families, each of which exists.

    Raises:
        UsageError: there is no such family, or one is named twice.
    """
    listed = (names,) if isinstance(names, str) else names
    if not listed or len(set(listed)) < len(listed):
        raise UsageError(f"the families {list(listed)} are not different ones.")
    return tuple(family(name).name for name in listed)


def _loaded(entry: EntryPoint) -> Family:
    """Load the family that a package declares: a subclass of `Family`, or an instance of one."""
    package = entry.dist.name if entry.dist else "a package"
    where = f"the block family '{entry.name}' of {package} ({entry.value})"
    try:
        found = entry.load()
        if isinstance(found, type):
            found = found()
    except Exception as error:
        raise UsageError(
            f"{where} cannot be loaded: {type(error).__name__}: {error}. Repair or uninstall it."
        ) from error
    if not isinstance(found, Family) or found.name != entry.name:
        raise UsageError(
            f"{where} is no subclass of hwnas.architecture.families.Family whose `name` is "
            f"'{entry.name}'."
        )
    if found.inner not in ("mid", "expansion"):
        raise UsageError(f"{where}: `inner` is '{found.inner}'; it must be mid or expansion.")
    return found

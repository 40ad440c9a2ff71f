"""The cores of a far end: which ones networks run on, and at what clock they may run."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...errors import UsageError
from ..measurement import UNKNOWN
from .protocol import Core, printable


def check(cores: str) -> str:
    """Return a list of cores, `0,4-7`, as it is.

    Raises:
        UsageError: it is none.
    """
    if not re.fullmatch(r"(\d{1,4}(-\d{1,4})?(,(?!$)|$))*", cores):
        raise UsageError(
            f"the cores are '{cores}'; give numbers and ranges, '4-7' or '0,2', or 'fastest'."
        )
    return cores


def chosen(have: Sequence[Core], wanted: str, threads: int) -> str:
    """Return the cores to run on: those wanted, else the fastest; '' for all.

    Raises:
        UsageError: there are not so many.
    """
    known = {core.index for core in have}
    usable = listed(wanted) or known
    if known and not usable <= known:
        raise UsageError(
            f"--cores is '{wanted}'; the device lets a program use the cores "
            f"{', '.join(map(str, sorted(known)))}."
        )
    if usable and threads > len(usable):
        raise UsageError(
            f"--threads is {threads}; there are {len(usable)} cores to use on the device."
        )
    if wanted:
        return wanted
    if any(core.most_hz is None for core in have):
        return ""  # the system does not say which are fast, so let it choose
    fastest = sorted(have, key=lambda core: (-(core.most_hz or 0), -core.index))
    return ",".join(map(str, sorted(core.index for core in fastest[:threads])))


def listed(cores: str) -> set[int]:
    """Return the numbers of the cores of a list."""
    found: set[int] = set()
    for part in filter(None, cores.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def used(have: Sequence[Core], cores: str) -> list[Core]:
    """Return the cores of a list; all of them where it is empty."""
    return [core for core in have if core.index in listed(cores)] or list(have)


def clock(cores: Sequence[Core], limits_are_settings: bool) -> str:
    """Return the highest clock of cores, for the environment.

    Args:
        cores: the cores.
        limits_are_settings: whether to tell what the system allows, rather than what the hardware
            can: see `RemoteDevice`.
    """
    limits = {core.limit_hz if limits_are_settings else core.most_hz for core in cores}
    known = {f"at most {limit / 1e6:.0f} MHz" for limit in limits if limit is not None}
    return UNKNOWN if None in limits else _joined(known)


def governors(cores: Sequence[Core]) -> str:
    """Return what chooses the clocks of cores."""
    return _joined({printable(core.governor or "", 40) for core in cores})


def _joined(texts: set[str]) -> str:
    return ", ".join(sorted(filter(None, texts))) or UNKNOWN

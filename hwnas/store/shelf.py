"""The shelves: devices, profiles and predictors, found by name.

The user's own shelf comes first (`$HWNAS_HOME`, by default the platform's user data directory),
then what was installed with hwnas, which in a checkout are its top-level folders.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

from ..errors import UsageError, did_you_mean

KINDS = ("devices", "predictors", "profiles")


def user_shelf(kind: str) -> Path:
    """Return the user's own folder of a kind; it need not exist."""
    home = os.environ.get("HWNAS_HOME")
    if home:
        return Path(home) / kind
    from platformdirs import user_data_dir

    return Path(user_data_dir("hwnas", appauthor=False)) / kind


def entries(kind: str, own: bool = True) -> dict[str, Path]:
    """Return what stands on a shelf, by name: TOML files for devices, folders for the others.

    `own`: the user's own shelf, too, whose entries come first.
    """
    found: dict[str, Path] = {}
    for shelf in (*([user_shelf(kind)] if own else []), *_installed(kind)):
        if shelf.is_dir():
            for path in sorted(shelf.iterdir()):
                is_entry = path.suffix == ".toml" if kind == "devices" else path.is_dir()
                if is_entry and not path.name.startswith((".", "_")):
                    found.setdefault(path.stem if kind == "devices" else path.name, path)
    return found


def find(kind: str, name: str, own: bool = True) -> Path:
    """Return the path of an entry; `own`: of the user's own shelf, too.

    Raises:
        UsageError: there is none of that name.
    """
    known = entries(kind, own)
    if name not in known:
        raise UsageError(
            f"there is no {kind[:-1]} '{name}'.{did_you_mean(name, known)} "
            f"Known: {', '.join(known) or 'none'}."
        )
    return known[name]


def check_name(name: str) -> str:
    """Return a name that may become a file on a shelf.

    Raises:
        UsageError: the name holds other characters than letters, digits, '.', '-' and '_'.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise UsageError(
            f"'{name}' cannot name a device: use letters, digits, '.', '-' and '_', at most 64."
        )
    return name


def _installed(kind: str) -> list[Path]:
    spec = find_spec("hwnas")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    return [package / "data" / kind, package.parent / kind]

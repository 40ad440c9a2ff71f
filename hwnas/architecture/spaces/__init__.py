"""Search spaces: what a search may build. A space is a TOML file; the shipped ones lie beside."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ...errors import UsageError, did_you_mean
from .reading import parse
from .rows import Genes, RowSpace
from .space import Candidate, Space

__all__ = ["SHIPPED", "Candidate", "Genes", "RowSpace", "Space", "files", "load", "parse"]

SHIPPED = ("resnet", "mobile", "mobile-se", "resnet-basic", "mixed")


def load(name: str) -> Space:
    """Return a shipped space, or the one of a TOML file.

    Raises:
        UsageError: there is no such space, or the file is not one.
    """
    if name in SHIPPED:
        return parse(files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"), name)
    path = Path(name)
    if path.suffix != ".toml":
        raise UsageError(
            f"unknown space '{name}'.{did_you_mean(name, SHIPPED)} Known: {', '.join(SHIPPED)}; "
            "a TOML file of your own does as well."
        )
    try:
        return parse(path.read_text(encoding="utf-8"), name)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the space {name}: {error}.") from None

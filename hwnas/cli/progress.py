"""A progress bar on a terminal; nothing elsewhere, and nothing under -q."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

import click


class Bar:
    """What `with Bar(unit) as bar` shows appears with its first step and goes at the end.

    Args:
        unit: what is counted.
    """

    def __init__(self, unit: str) -> None:
        quiet = click.get_current_context().find_root().obj["quiet"]
        self._shown = sys.stderr.isatty() and not quiet
        self._unit = unit
        self._bar: Any = None

    def show(self, done: int, total: int | None, note: str = "") -> None:
        """Say how far it is, `total` being None where nobody knows."""
        if not self._shown:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=self._unit, leave=False)
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> Bar:
        """Return the bar itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove it."""
        if self._bar is not None:
            self._bar.close()

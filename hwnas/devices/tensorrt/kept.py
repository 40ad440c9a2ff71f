"""Engines kept in memory: the sentinel of a profile is measured again and again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Generic, TypeVar

Built = TypeVar("Built")

KEPT = 4
"""How many."""


class Kept(Generic[Built]):
    """What was built of models lately; what has not been asked for longest goes first."""

    def __init__(self) -> None:
        self._built: dict[str, Built] = {}

    def get(self, model: bytes, build: Callable[[], Built]) -> Built:
        """Return what was built of a model, building it where it is not there."""
        key = hashlib.sha256(model).hexdigest()
        built = self._built.pop(key) if key in self._built else build()
        while len(self._built) >= KEPT:
            del self._built[next(iter(self._built))]
        self._built[key] = built
        return built

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._built)

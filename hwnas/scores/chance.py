"""Chance as a score: the baseline that every other score has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..architecture.genotype import Architecture
from ..architecture.graph import Size
from .base import Kind, seed_of


@dataclass(frozen=True)
class RandomScore:
    """A number in [0, 1) that depends on nothing but the architecture's identity and the seed."""

    name: ClassVar[str] = "random"
    kind: ClassVar[Kind] = "closed form"
    resolution: Size = (224, 224)

    def value(self, architecture: Architecture, seed: int = 0) -> float:
        """Return the architecture's number under this seed, whatever the resolution."""
        return (seed_of(architecture, seed) >> 10) / 2.0**53

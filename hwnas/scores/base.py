"""What every score is: a number for an architecture that needs no training, higher is better."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Literal, Protocol, TypeAlias

from ..architecture.genotype import Architecture
from ..architecture.graph import Size

Kind: TypeAlias = Literal["closed form", "forward passes", "gradients"]
"""How a score is found: a formula on the graph, or with torch, by running or by training steps."""


class Score(Protocol):
    """Rates architectures without training them; higher is better.

    `kind` says how, `resolution` the height and width of the images that it supposes. The kinds
    other than `closed form` need torch (the extra `torch`).
    """

    @property
    def name(self) -> str:
        """The name under which users ask for it."""

    @property
    def kind(self) -> Kind:
        """How the score is found."""

    @property
    def resolution(self) -> Size:
        """Height and width of the images."""

    def value(self, architecture: Architecture, seed: int = 0) -> float:
        """Return the score of an architecture.

        `seed` matters only to scores that draw weights and images: each architecture has its own
        stream of random numbers, which depends on the seed and on the architecture alone.

        Raises:
            DeviceUnavailableError: the score needs torch, which is not installed.
        """


def seed_of(architecture: Architecture, seed: int) -> int:
    """Return the 63-bit seed of an architecture's own random numbers; its name does not matter."""
    text = f"{seed} {replace(architecture, name='')!r}"
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

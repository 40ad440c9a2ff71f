"""Small spaces, candidate by candidate."""

from __future__ import annotations

import itertools

from hwnas.architecture.spaces import Candidate, Space


def everything(space: Space) -> list[Candidate]:
    """Return all candidates of a small space."""
    found: list[Candidate] = [(width,) for width in space.stem_widths]
    for row in space.rows:
        found = [
            (*candidate, genes)
            for candidate in found
            for genes in itertools.product(*row.choices())
            if row.fits(candidate[-1][1] if len(candidate) > 1 else candidate[0], genes)
        ]
    return found

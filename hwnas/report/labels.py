"""Where the labels of a picture's points go, so that each can be read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

GAP = 5.0
"""Between a point and its label, in the picture's units (points)."""

TRIES = 8
"""How far away a label may go, in its own heights, before it covers something else than labels."""


class Box(NamedTuple):
    """A rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: Box) -> bool:
        """Whether two rectangles have an area in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )

    def nearest(self, point: tuple[float, float]) -> tuple[float, float]:
        """Return the point of it that is nearest to another point."""
        x, y = point
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)

    def inside(self, other: Box) -> bool:
        """Whether all of it lies in another one."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )


def placed(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    taken: Sequence[Box],
    frame: Box,
) -> list[Box]:
    """Return a place for each point's label: beside it, else above or below, else further away.

    A label stays inside the frame and off what is taken where there is such a place near its point.
    No label ever overlaps another one. The same points always get the same places.

    Args:
        points: what is labelled.
        sizes: width and height of each label.
        taken: what labels should not cover, the marks of the points among it.
        frame: the picture.
    """
    found: list[Box] = []
    for point, size in zip(points, sizes, strict=True):
        near = itertools.islice(_places(point, size), 6 * TRIES)
        free = (box for box in near if box.inside(frame) and not _covers(box, [*taken, *found]))
        last = (box for box in _places(point, size) if not _covers(box, found))
        found.append(next(itertools.chain(free, last)))
    return found


def _places(point: tuple[float, float], size: tuple[float, float]) -> Iterator[Box]:
    """Yield the places for a label, the nearest first, without an end."""
    (x, y), (width, height) = point, size
    sides = (x + GAP, x - GAP - width, x - width / 2)
    for step in itertools.count():
        for left, sign in itertools.product(sides, (1, -1)):
            beyond = GAP + height / 2 if left == sides[2] else 0.0
            middle = y + sign * (beyond + step * height)
            yield Box(left, middle - height / 2, left + width, middle + height / 2)


def _covers(box: Box, others: Sequence[Box]) -> bool:
    return any(box.overlaps(other) for other in others)

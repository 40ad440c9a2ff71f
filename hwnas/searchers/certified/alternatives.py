"""Which architectures near the optimum are worth showing beside it.

The optimum is flat: thousands of architectures that differ by a width step here and there score
nearly the same. Two of them count as different where at least two of their rows do: in kind,
depth or expansion, or in a width by a quarter or more.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...architecture.spaces import Candidate, Genes, RowSpace

WIDTH_RATIO = 1.25
DIFFERENT_ROWS = 2


def different(
    best: Candidate, pool: Sequence[Candidate], rows: Sequence[RowSpace], count: int
) -> list[Candidate]:
    """Return the first `count` of a pool that differ from the best and from each other."""
    chosen = [best]
    for candidate in pool:
        if len(chosen) > count:
            break
        if all(_distance(candidate, other, rows) >= DIFFERENT_ROWS for other in chosen):
            chosen.append(candidate)
    return chosen[1:]


def _distance(a: Candidate, b: Candidate, rows: Sequence[RowSpace]) -> int:
    """Return the number of rows that differ."""
    pairs = zip(a[1:], b[1:], rows, strict=True)
    return sum(_differ(own, other, row) for own, other, row in pairs)


def _differ(a: Genes, b: Genes, row: RowSpace) -> bool:
    (kind, out, inner, depth), (other_kind, other_out, other_inner, other_depth) = a, b
    widths = [(out, other_out)]
    if row.inner_is_width(kind):
        widths.append((inner, other_inner))
    elif inner != other_inner:
        return True
    return (kind, depth) != (other_kind, other_depth) or any(
        max(pair) >= WIDTH_RATIO * min(pair) for pair in widths
    )

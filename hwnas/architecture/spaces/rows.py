"""What one row of a search space may be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from ..families import family
from ..genotype import MAX_KERNEL, Row

Genes: TypeAlias = tuple[int, int, int, int]
"""Kind, channels out, inner size (mid channels or expansion) and depth (pairs or blocks).

The kind says of which family the blocks are and of which kernel: it is the kernel, plus FAMILY_STEP
for each family that the row names before theirs.
"""

FAMILY_STEP = MAX_KERNEL + 1


@dataclass(frozen=True)
class RowSpace:
    """What one row may be.

    Attributes:
        stage: 1 to 5.
        families: the block families to choose from.
        stride: of the first block.
        kernels, outs, depths: the values of each gene, ascending.
        mids, expansions: the inner sizes of families that have the one or the other, ascending.
        unit: the number of blocks that a depth of 1 stands for.
        growth: least and greatest ratio of channels out to channels in; widths never shrink where
            the least is 1.
        ends_stage: whether the stage's feature map is read behind this row.
        ratio: least and greatest ratio of a bottleneck's channels to channels out.
        activation: of all blocks; '' for each family's own.
        groups, se: of all blocks, as in `genotype.Row`.
    """

    stage: int
    families: tuple[str, ...]
    stride: int
    kernels: tuple[int, ...]
    outs: tuple[int, ...]
    mids: tuple[int, ...]
    expansions: tuple[int, ...]
    depths: tuple[int, ...]
    unit: int
    growth: tuple[float, float]
    ends_stage: bool
    ratio: tuple[float, float] = (0.0, 1.0)
    activation: str = ""
    groups: int = 1
    se: str = ""

    @cached_property
    def kinds(self) -> tuple[int, ...]:
        """The values of the first gene, by family and kernel."""
        places = range(len(self.families))
        return tuple(FAMILY_STEP * place + kernel for place in places for kernel in self.kernels)

    def family(self, kind: int) -> str:
        """Return the name of the family of a kind."""
        return self.families[kind // FAMILY_STEP]

    def inner_is_width(self, kind: int) -> bool:
        """Whether the inner size is a number of channels, and so has a ratio to `out`."""
        return self._widths[kind // FAMILY_STEP]

    def inners(self, kind: int) -> tuple[int, ...]:
        """Return the inner sizes of a kind."""
        return self.mids if self.inner_is_width(kind) else self.expansions

    @cached_property
    def _widths(self) -> tuple[bool, ...]:
        return tuple(family(name).inner == "mid" for name in self.families)

    def fits(self, channels: int, genes: Genes) -> bool:
        """Whether a row of these genes, each on its grid, may follow that many channels."""
        kind, out, inner, _ = genes
        low, high = self.growth
        if not low * channels <= out <= high * channels or inner not in self.inners(kind):
            return False
        return self.inner_fits(kind, inner, out)

    def inner_fits(self, kind: int, inner: int, out: int) -> bool:
        """Whether an inner size of that kind suits that many channels out."""
        low, high = self.ratio
        return not self.inner_is_width(kind) or low * out <= inner <= high * out

    def choices(self) -> tuple[tuple[int, ...], ...]:
        """Return the values of kind, out, inner and depth; not all kinds have all inner sizes."""
        inners = tuple(sorted({*self.mids, *self.expansions}))
        return self.kinds, self.outs, inners, self.depths

    def size(self) -> int:
        """Return the number of combinations of genes."""
        inners = sum(len(self.inners(kind)) for kind in self.kinds)
        return inners * len(self.outs) * len(self.depths)

    def row(self, genes: Genes) -> Row:
        """Return the row of an architecture that genes stand for."""
        kind, out, inner, depth = genes
        name = self.family(kind)
        return Row(
            name,
            out,
            inner,
            depth * self.unit,
            kind % FAMILY_STEP,
            self.stride,
            self.activation or family(name).activation,
            groups=self.groups,
            se=self.se,
        )

    def genes(self, row: Row) -> Genes:
        """Return the genes of a row of one of the space's families; depth -1 where it has none."""
        depth, rest = divmod(row.depth, self.unit)
        kind = FAMILY_STEP * self.families.index(row.family) + row.kernel
        return kind, row.out, row.inner, depth if not rest else -1

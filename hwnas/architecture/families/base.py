"""What a block family is: layers from options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from ..builder import GraphBuilder, Tensor
from ..graph import Channels


@dataclass(frozen=True)
class BlockOptions:
    """What is asked of one block.

    Attributes:
        out: channels out.
        inner: the inner size, by the meaning of `Family.inner`.
        kernel: of the kxk convolutions.
        stride: 1 or 2.
        first: the first block of a row, the only one that may change channels or stride.
        activation: of the layers that have one.
        shortcut: how the first block's shortcut is projected, `pool` or `conv`.
        groups: of the kxk convolutions; 0 makes them depthwise.
        se: the gate of a squeeze-and-excitation, '' for none.
    """

    out: Channels
    inner: Channels
    kernel: int = 3
    stride: int = 1
    first: bool = True
    activation: str = "relu"
    shortcut: str = "pool"
    groups: int = 1
    se: str = ""


class Family(ABC):
    """How the blocks of one kind are made.

    Attributes:
        name: by which files name the family.
        inner: the word that files use for the block's inner size: `mid` (channels) or `expansion`
            (a factor).
        activation: the default one.
        flops_rule: the counting rule of `--flops-convention mmcv`.
    """

    name: str
    inner: str = "mid"
    activation: str = "relu"
    flops_rule: str = "maedet"

    @abstractmethod
    def block(self, b: GraphBuilder, x: Tensor, options: BlockOptions) -> Tensor:
        """Add one block behind `x` to `b` and return its result.

        Channels, of `x` as of the options, may be arrays: layers are made of them by arithmetic
        alone. Every block of a row ends in the same activation, or in none.

        Raises:
            UsageError: the family has no block of these options.
        """

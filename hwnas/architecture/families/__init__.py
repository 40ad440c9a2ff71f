"""Block families: each is one short file that says of which layers a block is made.

Costs, entropy, kernels, the torch module and the ONNX file follow from these layers.
"""

from __future__ import annotations

from typing import Protocol

from ...errors import UsageError, did_you_mean
from ..graph import Channels, GraphBuilder, Tensor


class Family(Protocol):
    """How the blocks of one kind are made.

    `inner` is the word that files use for the block's inner size: `mid` (channels) or
    `expansion` (a factor). `activation` is the default, `ends_in_activation` says whether the
    block's result carries it. `flops_rule` names the counting rule of `--flops-convention mmcv`.
    """

    name: str
    inner: str
    activation: str
    ends_in_activation: bool
    flops_rule: str

    def block(
        self,
        b: GraphBuilder,
        x: Tensor,
        *,
        out: Channels,
        inner: Channels,
        kernel: int,
        stride: int,
        first: bool,
        activation: str,
        shortcut: str,
    ) -> Tensor:
        """Add one block to `b` and return its result.

        `first` marks the first block of a row, the only one that may change channels or stride.
        """


def family(name: str) -> Family:
    """Return the block family of that name.

    Raises:
        UsageError: there is no such family.
    """
    if name not in FAMILIES:
        raise UsageError(
            f"unknown block family '{name}'.{did_you_mean(name, FAMILIES)} "
            f"Known: {', '.join(sorted(FAMILIES))}."
        )
    return FAMILIES[name]


from .bottleneck import Bottleneck  # noqa: E402
from .mobile import Mobile  # noqa: E402

FAMILIES: dict[str, Family] = {f.name: f for f in (Bottleneck(), Mobile())}

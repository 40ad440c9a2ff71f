"""What a runtime fuses, as data: one TOML file a runtime in the folder `fusions`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import msgspec

from ..errors import UsageError

RESOURCES = files(__package__).joinpath("fusions")


@dataclass(frozen=True)
class Chain:
    """Operators that a runtime replaces by one kernel.

    The first of `steps` reads anything, each later one the result before it. A step with two
    operands names the other after its operator: `x` is what the first step reads, a number the
    result of that step (the first is 0), and `scale:x` a scaled `x`. No result but the last may
    be read from outside.
    """

    kernel: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Rules:
    """What a runtime runs in one kernel; operators by the names of `lowering.operators`.

    Attributes:
        about: the runtime, and where the rules come from.
        in_conv: activations that run inside the convolution before them.
        in_blocked_conv: further ones, in a convolution in the runtime's blocked layout.
        in_blocked_add: those behind an addition that runs inside such a convolution.
        in_gemm: activations that run inside the matrix product before them.
        in_matmul: what runs inside a product with constant weights: its bias.
        in_elementwise: activations that run inside the elementwise operator before them.
        around_matmul: what is folded into a product of two feature maps, before or behind it.
        into_conv_before: operators folded into the convolution that reads them.
        into_conv_behind: operators with constants folded into the convolution before them.
        blocked: operators that work in the blocked layout where all they read is in it.
        alignment: channels of whose multiples the blocked layout can be entered.
        transpose_behind_split: a transposed map that is only sliced is split, then transposed.
        decompose: operators that have no kernel of their own, and what runs in their place.
        chains: operators that one kernel replaces.
    """

    about: str
    in_conv: frozenset[str]
    in_blocked_conv: frozenset[str] = frozenset()
    in_blocked_add: frozenset[str] = frozenset()
    in_gemm: frozenset[str] = frozenset()
    in_matmul: frozenset[str] = frozenset({"shift"})
    in_elementwise: frozenset[str] = frozenset()
    around_matmul: frozenset[str] = frozenset()
    into_conv_before: frozenset[str] = frozenset()
    into_conv_behind: frozenset[str] = frozenset({"scale", "shift", "batch_norm"})
    blocked: frozenset[str] = frozenset()
    alignment: int = 1
    transpose_behind_split: bool = False
    decompose: dict[str, tuple[str, ...]] = field(default_factory=dict)
    chains: tuple[Chain, ...] = ()


def names() -> list[str]:
    """Return the names of the rule sets that ship."""
    return sorted(f.name.removesuffix(".toml") for f in RESOURCES.iterdir() if ".toml" in f.name)


@cache
def load(name: str) -> Rules:
    """Return the rule set of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in names():
        raise UsageError(f"there are no fusion rules '{name}'; known are {', '.join(names())}.")
    text = RESOURCES.joinpath(f"{name}.toml").read_bytes()
    return msgspec.toml.decode(text, type=Rules)

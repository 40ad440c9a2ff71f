"""The scores that a search may maximise, by name."""

from __future__ import annotations

from typing import Any

from ..architecture.graph import Size
from ..errors import UsageError, did_you_mean
from .base import Score
from .chance import RandomScore
from .entropy import EntropyScore
from .grad_norm import GradNormScore
from .naswot import NaswotScore
from .network import require_torch
from .stages import DeepMadScore, FlopsScore, MadnasScore, ParamsScore
from .synflow import SynflowScore
from .zen import ZenScore

DEFAULT = "entropy"

WEIGHTED = ("entropy", "madnas", "deepmad")
"""The scores that weight the stages by `alpha`."""

SCORES: dict[str, type[Score]] = {
    kind.name: kind
    for kind in (
        EntropyScore,
        MadnasScore,
        DeepMadScore,
        ZenScore,
        NaswotScore,
        SynflowScore,
        GradNormScore,
        ParamsScore,
        FlopsScore,
        RandomScore,
    )
}


def find(name: str) -> Any:
    """Return the class of the score of that name.

    Raises:
        UsageError: there is no such score.
    """
    if name not in SCORES:
        raise UsageError(
            f"unknown score '{name}'.{did_you_mean(name, SCORES)} Known: {', '.join(SCORES)}."
        )
    return SCORES[name]


def make(
    name: str, *, resolution: Size | None = None, alpha: tuple[float, ...] | None = None
) -> Score:
    """Return the score of that name, with its own defaults where nothing else is given.

    Raises:
        UsageError: there is no such score, or it does not weight the stages and `alpha` is given.
        DeviceUnavailableError: the score needs torch, which is not installed.
    """
    kind = find(name)
    given: dict[str, Any] = {}
    if resolution is not None:
        given["resolution"] = resolution
    if alpha is not None:
        if name not in WEIGHTED:
            raise UsageError(
                f"the score '{name}' does not weight the stages: --alpha is for "
                f"{', '.join(WEIGHTED)}."
            )
        given["alpha"] = alpha
    score: Score = kind(**given)
    if score.kind != "closed form":
        require_torch(name)
    return score

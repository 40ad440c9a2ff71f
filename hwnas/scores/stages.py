"""Scores that are a function of what each stage's layers add up to: closed form, and fast.

A score names the formulas that are summed over the layers of each stage, and combines the sums.
The sums come off the graph, or, in a search, off the tables of a space's rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ..architecture.genotype import STAGES, Architecture, lower
from ..architecture.graph import Graph, Layer, Size
from ..budgets.oracles import is_main
from ..costs import macs, params
from ..errors import UsageError
from .base import Kind, Score

Sums = Sequence[Sequence[float]]
"""One row per stage, C1 to C5, with one sum per formula."""


class StageScore(Score, Protocol):
    """A score that is read off the stages."""

    @property
    def formulas(self) -> tuple[Callable[[Layer], Any], ...]:
        """What is summed over a stage's layers; on a graph of arrays each gives arrays."""

    def combine(self, sums: Sums, channels: Sequence[int]) -> float:
        """Return the score, given the stages' sums and the channels of C1 to C5."""


def of_graph(score: StageScore, graph: Graph) -> float:
    """Return a score of stages, read off a whole graph."""
    sums = [[0.0] * len(score.formulas) for _ in range(STAGES)]
    channels = [0] * STAGES
    for layer in graph.layers:
        for k, formula in enumerate(score.formulas):
            sums[layer.stage - 1][k] += float(formula(layer))
        if layer.main:
            channels[layer.stage - 1] = int(layer.out_channels)
    return score.combine(sums, channels)


def log_fan_in(layer: Layer) -> Any:
    """Return log(c k^2 / g) of a convolution of the main path, 0 for every other layer."""
    if not layer.main:
        return 0.0
    return np.log(layer.in_channels // layer.groups * (layer.kernel[0] * layer.kernel[1]))


@dataclass(frozen=True)
class MadnasScore:
    """The closed form of the reference toolbox, there called `madnas`.

    Z = sum_i alpha_i (sum over the layers up to Ci of 1/2 log(fan-in) + log(channels of Ci)).
    Beside the entropy it adds the channels' logarithm and leaves out what ReLU, border and finite
    width take away. https://github.com/alibaba/lightweight-neural-architecture-search
    """

    name: ClassVar[str] = "madnas"
    kind: ClassVar[Kind] = "closed form"
    formulas: ClassVar[tuple[Callable[[Layer], Any], ...]] = (log_fan_in,)
    alpha: tuple[float, ...] = (0.0, 0.0, 1.0, 1.0, 6.0)
    resolution: Size = (384, 384)

    def __post_init__(self) -> None:
        check_alpha(self.alpha)

    def value(self, architecture: Architecture, seed: int = 0) -> float:
        """Return the score of an architecture; it does not depend on resolution or seed."""
        return of_graph(self, lower(architecture, self.resolution))

    def combine(self, sums: Sums, channels: Sequence[int]) -> float:
        """Return the score; see `StageScore`."""
        total, gain = 0.0, 0.0
        for alpha, (logs,), width in zip(self.alpha, sums, channels, strict=True):
            gain += 0.5 * logs
            total += alpha * (gain + float(np.log(width)))
        return total


@dataclass(frozen=True)
class DeepMadScore:
    """DeepMAD's weighted entropy within its bound on depth over width (Shen et al., CVPR 2023).

    Z = sum_i alpha_i H(Ci),  H(Ci) = log(r_i^2 c_i) * sum of log(c k^2 / g) over layers up to Ci

    with the feature map's side r_i and channels c_i. The effectiveness of the L layers up to Ci is
    rho = L / (geometric mean of c k^2 / g), and the largest of the five may not exceed the limit:
    too deep a network for its width passes little information on. An architecture beyond the limit
    scores limit - rho, below zero and so below all that keep it: a search that has to start there
    is led towards the bound. The paper's penalty on uneven depths is left out.
    https://arxiv.org/abs/2303.02165

    Attributes:
        alpha: weights of H(C1) to H(C5); the paper's are 1, 1, 1, 1, 8.
        resolution: height and width of the image.
        effectiveness: the limit on rho; the paper's ResNet-like networks have 0.3.
    """

    name: ClassVar[str] = "deepmad"
    kind: ClassVar[Kind] = "closed form"
    formulas: ClassVar[tuple[Callable[[Layer], Any], ...]] = (log_fan_in, is_main)
    alpha: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 8.0)
    resolution: Size = (224, 224)
    effectiveness: float = 0.3

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if not self.effectiveness > 0:
            raise UsageError(f"effectiveness is {self.effectiveness}; it must be above 0.")

    def value(self, architecture: Architecture, seed: int = 0) -> float:
        """Return the score of an architecture; the seed does not matter."""
        return of_graph(self, lower(architecture, self.resolution))

    def combine(self, sums: Sums, channels: Sequence[int]) -> float:
        """Return the score; see `StageScore`."""
        total, logs, depth, rho = 0.0, 0.0, 0.0, 0.0
        height, width = self.resolution
        stages = zip(self.alpha, sums, channels, strict=True)
        for stage, (alpha, (more, layers), out) in enumerate(stages, 1):
            logs, depth = logs + more, depth + layers
            rho = max(rho, depth / float(np.exp(logs / depth)))
            area = -(-height // 2**stage) * -(-width // 2**stage)
            total += alpha * float(np.log(area * out)) * logs
        return total if rho <= self.effectiveness else self.effectiveness - rho


@dataclass(frozen=True)
class ParamsScore:
    """The number of parameters: weights, and the affine part of the normalisations."""

    name: ClassVar[str] = "params"
    kind: ClassVar[Kind] = "closed form"
    formulas: ClassVar[tuple[Callable[[Layer], Any], ...]] = (params,)
    resolution: Size = (224, 224)

    def value(self, architecture: Architecture, seed: int = 0) -> float:
        """Return the parameters of an architecture, whatever the resolution and the seed."""
        return of_graph(self, lower(architecture, self.resolution))

    def combine(self, sums: Sums, channels: Sequence[int]) -> float:
        """Return the score; see `StageScore`."""
        return sum(total for (total,) in sums)


@dataclass(frozen=True)
class FlopsScore:
    """The multiply-adds of the convolutions, for one image at the score's resolution."""

    name: ClassVar[str] = "flops"
    kind: ClassVar[Kind] = "closed form"
    formulas: ClassVar[tuple[Callable[[Layer], Any], ...]] = (macs,)
    resolution: Size = (224, 224)

    def value(self, architecture: Architecture, seed: int = 0) -> float:
        """Return the multiply-adds of an architecture; the seed does not matter."""
        return of_graph(self, lower(architecture, self.resolution))

    def combine(self, sums: Sums, channels: Sequence[int]) -> float:
        """Return the score; see `StageScore`."""
        return sum(total for (total,) in sums)


def check_alpha(alpha: tuple[float, ...]) -> None:
    """Raise a UsageError unless there is one weight per stage, none negative."""
    if len(alpha) != STAGES or not all(0 <= a < float("inf") for a in alpha):
        raise UsageError(f"alpha is {alpha}; expected {STAGES} weights, none negative.")

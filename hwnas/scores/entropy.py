"""Multi-scale entropy in closed form (MAE-DET, Eq. 3-5).

Weights and image are standard Gaussian, the network is the plain one: no residual link, no
normalisation, no bias. In expectation over the weights the variance of each feature map is a
product over its layers, and H(Ci) = 1/2 log Var(Ci): no image, no weights, no forward pass.

    H(Ci) = sum over layers of 1/2 log(fan-in * share of the input that its ReLU lets through)
            + what zero padding takes away (border.py)
            + what the finite width of the layers takes away (finite_width.py)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..architecture.genotype import STAGES, Architecture, lower
from ..architecture.graph import Graph, Layer, Size, main_path
from ..errors import UsageError
from . import border
from .base import Kind
from .finite_width import read_out, variance

ALPHA = (0.0, 0.0, 1.0, 1.0, 6.0)
"""The paper's weights of C1 to C5."""


@dataclass(frozen=True)
class Entropy:
    """H(C1) to H(C5), and their weighted sum Z (Eq. 5)."""

    stages: tuple[float, ...]
    score: float


def log_gain(layer: Layer, input_activation: str | None) -> Any:
    """Return what a convolution adds to H in the interior of the map: 1/2 log(fan-in * share).

    A ReLU lets half the second moment of a symmetric input through. On a graph whose channels are
    arrays this is an array.
    """
    fan_in = layer.in_channels // layer.groups * (layer.kernel[0] * layer.kernel[1])
    share = 1.0 if input_activation is None else 0.5
    if isinstance(fan_in, int):
        return 0.5 * math.log(share * fan_in)
    return 0.5 * np.log(share * fan_in)


@dataclass(frozen=True)
class EntropyScore:
    """The multi-scale entropy of an architecture.

    Attributes:
        alpha: weights of H(C1) to H(C5).
        resolution: height and width of the image.
        border: count the border's zeros.
        finite_width: count the finite width of the layers.
        feature_size: multiply each H(Ci) by the size of its feature map, as the paper's text
            says. Off by default: the parameters that its Table 8 prints per alpha are only found
            without this factor.
    """

    name: ClassVar[str] = "entropy"
    kind: ClassVar[Kind] = "closed form"
    alpha: tuple[float, ...] = ALPHA
    resolution: Size = (384, 384)
    border: bool = True
    finite_width: bool = True
    feature_size: bool = False

    def __post_init__(self) -> None:
        if len(self.alpha) != STAGES or not all(0 <= a < math.inf for a in self.alpha):
            raise UsageError(f"alpha is {self.alpha}; expected {STAGES} weights, none negative.")

    def weights(self) -> tuple[float, ...]:
        """Return what H(C1) to H(C5) count in the score."""
        if not self.feature_size:
            return self.alpha
        height, width = self.resolution
        return tuple(
            alpha * -(-height // 2**i) * -(-width // 2**i) for i, alpha in enumerate(self.alpha, 1)
        )

    def __call__(self, architecture: Architecture, resolution: Size | None = None) -> Entropy:
        """Return the entropy of an architecture, by default at the score's resolution."""
        return self.of_graph(lower(architecture, resolution or self.resolution))

    def value(self, architecture: Architecture, seed: int = 0) -> float:
        """Return the weighted entropy of an architecture; see `Score.value`."""
        return self(architecture).score

    def of_graph(self, graph: Graph) -> Entropy:
        """Return the entropy of a graph, read at the last main convolution of each stage."""
        path = main_path(graph)
        stages = [0.0] * STAGES
        gain: float = 0.0
        spread: float = 0.0
        relus = 0
        state = border.image(path[0][0].in_size)
        for position, (layer, activation) in enumerate(path):
            activated = path_activation(path, position)
            gain += log_gain(layer, activation)
            spread += variance(relus, activated) / int(layer.out_channels)
            if self.border:
                state = state.step(layer.kernel[0], layer.stride[0])
            end = spread + read_out(relus, activated) / int(layer.out_channels)
            stages[layer.stage - 1] = (
                gain + state.log_gain - (0.25 * end if self.finite_width else 0.0)
            )
            relus += activated
        weighted = zip(self.weights(), stages, strict=True)
        return Entropy(tuple(stages), sum(weight * h for weight, h in weighted))


def path_activation(path: list[tuple[Layer, str | None]], position: int) -> bool:
    """Whether a ReLU follows a layer of the plain network."""
    if position + 1 < len(path):
        return path[position + 1][1] is not None
    return path[position][0].activation is not None

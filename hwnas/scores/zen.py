"""The Zen-score: how much the features move with the image (Zen-NAS, ICCV 2021). Needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..architecture.genotype import Architecture, lower
from ..architecture.graph import Size, main_path
from .base import Kind, seed_of
from .entropy import path_activation
from .network import finite_log, require_torch

PERTURBATION = 0.01
"""The authors' alpha: the size of the noise on the image."""

EPSILON = 1e-5
"""Of the batch normalisation, as in the network itself."""


@dataclass(frozen=True)
class ZenScore:
    """log E || f(x) - f(x + alpha e) ||, plus the logarithm of what each normalisation divided by.

    x, e and the weights are standard Gaussian; f is the plain network (no residual link) with
    batch normalisation, up to its last feature map. A normalisation of m channels with variances
    s_j divides by sqrt(mean of s_j), which is added back. https://arxiv.org/abs/2102.01063,
    Algorithm 1; the published code sums absolute differences where the paper has this norm.

    Attributes:
        resolution: height and width of the images.
        batch: images that the expectation is taken over.
    """

    name: ClassVar[str] = "zen"
    kind: ClassVar[Kind] = "forward passes"
    resolution: Size = (64, 64)
    batch: int = 4

    def value(self, architecture: Architecture, seed: int = 0) -> float:
        """Return the score of an architecture; see `Score.value`."""
        require_torch(self.name)
        import torch
        from torch.nn import functional

        generator = torch.Generator().manual_seed(seed_of(architecture, seed))
        graph = lower(architecture, self.resolution)
        path = main_path(graph)
        first = path[0][0]
        shape = (self.batch, int(first.in_channels), *first.in_size)
        with torch.no_grad():
            x = torch.randn(shape, generator=generator)
            y = x + PERTURBATION * torch.randn(shape, generator=generator)
            log_scale = 0.0
            c5 = next(layer for layer in reversed(graph.layers) if layer.op != "output")
            for position, (layer, _) in enumerate(path):
                last = position == len(path) - 1
                inner = int(layer.in_channels // layer.groups)
                weight = torch.randn(
                    (int(layer.out_channels), inner, *layer.kernel), generator=generator
                )
                both = functional.conv2d(
                    torch.cat((x, y)),
                    weight,
                    stride=layer.stride,
                    padding=(layer.kernel[0] // 2, layer.kernel[1] // 2),
                    groups=int(layer.groups),
                )
                x, y = both.chunk(2)
                variance = x.var(dim=(0, 2, 3), correction=0)
                log_scale += 0.5 * finite_log(float(variance.double().mean()), self.name)
                x, y = (
                    functional.batch_norm(z, None, None, training=True, eps=EPSILON) for z in (x, y)
                )
                if c5.activation if last else path_activation(path, position):
                    x, y = functional.relu(x), functional.relu(y)
            moved = (x - y).flatten(1).double().norm(dim=1).mean()
        return finite_log(float(moved), self.name) + log_scale

"""SynFlow: how much flows through all weights (Tanaka et al., NeurIPS 2020). Needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..architecture.genotype import Architecture
from ..architecture.graph import Size
from .base import Kind, seed_of
from .network import finite_log, fresh_network, require_torch


@dataclass(frozen=True)
class SynflowScore:
    """log of sum |w dR/dw| over all weights, R the sum over C5 of the network of absolute weights.

    The image is all ones; normalisations, activations and squeeze-and-excitation are left out,
    which makes the network linear. The weights are He-initialised, the arithmetic is in double
    precision: the flow grows by a factor of about the root of the fan-in per layer.
    https://arxiv.org/abs/2006.05467

    Attributes:
        resolution: height and width of the image.
    """

    name: ClassVar[str] = "synflow"
    kind: ClassVar[Kind] = "gradients"
    resolution: Size = (64, 64)

    def value(self, architecture: Architecture, seed: int = 0) -> float:
        """Return the score of an architecture; see `Score.value`.

        Raises:
            HwnasError: the flow exceeds double precision, as beyond about 200 layers.
        """
        require_torch(self.name)
        import torch
        from torch import nn

        from ..lowering.torch_backbone import Mul

        class Ungated(nn.Module):
            def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
                return x

        generator = torch.Generator().manual_seed(seed_of(architecture, seed))
        network = fresh_network(architecture, generator, torch.float32).double()
        for module in list(network.modules()):
            for name, child in module.named_children():
                if name == "act" or isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, nn.Identity())
                elif isinstance(child, Mul):
                    setattr(module, name, Ungated())
        weights = list(network.parameters())
        with torch.no_grad():
            for weight in weights:
                weight.abs_()
        (c5,) = network(torch.ones(1, 3, *self.resolution, dtype=torch.float64))
        gradients = torch.autograd.grad(c5.sum(), weights, allow_unused=True)
        with torch.no_grad():  # neither weights nor gradients are negative
            pairs = zip(weights, gradients, strict=True)
            flow = sum(float((w * g).sum()) for w, g in pairs if g is not None)
        return finite_log(flow, self.name)

"""NASWOT: how differently a network's ReLUs answer to different images (ICML 2021). Needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..architecture.genotype import Architecture
from ..architecture.graph import Size
from .base import Kind, seed_of
from .network import finite, fresh_network, require_torch


@dataclass(frozen=True)
class NaswotScore:
    """log |det K| with K_ij = the number of activations whose sign images i and j share.

    The network is the whole one, residual links and normalisation included, with fresh weights;
    the images are Gaussian noise. https://arxiv.org/abs/2006.04647, section 3

    Attributes:
        resolution: height and width of the images.
        batch: images, the size of K.
    """

    name: ClassVar[str] = "naswot"
    kind: ClassVar[Kind] = "forward passes"
    resolution: Size = (64, 64)
    batch: int = 16

    def value(self, architecture: Architecture, seed: int = 0) -> float:
        """Return the score of an architecture; see `Score.value`."""
        require_torch(self.name)
        import torch

        generator = torch.Generator().manual_seed(seed_of(architecture, seed))
        network = fresh_network(architecture, generator, torch.float32)
        kernel = torch.zeros(self.batch, self.batch, dtype=torch.float64)

        def count(module: Any, inputs: tuple[Any, ...], result: Any) -> None:
            on = (inputs[0] > 0).flatten(1).float()
            both = on @ on.T  # units that are on for both images: a whole number, exact
            alone = on.sum(1)
            kernel.add_(on.shape[1] - alone[:, None] - alone[None, :] + 2 * both)

        for name, module in network.named_modules():
            if name.endswith(".act") and not isinstance(module, torch.nn.Identity):
                module.register_forward_hook(count)
        with torch.no_grad():
            network(torch.randn(self.batch, 3, *self.resolution, generator=generator))
        return finite(float(torch.linalg.slogdet(kernel).logabsdet), self.name)

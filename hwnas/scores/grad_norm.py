"""Gradient norm: how strongly one batch pulls at the weights (Abdelfattah et al.). Needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..architecture.genotype import Architecture
from ..architecture.graph import Size
from .base import Kind, seed_of
from .network import finite, fresh_network, require_torch


@dataclass(frozen=True)
class GradNormScore:
    """The sum over all convolutions of the Euclidean norm of the loss's gradient.

    The loss is the cross-entropy of random labels, behind a global average pool and a random
    linear classifier; images are Gaussian noise, weights He-initialised.
    https://arxiv.org/abs/2101.08134, section 3.1

    Attributes:
        resolution: height and width of the images.
        batch: images.
        classes: of the classifier.
    """

    name: ClassVar[str] = "grad-norm"
    kind: ClassVar[Kind] = "gradients"
    resolution: Size = (64, 64)
    batch: int = 8
    classes: int = 1000

    def value(self, architecture: Architecture, seed: int = 0) -> float:
        """Return the score of an architecture; see `Score.value`."""
        require_torch(self.name)
        import torch
        from torch import nn
        from torch.nn import functional

        generator = torch.Generator().manual_seed(seed_of(architecture, seed))
        network = fresh_network(architecture, generator, torch.float32)
        weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
        images = torch.randn(self.batch, 3, *self.resolution, generator=generator)
        labels = torch.randint(self.classes, (self.batch,), generator=generator)
        (c5,) = network(images)
        features = c5.mean((2, 3))
        width = features.shape[1]
        classifier = torch.randn(width, self.classes, generator=generator) / math.sqrt(width)
        loss = functional.cross_entropy(features @ classifier, labels)
        gradients = torch.autograd.grad(loss, weights)
        return finite(sum(float(g.double().norm()) for g in gradients), self.name)

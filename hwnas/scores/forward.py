"""Multi-scale entropy by a real forward pass (Eq. 4): the closed form's reference. Needs torch."""

from __future__ import annotations

import math

from ..architecture.genotype import STAGES, Architecture, lower
from ..architecture.graph import Size, main_path


def forward_entropy(
    architecture: Architecture, resolution: Size = (192, 192), seed: int = 0
) -> tuple[float, ...]:
    """Return H(C1) to H(C5) of one draw of standard Gaussian weights and image.

    Each feature map is divided by its norm gamma, and log gamma is added back (Eq. 4).

    Raises:
        ModuleNotFoundError: torch is not installed.
    """
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(seed)
    stages = [0.0] * STAGES
    path = main_path(lower(architecture, resolution))
    first, _ = path[0]
    x = torch.randn(1, int(first.in_channels), *first.in_size, generator=generator)
    log_gamma = 0.0
    with torch.no_grad():
        for layer, activation in path:
            if activation is not None:
                x = functional.relu(x)
            gamma = float(x.norm())
            x, log_gamma = x / gamma, log_gamma + math.log(gamma)
            inner = int(layer.in_channels // layer.groups)
            shape = (int(layer.out_channels), inner, *layer.kernel)
            x = functional.conv2d(
                x,
                torch.randn(shape, generator=generator),
                stride=layer.stride,
                padding=(layer.kernel[0] // 2, layer.kernel[1] // 2),
                groups=int(layer.groups),
            )
            # The variance of Eq. 3 is taken in double precision: the map is divided by its norm.
            stages[layer.stage - 1] = 0.5 * math.log(float(x.double().var())) + log_gamma
    return tuple(stages)

"""Networks with freshly drawn weights for the scores that run them. Needs torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..architecture.genotype import Architecture
from ..errors import DeviceUnavailableError, HwnasError
from ..lowering.torch_writer import to_torch

if TYPE_CHECKING:
    from torch import Generator, nn


def require_torch(name: str) -> None:
    """Say what a score needs where torch is missing.

    Raises:
        DeviceUnavailableError: torch is not installed.
    """
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise DeviceUnavailableError(
            f"the score '{name}' runs the network with torch, which is not installed: "
            "pip install 'hwnas[torch]'."
        ) from None


def fresh_network(architecture: Architecture, generator: Generator, dtype: Any) -> nn.Module:
    """Return the backbone in training mode, with He-initialised weights; it returns [C5].

    The weights come from the generator alone: torch's global random numbers are not touched.
    """
    import torch
    from torch import nn

    with torch.device("meta"):  # shapes without memory: every weight is drawn once, below
        network = to_torch(architecture, out_indices=(3,))
    network = network.to(dtype).to_empty(device="cpu")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = math.prod(module.weight.shape[1:])
                module.weight.normal_(0.0, math.sqrt(2 / fan_in), generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
    return network.train()


def finite(value: float, name: str) -> float:
    """Return a score that is a number.

    Raises:
        HwnasError: it is infinite or not a number.
    """
    if not math.isfinite(value):
        raise HwnasError(
            f"the score '{name}' of a candidate is {value}: the network is too deep for its "
            "arithmetic. Lower the limit on layers, or choose another score."
        )
    return value


def finite_log(value: float, name: str) -> float:
    """Return the logarithm of what a score rests on.

    Raises:
        HwnasError: the value is not a positive number.
    """
    return math.log(value) if 0 < value < math.inf else finite(-math.inf, name)

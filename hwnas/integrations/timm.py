"""The zoo, and networks of yours, as models of timm.

    import hwnas.integrations.timm
    timm.create_model("hwnas_maedet_m", features_only=True, out_indices=(1, 2, 3))

Importing this module registers every network of the zoo, as importing timm registers its own.
"""

from __future__ import annotations

from ..architecture import zoo
from ..architecture.genotype import Architecture
from ..lowering.torch_writer import identifier, to_rows
from .require import requiring
from .sources import model_name

with requiring("timm"):
    from . import timm_adapter


def register(architecture: Architecture, name: str | None = None) -> str:
    """Make an architecture known to `timm.create_model` and return the name that it has there.

    Args:
        architecture: what to register.
        name: the model's name, an identifier; by default `hwnas_` and the architecture's name.
    """
    chosen = identifier(name or model_name(architecture))
    timm_adapter.register(chosen, to_rows(architecture), __name__)
    return chosen


for _name in zoo.names():
    register(zoo.get(_name))

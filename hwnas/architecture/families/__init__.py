"""Block families: each is one short file that says of which layers a block is made.

Costs, entropy, kernels, the torch module and the ONNX file follow from these layers, as do
mutation and the certified search. A package of your own adds families by the entry point group
`hwnas.families`.
"""

from .base import BlockOptions, Family
from .catalog import FAMILIES, families_of, family
from .parts import ACTIVATIONS, GATES, shortcut, squeeze_excite

__all__ = [
    "ACTIVATIONS",
    "FAMILIES",
    "GATES",
    "BlockOptions",
    "Family",
    "families_of",
    "family",
    "shortcut",
    "squeeze_excite",
]

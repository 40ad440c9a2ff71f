"""What learns log(measured / roofline) from features; each is handed over as an ONNX model."""

from .base import Regressor
from .blend import Blend
from .mlp import Mlp
from .radial import Radial
from .trees import Trees

__all__ = ["Blend", "Mlp", "Radial", "Regressor", "Trees"]

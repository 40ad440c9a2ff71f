"""What learns log(measured / roofline) from features; each is handed over as an ONNX model."""

from .base import Regressor
from .mlp import Mlp
from .radial import Radial
from .trees import Trees

__all__ = ["Mlp", "Radial", "Regressor", "Trees"]

"""The operators that layers and kernels are made of, and what ONNX calls them."""

from __future__ import annotations

CHEAP = {
    "Relu": "relu",
    "Clip": "clip",
    "LeakyRelu": "leaky_relu",
    "PRelu": "leaky_relu",
    "HardSigmoid": "hard_sigmoid",
    "HardSwish": "hard_swish",
    "Abs": "abs",
    "Neg": "neg",
    "Sqrt": "sqrt",
    "Reciprocal": "reciprocal",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Cast": "cast",
    "BatchNormalization": "batch_norm",
}
"""Functions of one value that a vector unit computes in a few operations."""

COSTLY = {
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Erf": "erf",
    "Exp": "exp",
    "Log": "log",
    "Gelu": "gelu",
    "QuickGelu": "silu",
    "Swish": "silu",
    "Elu": "elu",
    "Selu": "selu",
    "Celu": "celu",
    "Softplus": "softplus",
    "Mish": "mish",
    "Softsign": "softsign",
}
"""Functions of one value that take an exponential or a polynomial."""

UNARY = CHEAP | COSTLY

BINARY = {
    "Add": "add",
    "Sum": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Pow": "pow",
    "Min": "min",
    "Max": "max",
    "Where": "where",
}
"""Functions of two feature maps, or of one and a constant; the smaller is broadcast."""

NORMALISING = {
    "Softmax": "softmax",
    "LogSoftmax": "softmax",
    "LayerNormalization": "layer_norm",
    "SimplifiedLayerNormalization": "layer_norm",
    "RMSNormalization": "layer_norm",
    "InstanceNormalization": "instance_norm",
    "GroupNormalization": "group_norm",
    "LpNormalization": "layer_norm",
}

POOLS = {"AveragePool": "avg_pool", "MaxPool": "max_pool"}

REDUCING = {
    "GlobalAveragePool": "global_avg_pool",
    "GlobalMaxPool": "global_max_pool",
    "ReduceMean": "reduce",
    "ReduceSum": "reduce",
    "ReduceMax": "reduce",
    "ReduceMin": "reduce",
    "ReduceL2": "reduce",
    "ArgMax": "reduce",
}

MOVING = {
    "TopK": "topk",
    "Concat": "concat",
    "Slice": "slice",
    "Split": "split",
    "Pad": "pad",
    "Gather": "gather",
    "Expand": "expand",
    "Tile": "expand",
    "DepthToSpace": "transpose",
    "SpaceToDepth": "transpose",
}

RESIZING = {"Resize": "resize", "Upsample": "resize"}

FREE = {"Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
"""Operators that move no data at inference."""

CONSTANT = {"Constant", "ConstantOfShape", "Shape", "Size"}
"""Operators whose result is known before the network runs, once its shapes are."""

ELEMENTWISE = frozenset({*CHEAP.values(), *BINARY.values(), "scale", "shift"})
"""Kernels that stream values through a few operations; `scale` and `shift` have a constant."""

TRANSCENDENTAL = frozenset(COSTLY.values())

SAME_SIZE = ELEMENTWISE | TRANSCENDENTAL

WORK = {
    "sigmoid": 8,
    "tanh": 8,
    "exp": 6,
    "log": 6,
    "silu": 10,
    "erf": 12,
    "gelu": 16,
    "softplus": 12,
    "mish": 20,
    "div": 3,
    "sqrt": 3,
    "pow": 3,
    "softmax": 10,
    "layer_norm": 5,
}
"""Nominal operations per value: tells functions of one class apart. 1 where not named."""

CANONICAL = {
    "relu6": "clip",
    "hardswish": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
    "leakyrelu": "leaky_relu",
    "gain": "scale",
    "unflatten": "view",
}
"""Layers and activations whose name is not that of their operator."""


def canonical(name: str) -> str:
    """Return the operator of an activation's or a layer's name."""
    return CANONICAL.get(name, name)

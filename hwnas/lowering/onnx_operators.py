"""ONNX nodes of the layers that are neither convolution, pool nor addition."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ..architecture.graph import Layer
from .operators import UNARY
from .weights import NORM_EPSILON, Weights

ATTENTION_SCALE = np.float32(0.125)
RANKS = {"tokens": 3, "merge": 3, "heads": 4, "keys": 4, "gemm": 2, "unflatten": 4}
"""Axes of a result where the operator decides; elsewhere it has those of its input."""

_ONNX_NAMES = {ours: theirs for theirs, ours in reversed(UNARY.items())}
_ONNX_NAMES |= {"mul": "Mul", "sub": "Sub", "global_avg_pool": "GlobalAveragePool"}


class NodeWriter(Protocol):
    """Collects the nodes and constants of a model."""

    weights: Weights
    batch: int
    ranks: dict[str, int]
    owners: dict[str, str]

    def weighted(self, owner: str, kind: str, bias: bool) -> list[str]:
        """Add the weight of a layer, and its bias where it has one; return their names."""

    def node(self, op: str, name: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """Add a node."""

    def nodes(
        self, op: str, name: str, inputs: list[str], outputs: list[str], **attributes: Any
    ) -> None:
        """Add a node with several results."""

    def constant(self, name: str, value: Any) -> str:
        """Add a constant and return its name."""


def write(writer: NodeWriter, name: str, layer: Layer, sources: list[str], output: str) -> None:
    """Add the nodes of a layer; the last one writes `output`.

    Raises:
        ValueError: there is no ONNX operator for the layer.
    """
    source = sources[0]
    batch, heads = writer.batch, int(layer.groups)
    rows, channels = layer.out_size[0], int(layer.out_channels)
    match layer.op:
        case "silu":
            writer.node("Sigmoid", f"{name}_sigmoid", [source], f"{name}_gate")
            writer.node("Mul", name, [source, f"{name}_gate"], output)
        case "gelu":
            _gelu(writer, name, source, output)
        case "scale" | "shift":
            value = writer.constant(f"{name}.value", np.asarray(ATTENTION_SCALE))
            writer.node("Mul" if layer.op == "scale" else "Add", name, [source, value], output)
        case "reduce":
            axes = [1] if writer.ranks[source] == 3 else [2, 3]
            writer.node("ReduceMean", name, sources, output, axes=axes, keepdims=1)
        case "space_to_depth":
            writer.node("SpaceToDepth", name, sources, output, blocksize=2)
        case "hard_sigmoid":
            # As PyTorch and MobileNetV3 have it; the operator's own default is steeper.
            writer.node("HardSigmoid", name, sources, output, alpha=1 / 6, beta=0.5)
        case "concat":
            writer.node("Concat", name, sources, output, axis=1)
        case "upsample":
            factor = layer.out_size[0] / layer.in_size[0]
            scales = writer.constant(f"{name}.scales", np.array([1, 1, factor, factor], np.float32))
            writer.node(
                "Resize", name, [source, "", scales], output,
                mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
            )  # fmt: skip
        case "resize" | "interpolate":
            linear = layer.op == "interpolate"
            whole = np.array([batch, channels, *layer.out_size], np.int64)
            sizes = writer.constant(f"{name}.sizes", whole)
            writer.node(
                "Resize", name, [source, "", "", sizes], output,
                mode="linear" if linear else "nearest",
                coordinate_transformation_mode="align_corners" if linear else "asymmetric",
                nearest_mode="floor",
            )  # fmt: skip
        case "conv_transpose":
            inputs = [source, *writer.weighted(writer.owners[name], "conv", layer.bias)]
            kernel, stride = list(layer.kernel), list(layer.stride)
            writer.node("ConvTranspose", name, inputs, output, kernel_shape=kernel, strides=stride)
        case "group_norm":
            _group_norm(writer, name, layer, source, output)
        case "gain":
            # Without axes: runtimes then multiply the convolution's weights once, beforehand.
            value = writer.constant(f"{name}.gain", writer.weights[f"{name}.gain"].reshape(()))
            writer.node("Mul", name, [source, value], output)
        case "expand":
            each, size = int(layer.in_channels), layer.out_size
            _reshaped(writer, f"{name}_apart", source, f"{name}_parts", [batch, each, 1, *size])
            many = np.array([batch, each, channels // each, *size], np.int64)
            inputs = [f"{name}_parts", writer.constant(f"{name}.many", many)]
            writer.node("Expand", name, inputs, f"{name}_many")
            _reshaped(writer, name, f"{name}_many", output, [batch, channels, *size])
        case "group_softmax" | "group_topk" | "group_mean":
            _in_groups(writer, name, layer, source, output)
        case "unflatten":
            _reshaped(writer, name, source, output, [batch, channels, *layer.out_size])
        case "shuffle":
            height, width = layer.out_size
            apart = [batch, heads, channels // heads, height, width]
            shape = [batch, channels, height, width]
            _moved(writer, name, source, output, apart, [0, 2, 1, 3, 4], shape)
        case "tokens":
            _moved(writer, name, source, output, [batch, channels, rows], [0, 2, 1], None)
        case "heads":
            apart = [batch, rows, heads, layer.out_size[1]]
            _moved(writer, name, source, output, apart, [0, 2, 1, 3], None)
        case "keys":
            apart = [batch, layer.out_size[1], heads, rows]
            _moved(writer, name, source, output, apart, [0, 2, 3, 1], None)
        case "merge":
            shape = [batch, rows, channels]
            _moved(writer, name, source, output, None, [0, 2, 1, 3], shape)
        case "linear":
            weight = writer.weights[f"{name}.linear.weight"].T.copy()
            inputs = [source, writer.constant(f"{name}.weight", weight)]
            bias = writer.constant(f"{name}.bias", writer.weights[f"{name}.linear.bias"])
            writer.node("MatMul", name, inputs, f"{name}_product")
            writer.node("Add", f"{name}_bias", [f"{name}_product", bias], output)
        case "gemm":
            inputs = [f"{name}_flat", *writer.weighted(writer.owners[name], "linear", bias=True)]
            writer.node("Flatten", f"{name}_flatten", [source], f"{name}_flat")
            writer.node("Gemm", name, inputs, output, transB=1)
        case "matmul":
            writer.node("MatMul", name, sources, output)
        case "softmax":
            writer.node("Softmax", name, sources, output, axis=-1)
        case "layer_norm":
            norm = [
                writer.constant(f"{name}.{key}", writer.weights[f"{name}.norm.{key}"])
                for key in ("weight", "bias")
            ]
            writer.node("LayerNormalization", name, [source, *norm], output, axis=-1)
        case "clip":
            limits = [writer.constant(f"{name}.{v}", np.asarray(np.float32(v))) for v in (0, 6)]
            writer.node("Clip", name, [source, *limits], output)
        case known if known in _ONNX_NAMES:
            writer.node(_ONNX_NAMES[known], name, sources, output)
        case unknown:
            raise ValueError(f"no ONNX operator for the layer '{unknown}'")


def _group_norm(writer: NodeWriter, name: str, layer: Layer, source: str, output: str) -> None:
    """Normalise groups as one long channel each, then scale and shift each channel.

    Operator sets before 21 have no operator for it; this is what exporters write.
    """
    groups, channels = int(layer.groups), int(layer.out_channels)
    whole = [writer.batch, channels, *layer.out_size]
    ones = writer.constant(f"group_norm.ones{groups}", np.ones(groups, np.float32))
    zeros = writer.constant(f"group_norm.zeros{groups}", np.zeros(groups, np.float32))
    _reshaped(writer, f"{name}_apart", source, f"{name}_parts", [writer.batch, groups, -1])
    inputs = [f"{name}_parts", ones, zeros]
    writer.node("InstanceNormalization", name, inputs, f"{name}_even", epsilon=NORM_EPSILON)
    _reshaped(writer, f"{name}_together", f"{name}_even", f"{name}_whole", whole)
    owner = writer.owners[name]
    weight, bias = (
        writer.constant(
            f"{owner}.norm.{key}", writer.weights[f"{owner}.norm.{key}"].reshape(-1, 1, 1)
        )
        for key in ("weight", "bias")
    )
    writer.node("Mul", f"{name}_scale", [f"{name}_whole", weight], f"{name}_scaled")
    writer.node("Add", f"{name}_shift", [f"{name}_scaled", bias], output)


def _in_groups(writer: NodeWriter, name: str, layer: Layer, source: str, output: str) -> None:
    """Work along the channels of each group: [batch, groups, channels, height, width]."""
    groups, size = int(layer.groups), layer.out_size
    apart = [writer.batch, groups, int(layer.in_channels), *size]
    _reshaped(writer, f"{name}_apart", source, f"{name}_parts", apart)
    inputs, result = [f"{name}_parts"], f"{name}_result"
    if layer.op == "group_softmax":
        writer.node("Softmax", name, inputs, result, axis=2)
    elif layer.op == "group_mean":
        writer.node("ReduceMean", name, inputs, result, axes=[2], keepdims=1)
    else:
        count = np.array([int(layer.out_channels) // groups], np.int64)
        inputs.append(writer.constant(f"{name}.count", count))
        writer.nodes("TopK", name, inputs, [result, f"{name}_places"], axis=2)
    whole = [writer.batch, int(layer.out_channels), *size]
    _reshaped(writer, f"{name}_together", result, output, whole)


def _reshaped(writer: NodeWriter, name: str, source: str, output: str, shape: list[int]) -> None:
    sizes = writer.constant(f"{name}.shape", np.array(shape, np.int64))
    writer.node("Reshape", f"{name}_reshape", [source, sizes], output)


def _gelu(writer: NodeWriter, name: str, source: str, output: str) -> None:
    """x/2 (1 + erf(x / sqrt 2)), as exporters write it for operator sets before 20."""
    values = {"root": np.sqrt(2), "one": 1, "half": 0.5}
    known = {
        key: writer.constant(f"{name}.{key}", np.asarray(value, np.float32))
        for key, value in values.items()
    }
    writer.node("Div", f"{name}_div", [source, known["root"]], f"{name}_scaled")
    writer.node("Erf", f"{name}_erf", [f"{name}_scaled"], f"{name}_erfed")
    writer.node("Add", f"{name}_add", [f"{name}_erfed", known["one"]], f"{name}_shifted")
    writer.node("Mul", f"{name}_mul", [source, f"{name}_shifted"], f"{name}_doubled")
    writer.node("Mul", name, [f"{name}_doubled", known["half"]], output)


def _moved(
    writer: NodeWriter,
    name: str,
    source: str,
    output: str,
    apart: list[int] | None,
    order: list[int],
    shape: list[int] | None,
) -> None:
    """Reshape where `apart` says how, transpose, and reshape where `shape` says how."""
    if apart is not None:
        sizes = writer.constant(f"{name}.apart", np.array(apart, np.int64))
        writer.node("Reshape", f"{name}_apart", [source, sizes], f"{name}_parts")
        source = f"{name}_parts"
    moved = output if shape is None else f"{name}_moved"
    writer.node("Transpose", name, [source], moved, perm=order)
    if shape is not None:
        sizes = writer.constant(f"{name}.shape", np.array(shape, np.int64))
        writer.node("Reshape", f"{name}_together", [moved, sizes], output)

"""The graph as an ONNX model, without torch. What is profiled is what is shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..architecture.graph import INPUT, Graph, Layer
from .weights import NORM_EPSILON, Weights, folded, names

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8
IMAGES = "images"


def to_onnx(
    graph: Graph,
    weights: Weights,
    *,
    fold_norm: bool = True,
    metadata: dict[str, str] | None = None,
) -> onnx.ModelProto:
    """Return an ONNX model: input `images` [batch, 3, height, width], outputs `C2` to `C5`.

    Args:
        graph: what `lower` returns.
        weights: what `he_normal` returns, or a torch state dict as arrays.
        fold_norm: fold each normalisation into its convolution, as runtimes do; otherwise write
            it as a node of its own.
        metadata: further properties of the model.
    """
    writer = _Writer(weights, fold_norm)
    tensors = {INPUT: IMAGES}
    outputs: list[tuple[str, Layer]] = []
    handed_out = {
        layer.inputs[0]: f"C{layer.stage}" for layer in graph.layers if layer.op == "output"
    }
    for i, (name, layer) in enumerate(zip(names(graph), graph.layers, strict=True)):
        if layer.op == "output":
            outputs.append((f"C{layer.stage}", layer))
            continue
        sources = [tensors[source] for source in layer.inputs]
        tensors[i] = writer.layer(name, layer, sources, handed_out.get(i, name))
    return writer.model(graph, outputs, {"hwnas_version": __version__, **(metadata or {})})


class _Writer:
    def __init__(self, weights: Weights, fold_norm: bool) -> None:
        from onnx import helper, numpy_helper

        self._helper = helper
        self._array = numpy_helper.from_array
        self._weights = weights
        self._fold_norm = fold_norm
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._clip: list[str] = []

    def layer(self, name: str, layer: Layer, sources: list[str], output: str) -> str:
        """Add a layer's nodes and return the name of its result."""
        last = output if layer.activation is None else f"{name}_linear"
        kernel, stride = list(layer.kernel), list(layer.stride)
        padding = [k // 2 for k in layer.kernel] * 2
        match layer.op:
            case "conv":
                self._convolution(name, layer, sources[0], last, padding)
            case "avg_pool":
                self._node(
                    "AveragePool", name, sources, last,
                    kernel_shape=kernel, strides=stride, ceil_mode=1, count_include_pad=0,
                )  # fmt: skip
            case "max_pool":
                self._node(
                    "MaxPool", name, sources, last,
                    kernel_shape=kernel, strides=stride, pads=padding,
                )  # fmt: skip
            case "add":
                self._node("Add", name, sources, last)
            case unknown:
                raise ValueError(f"no ONNX operator for the layer '{unknown}'")
        if layer.activation is not None:
            self._activation(name, layer.activation, last, output)
        return output

    def model(self, graph: Graph, outputs: list[Any], metadata: dict[str, str]) -> onnx.ModelProto:
        """Return the finished model."""
        helper = self._helper

        def tensor(name: str, channels: Any, size: tuple[int, int]) -> Any:
            return helper.make_tensor_value_info(name, 1, [graph.batch, int(channels), *size])

        body = helper.make_graph(
            self._nodes,
            "backbone",
            [tensor(IMAGES, graph.channels, graph.size)],
            [tensor(name, layer.out_channels, layer.out_size) for name, layer in outputs],
            self._initializers,
        )
        model = helper.make_model(
            body,
            producer_name="hwnas",
            producer_version=__version__,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        helper.set_model_props(model, metadata)
        result: onnx.ModelProto = model
        return result

    def _convolution(
        self, name: str, layer: Layer, source: str, output: str, padding: list[int]
    ) -> None:
        attributes = {
            "kernel_shape": list(layer.kernel),
            "strides": list(layer.stride),
            "pads": padding,
            "group": int(layer.groups),
        }
        if self._fold_norm:
            weight, bias = folded(self._weights, name)
            inputs = [
                source,
                self._constant(f"{name}.weight", weight),
                self._constant(f"{name}.bias", bias),
            ]
            self._node("Conv", name, inputs, output, **attributes)
            return
        weight = self._weights[f"{name}.conv.weight"]
        inputs = [source, self._constant(f"{name}.weight", weight)]
        self._node("Conv", name, inputs, f"{name}_conv", **attributes)
        norm = [
            self._constant(f"{name}.norm.{key}", self._weights[f"{name}.norm.{key}"])
            for key in ("weight", "bias", "running_mean", "running_var")
        ]
        inputs = [f"{name}_conv", *norm]
        self._node("BatchNormalization", f"{name}_norm", inputs, output, epsilon=NORM_EPSILON)

    def _activation(self, name: str, activation: str, source: str, output: str) -> None:
        if activation == "relu":
            self._node("Relu", f"{name}_relu", [source], output)
            return
        if not self._clip:
            limits = {"relu6_low": np.float32(0), "relu6_high": np.float32(6)}
            self._clip = [self._constant(key, np.asarray(v)) for key, v in limits.items()]
        self._node("Clip", f"{name}_relu6", [source, *self._clip], output)

    def _constant(self, name: str, value: Any) -> str:
        self._initializers.append(self._array(value, name))
        return name

    def _node(self, op: str, name: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self._nodes.append(self._helper.make_node(op, inputs, [output], name=name, **attributes))

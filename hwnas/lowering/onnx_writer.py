"""The graph as an ONNX model, without torch. What is profiled is what is shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..architecture.graph import INPUT, Graph, Layer
from .onnx_operators import RANKS, write
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
    writer = _Writer(weights, fold_norm, graph.batch)
    tensors = {INPUT: IMAGES}
    outputs: list[tuple[str, Layer]] = []
    handed_out = {
        layer.inputs[0]: f"C{layer.stage}" for layer in graph.layers if layer.op == "output"
    }
    labels = names(graph)
    for i, (name, layer) in enumerate(zip(labels, graph.layers, strict=True)):
        if layer.op == "output":
            outputs.append((f"C{layer.stage}", layer))
            continue
        if layer.op == "part":
            continue  # written by the split that it belongs to
        sources = [tensors[source] for source in layer.inputs]
        if layer.op == "split":
            parts = [j for j, part in enumerate(graph.layers) if part.inputs == (i,)]
            tensors |= {j: handed_out.get(j, labels[j]) for j in parts}
            writer.split(name, sources[0], [tensors[j] for j in parts])
        else:
            tensors[i] = writer.layer(name, layer, sources, handed_out.get(i, name))
    return writer.model(graph, outputs, {"hwnas_version": __version__, **(metadata or {})})


class _Writer:
    def __init__(self, weights: Weights, fold_norm: bool, batch: int) -> None:
        from onnx import helper

        self._helper = helper
        self.weights = weights
        self.batch = batch
        self.ranks = {IMAGES: 4}
        self._fold_norm = fold_norm
        self._nodes: list[Any] = []
        self._constants: list[tuple[str, Any]] = []
        self._clip: list[str] = []

    def split(self, name: str, source: str, parts: list[str]) -> None:
        """Add a split along the channels."""
        self._nodes.append(self._helper.make_node("Split", [source], parts, name=name, axis=1))
        self.ranks |= dict.fromkeys(parts, self.ranks[source])

    def layer(self, name: str, layer: Layer, sources: list[str], output: str) -> str:
        """Add a layer's nodes and return the name of its result."""
        self.ranks[output] = RANKS.get(layer.op, self.ranks[sources[0]])
        last = output if layer.activation is None else f"{name}_linear"
        kernel, stride = list(layer.kernel), list(layer.stride)
        padding = [k // 2 for k in layer.kernel] * 2
        if layer.op == "conv" and not _is_padded(layer):
            padding = [0, 0, 0, 0]
        match layer.op:
            case "conv":
                self._convolution(name, layer, sources[0], last, padding)
            case "avg_pool":
                self.node(
                    "AveragePool", name, sources, last,
                    kernel_shape=kernel, strides=stride, ceil_mode=1, count_include_pad=0,
                )  # fmt: skip
            case "max_pool":
                self.node(
                    "MaxPool", name, sources, last,
                    kernel_shape=kernel, strides=stride, pads=padding,
                )  # fmt: skip
            case "add":
                self.node("Add", name, sources, last)
            case _:
                write(self, name, layer, sources, last)
        if layer.activation is not None:
            self._activation(name, layer, layer.activation, last, output)
        return output

    def model(self, graph: Graph, outputs: list[Any], metadata: dict[str, str]) -> onnx.ModelProto:
        """Return the finished model."""
        helper = self._helper

        def tensor(name: str, channels: Any, size: tuple[int, int]) -> Any:
            by_rank = {4: [channels, *size], 3: [size[0], channels], 2: [channels]}
            shape = [graph.batch, *map(int, by_rank[self.ranks[name]])]
            return helper.make_tensor_value_info(name, 1, shape)

        body = helper.make_graph(
            self._nodes,
            "backbone",
            [tensor(IMAGES, graph.channels, graph.size)],
            [tensor(name, layer.out_channels, layer.out_size) for name, layer in outputs],
        )
        model = helper.make_model(
            body,
            producer_name="hwnas",
            producer_version=__version__,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        for name, value in self._constants:
            # Filled in place: handed to the graph and the model above, weights are copied twice.
            constant = model.graph.initializer.add()
            constant.name = name
            constant.data_type = helper.np_dtype_to_tensor_dtype(value.dtype)
            constant.dims.extend(value.shape)
            constant.raw_data = value.tobytes()
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
        if self._fold_norm or not layer.norm:
            weight, bias = folded(self.weights, name)
            inputs = [
                source,
                self.constant(f"{name}.weight", weight),
                self.constant(f"{name}.bias", bias),
            ]
            self.node("Conv", name, inputs, output, **attributes)
            return
        weight = self.weights[f"{name}.conv.weight"]
        inputs = [source, self.constant(f"{name}.weight", weight)]
        self.node("Conv", name, inputs, f"{name}_conv", **attributes)
        norm = [
            self.constant(f"{name}.norm.{key}", self.weights[f"{name}.norm.{key}"])
            for key in ("weight", "bias", "running_mean", "running_var")
        ]
        inputs = [f"{name}_conv", *norm]
        self.node("BatchNormalization", f"{name}_norm", inputs, output, epsilon=NORM_EPSILON)

    def _activation(
        self, name: str, layer: Layer, activation: str, source: str, output: str
    ) -> None:
        if activation != "relu6":
            plain = layer._replace(op=activation, activation=None)
            write(self, f"{name}_{activation}", plain, [source], output)
            return
        if not self._clip:
            limits = {"relu6_low": np.float32(0), "relu6_high": np.float32(6)}
            self._clip = [self.constant(key, np.asarray(v)) for key, v in limits.items()]
        self.node("Clip", f"{name}_relu6", [source, *self._clip], output)

    def constant(self, name: str, value: Any) -> str:
        self._constants.append((name, value))
        return name

    def node(self, op: str, name: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self._nodes.append(self._helper.make_node(op, inputs, [output], name=name, **attributes))


def _is_padded(layer: Layer) -> bool:
    """Whether a convolution's result has the size that padding by kernel // 2 gives it."""
    kernel, stride = layer.kernel[0], layer.stride[0]
    return (layer.in_size[0] + 2 * (kernel // 2) - kernel) // stride + 1 == layer.out_size[0]

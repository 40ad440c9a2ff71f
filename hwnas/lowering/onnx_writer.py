"""The graph as an ONNX model, without torch. What is profiled is what is shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..architecture.graph import INPUT, Graph, Layer
from .onnx_operators import RANKS, write
from .weights import NORM_EPSILON, Weights, folded, names, output_name, owners

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
    input_name: str = IMAGES,
) -> onnx.ModelProto:
    """Return an ONNX model: input `images` [batch, 3, height, width], outputs `C2` to `C5`.

    A detector's outputs have the names that `output_name` gives; layers that share weights share
    an initializer.

    Args:
        graph: what `lower` returns.
        weights: what `he_normal` returns, or a torch state dict as arrays.
        fold_norm: fold each normalisation into its convolution, as runtimes do; otherwise write
            it as a node of its own.
        metadata: further properties of the model.
        input_name: what the input is called.
    """
    writer = _Writer(weights, fold_norm, graph.batch, input_name)
    tensors = {INPUT: input_name}
    outputs: list[tuple[str, Layer]] = []
    handed_out = {
        layer.inputs[0]: output_name(layer) for layer in graph.layers if layer.op == "output"
    }
    labels = names(graph)
    writer.owners = dict(zip(labels, owners(graph), strict=True))
    for i, (name, layer) in enumerate(zip(labels, graph.layers, strict=True)):
        if layer.op == "output":
            outputs.append((output_name(layer), layer))
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
    def __init__(self, weights: Weights, fold_norm: bool, batch: int, input_name: str) -> None:
        from onnx import helper

        self._helper = helper
        self.weights = weights
        self.batch = batch
        self.owners: dict[str, str] = {}
        self.input = input_name
        self.ranks = {input_name: 4}
        self._fold_norm = fold_norm
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
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
        padding = [layer.dilation * (k // 2) for k in layer.kernel] * 2
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
            [tensor(self.input, graph.channels, graph.size)],
            [tensor(name, layer.out_channels, layer.out_size) for name, layer in outputs],
        )
        model = helper.make_model(
            body,
            producer_name="hwnas",
            producer_version=__version__,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        for name, value in self._constants.items():
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
        if layer.dilation > 1:
            attributes["dilations"] = [layer.dilation] * 2
        owner = self.owners[name]
        if not layer.norm:
            inputs = [source, *self.weighted(owner, "conv", layer.bias)]
            self.node("Conv", name, inputs, output, **attributes)
            return
        if self._fold_norm:
            inputs = [source, f"{owner}.weight", f"{owner}.bias"]
            if inputs[1] not in self._constants:
                for key, value in zip(inputs[1:], folded(self.weights, owner), strict=True):
                    self.constant(key, value)
            self.node("Conv", name, inputs, output, **attributes)
            return
        inputs = [source, *self.weighted(owner, "conv", bias=False)]
        self.node("Conv", name, inputs, f"{name}_conv", **attributes)
        norm = [
            self.constant(f"{owner}.norm.{key}", self.weights[f"{owner}.norm.{key}"])
            for key in ("weight", "bias", "running_mean", "running_var")
        ]
        inputs = [f"{name}_conv", *norm]
        self.node("BatchNormalization", f"{name}_norm", inputs, output, epsilon=NORM_EPSILON)

    def weighted(self, owner: str, kind: str, bias: bool) -> list[str]:
        """Return the constants of a layer's weight, and of its bias where it has one."""
        return [
            self.constant(f"{owner}.{key}", self.weights[f"{owner}.{kind}.{key}"])
            for key in ("weight", "bias")[: 1 + bias]
        ]

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
        self._constants[name] = value  # layers that share weights name the same
        return name

    def node(self, op: str, name: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes(op, name, inputs, [output], **attributes)

    def nodes(
        self, op: str, name: str, inputs: list[str], outputs: list[str], **attributes: Any
    ) -> None:
        self._nodes.append(self._helper.make_node(op, inputs, outputs, name=name, **attributes))


def _is_padded(layer: Layer) -> bool:
    """Whether a convolution's result has the size that padding by kernel // 2 gives it."""
    kernel, stride = layer.kernel[0], layer.stride[0]
    reach = layer.dilation * (kernel - 1) + 1
    padding = layer.dilation * (kernel // 2)
    return (layer.in_size[0] + 2 * padding - reach) // stride + 1 == layer.out_size[0]

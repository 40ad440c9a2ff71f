"""From an engine's layers to kernels: which nodes of the model each of them executes.

An engine names its layers after the ONNX nodes that it fused: "conv1 + relu1",
"PWN(PWN(sigmoid), mul)", "conv1 || conv4" for two convolutions of one input in one kernel, and
"Reformatting CopyNode for Input Tensor 0 to conv1" for a change of layout or type that it needed.
Built with detailed verbosity, its inspector tells the nodes as metadata as well.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..measurement import KernelTiming

if TYPE_CHECKING:
    import onnx

FUSED_BEHIND_CONV = frozenset(
    ("Add", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Selu", "Softplus", "Softsign")
)
"""Operators that TensorRT's documentation says are fused into the convolution before them. Where
a tactic has no such form they run apart, and their time is that convolution's."""

MAIN = ("Conv", "ConvTranspose", "Gemm", "MatMul")
NO_WORK = ("QuantizeLinear", "DequantizeLinear", "Cast", "Constant", "Identity")
MOST_CONSTANT = 64
"""Values of an initializer that may say a shape; more are a weight."""

REFORMAT = re.compile(r"^Reformatting CopyNode for (?:Input|Output) Tensor \d+ (?:to|of) (.*)$")
METADATA = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
SEPARATORS = re.compile(r" \+ | \|\| |PWN\(|\)|\(|, |\{ForeignNode\[|\.\.\.|\]\}")


@dataclass(frozen=True)
class LayerTime:
    """One layer of an engine, with what it took in each run."""

    name: str
    samples_s: tuple[float, ...]


def metadata(information: str) -> dict[str, str]:
    """Return the metadata of an engine's layers by name, from its inspector's JSON.

    Engines that were built without detailed verbosity tell only names; then it is empty.
    """
    try:
        layers = json.loads(information).get("Layers", [])
    except (ValueError, AttributeError):
        return {}
    return {
        layer["Name"]: str(layer.get("Metadata", ""))
        for layer in layers
        if isinstance(layer, dict) and "Name" in layer
    }


def to_kernels(
    layers: Sequence[LayerTime], about: Mapping[str, str], model: onnx.ModelProto
) -> list[KernelTiming]:
    """Return the kernels that an engine's layers amount to, in the order of execution.

    Each convolution, matrix product, pool or other operator is one kernel. A change of layout
    counts to the layer that needed it; an addition or activation that runs apart though
    convolutions take them in, to the convolution; what two convolutions in one kernel took is
    divided in proportion to their multiply-adds.

    Args:
        layers: with what they took.
        about: metadata of layers by name, where they are known.
        model: what the engine was built from.
    """
    return _Reader(about, model).read(layers)


class _Reader:
    def __init__(self, about: Mapping[str, str], model: onnx.ModelProto) -> None:
        self._about = about
        self._nodes = {node.name: node for node in model.graph.node if node.name}
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._shapes = _shapes(model)
        self._samples: dict[str, tuple[float, ...]] = {}

    def read(self, layers: Sequence[LayerTime]) -> list[KernelTiming]:
        owners = {layer.name: self._owners(layer.name) for layer in layers}
        waiting: list[LayerTime] = []  # what counts to the next kernel
        last: str | None = None
        for layer in layers:
            target = REFORMAT.match(layer.name)
            found = owners[layer.name]
            if target is not None:
                found = owners.get(target[1], self._owners(target[1]))
            if not found:
                if last is None:
                    waiting.append(layer)
                else:
                    self._count(last, layer.samples_s)
                continue
            self._share(found, layer.samples_s)
            last = found[-1]
            for early in waiting:
                self._count(last, early.samples_s)
            waiting = []
        return [self._timing(name, samples) for name, samples in self._samples.items()]

    def _owners(self, layer: str) -> list[str]:
        """Return the nodes whose kernels a layer's time belongs to."""
        told = METADATA.findall(self._about.get(layer, "")) or SEPARATORS.split(layer)
        nodes = [self._nodes[name] for name in dict.fromkeys(told) if name in self._nodes]
        working = [node for node in nodes if node.op_type not in NO_WORK]
        main = [node.name for node in working if node.op_type in MAIN]
        if main or not working:
            return main
        first = working[0]
        if all(node.op_type in FUSED_BEHIND_CONV for node in working):
            convolution = self._convolution_before(first)
            if convolution is not None:
                return [convolution]
        return [first.name]

    def _convolution_before(self, node: Any) -> str | None:
        """Return the latest convolution that a chain of fusable operators starts from."""
        order = list(self._nodes)
        found: list[str] = []
        for name in node.input:
            producer = self._producers.get(name)
            while producer is not None and producer.op_type in NO_WORK:
                producer = self._producers.get(producer.input[0])
            if producer is None:
                continue
            if producer.op_type == "Conv":
                found.append(producer.name)
            elif producer.op_type in FUSED_BEHIND_CONV and producer.op_type != "Add":
                before = self._convolution_before(producer)
                found += [before] if before is not None else []
        return max(found, key=order.index) if found else None

    def _share(self, names: list[str], samples: tuple[float, ...]) -> None:
        sizes = [self._multiply_adds(name) for name in names]
        for name, size in zip(names, sizes, strict=True):
            self._count(name, tuple(sample * size / sum(sizes) for sample in samples))

    def _count(self, name: str, samples: tuple[float, ...]) -> None:
        before = self._samples.get(name, (0.0,) * len(samples))
        self._samples[name] = tuple(a + b for a, b in zip(before, samples, strict=True))

    def _multiply_adds(self, name: str) -> int:
        node = self._nodes[name]
        out = math.prod(self._shapes.get(node.output[0], (1,)))
        if len(node.input) < 2:
            return max(1, out)
        weight = self._shapes.get(self._plain(node.input[1]), (1,))
        per_value = math.prod(weight[1:]) if node.op_type == "Conv" else weight[0]
        return max(1, out * per_value)

    def _plain(self, name: str) -> str:
        """Return the tensor behind the QDQ pair or cast of a weight."""
        producer = self._producers.get(name)
        while producer is not None and producer.op_type in NO_WORK and producer.input:
            name = producer.input[0]
            producer = self._producers.get(name)
        return name

    def _timing(self, name: str, samples: tuple[float, ...]) -> KernelTiming:
        node = self._nodes[name]
        return KernelTiming(
            name,
            node.op_type,
            self._shapes.get(node.output[0], ()),
            samples,
            tuple(self._shapes.get(source, ()) for source in node.input),
        )


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors that have one."""
    import onnx

    # Without the weights, which inference would copy several times; shapes may depend on constants.
    bare = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    for part in ("node", "input", "output"):
        getattr(bare.graph, part).extend(getattr(model.graph, part))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= MOST_CONSTANT:
            bare.graph.initializer.append(tensor)
            continue
        value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        bare.graph.input.append(value)
    inferred = onnx.shape_inference.infer_shapes(bare).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for tensor in (*inferred.input, *inferred.output, *inferred.value_info):
        dims = tensor.type.tensor_type.shape.dim
        shapes[tensor.name] = tuple(dim.dim_value for dim in dims)
    return shapes

"""Any ONNX model as a graph of layers, for prediction. Only shapes are read, no weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..architecture.graph import INPUT, Graph, Layer, Size
from ..errors import UsageError

if TYPE_CHECKING:
    import onnx

ACTIVATIONS = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh"}
"""Operators that runtimes run inside the convolution before them."""

FREE = {"Identity", "Dropout", "Constant", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape"}
"""Operators that move no data at inference."""

POOLS = {
    "AveragePool": "avg_pool",
    "GlobalAveragePool": "avg_pool",
    "MaxPool": "max_pool",
    "GlobalMaxPool": "max_pool",
}


def read(path: Path, resolution: Size | None = None, batch: int | None = None) -> Graph:
    """Return the graph of an ONNX file, normalisations folded and activations merged.

    An operator that is neither convolution, pool nor addition becomes a layer of its own name.

    Args:
        path: the file.
        resolution: height and width where the file leaves them open.
        batch: images at a time where the file leaves them open.

    Raises:
        UsageError: the file is not an ONNX model, or leaves a size open that was not given.
    """
    return of_model(_load(path), str(path), resolution, batch)


def of_model(
    model: onnx.ModelProto, source: str, resolution: Size | None = None, batch: int | None = None
) -> Graph:
    """Return the graph of a model; see `read`."""
    import onnx

    shape = _input_shape(model, source, resolution, batch)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # onnx raises bare RuntimeErrors, too
        raise UsageError(f"{source}: shapes cannot be inferred ({_line(error)}).") from None
    return _Reader(inferred, source, shape).graph()


class _Reader:
    def __init__(self, model: onnx.ModelProto, source: str, shape: list[int]) -> None:
        self._model = model
        self._source = source
        self._shape = shape
        self._sizes = _shapes(model)
        self._weights = {tensor.name for tensor in model.graph.initializer}
        self._layers: list[Layer] = []
        # Which layer computes a tensor; INPUT for the images.
        self._producer: dict[str, int] = {}

    def graph(self) -> Graph:
        """Return the graph of layers."""
        for tensor in self._model.graph.input:
            self._producer[tensor.name] = INPUT
        uses: dict[str, int] = {}
        for node in self._model.graph.node:
            for name in node.input:
                uses[name] = uses.get(name, 0) + 1
        for node in self._model.graph.node:
            self._node(node, uses)
        for number, tensor in enumerate(self._model.graph.output, 1):
            i = self._producer.get(tensor.name, INPUT)
            if i >= 0:
                before = self._layers[i]
                stage = int(tensor.name[1]) if tensor.name in ("C2", "C3", "C4", "C5") else number
                channels, size = before.out_channels, before.out_size
                output = Layer("output", (i,), channels, channels, size, size, stage=stage)
                self._layers.append(output)
        batch, depth, height, width = self._shape
        return Graph(tuple(self._layers), depth, (height, width), batch)

    def _node(self, node: Any, uses: dict[str, int]) -> None:
        sources = [name for name in node.input if name and name in self._producer]
        before = self._producer[sources[0]] if sources else INPUT
        output = node.output[0]
        if node.op_type in FREE or not sources:
            if sources:
                self._producer[output] = before
            return
        merges = before >= 0 and uses.get(sources[0], 0) == 1
        if node.op_type == "BatchNormalization" and merges:
            self._producer[output] = before
        elif node.op_type in ACTIVATIONS and merges and self._layers[before].activation is None:
            self._layers[before] = self._layers[before]._replace(activation=node.op_type.lower())
            self._producer[output] = before
        else:
            self._layers.append(self._layer(node, sources))
            self._producer[output] = len(self._layers) - 1
            for extra in node.output[1:]:
                self._producer[extra] = len(self._layers) - 1

    def _layer(self, node: Any, sources: list[str]) -> Layer:
        into = self._size(sources[0])
        out = self._size(node.output[0])
        inputs = tuple(self._producer[name] for name in sources)
        attributes = {a.name: a for a in node.attribute}

        def integers(name: str, default: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(attributes[name].ints) if name in attributes else default

        layer = Layer(node.op_type, inputs, into[0], out[0], into[1], out[1])
        if node.op_type == "Conv":
            kernel = integers("kernel_shape", self._raw(node.input[1])[2:])
            return layer._replace(
                op="conv",
                kernel=(kernel[0], kernel[-1]),
                stride=_pair(integers("strides", (1, 1))),
                groups=attributes["group"].i if "group" in attributes else 1,
                main=True,
            )
        if node.op_type in ("Gemm", "MatMul") and len(sources) == 1:
            # A matrix product is a 1x1 convolution over the positions that are left.
            shape = self._raw(node.output[0])
            inner = self._raw(sources[0])[-1]
            positions = max(1, math.prod(shape[:-1]) // self._shape[0])
            return layer._replace(
                op="conv",
                in_channels=inner,
                out_channels=shape[-1],
                in_size=(positions, 1),
                out_size=(positions, 1),
            )
        if node.op_type in POOLS:
            kernel = integers("kernel_shape", into[1])
            stride = integers("strides", (1, 1))
            return layer._replace(
                op=POOLS[node.op_type], kernel=(kernel[0], kernel[-1]), stride=_pair(stride)
            )
        if node.op_type == "Add" and len(sources) == 2 and into == self._size(sources[1]):
            # The first operand is the one that may absorb the addition: a bare convolution.
            bare = [i >= 0 and self._layers[i].op == "conv" for i in inputs]
            bare = [
                ok and not self._layers[i].activation for ok, i in zip(bare, inputs, strict=True)
            ]
            ordered = inputs if bare[0] or not bare[1] else inputs[::-1]
            return layer._replace(op="add", inputs=ordered)
        return layer

    def _raw(self, name: str) -> tuple[int, ...]:
        shape = self._sizes.get(name)
        if shape is None or not all(size > 0 for size in shape):
            raise UsageError(
                f"{self._source}: the shape of '{name}' is not known; export the model with fixed "
                "sizes, or give --resolution and --batch."
            )
        return shape

    def _size(self, name: str) -> tuple[int, Size]:
        """Return channels, height and width of a feature map, whatever its rank."""
        shape = self._raw(name)
        if len(shape) == 4:
            return shape[1], (shape[2], shape[3])
        if len(shape) < 2:
            return 1, (1, 1)
        return shape[-1], (max(1, math.prod(shape[1:-1])), 1)


def _load(path: Path) -> onnx.ModelProto:
    import onnx

    try:
        # Weights in other files are not needed, so none is opened.
        model = onnx.load(str(path), load_external_data=False)
        onnx.checker.check_model(model) if not _external(model) else None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}.") from None
    except Exception as error:  # protobuf and onnx share no public base class
        raise UsageError(f"{path} is not an ONNX model ({_line(error)}).") from None
    return model


def _external(model: onnx.ModelProto) -> bool:
    return any(tensor.data_location == 1 for tensor in model.graph.initializer)


def _input_shape(
    model: onnx.ModelProto, source: str, resolution: Size | None, batch: int | None
) -> list[int]:
    """Return [batch, channels, height, width], filled in where the model leaves them open."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [tensor for tensor in model.graph.input if tensor.name not in weights]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise UsageError(
            f"{source}: expected one input of images [batch, channels, height, width]."
        )
    dims = inputs[0].type.tensor_type.shape.dim
    given = [batch, None, *(resolution or (None, None))]
    names = ("--batch", "channels", "--resolution", "--resolution")
    for dim, value, name in zip(dims, given, names, strict=True):
        if dim.dim_value > 0:
            if value is not None and value != dim.dim_value:
                raise UsageError(
                    f"{source} was exported for {name} {dim.dim_value}; {value} was asked for."
                )
        elif value is None:
            raise UsageError(f"{source} leaves '{dim.dim_param or name}' open: give {name}.")
        else:
            dim.dim_value = value
    return [dim.dim_value for dim in dims]


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    graph = model.graph
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    return shapes | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def _pair(values: tuple[int, ...]) -> Size:
    return values[0], values[-1]


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]

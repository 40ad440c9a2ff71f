"""Any ONNX model as a graph of layers, for prediction. Only shapes are read, no weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..architecture.graph import INPUT, Graph, Layer, Size
from ..errors import UsageError
from .onnx_shapes import Shapes, fix_inputs, infer, load
from .operators import BINARY, CONSTANT, FREE, MOVING, NORMALISING, POOLS, REDUCING, UNARY

if TYPE_CHECKING:
    import onnx


def read(
    path: Path,
    resolution: Size | None = None,
    batch: int | None = None,
    dims: dict[str, int] | None = None,
) -> Graph:
    """Return the graph of an ONNX file.

    An operator that hwnas does not know becomes a layer of the name that ONNX gives it.

    Args:
        path: the file.
        resolution: height and width of images where the file leaves them open.
        batch: images at a time where the file leaves them open.
        dims: further open dimensions, by name.

    Raises:
        UsageError: the file is not an ONNX model, or leaves a size open that was not given.
    """
    return of_model(load(path), str(path), resolution, batch, dims)


def of_model(
    model: onnx.ModelProto,
    source: str,
    resolution: Size | None = None,
    batch: int | None = None,
    dims: dict[str, int] | None = None,
) -> Graph:
    """Return the graph of a model; see `read`."""
    fix_inputs(model, source, resolution, batch, dims or {})
    return _Reader(model, source, infer(model, source)).graph()


class _Reader:
    def __init__(self, model: onnx.ModelProto, source: str, shapes: Shapes) -> None:
        self._graph = model.graph
        self._source = source
        self._shapes = shapes
        constant = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [t.name for t in model.graph.input if t.name not in constant]
        self._batch = shapes.of(self._inputs[0])[0] if shapes.of(self._inputs[0]) else 1
        self._layers: list[Layer] = []
        self._labels: list[str] = []
        # Which layer computes a tensor; INPUT for what comes in.
        self._producer: dict[str, int] = dict.fromkeys(self._inputs, INPUT)
        self._handlers: dict[str, Callable[[Any, Layer, list[str]], Layer]] = {
            "Conv": self._convolution,
            "ConvTranspose": self._convolution,
            "Gemm": self._product,
            "MatMul": self._product,
            "Transpose": self._transpose,
            "Concat": self._concat,
            "Resize": self._resize,
            "Upsample": self._resize,
            **dict.fromkeys(POOLS, self._pool),
            **dict.fromkeys(REDUCING, self._reduction),
            **dict.fromkeys(NORMALISING, self._rows),
            **dict.fromkeys(BINARY, self._binary),
            "Mod": self._binary,
            "BatchNormalization": self._named("batch_norm"),
            **{name: self._named(op) for name, op in UNARY.items()},
            **{n: self._named(op) for n, op in MOVING.items() if n != "Concat"},
        }

    def graph(self) -> Graph:
        """Return the graph of layers."""
        for node in self._graph.node:
            self._node(node)
            missing = len(self._layers) - len(self._labels)
            self._labels += [node.name or node.output[0]] * missing
        for number, tensor in enumerate(self._graph.output, 1):
            i = self._producer.get(tensor.name, INPUT)
            if i >= 0:
                before = self._layers[i]
                stage = int(tensor.name[1]) if tensor.name in ("C2", "C3", "C4", "C5") else number
                channels, size = before.out_channels, before.out_size
                output = Layer("output", (i,), channels, channels, size, size, stage=stage)
                self._layers.append(output)
                self._labels.append(tensor.name)
        if not self._layers:
            raise UsageError(f"{self._source} computes nothing from its inputs.")
        channels, size = self._size(self._inputs[0])
        labels = tuple(self._labels)
        return Graph(tuple(self._layers), channels, size, self._batch, labels=labels)

    def _node(self, node: Any) -> None:
        sources = [name for name in node.input if name in self._producer]
        if node.op_type in CONSTANT or not sources:
            return  # known before the network runs, and so is what follows from it
        output = node.output[0]
        if node.op_type in FREE:
            before = self._producer[sources[0]]
            same = self._size(sources[0]) == self._size(output)
            if node.op_type in ("Identity", "Dropout") or (same and self._is_map(output)):
                self._producer[output] = before
                return
            self._producer[output] = self._append(self._plain("view", sources[:1], output))
            return
        layer = self._plain(node.op_type, sources, output)
        handler = self._handlers.get(node.op_type)
        known = node.domain in ("", "ai.onnx", "com.microsoft")
        if handler is not None and known:
            layer = handler(node, layer, sources)
        outputs = [name for name in node.output if name]
        if node.op_type == "Split":
            layer = layer._replace(out_channels=layer.in_channels, out_size=layer.in_size)
        self._producer[output] = whole = self._append(layer)
        if node.op_type == "Split":
            for name in outputs:
                part = self._plain("part", sources[:1], name)._replace(inputs=(whole,))
                self._producer[name] = self._append(part)
        else:
            self._producer |= dict.fromkeys(outputs, whole)

    def _append(self, layer: Layer) -> int:
        self._layers.append(layer)
        return len(self._layers) - 1

    def _plain(self, op: str, sources: list[str], output: str) -> Layer:
        """Return a layer with the sizes of its first operand and its result."""
        inputs = tuple(self._producer[name] for name in sources)
        (into, in_size), (out, out_size) = self._size(sources[0]), self._size(output)
        return Layer(op, inputs, into, out, in_size, out_size)

    # Handlers of operators: what a plain layer becomes.

    def _named(self, op: str) -> Callable[[Any, Layer, list[str]], Layer]:
        return lambda node, layer, sources: layer._replace(op=op)

    def _convolution(self, node: Any, layer: Layer, sources: list[str]) -> Layer:
        if len(sources) > 1 or len(self._shapes.of(sources[0])) not in (3, 4):
            return layer  # weights that are computed, or volumes
        kernel = _ints(node, "kernel_shape") or self._shapes.of(node.input[1])[2:]
        return layer._replace(
            op="conv" if node.op_type == "Conv" else "conv_transpose",
            kernel=_pair(kernel),
            stride=_pair(_ints(node, "strides") or (1,)),
            groups=_int(node, "group", 1),
            main=node.op_type == "Conv",
        )

    def _product(self, node: Any, layer: Layer, sources: list[str]) -> Layer:
        out = self._shapes.of(node.output[0])
        inner = self._shapes.of(node.input[0])[-1]
        columns = out[-1] if len(out) > 1 else 1
        rows = out[-2] if len(out) > 1 else 1
        if len(sources) == 1:
            rows = max(1, math.prod(out) // columns // self._batch)
            return layer._replace(
                op="gemm" if node.op_type == "Gemm" else "matmul",
                in_channels=inner,
                out_channels=columns,
                in_size=(rows, 1),
                out_size=(rows, 1),
            )
        many = max(1, math.prod(out[:-2]) // self._batch)
        return layer._replace(
            op="matmul",
            in_channels=many * inner,
            out_channels=many * columns,
            in_size=(rows, 1),
            out_size=(rows, 1),
            groups=many,
        )

    def _transpose(self, node: Any, layer: Layer, sources: list[str]) -> Layer:
        shape = self._shapes.of(sources[0])
        order = _ints(node, "perm") or tuple(range(len(shape)))[::-1]
        moving = [axis for axis in order if shape[axis] > 1]
        if moving == sorted(moving):
            return layer._replace(op="view")
        if order == (0, 2, 3, 1):
            op = "channels_last"
        elif order == (*range(len(order) - 2), len(order) - 1, len(order) - 2):
            op = "matrix_transpose"
        else:
            op = "transpose"
        run, axis = 1, len(order) - 1
        while axis >= 0 and order[axis] == axis:
            run *= shape[axis]
            axis -= 1
        blocks = max(1, math.prod(shape) // run // self._batch)
        return layer._replace(op=op, in_channels=blocks, in_size=(run, 1))

    def _concat(self, node: Any, layer: Layer, sources: list[str]) -> Layer:
        axis, rank = _int(node, "axis", 0), len(self._shapes.of(node.output[0]))
        channels = rank == 4 and axis % rank == 1
        return layer._replace(
            op="concat" if channels else "join",
            in_channels=layer.out_channels,
            in_size=layer.out_size,
        )

    def _resize(self, node: Any, layer: Layer, sources: list[str]) -> Layer:
        """An enlargement by whole factors is `upsample`, any other `resize`."""
        mode = _text(node, "mode", "nearest")
        place = _text(node, "coordinate_transformation_mode", "half_pixel")
        whole = all(b % a == 0 for a, b in zip(layer.in_size, layer.out_size, strict=True))
        if mode == "nearest":
            floor = _text(node, "nearest_mode", "round_prefer_floor") == "floor"
            simple = (place == "asymmetric" and floor) or node.op_type == "Upsample"
        else:
            simple = mode == "linear" and place in ("half_pixel", "asymmetric", "align_corners")
        return layer._replace(op="upsample" if whole and simple else "resize")

    def _pool(self, node: Any, layer: Layer, sources: list[str]) -> Layer:
        return layer._replace(
            op=POOLS[node.op_type],
            kernel=_pair(_ints(node, "kernel_shape")),
            stride=_pair(_ints(node, "strides") or (1,)),
        )

    def _reduction(self, node: Any, layer: Layer, sources: list[str]) -> Layer:
        into = math.prod(self._shapes.of(sources[0]))
        out = max(1, math.prod(self._shapes.of(node.output[0])))
        kernel = layer.in_size if layer.out_size == (1, 1) else (max(1, into // out), 1)
        return layer._replace(op=REDUCING[node.op_type], kernel=kernel)

    def _rows(self, node: Any, layer: Layer, sources: list[str]) -> Layer:
        shape = self._shapes.of(sources[0])
        op = NORMALISING[node.op_type]
        if op not in ("softmax", "layer_norm"):
            return layer._replace(op=op)
        size = (max(1, math.prod(shape) // shape[-1] // self._batch), 1)
        return layer._replace(op=op, in_channels=shape[-1], in_size=size)

    def _binary(self, node: Any, layer: Layer, sources: list[str]) -> Layer:
        """With a constant of one value, or one a channel, it is a `scale` or a `shift`."""
        op = BINARY.get(node.op_type, "mul")
        layer = layer._replace(op=op, in_channels=layer.out_channels, in_size=layer.out_size)
        if len(sources) > 1:
            return layer
        (constant,) = [name for name in node.input if name and name not in self._producer][:1] or [
            ""
        ]
        values = math.prod(self._shapes.of(constant)) if constant else 1
        if values > max(1, int(layer.out_channels)):
            return layer
        renamed = {"mul": "scale", "div": "scale", "add": "shift", "sub": "shift"}
        return layer._replace(op=renamed.get(op, op))

    # Sizes.

    def _is_map(self, name: str) -> bool:
        return len(self._shapes.of(name)) == 4

    def _size(self, name: str) -> tuple[int, Size]:
        """Return channels, height and width of a feature map, whatever its rank."""
        shape = self._shapes.of(name)
        if len(shape) == 4 and shape[0] == self._batch:
            return shape[1], (shape[2], shape[3])
        if not shape:
            return 1, (1, 1)
        if len(shape) == 1:
            return shape[0], (1, 1)
        return shape[-1], (max(1, math.prod(shape[:-1]) // self._batch), 1)


def _attribute(node: Any, name: str) -> Any:
    return next((a for a in node.attribute if a.name == name), None)


def _ints(node: Any, name: str) -> tuple[int, ...]:
    found = _attribute(node, name)
    return tuple(found.ints) if found is not None else ()


def _int(node: Any, name: str, default: int) -> int:
    found = _attribute(node, name)
    return int(found.i) if found is not None else default


def _text(node: Any, name: str, default: str) -> str:
    found = _attribute(node, name)
    return found.s.decode() if found is not None else default


def _pair(values: tuple[int, ...]) -> Size:
    return values[0], values[-1]

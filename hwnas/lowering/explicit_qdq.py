"""A float model as INT8 with explicit QDQ pairs, placed as TensorRT fuses best.

Symmetric int8 throughout, as TensorRT demands: one scale per feature map, one per output channel
of a weight; biases stay float. Pairs stand before what shall run in INT8: at the feature map and
the weight of each convolution, before pools, and at that operand of an addition which another
kernel computes; none between a convolution and what is fused into it (NVIDIA's "Working with
Quantized Types"). `quantize` is the counterpart for onnxruntime, which wants other places.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError

if TYPE_CHECKING:
    import onnx

Ranges = dict[str, float]
"""The largest absolute value of each feature map, by name."""

HIGHEST = 127
"""Symmetric int8 leaves -128 out."""

POOLS = ("AveragePool", "MaxPool", "GlobalAveragePool")


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether a model states its own INT8."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def to_qdq(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """Return a model in which convolutions, their additions and pools run in INT8.

    Args:
        model: a float model; it is not changed.
        ranges: of `quantized_inputs(model)` at least.
    """
    return _Writer(model, ranges).write()


def quantized_inputs(model: onnx.ModelProto) -> list[str]:
    """Return the names of the feature maps that `to_qdq` quantises."""
    named: dict[str, None] = {}
    for node in model.graph.node:
        for place in _places(node, model):
            named[node.input[place]] = None
    return list(named)


def made_up_ranges(model: onnx.ModelProto) -> Ranges:
    """Return ranges that no image had a part in: for timing, not for use.

    They differ: equal scales would let the runtime leave out what a real model has.
    """
    rng = np.random.default_rng(0)
    return {name: float(rng.uniform(1.0, 4.0)) for name in quantized_inputs(model)}


def calibrated_ranges(
    model: onnx.ModelProto, images: Iterable[NDArray[np.float32]]
) -> tuple[Ranges, int]:
    """Return the ranges that images show, and how many there were.

    Args:
        model: a float model.
        images: each [batch, 3, height, width] float32, prepared as the model was trained.

    Raises:
        UsageError: there are no images.
    """
    import onnx
    import onnxruntime as ort

    names = quantized_inputs(model)
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    inputs = [tensor.name for tensor in model.graph.input]
    have = {*inputs, *(tensor.name for tensor in model.graph.output)}
    for name in names:
        if name not in have:
            shown.graph.output.add().name = name
    session = ort.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    outputs = [name for name in names if name != source.name]
    ranges = dict.fromkeys(names, 0.0)
    count = 0
    for image in images:
        shown_values = [image, *session.run(outputs, {source.name: image})]
        for name, value in zip([source.name, *outputs], shown_values, strict=True):
            if name in ranges:
                ranges[name] = max(ranges[name], float(np.abs(value).max()))
        count += 1
    if count == 0:
        raise UsageError("there are no calibration images.")
    return ranges, count


def _places(node: Any, model: onnx.ModelProto) -> list[int]:
    """Return which inputs of a node are quantised feature maps."""
    constants = {tensor.name for tensor in model.graph.initializer}
    if node.op_type == "Conv" and node.input[1] in constants:
        return [0]
    if node.op_type in POOLS:
        return [0]
    if node.op_type == "Add":
        fused = _fused_operand(node, model)
        return [] if fused is None else [1 - fused]
    return []


def _fused_operand(node: Any, model: onnx.ModelProto) -> int | None:
    """Return which operand's convolution the addition is fused into; None where none is.

    Of two convolutions it is the later one: by then the other operand is there.
    """
    order = {name: (i, n) for i, n in enumerate(model.graph.node) for name in n.output}
    handed_out = {tensor.name for tensor in model.graph.output}
    candidates = []
    for place, name in enumerate(node.input):
        position, producer = order.get(name, (-1, None))
        readers = sum(list(n.input).count(name) for n in model.graph.node)
        alone = readers == 1 and name not in handed_out
        if producer is not None and producer.op_type == "Conv" and alone:
            candidates.append((position, place))
    return max(candidates)[1] if candidates else None


def _copied(node: Any) -> Any:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy


class _Writer:
    def __init__(self, model: onnx.ModelProto, ranges: Ranges) -> None:
        import onnx

        self._onnx = onnx
        self._source = model
        self._ranges = ranges
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        self._nodes: list[Any] = []
        self._done: dict[str, str] = {}

    def write(self) -> onnx.ModelProto:
        graph = self._model.graph
        for node in list(graph.node):
            for place in _places(node, self._source):
                name = node.input[place]
                # A scale of zero divides by zero; a map that is always zero takes any.
                highest = np.float32(self._ranges[name] or 1.0)
                node.input[place] = self._pair(name, highest / np.float32(HIGHEST))
            if node.op_type == "Conv" and node.input[1] in self._weights:
                weight = self._weights[node.input[1]]
                channels = np.abs(weight).reshape(weight.shape[0], -1).max(axis=1)
                scales = np.where(channels > 0, channels, 1).astype(np.float32) / HIGHEST
                node.input[1] = self._pair(node.input[1], scales.astype(np.float32))
            self._nodes.append(node)
        # Copied before the place is emptied: the list holds the graph's own nodes.
        ordered = [_copied(node) for node in self._nodes]
        del graph.node[:]
        graph.node.extend(ordered)
        return self._model

    def _pair(self, name: str, scale: Any) -> str:
        """Add a pair behind a tensor, once, and return the name of what comes out of it."""
        if name in self._done:
            return self._done[name]
        helper = self._onnx.helper
        scale = np.asarray(scale, dtype=np.float32)
        zero = np.zeros(scale.shape, dtype=np.int8)
        for suffix, value in (("scale", scale), ("zero", zero)):
            tensor = self._onnx.numpy_helper.from_array(value, f"{name}_{suffix}")
            self._model.graph.initializer.append(tensor)
        extra = {"axis": 0} if scale.ndim else {}
        given = [f"{name}_scale", f"{name}_zero"]
        for op, source, target in (
            ("QuantizeLinear", name, f"{name}_quantized"),
            ("DequantizeLinear", f"{name}_quantized", f"{name}_dequantized"),
        ):
            inputs = [source, *given]
            self._nodes.append(helper.make_node(op, inputs, [target], name=target, **extra))
        self._done[name] = f"{name}_dequantized"
        return self._done[name]

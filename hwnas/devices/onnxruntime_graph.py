"""What onnxruntime makes of a model, wherever it runs: INT8, what it fuses, what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..architecture import lower, spaces
from ..lowering.kernels import Fusion
from ..lowering.onnx_writer import to_onnx
from ..lowering.weights import filler
from .measurement import KernelTiming

PRECISIONS = ("fp32", "int8")
"""What it runs on a processor."""

CHANNELS_LAST = "NhwcFusedConv"


def fusion(
    precision: str, optimization: str, profile: Callable[[bytes], list[KernelTiming]]
) -> Fusion:
    """Return what onnxruntime fuses on a processor, as the `profile` of a small network shows it.

    The blocked layout and the size of its blocks depend on the processor; INT8 and basic
    optimisations know no blocked layout.
    """
    if precision == "int8":
        return Fusion(add=False, output="dequantize", input="quantize", rules="onnxruntime-int8")
    if optimization == "basic":
        return Fusion(add=False, rules="onnxruntime-basic")
    space = spaces.load("resnet")
    architecture = space.decode(space.narrowest())
    narrow = replace(architecture, stem=replace(architecture.stem, channels=8))
    graph = lower(narrow, (32, 32))
    told = profile(to_onnx(graph, filler(graph)).SerializeToString())
    if not any(timing.op == "ReorderOutput" for timing in told):
        return Fusion(rules="onnxruntime")
    stem = told[0].out_shape[1]  # eight channels, padded to a block
    return Fusion(output="reorder_output", block=stem if stem > 1 else 0, rules="onnxruntime")


def timings(events: list[dict[str, Any]], skip: int) -> list[KernelTiming]:
    """Return the kernels of a profile in the order of execution, warm-up left out."""
    samples: dict[str, list[float]] = {}
    about: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            samples.setdefault(name, []).append(event["dur"] / 1e6)
            about.setdefault(name, event["args"])
    kernels = [
        KernelTiming(
            name.removesuffix("_nchwc"),
            about[name]["op_name"],
            (_shapes(about[name], "output_type_shape") or ((),))[0],
            tuple(durations[skip:]),
            _shapes(about[name], "input_type_shape"),
        )
        for name, durations in samples.items()
    ]
    return _joined(kernels)


def _joined(timings: list[KernelTiming]) -> list[KernelTiming]:
    """Return the kernels with the changes of layout at their sides as one.

    INT8 has them at each (de)quantisation; on arm64 with SME, a convolution that is neither 1x1
    nor grouped has channels last, mostly with a change of layout before and behind.
    """
    joined: list[KernelTiming] = []
    for timing in timings:
        named = _with_layout(joined[-1], timing) if joined else None
        if named is None:
            joined.append(timing)
        else:
            pairs = zip(joined[-1].samples_s, timing.samples_s, strict=True)
            joined[-1] = replace(named, samples_s=tuple(a + b for a, b in pairs))
    return joined


def _with_layout(before: KernelTiming, behind: KernelTiming) -> KernelTiming | None:
    """Return the kernel that two neighbours are together, where one changes the other's layout."""
    ops = (before.op, behind.op)
    if ops == ("QuantizeLinear", "Transpose"):
        return before
    if ops == ("Transpose", "DequantizeLinear"):
        return behind
    touch = before.out_shape in behind.in_shapes[:1]
    if touch and ops == ("Transpose", CHANNELS_LAST):
        return behind
    if touch and ops == (CHANNELS_LAST, "Transpose"):
        return replace(before, out_shape=behind.out_shape)
    return None


def quantized(model: bytes) -> bytes:
    """Return a model in INT8; one that is quantised already, or no model, as it is."""
    import onnx

    from ..lowering.quantize import quantize

    try:
        parsed = onnx.load_model_from_string(model)
    except Exception:  # of whichever protobuf onnx came with; the runtime says what is wrong
        return model
    if any(node.op_type in ("QuantizeLinear", "QLinearConv") for node in parsed.graph.node):
        return model
    converted: bytes = quantize(parsed).SerializeToString()
    return converted


def _shapes(args: dict[str, Any], which: str) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a node's operands or results."""
    return tuple(tuple(next(iter(typed.values()), ())) for typed in args.get(which) or ())

"""Any graph of common layers as a torch module with random weights, to be timed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..architecture.graph import INPUT, Graph, Layer, Size
from ..errors import HwnasError
from .operators import canonical

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "clip": functional.relu6,
    "leaky_relu": functional.leaky_relu,
    "hard_sigmoid": functional.hardsigmoid,
    "hard_swish": functional.hardswish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": functional.silu,
    "gelu": functional.gelu,
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"add": torch.add, "mul": torch.mul}


class GraphModule(nn.Module):
    """Runs a graph and returns what it hands out.

    Normalisations are folded into their convolutions, as in the ONNX file that others run.

    Raises:
        HwnasError: the graph has a layer that is not written here.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._layers = graph.layers
        for position, layer in enumerate(graph.layers):
            self.add_module(f"layer{position}", _module(layer))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the results that the graph hands out, for images [batch, 3, height, width]."""
        results: dict[int, Tensor] = {INPUT: images}
        handed_out = []
        for position, layer in enumerate(self._layers):
            inputs = [results[source] for source in layer.inputs]
            results[position] = self.get_submodule(f"layer{position}")(*inputs)
            if layer.op == "output":
                handed_out.append(results[position])
        return handed_out


class _Function(nn.Module):
    """A function without weights, and an activation behind it."""

    def __init__(self, function: Callable[..., Tensor], activation: str | None) -> None:
        super().__init__()
        self._function = function
        self._activation = ACTIVATIONS[canonical(activation)] if activation else None

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the activated result."""
        result = self._function(*inputs)
        return self._activation(result) if self._activation else result


def _module(layer: Layer) -> nn.Module:
    into, out, groups = int(layer.in_channels), int(layer.out_channels), int(layer.groups)
    if layer.op == "conv":
        conv = nn.Conv2d(into, out, layer.kernel, layer.stride, _padding(layer), groups=groups)
        return _Function(conv, layer.activation)
    if layer.op in ("gemm", "linear"):
        return _Function(nn.Sequential(nn.Flatten(), nn.Linear(into, out)), layer.activation)
    if layer.op == "avg_pool":
        # Windows that reach beyond the end are cut: padding would shift them.
        cut = tuple(-(-(i - k) // s) + 1 for i, k, s in zip(*_windows(layer), strict=True))
        pool = nn.AvgPool2d(
            layer.kernel,
            layer.stride,
            0 if cut == layer.out_size else _padding(layer),
            ceil_mode=cut == layer.out_size,
            count_include_pad=False,
        )
        return _Function(pool, layer.activation)
    if layer.op == "max_pool":
        return _Function(nn.MaxPool2d(layer.kernel, layer.stride, _padding(layer)), None)
    if layer.op == "concat":
        return _Function(lambda *maps: torch.cat(maps, 1), layer.activation)
    if layer.op in ("upsample", "resize"):
        size = layer.out_size
        return _Function(lambda x: functional.interpolate(x, size), layer.activation)
    if layer.op in ("global_avg_pool", "reduce") and layer.out_size == (1, 1):
        return _Function(lambda x: x.mean((2, 3), keepdim=True), layer.activation)
    if layer.op in ("output", "view"):
        return nn.Identity()
    if layer.op in BINARY and len(layer.inputs) == 2:
        return _Function(BINARY[layer.op], layer.activation)
    if layer.op in ACTIVATIONS:
        return _Function(ACTIVATIONS[layer.op], None)
    raise HwnasError(
        f"torch is given no '{layer.op}' here: this device runs networks of convolutions, pools, "
        "additions, products, concatenations and common activations."
    )


def _windows(layer: Layer) -> tuple[Size, Size, Size]:
    return layer.in_size, layer.kernel, layer.stride


def _padding(layer: Layer) -> tuple[int, int]:
    """Return the padding at both ends that leads to the layer's output size.

    Raises:
        HwnasError: none does, as that of one end differs from the other's.
    """
    found = []
    for size, kernel, stride, out in zip(*_windows(layer), layer.out_size, strict=True):
        padding = max(0, -((size - kernel - (out - 1) * stride) // 2))
        if (size + 2 * padding - kernel) // stride + 1 != out:
            raise HwnasError(
                f"torch is given no '{layer.op}' from {size} to {out} with a window of {kernel} "
                f"and stride {stride} here."
            )
        found.append(padding)
    return found[0], found[1]

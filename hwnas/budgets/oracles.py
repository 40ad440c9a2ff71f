"""Oracles: what answers a budget's question. These read the graph; latency is injected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..architecture.graph import Graph, Layer, Size
from ..costs import macs, params, peak_memory_bytes


class Oracle(Protocol):
    """Answers what a network costs.

    `resolution` and `batch` say for which graph the oracle is meant. An `additive` oracle's cost
    is `constant` plus the sum of `parts`, whatever the graph is cut into; on a graph whose
    channels are arrays each part is an array over the same axes.
    """

    @property
    def resolution(self) -> Size:
        """Height and width of the input."""

    @property
    def batch(self) -> int:
        """Images at a time."""

    @property
    def additive(self) -> bool:
        """Whether the cost is a sum over parts."""

    @property
    def constant(self) -> float:
        """What every network costs."""

    def parts(self, graph: Graph, where: Any = None) -> list[Any]:
        """Return the cost of each kernel or layer; entries outside `where` are undefined."""

    def cost(self, graph: Graph) -> float:
        """Return the cost of a whole network."""


@dataclass(frozen=True)
class LayerSum:
    """A cost that is a formula per layer: FLOPs, parameters, layers of the main path."""

    formula: Callable[[Layer], Any]
    resolution: Size
    batch: int = 1
    additive: bool = True
    constant: float = 0.0

    def parts(self, graph: Graph, where: Any = None) -> list[Any]:
        """Return the formula's value for each layer."""
        return [self.formula(layer) for layer in graph.layers]

    def cost(self, graph: Graph) -> float:
        """Return the sum over all layers."""
        return float(sum(self.parts(graph)))


@dataclass(frozen=True)
class PeakMemory:
    """Peak activation memory in bytes: a maximum over layers, so not additive."""

    resolution: Size
    batch: int = 1
    bytes_per_value: int = 4
    additive: bool = False
    constant: float = 0.0

    def parts(self, graph: Graph, where: Any = None) -> list[Any]:
        """A maximum has no parts that could be summed.

        Raises:
            TypeError: always.
        """
        raise TypeError("peak memory is a maximum over layers, not a sum")

    def cost(self, graph: Graph) -> float:
        """Return the peak in bytes."""
        return float(peak_memory_bytes(graph, bytes_per_value=self.bytes_per_value))


def is_main(layer: Layer) -> int:
    """Return 1 for a convolution of the main path, else 0."""
    return int(layer.main)


def graph_oracle(quantity: str, resolution: Size) -> Oracle:
    """Return the oracle of a quantity that the graph alone answers, per image."""
    if quantity == "memory":
        return PeakMemory(resolution)
    return LayerSum({"flops": macs, "params": params, "layers": is_main}[quantity], resolution)

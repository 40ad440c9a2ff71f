"""Which feature maps lie in a runtime's blocked layout, and what moves them into and out of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..architecture.graph import INPUT, Channels, Graph, Layer, Size
from ..errors import UsageError
from .chains import Node
from .kernels import Fusion, Kernel


class Layouts:
    """Follows the tensors of one graph, which are positions in its list of nodes.

    Args:
        graph: what is being fused.
        nodes: its nodes.
        fusion: the device's fusion; without a block every tensor stays plain.
        alignment: channels of whose multiples the blocked layout can be entered.
        emitted: the kernels so far, each with its layer; those that change a layout are added.
        comes_in_blocked: whether what comes in is in the blocked layout.
    """

    def __init__(
        self,
        graph: Graph,
        nodes: list[Node],
        fusion: Fusion,
        alignment: int,
        emitted: list[tuple[int, Kernel]],
        comes_in_blocked: bool,
    ) -> None:
        self.blocked: set[int] = set()
        self.block = fusion.block
        self._graph = graph
        self._nodes = nodes
        self._fusion = fusion
        self._alignment = alignment
        self._emitted = emitted
        self._handed_out = {node.layer.inputs[0] for node in nodes if node.layer.op == "output"}
        # Tensors that exist in the other layout, too: a layout is changed once.
        self._copied: set[int] = set()
        # Where the kernel is that copies a tensor for partial blocks alone.
        self._copied_partly: dict[int, int] = {}
        if comes_in_blocked:
            self.blocked.add(INPUT)
            if graph.before is not None and graph.before.handed_out:
                self._copied.add(INPUT)  # it has left that layout already

    def are_blocked(self, tensors: tuple[int, ...]) -> bool:
        """Whether all tensors are in the blocked layout."""
        return self.blocked.issuperset(tensors)

    def leave(self, origin: int, tensor: int) -> None:
        """Make sure that a tensor exists outside the blocked layout."""
        if tensor not in self.blocked or tensor in self._copied:
            return
        self._copied.add(tensor)
        change = self.change(tensor, self.leaving(tensor))
        place = self._copied_partly.get(tensor)
        if place is None:
            self._emitted.append((origin, change))
        else:
            self._emitted[place] = (self._emitted[place][0], change)

    def enter(self, origin: int, tensor: int) -> None:
        """Make sure that a tensor exists in the blocked layout."""
        if tensor not in self.blocked and tensor not in self._copied:
            self._copied.add(tensor)
            self._emitted.append((origin, self.change(tensor, "reorder_input")))

    def leaving(self, tensor: int) -> str:
        """Return the kernel that takes a tensor out of the blocked layout.

        What is handed out is written to memory that was not used before, which takes longer.
        """
        return self._fusion.output if tensor in self._handed_out else "reorder_plain"

    def change(self, tensor: int, op: str) -> Kernel:
        """Return the kernel that copies a tensor into the other layout."""
        channels, size = self.shape(tensor)
        return Kernel(op, self._graph.batch, channels, size, channels, size)

    def around_pool(self, origin: int, source: int, layer: Layer) -> None:
        """Add the changes of a pool whose channels are arrays: they run on partial blocks only."""
        back = self.change(source, "reorder_input")
        changes = [back._replace(in_size=layer.out_size, out_size=layer.out_size)]
        if source not in self._copied | set(self._copied_partly):
            self._copied_partly[source] = len(self._emitted)
            changes.insert(0, self.change(source, "reorder_plain"))
        for change in changes:
            self._emitted.append((origin, change._replace(unless_multiple=self.block)))

    def suits(self, layer: Layer) -> str:
        """Return how a convolution runs: `blocked`, `direct` (from plain to blocked) or `plain`."""
        into, out, groups = layer.in_channels, layer.out_channels, layer.groups
        if not (whole(into) and whole(out) and whole(groups)):
            self._check_blocks(into, out, groups)
            image = whole(into) and into < self.block  # what a stem reads
            return "direct" if image else "blocked"
        if groups == 1:
            if into < self.block:
                return "direct"
            return "plain" if into % self._alignment else "blocked"
        if out % self._alignment:
            return "plain"
        if into == groups == out:
            return "blocked"
        partial = into // groups % self.block or out // groups % self.block
        return "plain" if partial else "blocked"

    def _check_blocks(self, into: Channels, out: Channels, groups: Channels) -> None:
        """Raise a UsageError where only some widths of a space run in the blocked layout."""
        if not whole(groups) or groups == 1:
            return
        for channels in (into, out):
            if np.any(channels // groups % self.block):
                raise UsageError(
                    f"{groups} groups of fewer channels than fill the device's blocks of "
                    f"{self.block} change what runs around them, so the latency of a search space "
                    f"is no sum over its rows: set its width_step to {int(groups) * self.block} or "
                    "a multiple, or give budgets of other quantities."
                )

    def shape(self, tensor: int) -> tuple[Any, Size]:
        """Return channels and size of a tensor."""
        if tensor == INPUT:
            return self._graph.channels, self._graph.size
        layer = self._nodes[tensor].layer
        return layer.out_channels, layer.out_size

    def elements(self, tensor: int) -> Any:
        """Return the values of a tensor, for one image."""
        channels, size = self.shape(tensor)
        return channels * size[0] * size[1]


def whole(channels: Channels) -> bool:
    """Whether channels are one number, not those of a search space."""
    return isinstance(channels, (int, np.integer))

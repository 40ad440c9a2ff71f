"""From layers to kernels: applies a runtime's rules and follows its blocked layout.

One pass in the order of execution. Where a runtime has a blocked layout, its convolutions work in
it; what cannot takes the feature map out of it, once, and the next convolution brings it back.
Channels that are arrays (of a search space) count as suited to the layout; only a pool then
depends on them, and its changes of layout are kernels with `unless_multiple`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..architecture.graph import INPUT, Graph, Layer
from ..errors import UsageError
from . import rules
from .chains import Node, expand, readers, replace_chains, superfluous
from .kernels import Fusion, Kernel
from .layouts import Layouts, whole
from .operators import NORMALISING, SAME_SIZE

POOLS = ("avg_pool", "max_pool")
GLOBAL_POOLS = ("global_avg_pool", "global_max_pool")
VIEWS = ("view", "part")
ROWS = frozenset({*NORMALISING.values()})
WRITTEN_AS = {
    "channels_last": "transpose",
    "matrix_transpose": "transpose",
    "shuffle": "transpose",
    "heads": "transpose",
    "keys": "transpose",
    "merge": "transpose",
    "tokens": "transpose",
    "space_to_depth": "transpose",
    "join": "concat",
    "upsample": "resize",
    "interpolate": "resize",
    "group_softmax": "softmax",
    "group_mean": "reduce",
    "group_topk": "topk",
    "gemm": "matmul",
    "linear": "matmul",
}
"""Layers that are told apart by what surrounds them, and are one kernel."""


def fuse(graph: Graph, fusion: Fusion) -> list[Kernel]:
    """Return the kernels that a runtime executes for a graph, in order.

    Raises:
        UsageError: there are no fusion rules of that name.
    """
    return [kernel for _, kernel in fuse_layers(graph, fusion)]


def fuse_layers(graph: Graph, fusion: Fusion) -> list[tuple[int, Kernel]]:
    """Return the kernels of a graph, each with the index of the layer that it begins with.

    Raises:
        UsageError: there are no fusion rules of that name.
    """
    return Fuser(graph, fusion).kernels()


class Fuser:
    """Derives the kernels of one graph; tensors are positions in the list of nodes."""

    def __init__(self, graph: Graph, fusion: Fusion) -> None:
        self._graph = graph
        self._fusion = fusion
        self._rules = rules.load(fusion.rules)
        self._block = fusion.block
        self._nodes: list[Node] = replace_chains(expand(graph), self._rules.chains)
        self._readers = readers(self._nodes)
        self._emitted: list[tuple[int, Kernel]] = []
        # Which kernel computes a tensor, and what has been fused into that kernel.
        self._computed: dict[int, int] = {}
        self._activated: set[int] = set()
        self._added: set[int] = set()
        self._layouts = Layouts(
            graph,
            self._nodes,
            fusion,
            self._rules.alignment,
            self._emitted,
            _comes_in_blocked(graph, fusion),
        )
        self._blocked = self._layouts.blocked
        self._absorbed = superfluous(self._nodes, self._readers, self._rules, _TRANSPOSES)

    def kernels(self) -> list[tuple[int, Kernel]]:
        """Return the kernels in order, each with the index of the layer that it begins with."""
        graph = self._graph
        if self._fusion.input and whole(graph.channels):  # not a fragment behind others
            taken = Kernel(
                self._fusion.input,
                graph.batch,
                graph.channels,
                graph.size,
                graph.channels,
                graph.size,
            )
            self._append(0, taken)
        for position, node in enumerate(self._nodes):
            self._visit(position, node)
        return self._emitted

    def ends_blocked(self) -> bool:
        """Whether the graph's result is in the blocked layout."""
        self.kernels()
        return len(self._nodes) - 1 in self._blocked

    def _visit(self, position: int, node: Node) -> None:
        op = node.layer.op
        if op == "output":
            self._hand_out(node)
        elif op == "source":
            if self._block:
                self._blocked.add(position)
        elif op in VIEWS or position in self._absorbed:
            self._view(position, node)
        elif op == "conv":
            self._convolution(position, node)
        elif op in POOLS or op in GLOBAL_POOLS:
            self._pool(position, node)
        elif self._runs_inside(position, node) or self._add_inside(position, node):
            pass  # the kernel before it now does this, too
        elif op == "pad" and self._before_convolution(position):
            self._same(position, node)
        elif op == "batch_norm" and node.layer.inputs[0] in self._blocked:
            # One factor a channel: in the blocked layout a depthwise 1x1 convolution.
            each = node.layer._replace(op="conv", groups=node.layer.in_channels)
            self._blocked.add(position)
            self._emit(position, node, self._kernel(each))
        elif op in self._rules.decompose:
            self._decomposed(position, node)
        elif op in SAME_SIZE:
            self._elementwise(position, node, op)
        elif op == "conv_transpose":
            self._transposed(position, node)
        elif op in ("concat", "upsample"):
            self._blocked_or_plain(position, node)
        elif op == "channels_last" and node.layer.inputs[0] in self._blocked:
            self._emit(position, node, self._layouts.change(node.layer.inputs[0], "reorder_plain"))
        elif op == "slice":
            self._slice(position, node)
        else:
            self._plain(position, node)

    # What becomes of single layers.

    def _hand_out(self, node: Node) -> None:
        if self._block:
            self._layouts.leave(node.origin, node.layer.inputs[0])
        elif self._fusion.output:
            layer = node.layer
            self._append(node.origin, self._kernel(layer, self._fusion.output))

    def _view(self, position: int, node: Node) -> None:
        """The same values under another shape; the blocked layout cannot be viewed."""
        for source in node.layer.inputs:
            self._layouts.leave(node.origin, source)

    def _convolution(self, position: int, node: Node) -> None:
        layer = node.layer
        source = layer.inputs[0]
        suits = self._layouts.suits(layer) if self._block else "plain"
        if self._block and suits == "blocked":
            self._layouts.enter(node.origin, source)
        else:
            self._layouts.leave(node.origin, source)
        if suits != "plain":
            self._blocked.add(position)
        plain = bool(self._block) and suits == "plain"
        self._emit(position, node, self._kernel(layer)._replace(plain=plain))

    def _transposed(self, position: int, node: Node) -> None:
        """Transposed convolutions run outside the blocked layout."""
        self._layouts.leave(node.origin, node.layer.inputs[0])
        self._emit(position, node, self._kernel(node.layer)._replace(plain=bool(self._block)))

    def _pool(self, position: int, node: Node) -> None:
        layer = node.layer
        source = layer.inputs[0]
        if not self._block:
            self._emit(position, node, self._kernel(layer))
        elif not whole(layer.in_channels):
            self._emit(position, node, self._kernel(layer))
            self._layouts.around_pool(node.origin, source, layer)
            self._blocked.add(position)
        elif layer.in_channels % self._block or (
            layer.op in GLOBAL_POOLS and source not in self._blocked
        ):
            self._plain(position, node)
        else:
            self._layouts.enter(node.origin, source)
            self._blocked.add(position)
            self._emit(position, node, self._kernel(layer))

    def _elementwise(self, position: int, node: Node, op: str) -> None:
        inputs = node.layer.inputs
        channels, sizes = zip(*map(self._layouts.shape, inputs), strict=True)
        alike = all(_equal(channels[0], other) for other in channels)
        same = len(set(sizes)) == 1
        constant = op in ("add", "mul") and len(inputs) == 1
        if (
            op in self._rules.blocked
            and self._layouts.are_blocked(inputs)
            and alike
            and (same or op == "add")
            and not constant
        ):
            self._blocked.add(position)
        else:
            for source in inputs:
                self._layouts.leave(node.origin, source)
        self._emit(position, node, self._kernel(node.layer, op))

    def _decomposed(self, position: int, node: Node) -> None:
        """Emit the operators that run in an operator's place; the last one reads its input."""
        parts = self._rules.decompose[node.layer.op]
        source = node.layer.inputs[0]
        if source in self._blocked and self._rules.blocked.issuperset(parts):
            self._blocked.add(position)
        else:
            self._layouts.leave(node.origin, source)
        for op in parts:
            kernel = self._kernel(node.layer, op)
            if op == "mul":
                kernel = kernel._replace(in_channels=2 * kernel.in_channels)
            self._emit(position, node, kernel)

    def _blocked_or_plain(self, position: int, node: Node) -> None:
        """Operators that stay in the blocked layout where their channels fill its blocks."""
        inputs = node.layer.inputs
        whole = node.layer.op != "concat" or not any(
            self._layouts.shape(source)[0] % (self._block or 1) for source in inputs
        )
        if self._block and whole and self._layouts.are_blocked(inputs):
            self._blocked.add(position)
            self._emit(position, node, self._kernel(node.layer))
        else:
            self._plain(position, node)

    def _slice(self, position: int, node: Node) -> None:
        """Slices that share out a feature map are one split."""
        source = node.layer.inputs[0]
        parent = self._nodes[source].layer if source != INPUT else None
        among = [p for p in self._readers.get(source, ()) if self._nodes[p].layer.op == "slice"]
        shared = sum(self._layouts.elements(p) for p in among) == self._layouts.elements(source)
        sunk = parent is not None and source in self._absorbed and parent.op in _TRANSPOSES
        if shared and len(among) > 1:
            if position == among[0]:
                self._layouts.leave(node.origin, source)
                channels, size = self._layouts.shape(source)
                layer = node.layer._replace(out_channels=channels, out_size=size)
                layer = layer._replace(in_channels=channels, in_size=size)
                self._emit(position, node, self._kernel(layer, "split"))
            if sunk and parent is not None:
                blocks = max(
                    1, self._layouts.elements(position) // (parent.in_size[0] * parent.in_size[1])
                )
                moved = parent._replace(in_channels=blocks, out_channels=blocks)
                self._emit(position, node, self._kernel(moved, "transpose"))
        else:
            self._plain(position, node)

    def _plain(self, position: int, node: Node) -> None:
        for source in node.layer.inputs:
            self._layouts.leave(node.origin, source)
        self._emit(position, node, self._kernel(node.layer))

    # What runs inside other kernels.

    def _runs_inside(self, position: int, node: Node) -> bool:
        """Fuse an operator with one operand into the kernel before it, if it may run there."""
        source = node.layer.inputs[0]
        root = self._computed.get(source)
        if root is None or len(node.layer.inputs) > 1:
            return False
        if len(self._readers[source]) > 1 or root in self._activated:
            return False
        op, known = node.layer.op, self._rules
        producer = self._nodes[source].layer.op
        kernel = self._emitted[root][1]
        if kernel.op == "conv":
            if op in known.into_conv_behind and root not in self._added:
                self._same(position, node)
                return True
            allowed = known.in_conv
            if source in self._blocked and root in self._added:
                allowed = known.in_blocked_add
            elif source in self._blocked:
                allowed = known.in_conv | known.in_blocked_conv
        elif producer == "gemm":
            allowed = known.in_gemm
        elif kernel.op == "matmul":
            allowed = known.in_matmul if len(self._nodes[source].layer.inputs) == 1 else frozenset()
        elif kernel.op in SAME_SIZE:
            allowed = known.in_elementwise
        else:
            return False
        if op not in allowed:
            return False
        if op != "shift":
            self._activated.add(root)
            origin, _ = self._emitted[root]
            self._emitted[root] = (origin, kernel._replace(activation=True))
        self._same(position, node)
        return True

    def _add_inside(self, position: int, node: Node) -> bool:
        """Fuse an addition of two alike feature maps into a convolution that computes one."""
        inputs = node.layer.inputs
        if node.layer.op != "add" or not self._fusion.add or len(inputs) != 2:
            return False
        (channels, size), (others, other_size) = map(self._layouts.shape, inputs)
        if size != other_size or not _equal(channels, others):
            return False
        both = self._layouts.are_blocked(inputs)
        for source, other in (inputs, inputs[::-1]):
            root = self._computed.get(source)
            if root is None or self._emitted[root][1].op != "conv":
                continue
            if root in self._activated | self._added or len(self._readers[source]) > 1:
                continue
            if source in self._blocked and not both:
                continue
            if source not in self._blocked:
                self._layouts.leave(node.origin, other)
            self._added.add(root)
            origin, kernel = self._emitted[root]
            self._emitted[root] = (origin, kernel._replace(fused_add=True))
            self._computed[position] = root
            if source in self._blocked:
                self._blocked.add(position)
            return True
        return False

    def _before_convolution(self, position: int) -> bool:
        reads = self._readers.get(position, [])
        return (
            "pad" in self._rules.into_conv_before
            and len(reads) == 1
            and self._nodes[reads[0]].layer.op == "conv"
        )

    def _same(self, position: int, node: Node) -> None:
        """The node's result is that of the kernel before it."""
        source = node.layer.inputs[0]
        if source in self._computed:
            self._computed[position] = self._computed[source]
        if source in self._blocked:
            self._blocked.add(position)

    # Kernels.

    def _kernel(self, layer: Layer, op: str = "") -> Kernel:
        op = op or layer.op
        fused_add = False
        into, into_size = layer.in_channels, layer.in_size
        if op in _GROUPED:
            layer = layer._replace(groups=1)  # each group's channels are a row
        if op in _TRANSPOSES or op in ROWS:
            # The shape of the result does not matter, what moves together does.
            layer = layer._replace(out_channels=into, out_size=into_size, groups=1)
        if op in SAME_SIZE and len(layer.inputs) > 1:
            out = layer.out_channels * layer.out_size[0] * layer.out_size[1]
            whole = sum(_equal(self._layouts.elements(source), out) for source in layer.inputs)
            into, into_size = max(1, whole) * layer.out_channels, layer.out_size
        elif op in ROWS and len(layer.inputs) > 1:
            fused_add = True
        return Kernel(
            WRITTEN_AS.get(op, op),
            self._graph.batch,
            into,
            into_size,
            layer.out_channels,
            layer.out_size,
            layer.kernel,
            layer.stride,
            layer.groups,
            fused_add,
        )

    def _emit(self, position: int, node: Node, kernel: Kernel) -> None:
        self._computed[position] = len(self._emitted)
        self._append(node.origin, kernel)

    def _append(self, origin: int, kernel: Kernel) -> None:
        self._emitted.append((origin, kernel))


def _comes_in_blocked(graph: Graph, fusion: Fusion) -> bool:
    """Whether what comes in is in the blocked layout, as is decided by what the graph runs behind.

    Raises:
        UsageError: a search space leaves it open.
    """
    before = graph.before
    if before is None or not fusion.block:
        return False
    if fusion not in before.layouts:
        ends = {Fuser(behind, fusion).ends_blocked() for behind in before.graphs}
        if len(ends) > 1:
            raise UsageError(
                "on this device some blocks of a row leave their result in blocks of channels and "
                "others do not, so the latency of the search space is no sum over its rows: give "
                "the row one family or another activation, or give budgets of other quantities."
            )
        before.layouts[fusion] = ends.pop()
    return before.layouts[fusion]


_TRANSPOSES = frozenset({"transpose", *(a for a, b in WRITTEN_AS.items() if b == "transpose")})

_GROUPED = ("group_softmax", "group_topk", "group_mean", "group_norm")


def _equal(a: Any, b: Any) -> bool:
    """Whether two counts, or two arrays of them, are the same."""
    return a is b or bool(np.array_equal(a, b))

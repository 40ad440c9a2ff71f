"""Chains of operators that a runtime replaces by one kernel, found and replaced in a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..architecture.graph import INPUT, Graph, Layer
from .operators import canonical
from .rules import Chain, Rules

SIZED = ("upsample", "resize", "interpolate")
"""Layers of whose second input only the size matters."""


class Node(NamedTuple):
    """One operator of an expanded graph; `origin` is the layer that it belongs to.

    The layer's `inputs` are positions of nodes and it has no activation of its own.
    """

    origin: int
    layer: Layer


def expand(graph: Graph) -> list[Node]:
    """Return the nodes of a graph, each layer's activation as a node of its own."""
    nodes: list[Node] = []
    last = {INPUT: INPUT}
    for i, layer in enumerate(graph.layers):
        read = layer.inputs[:1] if layer.op in SIZED else layer.inputs
        inputs = tuple(last[source] for source in read)
        plain = layer._replace(op=canonical(layer.op), inputs=inputs, activation=None)
        nodes.append(Node(i, plain))
        if layer.activation is not None:
            op = canonical(layer.activation)
            channels, size = layer.out_channels, layer.out_size
            inputs = (len(nodes) - 1,)
            nodes.append(Node(i, Layer(op, inputs, channels, channels, size, size)))
        last[i] = len(nodes) - 1
    return nodes


def replace_chains(nodes: list[Node], chains: Sequence[Chain]) -> list[Node]:
    """Return the nodes with each chain replaced by one, in place of the chain's last."""
    present = {node.layer.op for node in nodes}
    for chain in chains:
        if present.issuperset(step.split()[0] for step in chain.steps):
            nodes = _replace(nodes, chain)
            present.add(chain.kernel)
    return nodes


def readers(nodes: Sequence[Node]) -> dict[int, list[int]]:
    """Return which nodes read each node's result, once for every operand."""
    found: dict[int, list[int]] = {}
    for position, node in enumerate(nodes):
        for source in node.layer.inputs:
            found.setdefault(source, []).append(position)
    return found


def superfluous(
    nodes: Sequence[Node], read_by: dict[int, list[int]], known: Rules, transposes: frozenset[str]
) -> set[int]:
    """Return the nodes that products of two feature maps, and slices, take over."""
    absorbed: set[int] = set()
    if not {"matmul", "slice"} & {node.layer.op for node in nodes}:
        return absorbed
    folded = known.around_matmul
    for position, node in enumerate(nodes):
        if node.layer.op == "matmul" and len(node.layer.inputs) == 2:
            for source in node.layer.inputs:
                passed: set[int] = set()
                while source != INPUT and len(read_by[source]) == 1:
                    if nodes[source].layer.op not in folded | {"view"}:
                        break
                    if nodes[source].layer.op != "view":
                        passed.add(source)
                    source = nodes[source].layer.inputs[0]
                absorbed |= passed
            reads = read_by.get(position, [])
            if len(reads) == 1 and nodes[reads[0]].layer.op in folded & {"scale"}:
                absorbed.add(reads[0])
        reads = read_by.get(position, [])
        if (
            known.transpose_behind_split
            and node.layer.op in transposes
            and len(reads) > 1
            and all(nodes[p].layer.op == "slice" for p in reads)
        ):
            absorbed.add(position)
    return absorbed


def _replace(nodes: list[Node], chain: Chain) -> list[Node]:
    read_by = readers(nodes)
    first_op = chain.steps[0]
    gone: set[int] = set()
    merged: dict[int, Node] = {}
    for start, node in enumerate(nodes):
        if node.layer.op != first_op or start in gone or not node.layer.inputs:
            continue
        found = _match(nodes, read_by, chain, start)
        if found is None or not gone.isdisjoint(found):
            continue
        gone.update(found)
        last = nodes[found[-1]].layer
        first = node.layer
        whole = last._replace(
            op=chain.kernel,
            inputs=first.inputs,
            in_channels=first.in_channels,
            in_size=first.in_size,
        )
        merged[found[-1]] = Node(node.origin, whole)
    if not merged:
        return nodes
    kept: list[Node] = []
    place = {INPUT: INPUT}
    for position, node in enumerate(nodes):
        if position in gone and position not in merged:
            continue
        origin, layer = merged.get(position, node)
        place[position] = len(kept)
        kept.append(Node(origin, layer._replace(inputs=tuple(place[i] for i in layer.inputs))))
    return kept


def _match(
    nodes: Sequence[Node], read_by: dict[int, list[int]], chain: Chain, start: int
) -> list[int] | None:
    """Return the positions of a chain that begins at a node, the last step's last."""
    x = nodes[start].layer.inputs[0]
    steps, beside = [start], []
    for step in chain.steps[1:]:
        op, *others = step.split()
        operands = [steps[-1]]
        for other in others:
            if other == "x":
                operands.append(x)
            elif other.isdecimal():
                operands.append(steps[int(other)])
            else:
                scaled = _reader(nodes, read_by, other.partition(":")[0], [x], steps)
                if scaled is None:
                    return None
                beside.append(scaled)
                operands.append(scaled)
        following = _reader(nodes, read_by, op, operands, steps)
        if following is None:
            return None
        steps.append(following)
    inside = {*steps, *beside}
    hidden = [p for p in (*steps[:-1], *beside) if not inside.issuperset(read_by.get(p, ()))]
    return None if hidden else [*beside, *steps]


def _reader(
    nodes: Sequence[Node],
    read_by: dict[int, list[int]],
    op: str,
    operands: list[int],
    taken: list[int],
) -> int | None:
    """Return the node of an operator that reads exactly these operands."""
    for position in read_by.get(operands[0], ()):
        layer = nodes[position].layer
        if layer.op == op and position not in taken and sorted(layer.inputs) == sorted(operands):
            return position
    return None

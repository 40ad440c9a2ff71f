"""What a network costs, read off its graph: FLOPs, parameters, layers, peak activation memory.

Each cost of one layer is a formula in its channels, so on a graph whose channels are arrays the
same functions give tables.
"""

from __future__ import annotations

from typing import Any

from .architecture.graph import INPUT, Graph, Layer

MULTIPLYING = ("conv", "conv_transpose", "linear", "gemm")

COUNTED = ("relu", "relu6")
"""Activations that mmcv counts."""


def macs(layer: Layer) -> Any:
    """Return the multiply-adds of a convolution or a fully connected layer for one image.

    0 for every other layer.
    """
    # A transposed convolution multiplies at each position of what enters it.
    size = layer.in_size if layer.op == "conv_transpose" else layer.out_size
    return weights(layer) * size[0] * size[1] * layer.runs


def weights(layer: Layer) -> Any:
    """Return the number of weights of a convolution or a fully connected layer, without bias.

    0 for every other layer.
    """
    if layer.op not in MULTIPLYING:
        return 0
    kernel = layer.kernel[0] * layer.kernel[1]
    return layer.in_channels // layer.groups * layer.out_channels * kernel


def params(layer: Layer) -> Any:
    """Return the parameters of a layer: weights, bias, and the affine part of a normalisation.

    A layer that shares another's weights has none of its own.
    """
    if layer.tied is not None:
        return 0
    count = weights(layer) + (2 * layer.out_channels if layer.norm else 0)
    if layer.bias or layer.op in ("linear", "gemm"):
        count += layer.out_channels
    if layer.op in ("group_norm", "layer_norm"):
        count += 2 * layer.out_channels
    return count + (layer.op == "gain")


def elements(layer: Layer) -> Any:
    """Return the size of a layer's result for one image."""
    return layer.out_channels * layer.out_size[0] * layer.out_size[1]


def flops(graph: Graph) -> Any:
    """Return the multiply-adds of convolutions and fully connected layers, for one image."""
    return sum(macs(layer) for layer in graph.layers)


def mmcv_flops(graph: Graph, rule: str) -> Any:
    """Return the FLOPs as mmcv's counter gave them for the paper's tables, for one image."""
    return sum(mmcv_by_part(graph, rule).values())


def mmcv_layer(layer: Layer, rule: str) -> Any:
    """Return what mmcv's counter gave for a layer, for one image.

    mmcv counts by module, so what is counted besides the multiply-adds differs by network:
    `maedet` adds 2 per normalised element and 1 per element that enters an average pool,
    `resnet` adds 1 per ReLU element and 1 per element that enters the max-pool (its SyncBN was
    not counted), `mobilenetv2` adds 2 per normalised element and 1 per ReLU6 element. By any
    rule a bias adds 1 per element, and a global average pool 1 per element that enters it; of
    other activations than ReLU and ReLU6 mmcv knows nothing. What a detector adds to its backbone
    counts 1 per element with a bias, 2 per normalised element and 1 per ReLU element.
    """
    if layer.part:
        normalised = layer.norm or layer.op == "group_norm"
        terms = (layer.bias, 2 * normalised, layer.activation in COUNTED)
        return macs(layer) + sum(terms) * elements(layer) * layer.runs
    extra: Any = elements(layer) if layer.bias else 0
    if rule in ("maedet", "mobilenetv2") and layer.norm:
        extra += 2 * elements(layer)
    if rule in ("resnet", "mobilenetv2") and layer.activation in COUNTED:
        extra += elements(layer)
    if layer.op == "global_avg_pool":
        extra += layer.in_channels * layer.in_size[0] * layer.in_size[1]
    if (rule, layer.op) in (("maedet", "avg_pool"), ("resnet", "max_pool")):
        extra += layer.in_channels * layer.in_size[0] * layer.in_size[1]
    return macs(layer) + extra


def mmcv_by_part(graph: Graph, rule: str) -> dict[str, Any]:
    """Return `mmcv_flops` by part of a detector; the backbone's share has the key ''."""
    found: dict[str, Any] = {}
    for layer in graph.layers:
        if layer.op != "output":
            found[layer.part] = found.get(layer.part, 0) + mmcv_layer(layer, rule)
    return found


def total_params(graph: Graph) -> Any:
    """Return the parameters of a network: weights and the affine part of its normalisations."""
    return sum(params(layer) for layer in graph.layers)


def main_layers(graph: Graph) -> int:
    """Return the number of convolutions on the main path, stem included, shortcuts not."""
    return sum(layer.main for layer in graph.layers)


def peak_memory_bytes(graph: Graph, *, bytes_per_value: int = 4) -> Any:
    """Return the largest sum of live activations while the network runs, for the graph's batch.

    A feature map lives from the layer that writes it to the last layer that reads it; an addition
    writes over its first operand. Feature maps that were handed out are the caller's and do not
    count, nor do weights.
    """
    last_use = {INPUT: -1}
    for i, layer in enumerate(graph.layers):
        if layer.op != "output":
            for source in layer.inputs:
                last_use[source] = i
    live = {INPUT: graph.channels * graph.size[0] * graph.size[1]}
    peak: Any = 0
    for i, layer in enumerate(graph.layers):
        if layer.op == "output":
            continue
        if layer.op == "add":
            live[i] = live.pop(layer.inputs[0])
            peak = max(peak, sum(live.values()))
        else:
            live[i] = elements(layer)
            peak = max(peak, sum(live.values()))
        for source in layer.inputs:
            if source in live and last_use[source] == i:
                del live[source]
    return peak * graph.batch * bytes_per_value

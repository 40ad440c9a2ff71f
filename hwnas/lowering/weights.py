"""Names and initial weights of a graph's layers, shared by the ONNX file and the torch module."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..architecture.graph import Graph, Layer

Weights: TypeAlias = dict[str, NDArray[np.float32]]
"""Arrays by the keys of the torch module's state dict: `c3_conv2.conv.weight`, `.norm.bias` ..."""

NORM_EPSILON = 1e-5


def names(graph: Graph) -> list[str]:
    """Return a name for each layer: its stage, its operator and a number, such as `c3_conv12`.

    In a detector the part that a layer belongs to stands first, as in `head_p3_conv1`. Layers that
    were read from a file have the names that they have there.
    """
    if graph.labels:
        return list(graph.labels)
    counts: dict[str, int] = {}
    result = []
    for layer in graph.layers:
        if layer.op == "output":
            result.append(output_name(layer))
            continue
        level = f"p{layer.stage}_" if layer.stage else ""
        place = f"{layer.part}_{level}" if layer.part else f"c{layer.stage}_"
        stem = f"{place}{layer.op}"
        counts[stem] = counts.get(stem, 0) + 1
        result.append(f"{stem}{counts[stem]}")
    return result


def output_name(layer: Layer) -> str:
    """Return what an output is called: `C5`, `scores_p3` of a detector, `masks` of its regions."""
    if not layer.part:
        return f"C{layer.stage}"
    return f"{layer.part}_p{layer.stage}" if layer.stage else layer.part


def owners(graph: Graph) -> list[str]:
    """Return for each layer the name under which its weights are found: its own, or another's."""
    found = names(graph)
    return [
        name if layer.tied is None else found[layer.tied]
        for name, layer in zip(found, graph.layers, strict=True)
    ]


def shape(layer: Layer) -> tuple[int, ...]:
    """Return the shape of a convolution's weight: out, in / groups, kernel height and width.

    A transposed convolution has channels in first.
    """
    if layer.op == "conv_transpose":
        return (int(layer.in_channels), int(layer.out_channels), *layer.kernel)
    return (int(layer.out_channels), int(layer.in_channels // layer.groups), *layer.kernel)


LINEAR = ("linear", "gemm")
"""Layers with a matrix of weights [out, in] and a bias [out]."""

MULTIPLYING = ("conv", "conv_transpose", *LINEAR)


def he_normal(graph: Graph, seed: int) -> Weights:
    """Return He-initialised weights, with normalisations at their initial statistics.

    https://arxiv.org/abs/1502.01852: a normal distribution of variance 2 / fan-in.
    """
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, layer in _own(graph):
        key, size = f"{name}.{_kind(layer)}.weight", _matrix(layer)
        if layer.op in MULTIPLYING:
            draws = rng.standard_normal(size, dtype=np.float32)
            draws *= np.float32(math.sqrt(2 / _fan_in(layer)))
            weights[key] = draws
        weights |= _fresh(name, layer)
    return weights


def filler(graph: Graph) -> Weights:
    """Return weights that are quick to make and keep activations small: for timing only."""
    noise = np.random.default_rng(0).standard_normal(4099, dtype=np.float32)
    weights: Weights = {}
    for name, layer in _own(graph):
        if layer.op in MULTIPLYING:
            scale = np.float32(1 / math.sqrt(_fan_in(layer)))
            weights[f"{name}.{_kind(layer)}.weight"] = np.resize(noise * scale, _matrix(layer))
        weights |= _fresh(name, layer)
        if layer.norm:
            # A variance that folds to a factor of exactly one: folding then copies nothing.
            weights[f"{name}.norm.running_var"] -= np.float32(NORM_EPSILON)
    return weights


def folded(weights: Weights, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weight and bias of a convolution, its normalisation folded in where it has one."""
    kernel = weights[f"{name}.conv.weight"]
    if f"{name}.conv.bias" in weights:
        return kernel, weights[f"{name}.conv.bias"]
    norm = {
        key: weights[f"{name}.norm.{key}"]
        for key in ("weight", "bias", "running_mean", "running_var")
    }
    scale = norm["weight"] / np.sqrt(norm["running_var"] + np.float32(NORM_EPSILON))
    if np.any(scale != 1):
        kernel = (kernel * scale[:, None, None, None]).astype(np.float32)
    return kernel, norm["bias"] - norm["running_mean"] * scale


def _own(graph: Graph) -> Iterator[tuple[str, Layer]]:
    """Yield the layers that share no other's weights, with their names."""
    for name, layer in zip(names(graph), graph.layers, strict=True):
        if layer.tied is None:
            yield name, layer


def _kind(layer: Layer) -> str:
    return "linear" if layer.op in LINEAR else "conv"


def _matrix(layer: Layer) -> tuple[int, ...]:
    if layer.op in LINEAR:
        return int(layer.out_channels), int(layer.in_channels)
    return shape(layer)


def _fan_in(layer: Layer) -> int:
    """Return how many values each element of a result is a sum over."""
    if layer.op == "conv_transpose":
        return int(layer.in_channels)  # its stride is its kernel: windows do not overlap
    return math.prod(_matrix(layer)[1:])


def _fresh(name: str, layer: Layer) -> Weights:
    """Return everything that a layer has besides its weight, at its first values."""
    channels = int(layer.out_channels)
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    weights: Weights = {}
    if layer.norm or layer.op in ("group_norm", "layer_norm"):
        weights |= {f"{name}.norm.weight": ones, f"{name}.norm.bias": zeros}
    if layer.norm:
        weights[f"{name}.norm.running_mean"] = zeros.copy()
        weights[f"{name}.norm.running_var"] = ones.copy()
    if layer.bias or layer.op in LINEAR:
        weights[f"{name}.{_kind(layer)}.bias"] = zeros.copy()
    if layer.op == "gain":
        weights[f"{name}.gain"] = np.ones(1, np.float32)
    return weights

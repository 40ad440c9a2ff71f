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

    Layers that were read from a file have the names that they have there.
    """
    if graph.labels:
        return list(graph.labels)
    counts: dict[str, int] = {}
    result = []
    for layer in graph.layers:
        stem = f"c{layer.stage}_{layer.op}"
        counts[stem] = counts.get(stem, 0) + 1
        result.append(f"{stem}{counts[stem]}")
    return result


def shape(layer: Layer) -> tuple[int, ...]:
    """Return the shape of a convolution's weight: out, in / groups, kernel height and width."""
    return (int(layer.out_channels), int(layer.in_channels // layer.groups), *layer.kernel)


LINEAR = ("linear", "gemm")
"""Layers with a matrix of weights [out, in] and a bias [out]."""


def he_normal(graph: Graph, seed: int) -> Weights:
    """Return He-initialised weights, with normalisations at their initial statistics.

    https://arxiv.org/abs/1502.01852: a normal distribution of variance 2 / fan-in.
    """
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, layer in _convolutions(graph):
        fan_in = math.prod(shape(layer)[1:])
        draws = rng.standard_normal(shape(layer), dtype=np.float32)
        draws *= np.float32(math.sqrt(2 / fan_in))
        weights[f"{name}.conv.weight"] = draws
        weights |= _fresh(name, layer)
    return weights


def filler(graph: Graph) -> Weights:
    """Return weights that are quick to make and keep activations small: for timing only."""
    noise = np.random.default_rng(0).standard_normal(4099, dtype=np.float32)
    weights: Weights = {}
    for name, layer in _convolutions(graph):
        size = shape(layer)
        scale = np.float32(1 / math.sqrt(math.prod(size[1:])))
        weights[f"{name}.conv.weight"] = np.resize(noise * scale, size)
        weights |= _fresh(name, layer)
        if layer.norm:
            # A variance that folds to a factor of exactly one: folding then copies nothing.
            weights[f"{name}.norm.running_var"] -= np.float32(NORM_EPSILON)
    for name, layer in zip(names(graph), graph.layers, strict=True):
        channels = int(layer.out_channels)
        if layer.op in LINEAR:
            size = (channels, int(layer.in_channels))
            scale = np.float32(1 / math.sqrt(size[1]))
            weights[f"{name}.linear.weight"] = np.resize(noise * scale, size)
            weights[f"{name}.linear.bias"] = np.zeros(channels, np.float32)
        elif layer.op == "layer_norm":
            weights[f"{name}.norm.weight"] = np.ones(channels, np.float32)
            weights[f"{name}.norm.bias"] = np.zeros(channels, np.float32)
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


def _convolutions(graph: Graph) -> Iterator[tuple[str, Layer]]:
    for name, layer in zip(names(graph), graph.layers, strict=True):
        if layer.op == "conv":
            yield name, layer


def _fresh(name: str, layer: Layer) -> Weights:
    """Return a convolution's normalisation, or its bias, before any training."""
    channels = int(layer.out_channels)
    if layer.bias:
        return {f"{name}.conv.bias": np.zeros(channels, np.float32)}
    return {
        f"{name}.norm.weight": np.ones(channels, np.float32),
        f"{name}.norm.bias": np.zeros(channels, np.float32),
        f"{name}.norm.running_mean": np.zeros(channels, np.float32),
        f"{name}.norm.running_var": np.ones(channels, np.float32),
    }

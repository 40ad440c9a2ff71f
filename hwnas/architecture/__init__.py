"""Architectures: genotype, block families, the graph of layers, search spaces, the zoo."""

from .builder import GraphBuilder, Tensor
from .genotype import Architecture, Row, Stem, from_document, from_json, load, lower, to_document
from .graph import Graph, Layer, main_path

__all__ = [
    "Architecture",
    "Graph",
    "GraphBuilder",
    "Layer",
    "Row",
    "Stem",
    "Tensor",
    "from_document",
    "from_json",
    "load",
    "lower",
    "main_path",
    "to_document",
]

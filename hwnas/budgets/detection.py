"""What a whole detector costs: the backbone's cost, and that of the layers behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..architecture.detectors import Detector, attach, detached
from ..architecture.graph import Graph, Layer, Size
from .oracles import Oracle, PeakMemory

_WIDTH = 256
"""Channels of the maps that a share does not depend on; any number that is whole blocks does."""


class WholeDetector:
    """An oracle whose costs include a detector's layers behind a backbone.

    A detector's cost is a constant and, for each feature map that it reads, one term in this
    map's channels. An additive oracle stays additive: where a backbone's graph hands out a feature
    map, `parts` has the term, and the rest is in `constant`.

    Args:
        oracle: what each graph costs.
        detector: what follows the backbone.
    """

    def __init__(self, oracle: Oracle, detector: Detector) -> None:
        self.oracle = oracle
        self.detector = detector
        self.resolution: Size = oracle.resolution
        self.batch = oracle.batch
        self.additive = oracle.additive
        self.constant = oracle.constant
        self._shares: dict[Any, list[Any]] = {}
        if self.additive:
            one = np.full((1, 1, 1), _WIDTH)
            parts = self._behind(dict.fromkeys(detector.stages, one))
            self.constant += float(sum(part for part in parts if np.ndim(part) == 0))

    def parts(self, graph: Graph, where: Any = None) -> list[Any]:
        """Return the parts of a backbone or a fragment of one, with those of the maps it hands out.

        The constant share of the detector is in `constant`.
        """
        outputs = [layer for layer in graph.layers if layer.op == "output"]
        found = list(self.oracle.parts(_inside(graph), where))
        for layer in outputs:
            found += self._share(layer)
        return found

    def cost(self, graph: Graph) -> float:
        """Return the cost of a whole detector with this backbone."""
        costs = [
            self.oracle.cost(part.graph) - self.oracle.constant
            for part in attach(graph, self.detector)
        ]
        whole = max(costs) if isinstance(self.oracle, PeakMemory) else sum(costs)
        return self.oracle.constant + whole

    def _share(self, output: Layer) -> list[Any]:
        """Return the terms in the channels of one feature map."""
        if output.stage not in self.detector.stages:
            return []
        channels = np.asarray(output.in_channels)
        key = (output.stage, channels.shape, channels.tobytes())
        if key not in self._shares:
            maps: dict[int, Any] = dict.fromkeys(self.detector.stages, _WIDTH)
            maps[output.stage] = channels if channels.ndim else channels.reshape(1, 1, 1)
            terms = [part for part in self._behind(maps) if np.ndim(part)]
            if not channels.ndim:
                terms = [float(np.sum(term)) for term in terms]
            self._shares[key] = terms
        return self._shares[key]

    def _behind(self, channels: dict[int, Any]) -> list[Any]:
        """Return the parts of the detector alone, behind maps of these channels."""
        height, width = self.resolution
        maps = {
            stage: (count, (-(-height // 2**stage), -(-width // 2**stage)))
            for stage, count in channels.items()
        }
        return [
            value
            for part in detached(self.detector, maps, self.batch)
            for value in self.oracle.parts(part.graph)
        ]


def _inside(graph: Graph) -> Graph:
    """Return a backbone's graph, or a fragment of one, whose maps stay inside the network."""
    place = {-1: -1}
    layers: list[Layer] = []
    for i, layer in enumerate(graph.layers):
        if layer.op != "output":
            place[i] = len(layers)
            layers.append(layer._replace(inputs=tuple(place[j] for j in layer.inputs)))
    before = graph.before and replace(graph.before, handed_out=False)
    return graph._replace(layers=tuple(layers), before=before)

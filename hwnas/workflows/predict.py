"""Predict the latency of a network on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..architecture.detectors import Detector, attach
from ..architecture.graph import Graph
from ..devices.spec import DeviceSpec
from ..errors import HwnasError
from ..latency.predictor import Prediction, Predictor, load
from ..lowering.fusing import fuse_layers
from ..lowering.kernels import Kernel
from ..lowering.weights import names
from ..store import shelf


@dataclass(frozen=True)
class NetworkPrediction:
    """A prediction with the kernels that it sums over; `labels` name the layers they begin with."""

    prediction: Prediction
    kernels: tuple[Kernel, ...]
    labels: tuple[str, ...]

    def document(self, device: DeviceSpec, graph: Graph) -> dict[str, Any]:
        """Return the prediction as a JSON document."""
        p = self.prediction
        return {
            "schema": "hwnas.predict/1",
            "device": device.name,
            "batch": graph.batch,
            "resolution": list(graph.size),
            "latency_s": p.latency_s,
            "interval_s": list(p.interval_s),
            "confidence": p.confidence,
            "extrapolated_share": p.extrapolated_share,
            "unlike": p.unlike,
            "unlike_share": p.unlike_share,
            "kernels": [
                {
                    "layer": label,
                    "op": kernel.op,
                    "in_channels": kernel.in_channels,
                    "out_channels": kernel.out_channels,
                    "in_size": list(kernel.in_size),
                    "out_size": list(kernel.out_size),
                    "kernel": list(kernel.kernel),
                    "stride": list(kernel.stride),
                    "groups": kernel.groups,
                    "fused_add": kernel.fused_add,
                    "latency_s": seconds,
                }
                for label, kernel, seconds in zip(
                    self.labels, self.kernels, p.kernels_s, strict=True
                )
            ],
        }


def predict(
    graph: Graph,
    device: DeviceSpec,
    confidence: float = 0.9,
    *,
    detector: Detector | None = None,
) -> NetworkPrediction:
    """Return the predicted latency of a graph on a device, or of a detector with this backbone.

    Raises:
        HwnasError: the device has no predictor yet.
        UsageError: the confidence is one that the predictor is not calibrated for.
    """
    graphs = [part.graph for part in attach(graph, detector)] if detector else [graph]
    kernels: list[Kernel] = []
    labels: list[str] = []
    for each in graphs:
        found = names(each)
        for i, kernel in fuse_layers(each, device.fusion):
            kernels.append(kernel)
            labels.append(found[i])
    prediction = load_predictor(device).predict(kernels, confidence)
    return NetworkPrediction(prediction, tuple(kernels), tuple(labels))


def load_predictor(device: DeviceSpec) -> Predictor:
    """Return a device's predictor.

    Raises:
        HwnasError: it has none yet; the message is the command that makes one.
    """
    found = shelf.entries("predictors").get(device.name)
    if found is None:
        place = device.connection or device.name
        named = "" if place == device.name else f" --name {device.name}"
        raise HwnasError(
            f"the device '{device.name}' has no predictor yet: measure it first, with "
            f"'hwnas profile --device {place}{named}' (about two minutes)."
        )
    return load(found)

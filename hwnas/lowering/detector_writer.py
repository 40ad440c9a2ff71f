"""A detector's graphs as torch modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..architecture.detectors import Detector, Part, attach
from ..architecture.genotype import Architecture, lower
from ..architecture.graph import INPUT, Graph
from ..errors import DeviceUnavailableError
from .weights import names

if TYPE_CHECKING:
    from .torch_detector import Network


def to_torch(architecture: Architecture, detector: Detector) -> dict[str, Network]:
    """Return the parts of a detector as torch modules by name: `image`, and those of regions.

    Each takes a batch of images, or of regions' features, and returns its outputs by name. Sizes
    follow the input, which may have any.

    Raises:
        DeviceUnavailableError: torch is not installed.
    """
    return {part.name: part_module(part) for part in attach(lower(architecture), detector)}


def part_module(part: Part) -> Network:
    """Return the torch module of one part.

    Raises:
        DeviceUnavailableError: torch is not installed.
    """
    try:
        from .torch_detector import DetectorRow, Network
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise DeviceUnavailableError(
            "a torch module needs torch, which is not installed: pip install 'hwnas[torch]'."
        ) from None
    return Network([DetectorRow(*row) for row in rows(part.graph)])


def rows(graph: Graph) -> list[tuple[Any, ...]]:
    """Return the table of layers that a `Network` is built from, without trailing defaults."""
    labels = names(graph)
    table = []
    for label, layer in zip(labels, graph.layers, strict=True):
        side = 1
        if layer.op in ("unflatten", "upsample", "interpolate") and len(layer.inputs) == 1:
            side = layer.out_size[0] // layer.in_size[0]
        table.append(
            (
                label,
                layer.op,
                tuple("images" if i == INPUT else labels[i] for i in layer.inputs),
                layer.in_channels,
                layer.out_channels,
                layer.kernel[0],
                layer.stride[0],
                layer.groups,
                layer.activation or "",
                layer.stage,
                layer.norm,
                layer.bias,
                layer.dilation,
                side,
                "" if layer.tied is None else labels[layer.tied],
            )
        )
    return table

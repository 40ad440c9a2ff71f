"""Whole detectors: what follows a backbone, as layers of the same graph, without NMS.

A detector is one short file that says which layers it adds behind the feature maps of a backbone.
Costs, kernels, the torch module, the ONNX files and what a search counts follow from these layers.
Layers and sizes are those of mmdetection's configurations.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

from ...errors import UsageError, did_you_mean
from ..builder import GraphBuilder, Tensor
from ..graph import Channels, Graph, Size
from .layers import GROUPS, Maps
from .regions import Regions

IMAGE = "image"
MAX_WIDTH = 4096
MAX_CLASSES = 100_000


class Detector(Protocol):
    """What is added to a backbone.

    `stages` are the feature maps that it reads. A layer must read at most one of them: then the
    costs of a detector are a constant and one term for each of these maps' channels.
    """

    @property
    def name(self) -> str:
        """The name that the command line knows."""

    @property
    def about(self) -> str:
        """One line about it."""

    @property
    def stages(self) -> tuple[int, ...]:
        """The feature maps that it reads, 2 to 5."""

    def image(self, b: GraphBuilder, maps: Maps) -> None:
        """Add the layers that look at the whole image, and their outputs, to a builder."""

    def regions(self) -> tuple[Regions, ...]:
        """Return the heads that look at regions of the image."""


@dataclass(frozen=True)
class Part:
    """One graph of a detector. Between the graphs, regions are proposed and cut out.

    The first, `image`, holds the backbone. A graph that looks at regions has a batch of `count`
    for each image.
    """

    name: str
    graph: Graph
    count: int = 1


def attach(backbone: Graph, detector: Detector) -> tuple[Part, ...]:
    """Return the graphs of a detector with a backbone, whose outputs it takes the place of.

    Args:
        backbone: a graph with the outputs that the detector reads.
        detector: what to add.
    """
    b = GraphBuilder(backbone.channels, backbone.size)
    place, maps = {-1: -1}, {}
    for i, layer in enumerate(backbone.layers):
        if layer.op == "output":
            source = backbone.layers[layer.inputs[0]]
            at = place[layer.inputs[0]]
            maps[layer.stage] = Tensor(at, source.out_channels, source.out_size)
            continue
        place[i] = len(b.layers)
        b.layers.append(layer._replace(inputs=tuple(place[j] for j in layer.inputs)))
    return _parts(b, detector, maps, backbone.batch)


def detached(
    detector: Detector, maps: dict[int, tuple[Channels, Size]], batch: int
) -> tuple[Part, ...]:
    """Return the graphs of a detector behind feature maps that come from elsewhere.

    Args:
        detector: what to lower.
        maps: channels and size of each feature map that it reads; arrays of channels do.
        batch: images at a time.
    """
    channels, size = next(iter(maps.values()))
    b = GraphBuilder(channels, size)
    tensors = {}
    for b.stage, (channels, size) in maps.items():
        tensors[b.stage] = b.source(channels, size)
    return _parts(b, detector, tensors, batch)


def _parts(b: GraphBuilder, detector: Detector, maps: Maps, batch: int) -> tuple[Part, ...]:
    detector.image(b, {stage: maps[stage] for stage in detector.stages})
    parts = [Part(IMAGE, b.build(batch=batch))]
    for regions in detector.regions():
        b = GraphBuilder(regions.channels, regions.size, stage=0)
        b.part, b.runs = regions.name, regions.count
        regions.build(b, b.input)
        parts.append(Part(regions.name, b.build(batch=batch * regions.count), regions.count))
    return tuple(parts)


def parse(text: str) -> Detector:
    """Return the detector that `NAME[:FIELD=NUMBER,...]` names, such as `gfl:width=192`.

    Raises:
        UsageError: there is none of that name, or it has no such field or value.
    """
    name, _, rest = text.partition(":")
    if name not in DETECTORS:
        raise UsageError(
            f"unknown detector '{name}'.{did_you_mean(name, DETECTORS)} "
            f"Known: {', '.join(DETECTORS)}."
        )
    kind = DETECTORS[name]
    known = [field.name for field in fields(kind)]
    values: dict[str, int] = {}
    for part in filter(None, rest.split(",")):
        key, _, number = part.partition("=")
        if key not in known or not number.isdecimal():
            raise UsageError(
                f"'{text}': '{part}' is not a field of {name}.{did_you_mean(key, known)} "
                f"Write {name}:FIELD=NUMBER,...; its fields are {', '.join(known)}."
            )
        values[key] = int(number)
        most = MAX_CLASSES if key == "classes" else MAX_WIDTH
        if not 1 <= values[key] <= most:
            raise UsageError(f"'{text}': {key} must lie between 1 and {most}.")
        if key == "width" and values[key] % GROUPS:
            raise UsageError(
                f"'{text}': width must be a multiple of {GROUPS}, the groups of its normalisations."
            )
    detector: Detector = kind(**values)
    return detector


def spelled(detector: Detector) -> str:
    """Return the text that `parse` reads, with the fields that differ from the defaults."""
    kind = DETECTORS[detector.name]
    differing = [
        f"{field.name}={getattr(detector, field.name)}"
        for field in fields(kind)
        if getattr(detector, field.name) != field.default
    ]
    return detector.name + (":" + ",".join(differing) if differing else "")


from .fcos import Fcos  # noqa: E402
from .gfl import Gfl  # noqa: E402
from .mask_rcnn import MaskRcnn  # noqa: E402
from .retinanet import RetinaNet  # noqa: E402
from .scnet import ScNet  # noqa: E402
from .ssdlite import SsdLite  # noqa: E402
from .yolof import Yolof  # noqa: E402

DETECTORS: dict[str, Any] = {
    kind.name: kind for kind in (RetinaNet, Fcos, Gfl, Yolof, SsdLite, MaskRcnn, ScNet)
}

"""A detector's graphs as torch modules, and as the source of ones that run without hwnas."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ..architecture.detectors import Detector, Part, attach
from ..architecture.genotype import Architecture, lower
from ..architecture.graph import Graph
from ..errors import DeviceUnavailableError
from .torch_writer import common_fields, joined
from .weights import names, output_name

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


def to_source(architecture: Architecture, detector: Detector) -> str:
    """Return one Python file that builds a detector's parts and imports nothing but torch."""
    tables = []
    parts = attach(lower(architecture), detector)
    for part in parts:
        lines = "\n".join(f"        DetectorRow{row!r}," for row in rows(part.graph))
        tables.append(f'    "{part.name}": (\n{lines}\n    ),')
    outputs = [output_name(o) for o in parts[0].graph.layers if o.op == "output"]
    about = [
        f"{architecture.name or 'backbone'} with the detector {detector.name}, written by hwnas. "
        "Depends on torch alone.",
        "",
        "    parts = detector()",
        f'    outputs = parts["image"](images)  # by name: {", ".join(outputs[:3])} ...',
    ]
    modules = [
        files(__package__).joinpath(f"{name}.py").read_text(encoding="utf-8")
        for name in ("torch_backbone", "torch_detector")
    ]
    imports, library = joined(modules)
    return (
        '"""' + "\n".join(about) + '\n"""\n\n'
        f"from __future__ import annotations\n\n{imports}\n\n\n{library}\n\n\n"
        f"PARTS = {{\n" + "\n".join(tables) + "\n}\n\n\n"
        "def detector() -> dict[str, Network]:\n"
        '    """Return the parts of the detector with fresh weights."""\n'
        "    return {name: Network(rows) for name, rows in PARTS.items()}\n"
    )


def rows(graph: Graph) -> list[tuple[Any, ...]]:
    """Return the table of layers that a `Network` is built from."""
    labels = names(graph)
    table = []
    for i, layer in enumerate(graph.layers):
        side = 1
        if layer.op in ("unflatten", "upsample", "interpolate") and len(layer.inputs) == 1:
            side = layer.out_size[0] // layer.in_size[0]
        tied = "" if layer.tied is None else labels[layer.tied]
        own = (layer.norm, layer.bias, layer.dilation, side, tied)
        table.append((*common_fields(i, graph, labels), *own))
    return table

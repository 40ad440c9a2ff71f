"""The graph as a torch module, and as the source of one that runs without hwnas."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ..architecture.genotype import Architecture, lower
from ..architecture.graph import INPUT
from ..errors import DeviceUnavailableError
from .weights import names

if TYPE_CHECKING:
    from .torch_backbone import Backbone


def to_torch(architecture: Architecture, out_indices: Sequence[int] = (0, 1, 2, 3)) -> Backbone:
    """Return the architecture as a torch module that returns feature maps C2 to C5.

    Raises:
        DeviceUnavailableError: torch is not installed.
        ValueError: `out_indices` are not among 0 to 3.
    """
    try:
        from .torch_backbone import Backbone, LayerRow
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise DeviceUnavailableError(
            "a torch module needs torch, which is not installed: pip install 'hwnas[torch]'."
        ) from None
    return Backbone([LayerRow(*row) for row in _rows(architecture)], out_indices)


def to_source(architecture: Architecture) -> str:
    """Return one Python file that builds the same module and imports nothing but torch."""
    library = files(__package__).joinpath("torch_backbone.py").read_text(encoding="utf-8")
    description = architecture.name or "backbone"
    _, _, code = library.partition("\n\n")
    table = "\n".join(f"    LayerRow{row!r}," for row in _rows(architecture))
    return (
        f'"""{description}: a detection backbone found by hwnas. Depends on torch alone.\n\n'
        "    model = backbone()\n"
        "    c2, c3, c4, c5 = model(images)\n"
        '"""\n\n'
        f"{code.rstrip()}\n\n\n"
        "# name, op, inputs, channels in, channels out, kernel, stride, groups, activation, stage\n"
        f"LAYERS = (\n{table}\n)\n\n\n"
        "def backbone(out_indices: Sequence[int] = (0, 1, 2, 3)) -> Backbone:\n"
        '    """Return the backbone with fresh weights."""\n'
        "    return Backbone(LAYERS, out_indices)\n"
    )


def _rows(architecture: Architecture) -> list[tuple[Any, ...]]:
    graph = lower(architecture)
    labels = names(graph)
    return [
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
            *(() if layer.norm or layer.op != "conv" else (False,)),
        )
        for label, layer in zip(labels, graph.layers, strict=True)
    ]

"""Arguments that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .render import say

if TYPE_CHECKING:
    from ..architecture.genotype import Architecture
    from ..architecture.graph import Graph, Size

DEFAULT_DEVICE = "v100-trt-fp16"

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")

device_option = click.option(
    "--device",
    metavar="NAME",
    help=f"A known device; by default $HWNAS_DEVICE, else {DEFAULT_DEVICE}.",
)


class _Resolution(click.ParamType):  # type: ignore[type-arg]
    name = "H|HxW"

    def convert(self, value: Any, param: Any, ctx: Any) -> Size:
        from ..units import parse_resolution

        return value if isinstance(value, tuple) else parse_resolution(value)


RESOLUTION = _Resolution()


def resolution_option(help: str) -> Callable[[F], F]:
    """Return the option --resolution."""
    return click.option("--resolution", type=RESOLUTION, metavar="H|HxW", help=help)


detector_option = click.option(
    "--detector",
    metavar="NAME[:FIELD=N,...]",
    help="Count the whole detector: retinanet, fcos, gfl, yolof, ssdlite, mask-rcnn or scnet; "
    "gfl:width=192,classes=20 for example.",
)


def resolve_device(name: str | None) -> str:
    """Return the device meant, and say which it is where the user named none."""
    if name:
        return name
    chosen = os.environ.get("HWNAS_DEVICE") or DEFAULT_DEVICE
    say(f"device {chosen} (change it with --device NAME or $HWNAS_DEVICE)")
    return chosen


def resolve_architecture(text: str) -> Architecture:
    """Return the architecture that ARCH names: of the zoo, in a file, or a run folder.

    A file holds JSON or a structure text of the reference toolbox. What the latter says otherwise
    is said on standard error.

    Raises:
        UsageError: it is none of these.
    """
    from ..architecture import genotype, zoo
    from ..errors import UsageError
    from ..integrations import tinynas

    path = Path(text)
    if path.is_dir():
        if not (path / "architecture.json").is_file():
            raise UsageError(
                f"{path} holds no architecture.json: it is not the folder of a finished search."
            )
        return genotype.load(path / "architecture.json")
    if path.suffix == ".txt" or tinynas.is_structure_file(path):
        structure = tinynas.load(path)
        for note in structure.notes:
            say(note)
        return structure.architecture
    if path.suffix == ".json" or path.is_file():
        return genotype.load(path)
    return zoo.get(text)


def resolve_graph(
    text: str,
    resolution: Size | None,
    batch: int | None,
    device: Any,
    dims: Sequence[str] = (),
) -> Graph:
    """Return the graph of MODEL.onnx or ARCH, by default at the device's resolution and batch.

    Raises:
        UsageError: it cannot be read, or leaves sizes open.
    """
    from ..errors import UsageError

    if Path(text).suffix == ".onnx":
        from ..lowering.onnx_reader import read

        return read(Path(text), resolution, batch, _dims(dims))
    if dims:
        raise UsageError("--dim names a size of an ONNX file; this is none.")
    from ..architecture.genotype import lower

    architecture = resolve_architecture(text)
    return lower(architecture, resolution or device.resolution, batch=batch or device.batch)


def _dims(texts: Sequence[str]) -> dict[str, int]:
    """Return sizes by name from NAME=SIZE."""
    from ..errors import UsageError

    found = {}
    for text in texts:
        name, _, size = text.rpartition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise UsageError(f"--dim is '{text}'; give NAME=SIZE, 'sequence=128' for example.")
        found[name] = int(size)
    return found

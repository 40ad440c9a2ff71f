"""`hwnas measure`: time a network on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import RESOLUTION, detector_option, json_option, resolve_architecture
from .render import emit, say

if TYPE_CHECKING:
    from ..architecture.graph import Size


@click.command("measure")
@click.argument("model")
@click.option(
    "--device",
    required=True,
    metavar="NAME|CONNECTION",
    help="cpu, a device of yours, or a connection.",
)
@click.option("--resolution", type=RESOLUTION, metavar="H|HxW", help="By default the device's.")
@click.option("--batch", type=int, help="Images at a time; by default the device's.")
@click.option(
    "--seconds", type=float, default=2.0, show_default=True, help="Least time to measure."
)
@detector_option
@json_option
def command(
    model: str,
    device: str,
    resolution: Size | None,
    batch: int | None,
    seconds: float,
    detector: str | None,
    as_json: bool,
) -> None:
    """Time MODEL: an ONNX file, an engine, a zoo name, a JSON or structure file, or a run."""
    from ..architecture.detectors import parse
    from ..units import format_seconds
    from ..workflows.measure import measure

    source: Any = (
        Path(model) if Path(model).suffix in (".onnx", ".engine") else resolve_architecture(model)
    )
    document = measure(
        source,
        device,
        resolution,
        batch,
        seconds,
        detector=parse(detector) if detector else None,
    )
    cooled = document.get("cool_down")
    if cooled and not cooled["reached"]:
        say(
            f"the device waited {format_seconds(cooled['waited_s'])} and did not cool down as far "
            "as it was to: its clocks may be lowered."
        )
    advice = document.get("clocks", {}).get("advice", "")
    if advice:
        say(advice)
    elif document["contended"]:
        say(
            "contended: other processes took part of the wall time "
            f"({format_seconds(document['wall_s'])}); the CPU time is reported."
        )
    if "with_transfers_s" in document:
        emit(document, _gpu(document), as_json)
        return
    parts = document.get("parts_s", {})
    how = (
        " + ".join(f"{name} {format_seconds(each)}" for name, each in parts.items())
        or f"median of {len(document['samples_s'])} runs"
    )
    text = (
        f"{format_seconds(document['latency_s'])} on {document['device']}: {how} "
        f"(wall {format_seconds(document['wall_s'])}, CPU {format_seconds(document['cpu_s'])})"
    )
    emit(document, text, as_json)


def _gpu(document: dict[str, Any]) -> str:
    """Return what a GPU took, in words."""
    from ..units import format_seconds

    def told(what: str, seconds: float | None) -> str:
        return f"; {what} {format_seconds(seconds)}" if seconds is not None else ""

    return (
        f"{format_seconds(document['latency_s'])} on {document['device']}: median of "
        f"{len(document['samples_s'])} runs by CUDA events"
        + told("with transfers", document["with_transfers_s"])
        + told("as a CUDA graph", document["cuda_graph_s"])
    )

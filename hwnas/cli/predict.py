"""`hwnas predict`: latency of a network on a device, without the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .arguments import (
    detector_option,
    device_option,
    json_option,
    resolution_option,
    resolve_device,
    resolve_graph,
)
from .render import emit, table

if TYPE_CHECKING:
    from ..architecture.graph import Size


@click.command("predict")
@click.argument("model")
@device_option
@resolution_option(help="Input HxW; by default the device's.")
@click.option("--batch", type=int, help="Images at a time; by default the device's.")
@click.option(
    "--dim",
    "dims",
    multiple=True,
    metavar="NAME=SIZE",
    help="A size that the ONNX file leaves open, by its name there; may be repeated.",
)
@click.option("--confidence", type=float, default=0.9, show_default=True, help="Of the interval.")
@detector_option
@click.option("--layers", is_flag=True, help="Print every kernel, not the ten longest.")
@json_option
def command(
    model: str,
    device: str | None,
    resolution: Size | None,
    batch: int | None,
    dims: tuple[str, ...],
    confidence: float,
    detector: str | None,
    layers: bool,
    as_json: bool,
) -> None:
    """Predict the latency of MODEL.

    MODEL is an ONNX file, a zoo name, a JSON or structure file, or a run folder.
    """
    from ..architecture.detectors import parse
    from ..devices import spec
    from ..errors import UsageError
    from ..units import format_seconds
    from ..workflows.predict import predict

    place = spec.load(resolve_device(device))
    graph = resolve_graph(model, resolution, batch, place, dims)
    if detector and graph.labels:
        raise UsageError("--detector goes with an architecture; an ONNX file is taken as it is.")
    result = predict(graph, place, confidence, detector=parse(detector) if detector else None)
    p = result.prediction
    low, high = map(format_seconds, p.interval_s)
    lines = [
        f"{format_seconds(p.latency_s)} per batch of {graph.batch} at "
        f"{graph.size[0]}x{graph.size[1]} on {place.name}, predicted",
        f"{confidence:.0%} interval {low} to {high}",
        f"{p.extrapolated_share:.1%} of the time on kernels unlike any measured",
    ]
    if p.unlike:
        named = ", ".join(f"{count} {op}" for op, count in sorted(p.unlike.items()))
        lines.append(
            f"never measured, answered by the roofline: {named}; "
            f"{p.unlike_share:.1%} of the time, by its estimate"
        )
    ordered = sorted(
        zip(p.kernels_s, result.labels, result.kernels, strict=True), key=lambda row: -row[0]
    )
    rows = [["time", "share", "layer", "op", "in", "out", "size", "kernel"]]
    for seconds, label, kernel in ordered if layers else ordered[:10]:
        rows.append(
            [
                format_seconds(seconds),
                f"{seconds / p.latency_s:.1%}",
                label,
                kernel.op + (" + add" if kernel.fused_add else ""),
                str(kernel.in_channels),
                str(kernel.out_channels),
                f"{kernel.out_size[0]}x{kernel.out_size[1]}",
                f"{kernel.kernel[0]}x{kernel.kernel[1]}",
            ]
        )
    lines += ["", table(rows)]
    emit(result.document(place, graph), "\n".join(lines), as_json)

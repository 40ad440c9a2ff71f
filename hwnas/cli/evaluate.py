"""`hwnas evaluate`: how good a predictor is, on your rows."""

from __future__ import annotations

from pathlib import Path

import click

from .arguments import device_option, json_option, resolve_device
from .render import emit, say


@click.command("evaluate")
@device_option
@click.option(
    "--kernels",
    type=click.Path(path_type=Path),
    required=True,
    help="A table of measured kernels, FILE.csv or FILE.csv.gz.",
)
@click.option("--confidence", type=float, default=0.9, show_default=True, help="Of the intervals.")
@json_option
def command(device: str | None, kernels: Path, confidence: float, as_json: bool) -> None:
    """Compare a device's predictor with measured kernels.

    The table has the columns type (Regular or Depthwise), batch, in_channels, in_height,
    in_width, out_channels, kernel, stride, fused_add and latency_ms.
    """
    from ..devices import spec
    from ..workflows.evaluate import evaluate

    place = spec.load(resolve_device(device))
    document = evaluate(kernels, place, confidence)
    for message in document["bad_rows"][:10]:
        say(f"left out, {message}")
    if len(document["bad_rows"]) > 10:
        say(f"left out, and {len(document['bad_rows']) - 10} more rows")
    text = (
        f"{document['rows']:,} kernels on {place.name}: MAPE {document['mape']:.2%}, "
        f"median {document['median_ape']:.2%}\n"
        f"within 5 % {document['within_5']:.1%}, 10 % {document['within_10']:.1%}, "
        f"20 % {document['within_20']:.1%}; Kendall tau {document['kendall_tau']:.4f}\n"
        f"{confidence:.0%} intervals cover {document['coverage']:.1%}"
    )
    emit(document, text, as_json)

"""`hwnas evaluate`: how good a predictor is, on your rows."""

from __future__ import annotations

from pathlib import Path

import click

from .arguments import device_option, json_option, resolve_device
from .render import emit
from .tables import bad_rows_option, format_option, tell_bad_rows


@click.command("evaluate")
@device_option
@click.option(
    "--kernels",
    type=click.Path(path_type=Path),
    required=True,
    help="A table of measured kernels: FILE.csv, FILE.txt or FILE.yaml, also packed by gzip.",
)
@click.option("--confidence", type=float, default=0.9, show_default=True, help="Of the intervals.")
@format_option
@bad_rows_option
@json_option
def command(
    device: str | None,
    kernels: Path,
    confidence: float,
    format_: str | None,
    bad_rows: str,
    as_json: bool,
) -> None:
    """Compare a device's predictor with measured kernels.

    A CSV has the columns type (Regular or Depthwise), batch, in_channels, in_height, in_width,
    out_channels, kernel, stride, fused_add and latency_ms; docs/tables.md has more, and the
    other formats.
    """
    from ..devices import spec
    from ..workflows.evaluate import evaluate

    place = spec.load(resolve_device(device))
    document = evaluate(kernels, place, confidence, format=format_, bad_rows=bad_rows)
    tell_bad_rows(document)
    text = (
        f"{document['rows']:,} {document['of']} on {place.name}: MAPE {document['mape']:.2%}, "
        f"median {document['median_ape']:.2%}\n"
        f"within 5 % {document['within_5']:.1%}, 10 % {document['within_10']:.1%}, "
        f"20 % {document['within_20']:.1%}; Kendall tau {document['kendall_tau']:.4f}\n"
        f"{confidence:.0%} intervals cover {document['coverage']:.1%}"
    )
    emit(document, text, as_json)

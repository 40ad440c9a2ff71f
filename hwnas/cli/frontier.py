"""`hwnas frontier`: the whole trade-off curve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import (
    detector_option,
    device_option,
    json_option,
    resolution_option,
    resolve_device,
)
from .progress import Bar
from .render import emit, say, table

if TYPE_CHECKING:
    from ..architecture.graph import Size


@click.command("frontier")
@device_option
@click.option("--from", "low", required=True, metavar="AMOUNT", help="Least budget, such as 5ms.")
@click.option("--to", "high", required=True, metavar="AMOUNT", help="Greatest budget.")
@click.option("--points", type=int, default=20, show_default=True)
@click.option(
    "--quantity",
    type=click.Choice(["latency", "flops", "params"]),
    default="latency",
    show_default=True,
    help="What the budgets limit.",
)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="QUANTITY=AMOUNT[@DEVICE]",
    help="A further limit that holds at every point; may be given several times.",
)
@click.option("--space", metavar="NAME|FILE", help="By default the device's.")
@resolution_option(help="Input HxW for costs; by default the device's.")
@detector_option
@click.option("--out", type=click.Path(path_type=Path), help="The folder to make.")
@json_option
def command(
    device: str | None,
    low: str,
    high: str,
    points: int,
    quantity: str,
    budgets: tuple[str, ...],
    space: str | None,
    resolution: Size | None,
    detector: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Find the best network under each of many budgets, each proven, and draw the curve.

    \b
    hwnas frontier --from 5ms --to 60ms --points 20
    hwnas frontier --quantity flops --from 1G --to 8G --resolution 224
    """
    from ..units import parse_amount
    from ..workflows.frontier import Span, frontier
    from ..workflows.problem import Request
    from ..workflows.runs import free_path

    span = Span(quantity, parse_amount(low, quantity), parse_amount(high, quantity), points)
    request = Request(budgets, resolve_device(device), space, resolution, detector=detector)
    folder = out or free_path("frontier", "frontiers")
    with Bar("search") as bar:
        document = frontier(request, span, folder, announce=_announce, report=bar.show)
    if not (Path(document["run"]) / "frontier.svg").exists():
        say("no picture: it needs matplotlib, pip install 'hwnas[plot]'")
    emit(document, _text(document), as_json)


def _announce(lines: list[str]) -> None:
    for line in lines:
        say(line)


def _text(document: dict[str, Any]) -> str:
    from ..units import format_amount

    quantity = document["quantity"]

    def cells(row: dict[str, Any]) -> list[str]:
        costs = row["costs"]
        return [
            f"{row['score']:.2f}",
            format_amount(costs["flops"], "flops"),
            format_amount(costs["params"], "params"),
            str(costs["layers"]),
        ]

    rows = [["budget", quantity, "score", "FLOPs", "params", "layers", "gap"]]
    for point in document["points"]:
        limit = format_amount(point["limit"], quantity)
        if not point["found"]:
            rows.append([limit, "none fits", "", "", "", "", ""])
            continue
        gap = "proven" if point["proven"] else f"{point['gap']:.2%}"
        rows.append([limit, format_amount(point["cost"], quantity), *cells(point), gap])
    lines = [table(rows)]
    if document["known"]:
        rows = [
            ["known", quantity, "score", "FLOPs", "params", "best at that cost", "FLOPs", "params"]
        ]
        for known in document["known"]:
            best = cells(known["best"])[:3] if known["best"]["found"] else ["", "", ""]
            cost = format_amount(known["cost"], quantity)
            rows.append([known["name"], cost, *cells(known)[:3], *best])
        lines += ["", table(rows)]
    proven = sum(point.get("proven", False) for point in document["points"])
    lines += [
        "",
        f"{proven} of {len(document['points'])} points proven in {document['elapsed_s']:.1f} s; "
        f"written to {document['run']}",
    ]
    return "\n".join(lines)

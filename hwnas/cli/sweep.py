"""`hwnas sweep`: searches over devices, budgets and seeds, on many workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import json_option
from .progress import Bar
from .render import emit, say, table

if TYPE_CHECKING:
    from ..parallel.orchestrator import Backend
    from ..workflows.problem import Question


@click.command("sweep")
@click.argument("spec", required=False, type=click.Path(path_type=Path), metavar="[SPEC.toml]")
@click.option("--workers", type=int, help="Processes; by default one a processor.")
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Use a Ray cluster: HOST:PORT, auto (the one running here) or local (start one).",
)
@click.option("--out", type=click.Path(path_type=Path), help="The folder to make.")
@click.option(
    "--resume", type=click.Path(path_type=Path), help="Go on with an interrupted sweep's folder."
)
@json_option
def command(
    spec: Path | None,
    workers: int | None,
    ray: str | None,
    out: Path | None,
    resume: Path | None,
    as_json: bool,
) -> None:
    """Search under every budget of SPEC.toml, for every device and seed that it lists.

    \b
    hwnas sweep examples/sweep.toml
    hwnas sweep --resume sweeps/sweep

    Ends with exit code 0 where every search found a network, or showed that none fits, and at
    least one found one; 3 where none fits anywhere; 1 where a search failed.
    """
    from ..parallel.pool import ProcessPool
    from ..parallel.ray_cluster import RayCluster
    from ..workflows.runs import free_path
    from ..workflows.sweep import check, resume_sweep, sweep
    from ..workflows.sweep_spec import load

    if ray is not None and workers is not None:
        raise click.UsageError("--workers is for processes here; with --ray leave it out.")

    backend: Backend = ProcessPool(workers) if ray is None else RayCluster(ray)
    with Bar("search") as bar:
        if resume is not None:
            if spec or out:
                raise click.UsageError("--resume takes everything from the sweep's folder.")
            document = resume_sweep(resume, backend, announce=_announce, report=bar.show)
        else:
            if spec is None:
                raise click.UsageError("give SPEC.toml, or --resume FOLDER.")
            folder = out or free_path(spec.stem, "sweeps")
            document = sweep(load(spec), folder, backend, announce=_announce, report=bar.show)
    emit(document, _text(document), as_json)
    check(document)


def _announce(questions: Sequence[Question]) -> None:
    say("; ".join(map(str, questions)))


def _text(document: dict[str, Any]) -> str:
    from ..units import format_amount

    head = ["device", "space", "budgets", "method", "seed", "score"]
    rows = [[*head, "FLOPs", "params", "layers", "cost"]]
    for entry in document["searches"]:
        cells = [
            entry["device"],
            entry["space"],
            " ".join(entry["asked"]),
            entry["method"],
            str(entry["seed"]),
        ]
        if entry["status"] == "found":
            costs = entry["costs"]
            cells += [
                f"{entry['score']:.2f}",
                format_amount(costs["flops"], "flops"),
                format_amount(costs["params"], "params"),
                str(costs["layers"]),
                _costs(entry, entry["budgets"]),
            ]
        elif entry["status"] == "infeasible":
            cheapest = _costs(entry, entry["cheapest"]["budgets"])
            cells += ["", "", "", "", f"none fits; cheapest: {cheapest}"]
        else:
            cells += ["", "", "", "", f"failed: {entry['error']['message']}"]
        rows.append(cells)
    told = [f"{len(document['searches'])} searches"]
    for status, what in (
        ("found", "found a network"),
        ("infeasible", "showed that none fits"),
        ("failed", "failed"),
    ):
        count = sum(entry["status"] == status for entry in document["searches"])
        told += [f"{count} {what}"] if count else []
    return f"{table(rows)}\n\n{', '.join(told)}; written to {document['run']}"


def _costs(entry: dict[str, Any], budgets: list[dict[str, Any]]) -> str:
    """Return what the budgets that were asked for cost; a device is named where it is another."""
    from ..units import format_amount

    texts = []
    for budget in budgets:
        text = format_amount(budget["cost"], budget["quantity"])
        if budget["quantity"] != "latency":
            text += f" {budget['quantity']}"
        elif budget["device"] != entry["device"]:
            text += f" on {budget['device']}"
        if budget["quantity"] != "layers":
            texts.append(text)
    return ", ".join(texts)

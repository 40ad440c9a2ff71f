"""`hwnas search`: the backbone of highest entropy under a budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import (
    device_option,
    json_option,
    resolution_option,
    resolve_architecture,
    resolve_device,
)
from .render import emit, say

if TYPE_CHECKING:
    from ..architecture.graph import Size
    from ..searchers.loop import Moment
    from ..workflows.problem import Problem


@click.command("search")
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="QUANTITY=AMOUNT[@DEVICE]",
    help="An upper limit, such as latency=20ms, flops=4.4G, params=26M, layers=91 or memory=64MB; "
    "may be given several times.",
)
@device_option
@click.option(
    "--space", metavar="NAME|FILE", help="resnet, mobile, or a TOML file; by default the device's."
)
@click.option("--method", default="evolution", show_default=True, help="evolution or random.")
@click.option(
    "--mutation",
    default="attributes",
    show_default=True,
    help="attributes, or paper (Algorithm 2).",
)
@click.option("--iterations", type=int, default=96_000, show_default=True)
@click.option("--population", type=int, default=256, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--start", metavar="ARCH", help="First member; by default the space's narrowest network."
)
@resolution_option(help="Input HxW for costs; by default the device's.")
@click.option("--entropy-resolution", default="384", show_default=True, metavar="H|HxW")
@click.option(
    "--alpha",
    default="0,0,1,1,6",
    show_default=True,
    help="Weights of the entropies of C1 to C5 (Eq. 5).",
)
@click.option(
    "--feature-size/--no-feature-size",
    default=False,
    help="Multiply each entropy by its feature map's size, as the paper's text says; its figures "
    "are reproduced without.",
)
@click.option(
    "--confidence",
    type=float,
    help="Keep the upper end of this interval of a predicted latency inside the budget, not the "
    "prediction alone; 0.95 for example.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The run folder to make.")
@click.option(
    "--resume", type=click.Path(path_type=Path), help="Go on with an interrupted run folder."
)
@json_option
def command(
    budgets: tuple[str, ...],
    device: str | None,
    space: str | None,
    method: str,
    mutation: str,
    iterations: int,
    population: int,
    seed: int,
    start: str | None,
    resolution: Size | None,
    entropy_resolution: str,
    alpha: str,
    feature_size: bool,
    confidence: float | None,
    out: Path | None,
    resume: Path | None,
    as_json: bool,
) -> None:
    """Search the backbone of highest multi-scale entropy under the budgets.

    \b
    hwnas search --budget latency=20ms
    hwnas search --budget flops=4.4G --resolution 224 --space resnet
    """
    from ..architecture.genotype import to_document
    from ..units import parse_resolution
    from ..workflows.problem import Request
    from ..workflows.search import Settings, resume_search, search

    if resume is not None:
        if budgets or out:
            raise click.UsageError("--resume takes everything from the run folder.")
        result = resume_search(resume, announce=_announce, report=_Bar())
    else:
        settings = Settings(
            method,
            mutation,
            iterations,
            population,
            seed,
            to_document(resolve_architecture(start)) if start else None,
        )
        request = Request(
            budgets,
            resolve_device(device),
            space,
            resolution,
            parse_resolution(entropy_resolution),
            _alpha(alpha),
            feature_size,
            confidence,
        )
        result = search(request, settings, out, announce=_announce, report=_Bar(iterations))
    emit(result.document, _text(result.document), as_json)


def _alpha(text: str) -> tuple[float, ...]:
    try:
        weights = tuple(float(part) for part in text.replace(":", ",").split(","))
    except ValueError:
        weights = ()
    if len(weights) != 5 or not all(0 <= w < float("inf") for w in weights) or not any(weights):
        raise click.BadParameter(
            f"'{text}' is not five weights, such as 0,0,1,1,6.", param_hint="--alpha"
        )
    return weights


def _announce(problem: Problem) -> None:
    for line in problem.understood():
        say(line)


class _Bar:
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(self, total: int | None = None) -> None:
        self._total = total
        self._bar: Any = None

    def __call__(self, moment: Moment) -> None:
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=self._total, unit="it", leave=False)
        self._bar.set_postfix_str(f"score {moment.score:.2f}", refresh=False)
        self._bar.update(moment.iteration - self._bar.n)
        if moment.iteration == self._total:
            self._bar.close()


def _text(document: dict[str, Any]) -> str:
    from ..budgets import Budget
    from ..units import format_amount
    from .show import rows_table

    lines = [rows_table(document["architecture"]), ""]
    lines.append(f"score {document['score']:.2f} after {document['evaluations']:,} evaluations")
    for budget in document["budgets"]:
        limit = Budget(budget["quantity"], budget["limit"], budget["device"])
        cost = f"{budget['quantity']} {format_amount(budget['cost'], budget['quantity'])}"
        if "interval" in budget:
            low, high = (format_amount(end, budget["quantity"]) for end in budget["interval"])
            cost += f" ({budget['confidence'] * 100:g}% interval {low} to {high})"
        lines.append(f"{cost}, the budget was {str(limit).partition('<= ')[2]}")
    costs = document["costs"]
    lines.append(
        f"{format_amount(costs['flops'], 'flops')} FLOPs, "
        f"{format_amount(costs['params'], 'params')} parameters, {costs['layers']} layers"
    )
    lines.append(f"{document['elapsed_s']:.2f} s; written to {document['run']}")
    return "\n".join(lines)

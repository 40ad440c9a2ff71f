"""`hwnas search`: the backbone of highest entropy under a budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import (
    RESOLUTION,
    detector_option,
    device_option,
    json_option,
    resolution_option,
    resolve_architecture,
    resolve_device,
)
from .progress import Bar
from .render import emit, say, score_text

if TYPE_CHECKING:
    from ..architecture.graph import Size
    from ..searchers.loop import Moment


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
    "--space",
    metavar="NAME|FILE",
    help="resnet, mobile, mobile-se, resnet-basic, mixed, or a TOML file; the device's by default.",
)
@click.option(
    "--method",
    default="auto",
    show_default=True,
    help="certified: the optimum, proven. evolution; random. auto: certified, but evolution where "
    "a budget is not additive (memory) or an option of evolution is given.",
)
@click.option(
    "--alternatives",
    type=int,
    default=1,
    show_default=True,
    help="Certified: how many different architectures near the optimum, it included.",
)
@click.option(
    "--score",
    default="entropy",
    show_default=True,
    help="What is maximised: entropy, madnas, deepmad, params, flops, random; with torch: zen, "
    "naswot, synflow, grad-norm (docs/scores.md). Only the entropy's optimum can be proven.",
)
@click.option("--mutation", help="Evolution: attributes (default), or paper (Algorithm 2).")
@click.option(
    "--iterations",
    type=int,
    help="Evolution, random: 96000 by default; 2000 for a score with torch.",
)
@click.option("--population", type=int, help="Evolution: 256 by default; 8 for a score with torch.")
@click.option("--seed", type=int, default=0, show_default=True, help="Evolution, random.")
@click.option(
    "--start",
    metavar="ARCH",
    help="Evolution: first member; by default the space's narrowest network.",
)
@resolution_option(help="Input HxW for costs; by default the device's.")
@click.option(
    "--score-resolution",
    "--entropy-resolution",
    "score_resolution",
    type=RESOLUTION,
    metavar="H|HxW",
    help="Image that the score is taken at; by default the score's own, 384 for the entropy.",
)
@click.option(
    "--alpha",
    help="Weights of C1 to C5 (Eq. 5), by default the score's own: 0,0,1,1,6 for the entropy.",
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
@detector_option
@click.option(
    "--verify",
    is_flag=True,
    help="Time the result on the device, correct the prediction by it and search again, until the "
    "measured latency is within the budget and at least 97 % of it.",
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
    score: str,
    alternatives: int,
    mutation: str | None,
    iterations: int | None,
    population: int | None,
    seed: int,
    start: str | None,
    resolution: Size | None,
    score_resolution: Size | None,
    alpha: str | None,
    feature_size: bool,
    confidence: float | None,
    detector: str | None,
    verify: bool,
    out: Path | None,
    resume: Path | None,
    as_json: bool,
) -> None:
    """Search the backbone of highest score, by default multi-scale entropy, under the budgets.

    \b
    hwnas search --budget latency=20ms
    hwnas search --budget flops=4.4G --resolution 224 --space resnet
    """
    from ..architecture.genotype import to_document
    from ..workflows.problem import Request
    from ..workflows.search import Settings, affordable, resume_search, search
    from ..workflows.verify import check, verified_search

    if resume is not None:
        if budgets or out or verify:
            raise click.UsageError("--resume takes everything from the run folder.")
        with Bar("it") as bar:
            result = resume_search(resume, announce=_announce, report=_reporter(bar, None))
    else:
        settings = Settings(
            method,
            mutation,
            iterations,
            population,
            seed,
            to_document(resolve_architecture(start)) if start else None,
            alternatives,
        )
        request = Request(
            budgets,
            resolve_device(device),
            space,
            resolution,
            score,
            score_resolution,
            _alpha(alpha) if alpha is not None else None,
            feature_size,
            confidence,
            detector=detector,
        )
        with Bar("it") as bar:
            report = _reporter(bar, settings.iterations or affordable(score)[0])
            if verify:
                result = verified_search(
                    request, settings, out, announce=_announce, report=report, tell=_tell
                )
            else:
                result = search(request, settings, out, announce=_announce, report=report)
    emit(result.document, _text(result.document), as_json)
    if verify:
        check(result.document)


def _reporter(bar: Bar, total: int | None) -> Callable[[Moment], None]:
    def report(moment: Moment) -> None:
        if moment.iteration > 1:  # the first is the network that a search starts from
            bar.show(moment.iteration, total, f"score {moment.score:.2f}")

    return report


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


def _announce(lines: list[str]) -> None:
    for line in lines:
        say(line)


def _tell(told: dict[str, Any]) -> None:
    """Say how a round of verification went."""
    from ..units import format_seconds

    for device, timed in told["devices"].items():
        measured, predicted = timed["measured_s"], timed["predicted_s"]
        say(
            f"score {told['score']:.2f}: {format_seconds(measured)} measured on {device}, "
            f"{format_seconds(predicted)} predicted; {measured / timed['limit_s']:.1%} of the "
            "budget" + (" (the machine is busy)" if timed["contended"] else "")
        )


def _text(document: dict[str, Any]) -> str:
    from ..budgets import Budget
    from ..units import format_amount
    from .show import rows_table

    lines = [rows_table(document["architecture"]), ""]
    lines.append(_verdict(document))
    for budget in document["budgets"]:
        limit = Budget(budget["quantity"], budget["limit"], budget["device"])
        cost = f"{budget['quantity']} {format_amount(budget['cost'], budget['quantity'])}"
        if "interval" in budget:
            low, high = (format_amount(end, budget["quantity"]) for end in budget["interval"])
            cost += f" ({budget['confidence'] * 100:g}% interval {low} to {high})"
        lines.append(f"{cost}, the budget was {str(limit).partition('<= ')[2]}")
    costs = document["costs"]
    whole = f"; {document['detector']} included" if document.get("detector") else ""
    lines.append(
        f"{format_amount(costs['flops'], 'flops')} FLOPs, "
        f"{format_amount(costs['params'], 'params')} parameters, {costs['layers']} layers{whole}"
    )
    for number, other in enumerate(document.get("alternatives", []), 2):
        costs = other["costs"]
        lines += [
            "",
            f"alternative {number}: score {other['score']:.2f}, {_below(other['gap'])}, "
            f"{format_amount(costs['flops'], 'flops')} FLOPs, "
            f"{format_amount(costs['params'], 'params')} parameters; {other['file']}",
            rows_table(other["architecture"]),
        ]
    if "verification" in document:
        lines.append(_verified(document["verification"]))
    lines.append(f"{document['elapsed_s']:.2f} s; written to {document['run']}")
    return "\n".join(lines)


def _verdict(document: dict[str, Any]) -> str:
    """Say how good the score is."""
    if document["upper_bound"] is None:
        name, each = document["score_name"], document["cpu_s"] / document["evaluations"]
        return (
            f"{name} {score_text(name, document['score'])}, "
            f"entropy {document['entropy']['score']:.2f}, after {document['evaluations']:,} "
            f"evaluations of {1e3 * each:.3g} ms each"
        )
    score, ignored = f"score {document['score']:.2f}", document["bound_ignores"]
    if document["method"] != "certified":
        score += f" after {document['evaluations']:,} evaluations"
    if document["proven"]:
        best = "no architecture of this space under these budgets scores higher"
        if document.get("binding") is False:
            layers = next(b["limit"] for b in document["budgets"] if b["quantity"] == "layers")
            best += f", nor without them, but for the limit of {layers:g} layers"
        return f"{score}: {best}"
    bound = f"{_below(document['gap'])} (bound {document['upper_bound']:.2f})"
    return f"{score}: {bound}" + (f"; the bound ignores {', '.join(ignored)}" if ignored else "")


def _verified(verification: dict[str, Any]) -> str:
    """Say what was measured, and why the search ended there."""
    from ..units import format_seconds

    count = len(verification["rounds"])
    told = verification["rounds"][verification["round"] - 1]
    shares = ", ".join(
        f"{format_seconds(timed['measured_s'])} on {device}, "
        f"{timed['measured_s'] / timed['limit_s']:.1%} of the budget"
        for device, timed in told["devices"].items()
    )
    ended = {
        "kept": f"after {count} round" + "s" * (count > 1),
        "unused": "space and budgets do not let it use more"
        if verification["repeated"]
        else f"gave up after {count} rounds to use more of it",
        "over": f"gave up after {count} rounds",
    }[verification["verdict"]]
    return f"measured {shares}; {ended}"


def _below(gap: float) -> str:
    return f"within {max(gap, 1e-4):.2%} of the best possible"

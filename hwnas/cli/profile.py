"""`hwnas profile`: measure a device and fit its predictor, or exchange its table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import json_option
from .progress import Bar
from .render import emit
from .tables import (
    EXCHANGING,
    IMPORTING,
    MEASURING,
    export_table,
    import_table,
    refuse_options,
    table_options,
)

if TYPE_CHECKING:
    from ..profiling.session import Step


@click.command("profile")
@click.option(
    "--device",
    metavar="CONNECTION",
    help="cpu: this machine; 'hwnas doctor' lists others. With --export a known device.",
)
@click.option(
    "--name", default="", help="What to call the device; by default as its connection or its table."
)
@click.option("--minutes", type=float, default=2.0, show_default=True, help="Time to measure.")
@click.option("--networks", type=int, help="Measure no more networks than these.")
@click.option(
    "--from",
    "from_",
    metavar="DEVICE",
    default="",
    help="Adapt the predictor of a known device to whole-network times; any: the most similar.",
)
@click.option("--threads", type=int, help="Of a network; by default the device's.")
@click.option(
    "--optimization",
    metavar="all|basic",
    help="onnxruntime's graph optimisation; by default the device's.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses the networks.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted profile.")
@table_options
@json_option
def command(
    device: str | None,
    name: str,
    minutes: float,
    networks: int | None,
    from_: str,
    threads: int | None,
    optimization: str | None,
    seed: int,
    resume: bool,
    import_: Path | None,
    export: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure networks on a device, fit its predictor, and say how good it is.

    With --import, fit the predictor to a table of measured kernels instead; with --export, write
    a profile as such a table. docs/tables.md shows the formats.
    """
    if import_ and export:
        raise click.UsageError("give --import or --export, not both.")
    exchange = {name: options[name] for name in EXCHANGING}
    if import_:
        if device:
            raise click.UsageError("a table has no connection: name its device by --name NAME.")
        refuse_options(MEASURING, "--device CONNECTION")
        import_table(import_, name, as_json, **options)
        return
    if export:
        refuse_options(MEASURING, "--device CONNECTION")
        refuse_options(IMPORTING, "--import FILE")
        export_table(export, device, as_json, **exchange)
        return
    refuse_options((*IMPORTING[2:], *EXCHANGING), "--import FILE or --export FILE")
    if not device:
        raise click.UsageError(
            "say what to measure: --device cpu; or --import FILE to fit a predictor to a table."
        )
    from ..workflows.profile import Plan, profile

    plan = Plan(
        device,
        minutes,
        name,
        threads,
        options["precision"],
        optimization,
        networks,
        from_,
        seed,
        resume,
    )
    with Bar("s") as bar:

        def report(step: Step) -> None:
            spent_s = min(step.spent_s, 60 * minutes)
            bar.show(round(spent_s), round(60 * minutes), f"{step.networks} networks")

        _, document = profile(plan, report=report)
    text = (
        f"{document['networks']} networks, {document['kernels']:,} kernels "
        f"in {document['elapsed_s']:.0f} s"
    )
    for told, which in (
        (document["accuracy"], ""),
        (document["accuracy_calm"], " calmly measured"),
    ):
        if told is not None:
            text += (
                f"\non {told['networks']}{which} networks held out: MAPE {told['mape']:.2%}, "
                f"within 5 % {told['within_5']:.1%}, within 10 % {told['within_10']:.1%}"
            )
    text += f"\npredictor written to {document['predictor']}"
    if document["adapted_from"]:
        text += f"\nadapted from {document['adapted_from']}; its intervals rest on these networks"
    if document["contended_networks"] or document["networks_left_out"]:
        text += (
            f"\nthe machine was busy during {document['contended_networks']} networks (their CPU "
            f"time counts); {document['networks_left_out']} were left out or measured again"
        )
    emit(document, text, as_json)

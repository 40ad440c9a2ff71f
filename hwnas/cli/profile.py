"""`hwnas profile`: measure a device and fit its predictor, or exchange its table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import json_option
from .farm import profile_farm
from .profile_text import predictor_text, told
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
@click.option(
    "--devices",
    type=click.Path(path_type=Path),
    metavar="FARM.toml",
    help="Measure many devices at once; docs/farm.md shows the file.",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="With --devices: on a Ray cluster, HOST:PORT, auto (the one running here) or local.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="With --devices: the folder to make.",
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[FOLDER]",
    help="Go on with an interrupted profile, or with the folder of --devices.",
)
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
    devices: Path | None,
    ray: str | None,
    out: Path | None,
    resume: str | None,
    import_: Path | None,
    export: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure networks on a device, fit its predictor, and say how good it is.

    With --devices, measure on many devices at once, and share the work among those of one kind.
    With --import, fit the predictor to a table of measured kernels instead; with --export, write
    a profile as such a table. docs/tables.md shows the formats.
    """
    if devices or resume:
        if device or import_ or export:
            raise click.UsageError("--devices, --resume FOLDER and --device exclude each other.")
        if resume == "":
            raise click.UsageError(
                "a farm goes on with --resume FOLDER alone; leave --devices out."
            )
        profile_farm(devices, Path(resume) if resume else None, ray, out, minutes, as_json)
        return
    refuse_options(("ray", "out"), "--devices FARM.toml or --resume FOLDER")
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
            "say what to measure: --device cpu, or --devices FARM.toml; or --import FILE to fit a "
            "predictor to a table."
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
        resume is not None,
    )
    with Bar("s") as bar:

        def report(step: Step) -> None:
            spent_s = min(step.spent_s, 60 * minutes)
            bar.show(round(spent_s), round(60 * minutes), f"{step.networks} networks")

        _, document = profile(plan, report=report)
    took = f"in {document['elapsed_s']:.0f} s"
    emit(document, f"{told(document, took)}\n{predictor_text(document)}", as_json)

"""`hwnas devices`: known devices, and new ones."""

from __future__ import annotations

from pathlib import Path

import click

from .arguments import json_option
from .render import broken_text, emit, table


@click.group("devices")
def command() -> None:
    """List, show, check and add devices."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the devices and whether each has a predictor."""
    from dataclasses import asdict

    from ..devices import spec
    from ..store import shelf

    predicted = shelf.entries("predictors")
    known, malformed = spec.known()
    broken = [asdict(each) for each in malformed]
    rows = [["name", "predictor", "about"]]
    rows += [[d.name, "yes" if d.name in predicted else "no", d.about] for d in known]
    entries = [{"name": d.name, "about": d.about, "predictor": d.name in predicted} for d in known]
    document = {"schema": "hwnas.devices/1", "devices": entries, "broken": broken}
    emit(document, "\n".join([table(rows), *broken_text(broken)]), as_json)


@command.command("show")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a device and the card of its predictor."""
    from dataclasses import asdict

    from ..devices import spec
    from ..latency import predictor
    from ..store import shelf

    device = spec.load(name)
    document = {"schema": "hwnas.device-card/1", "device": asdict(device), "predictor": None}
    lines = [f"{key:11} {value}" for key, value in asdict(device).items() if key != "schema"]
    found = shelf.entries("predictors").get(name)
    if found is not None:
        card = predictor.load(found).card
        document["predictor"] = asdict(card)
        lines += [f"runtime     {card.runtime}"]
        lines += [
            f"{where}: MAPE {told['mape']:.2%}, within 5 % {told['within_5']:.1%}, "
            f"within 10 % {told['within_10']:.1%} of {told['rows']:,.0f}"
            for where, told in card.accuracy.items()
        ]
        lines += [f"{key}: {value}" for key, value in card.provenance.items()]
    emit(document, "\n".join(lines), as_json)


@command.command("check")
@click.argument("name", metavar="NAME|CONNECTION")
@json_option
def check(name: str, as_json: bool) -> None:
    """Connect to a device and run the smallest network on it."""
    from ..units import format_seconds
    from ..workflows.devices import check as checked

    told = checked(name)
    kernels = f"{told['kernels']} kernels told apart" if told["kernels"] else "whole networks only"
    advice = (
        "it has a predictor"
        if told["predictor"]
        else f"no predictor yet: hwnas profile --device {name}"
    )
    lines = [f"{told['device']} runs: {format_seconds(told['latency_s'])}, {kernels}; {advice}"]
    lines += [f"{key:12} {value}" for key, value in told["environment"].items()]
    emit(told, "\n".join(lines), as_json)


@command.command("add")
@click.argument("connection", metavar="CONNECTION|NAME")
@click.option("--name", default="", help="What to call it; by default as its connection.")
@click.option("--threads", type=int, help="Of a network; by default one.")
@click.option("--precision", metavar="fp32|int8", help="By default fp32.")
@click.option(
    "--cores", help="Of a phone or board, '0-3'; fastest, the default: the fastest, one a thread."
)
@click.option(
    "--cool-down",
    "cool_down_c",
    type=float,
    metavar="CELSIUS",
    help="Before each measurement a phone or board waits until it is cooler, two minutes at most; "
    "0: no waiting.",
)
@json_option
def add(
    connection: str,
    name: str,
    threads: int | None,
    precision: str | None,
    cores: str | None,
    cool_down_c: float | None,
    as_json: bool,
) -> None:
    """Put a device on your shelf without measuring it: cpu, openvino, onnxruntime:xnnpack ...

    'hwnas measure' then takes its name; 'hwnas profile' fits a predictor to it. By the NAME of a
    device on your shelf its cores and its cool-down are changed.
    """
    from ..workflows.devices import add as added

    called, path = added(connection, name, threads, precision, cores=cores, cool_down_c=cool_down_c)
    document = {"schema": "hwnas.device-added/1", "device": called, "path": str(path)}
    emit(document, f"{called} written to {path}", as_json)


@command.command("runner")
@click.argument("package", type=click.Path(exists=True, path_type=Path))
@click.option("--abi", default="arm64-v8a", show_default=True, help="The phone's machine.")
@click.option(
    "--ndk",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of Android's NDK; by default $ANDROID_NDK_HOME, or below $ANDROID_HOME.",
)
@click.option("--cc", default="", metavar="COMMAND", help="Another C compiler for that machine.")
@json_option
def runner(package: Path, abi: str, ndk: Path | None, cc: str, as_json: bool) -> None:
    """Compile what times networks on phones and boards, against an onnxruntime.

    PACKAGE is onnxruntime's Android package, onnxruntime-android-VERSION.aar, or its unpacked
    folder, or a board's release; docs/android.md and docs/boards.md say where they are. The runner
    and its onnxruntime go to your shelf, and to a phone or board when it is first measured.
    """
    from ..devices.remote import runners

    folder = runners.build(package, abi, ndk, cc)
    document = {"schema": "hwnas.runner-built/1", "abi": abi, "path": str(folder)}
    emit(document, f"runner for {abi} written to {folder}", as_json)

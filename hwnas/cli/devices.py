"""`hwnas devices`: known devices."""

from __future__ import annotations

import click

from .arguments import json_option
from .render import emit, table


@click.group("devices")
def command() -> None:
    """List and show known devices."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the devices and whether each has a predictor."""
    from ..devices import spec
    from ..store import shelf

    predicted = shelf.entries("predictors")
    known = [spec.load(name) for name in spec.names()]
    rows = [["name", "predictor", "about"]]
    rows += [[d.name, "yes" if d.name in predicted else "no", d.about] for d in known]
    entries = [{"name": d.name, "about": d.about, "predictor": d.name in predicted} for d in known]
    emit({"schema": "hwnas.devices/1", "devices": entries}, table(rows), as_json)


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

"""`hwnas doctor`: what this machine has, what it lacks, and the commands that mend it."""

from __future__ import annotations

import click

from .arguments import json_option
from .render import broken_text, emit, table


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Say which devices can be reached, and what is missing for the others.

    Nothing is measured: 'hwnas devices check NAME' runs a network.
    """
    from ..workflows.devices import doctor

    told = doctor()
    shelf = told["shelf"]
    lines = [
        f"hwnas {told['hwnas']}, Python {told['python']}, onnxruntime {told['onnxruntime']}",
        f"shelf {shelf['path']}"
        + ("" if shelf["writable"] else ", which cannot be written: set HWNAS_HOME to another"),
        "",
        table(
            [["connection", "", "about, or what is missing"]]
            + [
                [c["connection"], "yes" if c["reachable"] else "no", c["missing"] or c["about"]]
                for c in told["connections"]
            ]
        ),
        "",
        table(
            [["extra", "version", "for, or how to get it"]]
            + [[e["name"], e["version"], e["mend"] or e["for"]] for e in told["extras"]]
        ),
        "",
        table(
            [["program", "", "for, or how to get it"]]
            + [
                [p["name"], "yes" if p["path"] else "no", p["mend"] or p["for"]]
                for p in told["programs"]
            ]
        ),
        "",
        *(
            f"{device['name']} has no predictor yet: hwnas profile --device {device['name']}"
            for device in told["devices"]
            if device["connection"] and not device["predictor"]
        ),
        *broken_text(told["broken"]),
    ]
    emit(told, "\n".join(lines).rstrip(), as_json)

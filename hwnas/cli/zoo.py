"""`hwnas zoo`: known architectures."""

from __future__ import annotations

from typing import Any

import click

from .arguments import json_option
from .render import emit, table


@click.command("zoo")
@json_option
def command(as_json: bool) -> None:
    """List the known architectures, costs at 224x224."""
    from .. import costs
    from ..architecture import lower, zoo
    from ..units import format_amount

    entries: list[dict[str, Any]] = []
    rows = [["name", "FLOPs", "params", "layers", "about"]]
    for name in zoo.names():
        graph = lower(zoo.get(name), (224, 224))
        flops, params = costs.flops(graph), costs.total_params(graph)
        layers = costs.main_layers(graph)
        entries.append(
            {
                "name": name,
                "about": zoo.about(name),
                "flops": flops,
                "params": params,
                "layers": layers,
            }
        )
        rows.append(
            [
                name,
                format_amount(flops, "flops"),
                format_amount(params, "params"),
                str(layers),
                zoo.about(name),
            ]
        )
    emit(
        {"schema": "hwnas.zoo/1", "resolution": [224, 224], "entries": entries},
        table(rows),
        as_json,
    )

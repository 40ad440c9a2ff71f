"""`hwnas show`: an architecture's shape, costs and entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .arguments import RESOLUTION, json_option, resolution_option, resolve_architecture
from .render import emit, table

if TYPE_CHECKING:
    from ..architecture.graph import Size


@click.command("show")
@click.argument("arch")
@resolution_option(help="Input HxW for FLOPs and memory; 224 by default.")
@click.option(
    "--batch", type=int, default=1, show_default=True, help="Images at a time, for memory."
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Of the activations, for memory.",
)
@click.option(
    "--flops-convention",
    type=click.Choice(["conv", "mmcv"]),
    default="conv",
    show_default=True,
    help="conv: multiply-adds of convolutions; mmcv: as the paper's tables count.",
)
@click.option(
    "--entropy-resolution", type=RESOLUTION, default="384", show_default=True, metavar="H|HxW"
)
@json_option
def command(
    arch: str,
    resolution: Size | None,
    batch: int,
    precision: str,
    flops_convention: str,
    entropy_resolution: Size,
    as_json: bool,
) -> None:
    """Show ARCH: a zoo name, a JSON file, or a run folder."""
    from .. import costs
    from ..architecture import lower, to_document
    from ..devices.spec import BYTES_PER_VALUE
    from ..scores.entropy import EntropyScore
    from ..units import format_amount

    architecture = resolve_architecture(arch)
    size = resolution or (224, 224)
    graph = lower(architecture, size, batch=batch)
    rule = architecture.flops_rule
    flops = costs.mmcv_flops(graph, rule) if flops_convention == "mmcv" else costs.flops(graph)
    memory = costs.peak_memory_bytes(graph, bytes_per_value=BYTES_PER_VALUE[precision])
    entropy = EntropyScore(resolution=entropy_resolution)(architecture)
    outputs = {stage: layer.out_channels for stage, layer in graph.outputs().items()}
    outputs[1] = next(
        layer.out_channels for layer in reversed(graph.layers) if layer.stage == 1 and layer.main
    )
    document: dict[str, Any] = {
        "schema": "hwnas.show/1",
        "name": architecture.name,
        "resolution": list(size),
        "batch": batch,
        "flops": flops,
        "flops_convention": flops_convention,
        "flops_rule": rule if flops_convention == "mmcv" else None,
        "params": costs.total_params(graph),
        "layers": costs.main_layers(graph),
        "memory_bytes": memory,
        "memory_precision": precision,
        "entropy": {
            "resolution": list(entropy_resolution),
            "stages": list(entropy.stages),
            "score": entropy.score,
        },
        "stages": [
            {
                "channels": outputs[stage],
                "stride": 2**stage,
                "depth": sum(row.depth for row in rows),
            }
            for stage, rows in enumerate(architecture.stages, 1)
        ],
        "architecture": to_document(architecture),
    }
    counted = "multiply-adds" if flops_convention == "conv" else f"as mmcv counts ({rule})"
    lines = [
        rows_table(document["architecture"]),
        "",
        f"FLOPs    {format_amount(flops, 'flops')} at {size[0]}x{size[1]}, {counted}",
        f"params   {format_amount(document['params'], 'params')}",
        f"layers   {document['layers']}",
        f"memory   {format_amount(memory, 'memory')} of activations at its peak, "
        f"batch {batch}, {precision}",
        f"entropy  {entropy.score:.2f} at {entropy_resolution[0]}x{entropy_resolution[1]}: "
        + ", ".join(f"C{i} {h:.2f}" for i, h in enumerate(entropy.stages, 1)),
    ]
    emit(document, "\n".join(lines), as_json)


def rows_table(document: dict[str, Any]) -> str:
    """Return an architecture's rows as the paper's tables have them."""
    from ..architecture.families import family

    stem = document["stem"]
    rows = [["stage", "family", "kernel", "out", "inner", "stride", "blocks"]]
    rows.append(["C1", "conv", str(stem["kernel"]), str(stem["channels"]), "", "2", "1"])
    for number, stage in enumerate(document["stages"], 1):
        for row in stage:
            keys = ("kernel", "out", family(row["family"]).inner, "stride", "depth")
            rows.append([f"C{number}", row["family"], *(str(row[key]) for key in keys)])
    if document.get("head"):
        rows.append(["C5", "conv", "1", str(document["head"]), "", "1", "1"])
    return table(rows)

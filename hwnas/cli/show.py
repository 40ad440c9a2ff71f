"""`hwnas show`: an architecture's shape, costs and entropy; or what a space allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .arguments import (
    RESOLUTION,
    detector_option,
    json_option,
    resolution_option,
    resolve_architecture,
)
from .render import emit, score_text, table

if TYPE_CHECKING:
    from ..architecture.graph import Size


@click.command("show")
@click.argument("arch", required=False)
@click.option("--space", metavar="NAME|FILE", help="Show a search space instead: what it allows.")
@click.option(
    "--device",
    metavar="NAME",
    help="With --space: as a search on this device takes it, widths aligned to its kernels.",
)
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
@click.option("--score", help="Another score as well: zen, synflow, ... (docs/scores.md).")
@click.option("--seed", type=int, default=0, show_default=True, help="Of that score's draws.")
@detector_option
@json_option
def command(
    arch: str | None,
    space: str | None,
    device: str | None,
    resolution: Size | None,
    batch: int,
    precision: str,
    flops_convention: str,
    entropy_resolution: Size,
    score: str | None,
    seed: int,
    detector: str | None,
    as_json: bool,
) -> None:
    """Show ARCH: a zoo name, a file, or a run folder. Or show a space with --space."""
    if (arch is None) == (space is None) or (device is not None and space is None):
        raise click.UsageError("give ARCH, or --space NAME, to which --device may be added.")
    if arch is None:
        _show_space(str(space), device, as_json)
        return
    from .. import costs
    from ..architecture import lower, to_document
    from ..architecture.detectors import attach, parse
    from ..devices.spec import BYTES_PER_VALUE
    from ..scores import catalog
    from ..scores.entropy import EntropyScore
    from ..units import format_amount

    other = catalog.make(score) if score is not None else None
    architecture = resolve_architecture(arch)
    size = resolution or (224, 224)
    graph = lower(architecture, size, batch=batch)
    rule = architecture.flops_rule
    graphs = [part.graph for part in attach(graph, parse(detector))] if detector else [graph]
    by_part: dict[str, dict[str, int]] = {}
    for each in graphs:
        found = costs.mmcv_by_part(each, rule) if flops_convention == "mmcv" else {}
        for layer in each.layers:
            if layer.op != "output":
                part = by_part.setdefault(layer.part or "backbone", {"flops": 0, "params": 0})
                part["flops"] += 0 if found else costs.macs(layer)
                part["params"] += costs.params(layer)
        for key, value in found.items():
            by_part[key or "backbone"]["flops"] += value
    flops = sum(part["flops"] for part in by_part.values())
    width = BYTES_PER_VALUE[precision]
    memory = max(costs.peak_memory_bytes(each, bytes_per_value=width) for each in graphs)
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
        "params": sum(part["params"] for part in by_part.values()),
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
        "detector": detector,
        "parts": by_part,
        "architecture": to_document(architecture),
    }
    if other is not None:
        document["score"] = {
            "name": other.name,
            "kind": other.kind,
            "resolution": list(other.resolution),
            "seed": seed,
            "value": other.value(architecture, seed),
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
    if other is not None:
        height, width = other.resolution
        value = score_text(other.name, document["score"]["value"])
        lines.append(f"{other.name:<8} {value} at {height}x{width}, {other.kind}, seed {seed}")
    if detector:
        shown = [[f"{detector}, by part", "FLOPs", "params"]]
        for name, part in by_part.items():
            amounts = [format_amount(part[key], key) for key in ("flops", "params")]
            shown.append([name, *amounts])
        lines += ["", table(shown)]
    emit(document, "\n".join(lines), as_json)


def _show_space(name: str, device: str | None, as_json: bool) -> None:
    from ..architecture import spaces
    from ..devices import spec

    space = spaces.load(name)
    if device is not None:
        space = space.aligned(spec.load(device).channel_multiple)
    document = {"schema": "hwnas.space-shown/1", "device": device, **space.document()}
    head = ["stage", "family", "stride", "kernel", "out", "out/in", "inner", "inner/out", "blocks"]
    rows = [head]
    low, high = document["stem"]["channels"]
    rows.append(
        [
            "C1",
            _stem(document["stem"]),
            "2",
            str(document["stem"]["kernel"]),
            f"{low} to {high}",
            "",
            "",
            "",
            "1",
        ]
    )
    for row in document["rows"]:
        inner = [f"mid {_range(row['mid'])}"] if "mid" in row else []
        if "expansion" in row:
            inner.append(f"x{', x'.join(map(str, row['expansion']))}")
        rows.append(
            [
                f"C{row['stage']}",
                _block(row),
                str(row["stride"]),
                ", ".join(map(str, row["kernels"])),
                _range(row["out"]),
                _range(row["growth"]),
                " or ".join(inner),
                _range(row["ratio"]) if row["ratio"] else "",
                _range(row["blocks"])
                + (f" in steps of {row['depth_step']}" if row["depth_step"] > 1 else ""),
            ]
        )
    shrinking = [str(n) for n, row in enumerate(document["rows"], 1) if not row["monotone"]]
    widths = f"widths are multiples of {space.width_step} and " + (
        f"may shrink in row {', '.join(shrinking)} only" if shrinking else "never shrink"
    )
    lines = [
        f"{space.name}: {space.about}",
        "",
        table(rows),
        "",
        widths,
        f"at most {space.layers} layers in total, unless --budget layers=N says otherwise",
        f"{document['candidates']:.1e} architectures, rules between rows left out",
    ]
    emit(document, "\n".join(lines), as_json)


def _stem(stem: dict[str, Any]) -> str:
    """Return what a stem is made of."""
    parts = ["space-to-depth"] if stem.get("focus") else []
    parts.append("conv")
    if stem["max_pool"]:
        parts.append("max-pool")
    return ", ".join(parts)


def _block(row: dict[str, Any]) -> str:
    """Return a row's families, and what its blocks have besides."""
    families = row["family"]
    text = families if isinstance(families, str) else " | ".join(families)
    if row.get("se"):
        text += " + se"
    if "groups" in row:
        text += f", groups {row['groups']}" if row["groups"] else ", depthwise"
    if isinstance(activation := row.get("activation"), str):
        text += f", {activation}"
    return text


def _range(ends: list[Any]) -> str:
    low, high = ends
    return f"{low:g} to {high:g}" if low != high else f"{low:g}"


def rows_table(document: dict[str, Any]) -> str:
    """Return an architecture's rows as the paper's tables have them."""
    from ..architecture.families import family

    stem = document["stem"]
    rows = [["stage", "family", "kernel", "out", "inner", "stride", "blocks"]]
    rows.append(["C1", _stem(stem), str(stem["kernel"]), str(stem["channels"]), "", "2", "1"])
    for number, stage in enumerate(document["stages"], 1):
        for row in stage:
            blocks = family(row["family"])
            keys = ("kernel", "out", blocks.inner, "stride", "depth")
            usual = row["activation"] == blocks.activation
            name = _block({**row, "activation": None} if usual else row)
            rows.append([f"C{number}", name, *(str(row[key]) for key in keys)])
    if document.get("head"):
        rows.append(["C5", "conv", "1", str(document["head"]), "", "1", "1"])
    return table(rows)

"""A profile: measured networks and kernels of one device, with their provenance; a folder.

`profile.toml` says on what, when and how; `networks.jsonl.gz` holds a network a line, and
`rows.jsonl.gz`, where there are any, what was measured apart from networks.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..architecture.genotype import Architecture, from_document, lower, to_document
from ..architecture.graph import Graph, Size
from ..devices.measurement import KernelTiming
from ..errors import UsageError
from ..lowering import operators
from ..lowering.fusing import fuse_layers
from ..lowering.kernels import Fusion, Kernel
from ..lowering.weights import names, output_name
from ..store.files import new_folder, read_toml

SCHEMA = "hwnas.profile/1"
EXECUTED = {
    **operators.UNARY,
    **operators.BINARY,
    **operators.NORMALISING,
    **operators.POOLS,
    **operators.REDUCING,
    **operators.MOVING,
    **operators.RESIZING,
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv", "QLinearConv"), "conv"),
    "QLinearAdd": "add",
    "ConvTranspose": "conv_transpose",
    "QLinearAveragePool": "avg_pool",
    "NhwcMaxPool": "max_pool",
    "QuantizeLinear": "quantize",
    "DequantizeLinear": "dequantize",
    **dict.fromkeys(("Gemm", "FusedGemm", "MatMul", "FusedMatMul"), "matmul"),
    "SkipLayerNormalization": "layer_norm",
    "Transpose": "transpose",
}
"""Kernels by the operators that onnxruntime's profiler names."""

LAYOUT_CHANGES = {"ReorderOutput": "reorder_output", "ReorderInput": "reorder_input"}


@dataclass(frozen=True)
class NetworkRecord:
    """One measured network: what it is, what it took, and what each of its kernels took.

    A network outside the search spaces has no architecture but a `probe`, its name.
    `least_s` is the least time of its calm runs, `median_s` the median; kernels hold their least.
    """

    architecture: Architecture | None
    resolution: Size
    batch: int
    least_s: float
    median_s: float
    contended: bool
    kernels: tuple[tuple[Kernel, float], ...]
    probe: str = ""


@dataclass(frozen=True)
class Profile:
    """All that was measured on a device; `provenance` says on what, when and how.

    `rows` are kernels measured apart from networks, as a table holds them: each row the kernels
    of a block, mostly one, and the seconds that they took together.
    """

    device: str
    networks: tuple[NetworkRecord, ...]
    provenance: dict[str, Any]
    rows: tuple[tuple[tuple[Kernel, ...], float], ...] = ()

    def save(self, folder: Path) -> None:
        """Write the profile; the folder appears whole, replacing an older one.

        Raises:
            HwnasError: the folder cannot be written.
        """
        with new_folder(folder) as beside:
            self.write(beside)

    def write(self, folder: Path) -> None:
        """Write the profile's files into a folder that exists.

        Raises:
            OSError: the folder cannot be written.
        """
        import tomli_w

        head = {"schema": SCHEMA, "device": self.device, "provenance": self.provenance}
        (folder / "profile.toml").write_text(tomli_w.dumps(head), encoding="utf-8")
        (folder / "networks.jsonl.gz").write_bytes(_lines(map(to_record, self.networks)))
        if self.rows:
            (folder / "rows.jsonl.gz").write_bytes(_lines(self.rows))


def load(folder: Path) -> Profile:
    """Read a profile from its folder.

    Raises:
        UsageError: the folder does not hold a profile, or a newer version wrote it.
    """
    head = read_toml(folder / "profile.toml")
    if head.get("schema") != SCHEMA:
        raise UsageError(
            f"{folder}: the schema is {head.get('schema')!r}, this version of hwnas reads "
            f"'{SCHEMA}'. Update hwnas, or profile the device again."
        )
    networks = tuple(_read(folder / "networks.jsonl.gz", from_record))
    path = folder / "rows.jsonl.gz"
    rows = tuple(_read(path, _row)) if path.exists() else ()
    return Profile(str(head.get("device")), networks, dict(head.get("provenance", {})), rows)


T = TypeVar("T")


def _lines(records: Iterable[Any]) -> bytes:
    lines = (json.dumps(record, separators=(",", ":")) + "\n" for record in records)
    return gzip.compress("".join(lines).encode(), mtime=0)


def _read(path: Path, parse: Callable[[Any], T]) -> list[T]:
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        return [parse(json.loads(line)) for line in lines]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a profile's table: {error}.") from None


def _row(record: Any) -> tuple[tuple[Kernel, ...], float]:
    kernels, seconds = record
    return tuple(_kernel(fields) for fields in kernels), float(seconds)


def _kernel(fields: list[Any]) -> Kernel:
    values: list[Any] = [tuple(f) if isinstance(f, list) else f for f in fields]
    return Kernel(*values)


def to_record(network: NetworkRecord) -> dict[str, Any]:
    """Return a network as JSON data."""
    return {
        "architecture": network.architecture and to_document(network.architecture),
        "probe": network.probe,
        "resolution": network.resolution,
        "batch": network.batch,
        "least_s": network.least_s,
        "median_s": network.median_s,
        "contended": network.contended,
        "kernels": [[*kernel, seconds] for kernel, seconds in network.kernels],
    }


def from_record(record: dict[str, Any]) -> NetworkRecord:
    """Return the network of a record.

    Raises:
        KeyError, TypeError, ValueError, UsageError: the data is not a record.
    """
    kernels = [(_kernel(fields), float(seconds)) for *fields, seconds in record["kernels"]]
    height, width = record["resolution"]
    return NetworkRecord(
        from_document(record["architecture"]) if record["architecture"] else None,
        (int(height), int(width)),
        int(record["batch"]),
        float(record["least_s"]),
        float(record["median_s"]),
        bool(record["contended"]),
        tuple(kernels),
        str(record.get("probe", "")),
    )


def match(
    architecture: Architecture,
    resolution: Size,
    batch: int,
    fusion: Fusion,
    timings: list[KernelTiming],
) -> tuple[tuple[Kernel, float], ...]:
    """Return the kernels that fusion predicts with the times of the nodes that ran.

    Nodes carry the names of their layers. A node beyond them is a change of layout that the
    runtime added; it is kept with the size of what it wrote.

    Raises:
        ValueError: a predicted kernel did not run: the device's fusion rules are not the runtime's.
    """
    return match_graph(lower(architecture, resolution, batch=batch), fusion, timings)


def match_graph(
    graph: Graph, fusion: Fusion, timings: list[KernelTiming]
) -> tuple[tuple[Kernel, float], ...]:
    """Return the kernels of a graph with the times of the nodes that ran; see `match`.

    Raises:
        ValueError: a predicted kernel did not run: the device's fusion rules are not the runtime's.
    """
    labels = names(graph)
    waiting = [timing for timing in timings if timing.op not in operators.FREE]
    kernels: list[tuple[Kernel, float]] = []
    changes: list[Kernel] = []
    for i, kernel in fuse_layers(graph, fusion):
        if kernel.op.startswith("reorder_"):
            changes.append(kernel)
            continue
        timing = _find(waiting, kernel, labels[i], _output_name(graph, i))
        if timing is None:
            raise ValueError(f"the kernel {kernel.op} of layer {labels[i]} did not run")
        waiting.remove(timing)
        kernels.append((kernel, timing.seconds))
    for timing in waiting:
        ran = _layout_change(timing, graph.batch)
        known = next((k for k in changes if _same_change(k, ran, fusion.block)), None)
        if known is not None:
            changes.remove(known)
        kernels.append((known or ran, timing.seconds))
    return tuple(kernels)


def _find(
    timings: list[KernelTiming], kernel: Kernel, label: str, output: str
) -> KernelTiming | None:
    """Return the node of a kernel: one of its operator, by the layer's name, else by its size."""
    alike = [timing for timing in timings if kernel.op in _ran_as(timing.op)]
    for timing in alike:
        name = timing.name.partition("/")[0]
        if name in (label, output) or name.startswith(f"{label}_"):
            return timing
    values = kernel.batch * kernel.out_channels * math.prod(kernel.out_size)
    for timing in alike:
        # A split shows the first of its results: what it reads, where that is told, is as large as
        # all of them.
        read = timing.in_shapes[:1] if kernel.op == "split" else ()
        (shape,) = read or (timing.out_shape,)
        if math.prod(shape) == values:
            return timing
    return None


def _ran_as(op: str) -> tuple[str, ...]:
    """Return what kernels an executed operator may be."""
    name = EXECUTED.get(op, op)
    constant = {"mul": ("scale",), "div": ("scale",), "add": ("shift",), "sub": ("shift",)}
    return (name, *constant.get(name, ()))


def _output_name(graph: Any, i: int) -> str:
    for layer in graph.layers:
        if layer.op == "output" and layer.inputs == (i,):
            return output_name(layer)
    return ""


def _layout_change(timing: KernelTiming, batch: int) -> Kernel:
    _, channels, height, width = (*timing.out_shape, 1, 1, 1, 1)[:4]
    op = LAYOUT_CHANGES.get(timing.op) or EXECUTED.get(timing.op, timing.op)
    return Kernel(op, batch, channels, (height, width), channels, (height, width))


def _same_change(predicted: Kernel, ran: Kernel, block: int) -> bool:
    """Whether a change of layout that ran is the predicted one; it may show padded channels."""
    padded = -(-predicted.out_channels // block) * block if block else predicted.out_channels
    return (
        predicted.op.replace("plain", "output") == ran.op
        and predicted.out_size == ran.out_size
        and ran.out_channels in (predicted.out_channels, padded)
    )

"""The genotype: what an architecture is, before it has shapes. Immutable, saved as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from ..errors import UsageError, did_you_mean
from .builder import GraphBuilder, Tensor
from .families import BlockOptions, Family, family
from .families.parts import ACTIVATIONS, GATES, SHORTCUTS
from .graph import Channels, Graph, Size, checked

SCHEMA = "hwnas.architecture/1"
FLOPS_RULES = ("maedet", "resnet", "mobilenetv2")
STAGES = 5
MAX_CHANNELS = 65536
MAX_DEPTH = 256
MAX_KERNEL = 15
LARGE = (1024, 1024)
"""An image that no kernel is too large for."""


@dataclass(frozen=True)
class Stem:
    """A kxk convolution of stride 2 on the image.

    `max_pool` adds ResNet's 3x3 pool of stride 2, with which the second stage begins. `focus` puts
    each 2x2 of pixels into the channels and convolves these with stride 1 instead (the stem of
    YOLOv5 and YOLOX, https://arxiv.org/abs/2107.08430).
    """

    channels: int
    kernel: int = 3
    activation: str = "relu"
    max_pool: bool = False
    focus: bool = False

    def layers(self, b: GraphBuilder, channels: Channels | None = None) -> Tensor:
        """Add the stem's layers but the pool, by default of its own channels."""
        width = self.channels if channels is None else channels
        if self.focus:
            x = b.space_to_depth(b.input)
            return b.conv(x, width, self.kernel, activation=self.activation)
        return b.conv(b.input, width, self.kernel, stride=2, activation=self.activation)


@dataclass(frozen=True)
class Row:
    """A run of `depth` blocks of one family that differ only in what enters the first.

    `inner` is the bottleneck's channels (`mid` in files) or the expansion factor (`expansion`).
    `groups` are those of the kxk convolutions, 0 where they are depthwise; `se` is the gate of a
    squeeze-and-excitation, '' where there is none.
    """

    family: str
    out: int
    inner: int
    depth: int
    kernel: int = 3
    stride: int = 1
    activation: str = "relu"
    shortcut: str = "pool"
    groups: int = 1
    se: str = ""

    def options(self, number: int) -> BlockOptions:
        """Return the options of the row's block of that number, from 0 on."""
        return BlockOptions(
            self.out,
            self.inner,
            self.kernel,
            1 if number else self.stride,
            not number,
            self.activation,
            self.shortcut,
            self.groups,
            self.se,
        )


@dataclass(frozen=True)
class Architecture:
    """A backbone: a stem and five stages of rows, C1 to C5; each stage halves the resolution.

    The first stage begins with the stem. `head` is the width of a last 1x1 convolution (0 where
    there is none). `flops_rule` is the counting rule of its table under `--flops-convention mmcv`.
    """

    stem: Stem
    stages: tuple[tuple[Row, ...], ...]
    head: int = 0
    head_activation: str = "relu6"
    name: str = ""
    flops_rule: str = ""

    def __post_init__(self) -> None:
        _check(self)
        if not self.flops_rule:
            object.__setattr__(self, "flops_rule", self.family.flops_rule)

    @property
    def rows(self) -> Iterator[Row]:
        """The rows of all stages in order."""
        return (row for stage in self.stages for row in stage)

    @property
    def family(self) -> Family:
        """The family of the deepest row: whose conventions the network follows."""
        return family(list(self.rows)[-1].family)

    def renamed(self, name: str) -> Architecture:
        """Return the same architecture under another name."""
        return replace(self, name=name)

    def to_json(self) -> str:
        """Return the JSON document that `from_json` reads."""
        return json.dumps(to_document(self), indent=2) + "\n"


def to_document(architecture: Architecture) -> dict[str, Any]:
    """Return the architecture as plain data, with its schema version."""
    stem = architecture.stem
    document: dict[str, Any] = {"schema": SCHEMA, "name": architecture.name}
    document["stem"] = {
        "channels": stem.channels,
        "kernel": stem.kernel,
        "activation": stem.activation,
        "max_pool": stem.max_pool,
    }
    if stem.focus:
        document["stem"]["focus"] = True
    document["stages"] = [
        [
            {
                "family": row.family,
                "kernel": row.kernel,
                "out": row.out,
                "stride": row.stride,
                family(row.family).inner: row.inner,
                "depth": row.depth,
                "activation": row.activation,
                "shortcut": row.shortcut,
                **({"groups": row.groups} if row.groups != 1 else {}),
                **({"se": row.se} if row.se else {}),
            }
            for row in stage
        ]
        for stage in architecture.stages
    ]
    if architecture.head:
        document["head"] = architecture.head
        document["head_activation"] = architecture.head_activation
    document["flops_rule"] = architecture.flops_rule
    return document


def from_document(document: Any, source: str = "architecture") -> Architecture:
    """Return the architecture that plain data describes.

    Raises:
        UsageError: the data is not an architecture; the message names the place.
    """
    if not isinstance(document, dict):
        raise UsageError(f"{source}: expected a JSON object with the schema '{SCHEMA}'.")
    schema = document.get("schema")
    if schema != SCHEMA:
        newer = isinstance(schema, str) and schema.startswith("hwnas.architecture/")
        raise UsageError(
            f"{source}: the schema is {schema!r}, this version of hwnas reads '{SCHEMA}'."
            + (" Update hwnas." if newer else "")
        )
    body = {k: v for k, v in document.items() if k != "schema"}
    try:
        body["stages"] = tuple(
            tuple(_row(row, f"$.stages[{i}][{j}]") for j, row in enumerate(stage))
            for i, stage in enumerate(
                msgspec.convert(body.get("stages"), list[list[dict[str, Any]]])
            )
        )
        body["stem"] = _strict(body.get("stem"), Stem, "$.stem")
        unknown = set(body) - set(Architecture.__dataclass_fields__)
        if unknown:
            raise msgspec.ValidationError(f"unknown field '{min(unknown)}' - at `$`")
        for field in ("name", "flops_rule", "head_activation"):
            msgspec.convert(body.get(field, ""), str)
        msgspec.convert(body.get("head", 0), int)
        architecture = Architecture(**body)
        lower(architecture, LARGE)  # whether channels and groups suit each other shows there
        return architecture
    except msgspec.ValidationError as error:
        raise UsageError(f"{source}: {error}.") from None
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None


def from_json(text: str | bytes, source: str = "architecture") -> Architecture:
    """Return the architecture that a JSON document describes.

    Raises:
        UsageError: the text is not JSON, or not an architecture.
    """
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{source}: not a JSON document ({error}).") from None
    return from_document(document, source)


def load(path: Path) -> Architecture:
    """Read an architecture from a JSON file.

    Raises:
        UsageError: the file cannot be read or is not an architecture.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}.") from None
    return from_json(text, str(path))


def lower(architecture: Architecture, resolution: Size = (224, 224), *, batch: int = 1) -> Graph:
    """Return the graph of layers of an architecture, with outputs C2 to C5.

    Args:
        architecture: what to lower.
        resolution: height and width of the input image, multiples of nothing in particular but at
            least 32 each.
        batch: images at a time.

    Raises:
        UsageError: the image is smaller than the strides of the network, a kernel is larger than
            the feature map that it slides over, or groups do not divide the channels.
    """
    reduction: int = 2**STAGES
    if min(resolution) < reduction or max(resolution) > 16384:
        raise UsageError(
            f"the resolution {resolution[0]}x{resolution[1]} does not suit a network of total "
            f"stride {reduction}: both sides must lie between {reduction} and 16384."
        )
    if not 1 <= batch <= 65536:
        raise UsageError(f"the batch is {batch}; it must lie between 1 and 65536.")
    b = GraphBuilder(3, resolution)
    stem = architecture.stem
    x = stem.layers(b)
    for b.stage, rows in enumerate(architecture.stages, 1):
        if b.stage == 2 and stem.max_pool:
            x = b.pool(x, "max_pool", 3, 2)
        for row in rows:
            blocks = family(row.family)
            for i in range(row.depth):
                x = blocks.block(b, x, row.options(i))
        if b.stage == STAGES and architecture.head:
            x = b.conv(x, architecture.head, activation=architecture.head_activation)
        if b.stage > 1:
            b.output(x)
    return checked(b.build(batch=batch))


def _strict(data: Any, kind: type[Any], place: str) -> Any:
    """Convert plain data to a dataclass; unknown fields and wrong types are errors with a place."""
    fields = msgspec.convert(data, dict[str, Any])
    unknown = set(fields) - set(kind.__dataclass_fields__)
    if unknown:
        raise msgspec.ValidationError(f"unknown field '{min(unknown)}' - at `{place}`")
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"{str(error).replace('`$', f'`{place}')}") from None


def _row(data: dict[str, Any], place: str) -> Row:
    fields = dict(data)
    name = fields.get("family")
    if not isinstance(name, str):
        raise msgspec.ValidationError(f"expected a block family's name - at `{place}.family`")
    inner = family(name).inner
    if inner not in fields:
        raise msgspec.ValidationError(f"missing field '{inner}' - at `{place}`")
    fields["inner"] = fields.pop(inner)
    fields.setdefault("activation", family(name).activation)
    row: Row = _strict(fields, Row, place)
    return row


def _check(architecture: Architecture) -> None:
    """Raise a UsageError where an architecture could not be built."""

    def limit(value: int, low: int, high: int, what: str) -> None:
        if not low <= value <= high:
            raise UsageError(f"{what} is {value}; it must lie between {low} and {high}.")

    def one_of(value: str, known: tuple[str, ...], what: str) -> None:
        if value not in known:
            names = ", ".join(name or "''" for name in known)
            raise UsageError(f"{what} is '{value}'; known are {names}.{did_you_mean(value, known)}")

    def odd(value: int, what: str) -> None:
        limit(value, 1, MAX_KERNEL, what)
        if value % 2 == 0:
            raise UsageError(f"{what} is {value}; it must be odd.")

    stem = architecture.stem
    limit(stem.channels, 1, MAX_CHANNELS, "stem channels")
    odd(stem.kernel, "the stem's kernel")
    one_of(stem.activation, ACTIVATIONS, "the stem's activation")
    if len(architecture.stages) != STAGES:
        raise UsageError(f"there are {len(architecture.stages)} stages; a backbone has {STAGES}.")
    for number, rows in enumerate(architecture.stages, 1):
        what = f"stage C{number}"
        strides = [row.stride for row in rows]
        first = 1 if number == 1 or (number == 2 and stem.max_pool) else 2
        if number > 1 and not rows:
            raise UsageError(f"{what} is empty; each stage after the first needs a row.")
        if rows and (strides[0] != first or any(s != 1 for s in strides[1:])):
            raise UsageError(
                f"the strides of {what} are {strides}; its first row must have stride {first}, "
                "the others 1."
            )
        for j, row in enumerate(rows, 1):
            where = f"{what}, row {j}"
            inner = family(row.family).inner
            limit(row.out, 1, MAX_CHANNELS, f"{where}: out")
            limit(row.inner, 1, MAX_CHANNELS if inner == "mid" else 64, f"{where}: {inner}")
            limit(row.depth, 1, MAX_DEPTH, f"{where}: depth")
            odd(row.kernel, f"{where}: kernel")
            one_of(row.activation, ACTIVATIONS, f"{where}: activation")
            one_of(row.shortcut, SHORTCUTS, f"{where}: shortcut")
            limit(row.groups, 0, MAX_CHANNELS, f"{where}: groups (0 for depthwise)")
            one_of(row.se, ("", *GATES), f"{where}: se")
    limit(architecture.head, 0, MAX_CHANNELS, "the head's width")
    one_of(architecture.head_activation, ACTIVATIONS, "the head's activation")
    if architecture.flops_rule:
        one_of(architecture.flops_rule, FLOPS_RULES, "flops_rule")

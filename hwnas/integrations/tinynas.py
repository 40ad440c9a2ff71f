"""The structure texts of the reference toolbox, read and written. They are parsed, never evaluated.

    {'best_structures': [[
      {'class': 'ConvKXBNRELU', 'in': 3, 'out': 64, 's': 2, 'k': 3},
      {'class': 'SuperResK1KXK1', 'in': 64, 'out': 120, 's': 2, 'k': 3, 'L': 2, 'btn': 64},
      ...]],
    'space_arch': 'CnnNet'}

One dictionary a row: `in` and `out` channels, `s` stride, `k` kernel, `L` blocks, `btn` channels
inside a block, `g` groups, `p` padding, `act` activation. The list alone, and JSON, do as well.
https://github.com/alibaba/lightweight-neural-architecture-search, tinynas/models.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..architecture.families import FAMILIES
from ..architecture.genotype import STAGES, Architecture, Row, Stem, lower
from ..architecture.graph import Layer
from ..errors import UsageError, did_you_mean
from .literals import Entry, parse

CONV = "ConvKXBNRELU"
BLOCKS = {
    "SuperResK1KXK1": "bottleneck",
    "SuperResKXKX": "basic",
    "SuperResK1KX": "k1kx",
    "SuperResK1DWK1": "mobile",
}
ACTIVATIONS = {"relu": "relu", "relu6": "relu6", "swish": "silu"}
KEYS = ("class", "in", "out", "s", "k", "p", "g", "act")
BLOCK_KEYS = (*KEYS, "btn", "L", "inner_class")
MOBILE_NOTE = (
    "SuperResK1DWK1 ends in an activation and may add its input in a row's first block; the "
    "mobile family does neither: FLOPs, parameters and layers are the same, the network is not"
)
BASIC_NOTE = (
    "has it in its second convolution, the family 'basic' in its first: they are different networks"
)


class Structure(NamedTuple):
    """What a structure text holds, and how the two toolboxes differ on it, in sentences."""

    architecture: Architecture
    notes: tuple[str, ...] = ()


def is_structure_file(path: Path) -> bool:
    """Tell whether a file means to be a structure text, well-formed or not."""
    try:
        text = path.read_text(encoding="utf-8").lstrip()
    except (OSError, UnicodeDecodeError):
        return False
    return text.startswith("[") or ("best_structures" in text and text.startswith("{"))


def load(path: Path) -> Structure:
    """Read the structure text in a file; the architecture takes the file's name.

    Raises:
        UsageError: the file cannot be read, or as `read` says.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read {path}: {reason}.") from None
    found = read(text, str(path))
    return found._replace(architecture=found.architecture.renamed(path.stem))


def read(text: str, source: str = "structure") -> Structure:
    """Return the architecture that a structure text describes: the first, which is the best.

    Raises:
        UsageError: the text holds anything but plain data, rows that do not fit together, or
            blocks that no family here makes; the message names the line.
    """
    notes = []
    data = parse(text, source)
    if isinstance(data, Entry):
        structures = data.get("best_structures")
        if not isinstance(structures, list) or not structures:
            raise UsageError(f"{source}: 'best_structures' must be a list of structures.")
        if data.get("space_arch", "CnnNet") != "CnnNet":
            raise UsageError(
                f"{source}: the networks are of {data['space_arch']!r}; only 'CnnNet' is read."
            )
        if len(structures) > 1:
            notes.append(f"{source} holds {len(structures)} structures; the first is read")
        data = structures[0]
    if not isinstance(data, list) or not data or not all(isinstance(row, Entry) for row in data):
        raise UsageError(f"{source}: expected a list of rows, each a dictionary with a 'class'.")
    architecture = _architecture([_Fields(row, source) for row in data], source)
    if any(row.family == "mobile" for row in architecture.rows):
        notes.append(MOBILE_NOTE)
    return Structure(architecture, tuple(notes))


def write(architecture: Architecture) -> str:
    """Return the structure text of an architecture.

    Raises:
        UsageError: the toolbox has no class for a part of the network; the message names it.
    """
    stem = architecture.stem
    if stem.max_pool:
        raise UsageError("the structure text has no max-pool behind the stem; nothing was written.")
    rows = [_conv(3, stem.channels, 2, stem.kernel, stem.activation)]
    channels = stem.channels
    for row in architecture.rows:
        rows += _blocks(row, channels)
        channels = row.out
    if architecture.head:
        rows.append(_conv(channels, architecture.head, 1, 1, architecture.head_activation))
    lines = ",\n".join(f"  {row!r}" for row in rows)
    text = f"{{'best_structures': [[\n{lines}]],\n'space_arch': 'CnnNet'}}\n"
    if _layers(read(text).architecture) != _layers(architecture):
        raise UsageError(
            "the structure text cannot say all that this network is; nothing was written."
        )
    return text


def _layers(architecture: Architecture) -> list[Layer]:
    """Return what two networks must share to be the same but for MOBILE_NOTE's additions."""
    layers = lower(architecture).layers
    return [layer._replace(inputs=()) for layer in layers if layer.op != "add"]


class _Fields:
    """One row of a text, whose fields are checked as they are asked for."""

    def __init__(self, row: Entry, source: str) -> None:
        self.row = row
        self._where = f"{source}, line {row.line}"
        kind = row.get("class")
        if not isinstance(kind, str):
            raise self.error("the row needs a 'class'")
        known = (CONV, *BLOCKS)
        if kind not in known:
            raise self.error(
                f"unknown class '{kind}'.{did_you_mean(kind, known)} Known: {', '.join(known)}"
            )
        self.family = BLOCKS.get(kind, "")
        keys = BLOCK_KEYS if self.family else KEYS
        for key in row:
            if key in ("nbitsA", "nbitsW"):
                raise self.error(f"'{key}': mixed precision is not read; leave the bit widths out")
            if key not in keys:
                raise self.error(f"unknown field '{key}'.{did_you_mean(key, keys)}")
        inside = kind.removeprefix("Super")
        if row.get("inner_class", inside) != inside:
            raise self.error(f"'inner_class' is {row['inner_class']!r}; that of {kind} is {inside}")
        self.inputs, self.out = self.number("in"), self.number("out")
        self.stride, self.kernel = self.number("s", 1), self.number("k")
        if self.stride not in (1, 2):
            raise self.error(f"the stride 's' is {self.stride}; it must be 1 or 2")
        if self.family == "basic" and self.stride == 2:
            raise self.error(f"a {kind} of stride 2 {BASIC_NOTE}")
        if self.kernel % 2 == 0:
            raise self.error(f"the kernel 'k' is {self.kernel}; it must be odd")
        if self.number("p", self.kernel // 2, least=0) != self.kernel // 2:
            raise self.error(f"the padding 'p' must be {self.kernel // 2}, half of the kernel")
        self._check_groups()

    def number(self, key: str, default: int | None = None, least: int = 1) -> int:
        """Return a whole number of at least `least`."""
        value = self.row.get(key, default)
        if value is None:
            raise self.error(f"the row needs '{key}'")
        if type(value) is not int or value < least:
            raise self.error(f"'{key}' is {value!r}; it must be a whole number from {least}")
        return value

    def activation(self) -> str:
        """Return the activation by the name that it has here."""
        name = self.row.get("act", "relu")
        if name not in ACTIVATIONS:
            raise self.error(f"unknown activation {name!r}; known are {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[name]

    def rows(self) -> list[Row]:
        """Return the rows of blocks that this one stands for."""
        inner, depth, act = self.number("btn"), self.number("L"), self.activation()
        if FAMILIES[self.family].inner != "expansion":
            return [Row(self.family, self.out, inner, depth, self.kernel, self.stride, act)]
        # `btn` holds for all blocks of the row, an expansion for the channels that come in.
        first = self._expansion(inner, self.inputs)
        if depth == 1 or self.inputs == self.out:
            return [Row(self.family, self.out, first, depth, self.kernel, self.stride, act)]
        others = self._expansion(inner, self.out)
        return [
            Row(self.family, self.out, first, 1, self.kernel, self.stride, act),
            Row(self.family, self.out, others, depth - 1, self.kernel, 1, act),
        ]

    def error(self, what: str) -> UsageError:
        """Return an error that names the line."""
        return UsageError(f"{self._where}: {what}.")

    def _expansion(self, inner: int, channels: int) -> int:
        if inner % channels or inner == channels:
            raise self.error(
                f"'btn' is {inner} where {channels} channels come in; the mobile family expands by "
                "a whole factor of at least 2"
            )
        return inner // channels

    def _check_groups(self) -> None:
        groups = self.number("g", 1)
        for key in ("in", "btn", "out"):
            if key in self.row and self.number(key) % groups:
                raise self.error(f"groups 'g' of {groups} do not divide '{key}' of {self.row[key]}")
        if groups > 1:
            raise self.error(f"'g' is {groups}; grouped convolutions are not read")


def _architecture(rows: list[_Fields], source: str) -> Architecture:
    channels = 3
    for row in rows:
        if row.inputs != channels:
            before = "the image has" if row is rows[0] else "the row before gives"
            raise row.error(f"'in' is {row.inputs}, but {before} {channels} channels")
        channels = row.out
    stem, *blocks = rows
    if stem.family or stem.stride != 2:
        raise stem.error(f"the first row must be the stem, a {CONV} of stride 2")
    head = blocks.pop() if blocks and not blocks[-1].family else None
    if head and (head.kernel, head.stride) != (1, 1):
        raise head.error("the last convolution must have kernel 1 and stride 1")
    stages: list[list[Row]] = [[]]
    for block in blocks:
        if not block.family:
            raise block.error(f"a {CONV} may only be the first row or the last")
        if block.stride == 2:
            stages.append([])
        for made in block.rows():
            _append(stages[-1], made)
    if len(stages) != STAGES:
        raise UsageError(
            f"{source}: {len(stages)} rows have stride 2; a backbone has {STAGES}, which makes a "
            "total stride of 32."
        )
    try:
        return Architecture(
            Stem(stem.out, stem.kernel, stem.activation()),
            tuple(map(tuple, stages)),
            head=head.out if head else 0,
            head_activation=head.activation() if head else "relu6",
        )
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None


def _append(stage: list[Row], row: Row) -> None:
    """Add a row to a stage; where mobile blocks only go on, the last row becomes deeper."""
    if stage and row.family == "mobile" and row.stride == 1:
        last = stage[-1]
        if row == replace(last, depth=row.depth, stride=1):
            stage[-1] = replace(last, depth=last.depth + row.depth)
            return
    stage.append(row)


def _conv(inputs: int, out: int, stride: int, kernel: int, activation: str) -> dict[str, Any]:
    return {"class": CONV, "in": inputs, "out": out, "s": stride, "k": kernel} | _act(activation)


def _blocks(row: Row, inputs: int) -> list[dict[str, Any]]:
    """Return the rows of a text for one of an architecture."""
    kind = next((name for name, family in BLOCKS.items() if family == row.family), None)
    if kind is None:
        raise UsageError(f"the structure text has no class for the block family '{row.family}'.")
    if row.shortcut != "pool" and row.stride > 1:
        raise UsageError(
            f"the structure text has no '{row.shortcut}' shortcut: its blocks of stride 2 have an "
            "average pool there."
        )
    if row.family == "basic" and row.stride == 2:
        raise UsageError(f"the structure text has no such row: a {kind} of stride 2 {BASIC_NOTE}.")

    def entry(inputs: int, stride: int, inner: int, depth: int) -> dict[str, Any]:
        fields = {"class": kind, "in": inputs, "out": row.out, "s": stride, "k": row.kernel}
        return fields | {"L": depth, "btn": inner} | _act(row.activation)

    if FAMILIES[row.family].inner != "expansion":
        return [entry(inputs, row.stride, row.inner, row.depth)]
    if row.inner == 1:
        raise UsageError(
            "the structure text has no mobile block of expansion 1: SuperResK1DWK1 always expands."
        )
    if inputs == row.out or row.depth == 1:
        return [entry(inputs, row.stride, inputs * row.inner, row.depth)]
    return [
        entry(inputs, row.stride, inputs * row.inner, 1),
        entry(row.out, 1, row.out * row.inner, row.depth - 1),
    ]


def _act(activation: str) -> dict[str, str]:
    names = {here: there for there, here in ACTIVATIONS.items()}
    if activation not in names:
        raise UsageError(f"the structure text has no activation '{activation}'.")
    return {} if activation == "relu" else {"act": names[activation]}

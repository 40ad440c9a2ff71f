"""Reads a search space from TOML."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import numpy as np

from ...errors import UsageError
from ..builder import GraphBuilder
from ..families import families_of, family
from ..genotype import LARGE, MAX_KERNEL, STAGES, Stem
from ..graph import Channels
from .rows import RowSpace
from .space import Space, reachable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = "hwnas.space/1"


class _StemFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    channels: tuple[int, int]
    kernel: int = 3
    activation: str = "relu"
    max_pool: bool = False
    focus: bool = False


class _RowFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    stage: int
    family: str | tuple[str, ...]
    stride: int
    kernels: tuple[int, ...]
    out: tuple[int, int]
    growth: tuple[float, float]
    mid: tuple[int, int] | None = None
    expansion: tuple[int, ...] | None = None
    pairs: tuple[int, int] | None = None
    blocks: tuple[int, int] | None = None
    ratio: tuple[float, float] = (0.0, 1.0)
    activation: str = ""
    groups: int = 1
    se: str = ""


class _SpaceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: str
    name: str
    width_step: int
    layers: int
    stem: _StemFile
    rows: tuple[_RowFile, ...]
    about: str = ""


def parse(text: str, source: str) -> Space:
    """Return the space that a TOML text describes.

    Raises:
        UsageError: the text is not TOML, or not a space; the message names the place.
    """
    try:
        data = tomllib.loads(text)
        if data.get("schema") != SCHEMA:
            raise UsageError(
                f"{source}: the schema is {data.get('schema')!r}, expected '{SCHEMA}'."
            )
        file = msgspec.convert(data, _SpaceFile)
        if not file.rows:
            raise UsageError(f"{source}: the space has no rows.")
        if not 1 <= file.width_step <= 1024:
            raise UsageError(f"{source}: width_step is {file.width_step}; expected 1 to 1024.")
        rows = tuple(
            _row_space(row, last, file.width_step, f"{source}: row {number}")
            for number, row, last in _with_ends(file.rows)
        )
        stem = _widths(file.stem.channels, file.width_step, f"{source}: stem channels")
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{source}: {error}.") from None
    like = Stem(
        stem[0], file.stem.kernel, file.stem.activation, file.stem.max_pool, file.stem.focus
    )
    rows = reachable(stem, rows)
    space = Space(file.name, file.about, stem, like, rows, file.layers, file.width_step)
    try:
        space.decode(space.narrowest())  # strides, stages and families make a backbone
        _build(space)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None
    return space


def _with_ends(rows: tuple[_RowFile, ...]) -> Iterator[tuple[int, _RowFile, bool]]:
    """Yield number, row, and whether the row ends its stage."""
    for number, row in enumerate(rows, 1):
        yield number, row, number == len(rows) or rows[number].stage != row.stage


def _row_space(row: _RowFile, ends_stage: bool, step: int, place: str) -> RowSpace:
    try:
        families = families_of(row.family)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None
    words = {family(name).inner for name in families}
    depth = row.pairs or row.blocks
    inner = {"mid": row.mid, "expansion": row.expansion}
    missing = [word for word in sorted(words) if inner[word] is None]
    if missing or depth is None or (row.pairs and row.blocks):
        needed = " and ".join(f"'{word}'" for word in missing or sorted(words))
        raise UsageError(f"{place}: give {needed}, and either 'pairs' or 'blocks'.")
    for word in inner.keys() - words:
        if inner[word] is not None:
            raise UsageError(f"{place}: '{word}' means nothing to {', '.join(families)}.")
    if not 1 <= row.stage <= STAGES:
        raise UsageError(f"{place}: stage {row.stage} does not exist; a backbone has {STAGES}.")
    if not 1 <= depth[0] <= depth[1] <= 128:
        raise UsageError(f"{place}: the depths {list(depth)} are not a range within 1 to 128.")
    if not (row.kernels and 0 < row.growth[0] <= row.growth[1]):
        raise UsageError(f"{place}: kernels and growth must not be empty.")
    if any(kernel % 2 == 0 or not 1 <= kernel <= MAX_KERNEL for kernel in row.kernels):
        raise UsageError(
            f"{place}: the kernels {list(row.kernels)} are not odd numbers from 1 to {MAX_KERNEL}."
        )
    if not (0 <= row.ratio[0] <= row.ratio[1] and row.ratio[1] > 0):
        raise UsageError(f"{place}: the ratio {list(row.ratio)} is not a range of mid over out.")
    expansions = tuple(sorted(set(row.expansion or ())))
    if row.expansion is not None and not expansions:
        raise UsageError(f"{place}: 'expansion' is empty.")
    return RowSpace(
        row.stage,
        families,
        row.stride,
        tuple(sorted(set(row.kernels))),
        _widths(row.out, step, f"{place}: out"),
        _widths(row.mid, step, f"{place}: mid") if row.mid else (),
        expansions,
        tuple(range(depth[0], depth[1] + 1)),
        2 if row.pairs else 1,
        row.growth,
        ends_stage,
        row.ratio,
        row.activation,
        row.groups,
        row.se,
    )


def _build(space: Space) -> None:
    """Build every kind of block on all widths at once: groups must divide each of them.

    Raises:
        UsageError: a block cannot be; the message names the row.
    """
    if space.stem.max_pool and space.rows[0].stage == 1:
        raise UsageError("the stem's pool ends the first stage, so no row can belong to it.")
    ins = space.stem_widths
    for number, row in enumerate(space.rows, 1):
        into, out = _axis(ins, 0), _axis(row.outs, 2)
        for kind in row.kinds:
            inners: list[Channels] = [*row.expansions]
            if row.inner_is_width(kind):
                inners = [_axis(row.mids, 1)]
            like = row.row((kind, row.outs[0], row.inners(kind)[0], row.depths[0]))
            for inner in inners:
                try:
                    for block, channels in enumerate((into, out)):
                        b = GraphBuilder(channels, LARGE, stage=row.stage)
                        options = replace(like.options(block), out=out, inner=inner)
                        family(like.family).block(b, b.input, options)
                except UsageError as error:
                    raise UsageError(f"row {number}: {error}") from None
        ins = row.outs


def _axis(widths: tuple[int, ...], axis: int) -> Channels:
    """Return widths along one of the axes channels in, inner size, channels out."""
    shape = [1, 1, 1]
    shape[axis] = -1
    return np.array(widths, dtype=np.int64).reshape(shape)


def _widths(limits: tuple[int, int], step: int, what: str) -> tuple[int, ...]:
    low, high = limits
    if not 1 <= low <= high <= 65536 or low % step or high % step:
        raise UsageError(f"{what}: {list(limits)} is not a range in steps of {step}.")
    return tuple(range(low, high + 1, step))

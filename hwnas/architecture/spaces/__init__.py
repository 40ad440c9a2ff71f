"""Search spaces: what a search may build. A space is a TOML file; the shipped ones lie beside."""

from __future__ import annotations

import bisect
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np

from ...errors import UsageError, did_you_mean
from ..families import family
from ..genotype import STAGES, Architecture, Row, Stem

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = "hwnas.space/1"
SHIPPED = ("resnet", "mobile")

Genes: TypeAlias = tuple[int, int, int, int]
"""Kernel, channels out, inner size (mid channels or expansion) and depth (pairs or blocks)."""

Candidate: TypeAlias = tuple[Any, ...]
"""An architecture of a space, as a search handles it: the stem's channels, then genes by row."""


@dataclass(frozen=True)
class RowSpace:
    """What one row may be.

    Attributes:
        stage: 1 to 5.
        family: the block family.
        stride: of the first block.
        kernels, outs, inners, depths: the values of each gene, ascending.
        unit: the number of blocks that a depth of 1 stands for.
        growth: least and greatest ratio of channels out to channels in; widths never shrink where
            the least is 1.
        ends_stage: whether the stage's feature map is read behind this row.
        ratio: least and greatest ratio of a bottleneck's channels to channels out.
    """

    stage: int
    family: str
    stride: int
    kernels: tuple[int, ...]
    outs: tuple[int, ...]
    inners: tuple[int, ...]
    depths: tuple[int, ...]
    unit: int
    growth: tuple[float, float]
    ends_stage: bool
    ratio: tuple[float, float] = (0.0, 1.0)

    @cached_property
    def inner_is_width(self) -> bool:
        """Whether the inner size is a number of channels, and so has a ratio to `out`."""
        return family(self.family).inner == "mid"

    def fits(self, channels: int, genes: Genes) -> bool:
        """Whether a row of these genes, each on its grid, may follow that many channels."""
        _, out, inner, _ = genes
        low, high = self.growth
        return low * channels <= out <= high * channels and self.inner_fits(inner, out)

    def inner_fits(self, inner: int, out: int) -> bool:
        """Whether an inner size suits that many channels out."""
        low, high = self.ratio
        return not self.inner_is_width or low * out <= inner <= high * out

    def choices(self) -> tuple[tuple[int, ...], ...]:
        """Return the values of kernel, out, inner and depth."""
        return self.kernels, self.outs, self.inners, self.depths


@dataclass(frozen=True)
class Space:
    """A search space: one stem and rows, each with its grid of values.

    `layers` is the default limit on the convolutions of the main path.
    """

    name: str
    about: str
    stem_widths: tuple[int, ...]
    stem_activation: str
    rows: tuple[RowSpace, ...]
    layers: int
    width_step: int

    def decode(self, candidate: Candidate, name: str = "") -> Architecture:
        """Return the architecture that a candidate stands for."""
        stages: list[list[Row]] = [[] for _ in range(STAGES)]
        for row, (kernel, out, inner, depth) in zip(self.rows, candidate[1:], strict=True):
            activation = family(row.family).activation
            stages[row.stage - 1].append(
                Row(row.family, out, inner, depth * row.unit, kernel, row.stride, activation)
            )
        stem = Stem(candidate[0], activation=self.stem_activation)
        return Architecture(stem, tuple(map(tuple, stages)), name=name)

    def encode(self, architecture: Architecture) -> Candidate:
        """Return the candidate that stands for an architecture.

        Raises:
            UsageError: the architecture lies outside the space; the message says where.
        """
        rows = list(architecture.rows)
        if [(r.family, r.stride) for r in rows] != [(r.family, r.stride) for r in self.rows]:
            raise UsageError(
                f"the architecture's rows are not those of the space '{self.name}': "
                "families and strides must agree."
            )
        candidate: list[Any] = [architecture.stem.channels]
        for own, row in zip(self.rows, rows, strict=True):
            depth, rest = divmod(row.depth, own.unit)
            candidate.append((row.kernel, row.out, row.inner, depth if not rest else -1))
        problem = self.problem(tuple(candidate))
        if not problem and self.decode(tuple(candidate), architecture.name) != architecture:
            problem = "stem, activation, shortcut or head differ from the space's"
        if problem:
            raise UsageError(f"the architecture lies outside the space '{self.name}': {problem}.")
        return tuple(candidate)

    def problem(self, candidate: Candidate) -> str:
        """Return why a candidate lies outside the space, or ''."""
        if candidate[0] not in self.stem_widths:
            return f"stem channels {candidate[0]}"
        channels = candidate[0]
        for number, (row, genes) in enumerate(zip(self.rows, candidate[1:], strict=True), 1):
            names = ("kernel", "out", family(row.family).inner, "depth")
            for name, value, known in zip(names, genes, row.choices(), strict=True):
                if value not in known:
                    return f"row {number}: {name} {value}"
            if not row.fits(channels, genes):
                return f"row {number}: {channels} channels to {genes[1]}, {names[2]} {genes[2]}"
            channels = genes[1]
        return ""

    def narrowest(self) -> Candidate:
        """Return the narrowest, shallowest candidate, with the smallest kernels.

        Raises:
            UsageError: no candidate satisfies the space's own rules.
        """
        channels = self.stem_widths[0]
        candidate: list[Any] = [channels]
        for number, row in enumerate(self.rows, 1):
            fitting = (
                genes
                for out in row.outs
                for inner in row.inners
                if row.fits(channels, genes := (row.kernels[0], out, inner, row.depths[0]))
            )
            genes_of_row = next(fitting, None)
            if genes_of_row is None:
                raise UsageError(
                    f"space '{self.name}', row {number}: no width fits behind {channels} channels."
                )
            candidate.append(genes_of_row)
            channels = genes_of_row[1]
        return tuple(candidate)

    def sample(self, rng: np.random.Generator) -> Candidate:
        """Return a random candidate: each gene uniform over the values that fit, widths in log."""
        draw = iter(rng.random(1 + 4 * len(self.rows)).tolist())
        channels = _log_pick(self.stem_widths, next(draw), max(self.stem_widths))
        candidate: list[Any] = [channels]
        for row, reach in zip(self.rows, self._reaches, strict=True):
            kernel = row.kernels[int(next(draw) * len(row.kernels))]
            depth = row.depths[int(next(draw) * len(row.depths))]
            low, high = row.growth
            # Stay where the rows to come can still reach their own smallest width.
            least = bisect.bisect_left(row.outs, max(reach, low * channels))
            out = _log_pick(row.outs[least:], next(draw), high * channels)
            if row.inner_is_width:
                low, high = row.ratio
                least = bisect.bisect_left(row.inners, low * out)
                inner = _log_pick(row.inners[least:], next(draw), high * out)
            else:
                inner = row.inners[int(next(draw) * len(row.inners))]
            candidate.append((kernel, out, inner, depth))
            channels = out
        return tuple(candidate)

    @cached_property
    def _reaches(self) -> tuple[float, ...]:
        """The least width of each row from which the narrowest later rows can be reached."""
        reaches = [0.0]
        for row in reversed(self.rows[1:]):
            reaches.append(max(row.outs[0], reaches[-1]) / row.growth[1])
        return tuple(reversed(reaches))

    def aligned(self, multiple: int) -> Space:
        """Return the space with only the widths that are multiples of a number of channels.

        Raises:
            UsageError: no architecture of such widths remains.
        """
        if self.width_step % multiple == 0:
            return self

        def kept(widths: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(width for width in widths if width % multiple == 0)

        rows = tuple(
            replace(
                row,
                outs=kept(row.outs),
                inners=kept(row.inners) if row.inner_is_width else row.inners,
            )
            for row in self.rows
        )
        stem = kept(self.stem_widths)
        if not stem or not all(row.outs and row.inners for row in rows):
            raise UsageError(
                f"space '{self.name}': a row has no width that is a multiple of {multiple}, as the "
                "device's kernels want the channels. Widen the space's ranges."
            )
        space = replace(
            self,
            stem_widths=stem,
            rows=_reachable(stem, rows),
            width_step=math.lcm(self.width_step, multiple),
        )
        space.narrowest()
        return space

    def document(self) -> dict[str, Any]:
        """Return what the space allows, as JSON data."""
        return {
            "name": self.name,
            "about": self.about,
            "width_step": self.width_step,
            "layers": self.layers,
            "stem": {
                "channels": [self.stem_widths[0], self.stem_widths[-1]],
                "activation": self.stem_activation,
            },
            "rows": [
                {
                    "stage": row.stage,
                    "family": row.family,
                    "stride": row.stride,
                    "kernels": list(row.kernels),
                    "out": [row.outs[0], row.outs[-1]],
                    "growth": list(row.growth),
                    "monotone": row.growth[0] >= 1,
                    family(row.family).inner: (
                        [row.inners[0], row.inners[-1]] if row.inner_is_width else list(row.inners)
                    ),
                    "ratio": list(row.ratio) if row.inner_is_width else None,
                    "blocks": [row.depths[0] * row.unit, row.depths[-1] * row.unit],
                    "depth_step": row.unit,
                }
                for row in self.rows
            ],
            "candidates": self.size(),
        }

    def size(self) -> float:
        """Return the number of candidates, rules between neighbours left out."""
        per_row = (math.prod(map(len, row.choices())) for row in self.rows)
        return float(len(self.stem_widths)) * math.prod(map(float, per_row))


def load(name: str) -> Space:
    """Return a shipped space, or the one of a TOML file.

    Raises:
        UsageError: there is no such space, or the file is not one.
    """
    if name in SHIPPED:
        return parse(files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"), name)
    path = Path(name)
    if path.suffix != ".toml":
        raise UsageError(
            f"unknown space '{name}'.{did_you_mean(name, SHIPPED)} Known: {', '.join(SHIPPED)}; "
            "a TOML file of your own does as well."
        )
    try:
        return parse(path.read_text(encoding="utf-8"), name)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the space {name}: {error}.") from None


@dataclass(frozen=True)
class _StemFile:
    channels: tuple[int, int]
    activation: str = "relu"


@dataclass(frozen=True)
class _RowFile:
    stage: int
    family: str
    stride: int
    kernels: tuple[int, ...]
    out: tuple[int, int]
    growth: tuple[float, float]
    mid: tuple[int, int] | None = None
    expansion: tuple[int, ...] | None = None
    pairs: tuple[int, int] | None = None
    blocks: tuple[int, int] | None = None
    ratio: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class _SpaceFile:
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
    rows = _reachable(stem, rows)
    space = Space(
        file.name, file.about, stem, file.stem.activation, rows, file.layers, file.width_step
    )
    try:
        space.decode(space.narrowest())  # strides, stages and families make a backbone
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None
    return space


def _with_ends(rows: tuple[_RowFile, ...]) -> Iterator[tuple[int, _RowFile, bool]]:
    """Yield number, row, and whether the row ends its stage."""
    for number, row in enumerate(rows, 1):
        yield number, row, number == len(rows) or rows[number].stage != row.stage


def _row_space(row: _RowFile, ends_stage: bool, step: int, place: str) -> RowSpace:
    inner = family(row.family).inner
    given = {"mid": row.mid, "expansion": row.expansion}[inner]
    depth = row.pairs or row.blocks
    if given is None or depth is None or (row.pairs and row.blocks):
        raise UsageError(f"{place}: give '{inner}', and either 'pairs' or 'blocks'.")
    if not 1 <= row.stage <= STAGES:
        raise UsageError(f"{place}: stage {row.stage} does not exist; a backbone has {STAGES}.")
    if not 1 <= depth[0] <= depth[1] <= 128:
        raise UsageError(f"{place}: the depths {list(depth)} are not a range within 1 to 128.")
    if not (row.kernels and 0 < row.growth[0] <= row.growth[1]):
        raise UsageError(f"{place}: kernels and growth must not be empty.")
    if not (0 <= row.ratio[0] <= row.ratio[1] and row.ratio[1] > 0):
        raise UsageError(f"{place}: the ratio {list(row.ratio)} is not a range of mid over out.")
    if inner == "mid":
        inners = _widths((given[0], given[1]), step, f"{place}: mid")
    else:
        inners = tuple(sorted(set(given)))
    if not inners:
        raise UsageError(f"{place}: '{inner}' is empty.")
    return RowSpace(
        row.stage,
        row.family,
        row.stride,
        tuple(sorted(set(row.kernels))),
        _widths(row.out, step, f"{place}: out"),
        inners,
        tuple(range(depth[0], depth[1] + 1)),
        2 if row.pairs else 1,
        row.growth,
        ends_stage,
        row.ratio,
    )


def _reachable(stem: tuple[int, ...], rows: tuple[RowSpace, ...]) -> tuple[RowSpace, ...]:
    """Drop the widths that no candidate can have: nothing before or inside suits them."""
    widest = stem[-1]
    kept = []
    for row in rows:
        outs = tuple(
            width
            for width in row.outs
            if width <= row.growth[1] * widest
            and any(row.inner_fits(inner, width) for inner in row.inners)
        )
        kept.append(replace(row, outs=outs or row.outs[:1]))
        widest = kept[-1].outs[-1]
    return tuple(kept)


def _widths(limits: tuple[int, int], step: int, what: str) -> tuple[int, ...]:
    low, high = limits
    if not 1 <= low <= high <= 65536 or low % step or high % step:
        raise UsageError(f"{what}: {list(limits)} is not a range in steps of {step}.")
    return tuple(range(low, high + 1, step))


def _log_pick(values: tuple[int, ...], u: float, most: float) -> int:
    """Return a value of a grid, not above `most`, log-uniformly by the uniform number `u`."""
    count = bisect.bisect_right(values, most)
    target = values[0] * ((values[count - 1] + 1) / values[0]) ** u
    return values[min(count, bisect.bisect_right(values, target)) - 1]

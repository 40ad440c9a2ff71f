"""A search space: a stem and rows, each with its grid of values."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from ...errors import UsageError
from ..families import family
from ..genotype import STAGES, Architecture, Row, Stem
from .rows import FAMILY_STEP, RowSpace

Candidate: TypeAlias = tuple[Any, ...]
"""An architecture of a space, as a search handles it: the stem's channels, then genes by row."""


@dataclass(frozen=True)
class Space:
    """A search space: one stem and rows, each with its grid of values.

    `layers` is the default limit on the convolutions of the main path. The stem's own channels do
    not count, `stem_widths` do.
    """

    name: str
    about: str
    stem_widths: tuple[int, ...]
    stem: Stem
    rows: tuple[RowSpace, ...]
    layers: int
    width_step: int

    def decode(self, candidate: Candidate, name: str = "") -> Architecture:
        """Return the architecture that a candidate stands for."""
        stages: list[list[Row]] = [[] for _ in range(STAGES)]
        for row, genes in zip(self.rows, candidate[1:], strict=True):
            stages[row.stage - 1].append(row.row(genes))
        stem = replace(self.stem, channels=candidate[0])
        return Architecture(stem, tuple(map(tuple, stages)), name=name)

    def encode(self, architecture: Architecture) -> Candidate:
        """Return the candidate that stands for an architecture.

        Raises:
            UsageError: the architecture lies outside the space; the message says where.
        """
        rows = list(architecture.rows)
        if len(rows) != len(self.rows) or any(
            theirs.family not in own.families or theirs.stride != own.stride
            for own, theirs in zip(self.rows, rows, strict=True)
        ):
            raise UsageError(
                f"the architecture's rows are not those of the space '{self.name}': "
                "families and strides must agree."
            )
        candidate: list[Any] = [architecture.stem.channels]
        for own, row in zip(self.rows, rows, strict=True):
            candidate.append(own.genes(row))
        problem = self.problem(tuple(candidate))
        if not problem and self.decode(tuple(candidate), architecture.name) != architecture:
            problem = "stem, activation, shortcut, groups, gate or head differ from the space's"
        if problem:
            raise UsageError(f"the architecture lies outside the space '{self.name}': {problem}.")
        return tuple(candidate)

    def problem(self, candidate: Candidate) -> str:
        """Return why a candidate lies outside the space, or ''."""
        if candidate[0] not in self.stem_widths:
            return f"stem channels {candidate[0]}"
        channels = candidate[0]
        for number, (row, genes) in enumerate(zip(self.rows, candidate[1:], strict=True), 1):
            kind, out, inner, depth = genes
            if kind not in row.kinds:
                return f"row {number}: kernel {kind % FAMILY_STEP}"
            name = family(row.family(kind)).inner
            grid = (("out", out, row.outs), (name, inner, row.inners(kind)))
            for what, value, known in (*grid, ("depth", depth, row.depths)):
                if value not in known:
                    return f"row {number}: {what} {value}"
            if not row.fits(channels, genes):
                return f"row {number}: {channels} channels to {out}, {name} {inner}"
            channels = out
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
                for inner in row.inners(row.kinds[0])
                if row.fits(channels, genes := (row.kinds[0], out, inner, row.depths[0]))
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
            kind = row.kinds[int(next(draw) * len(row.kinds))]
            depth = row.depths[int(next(draw) * len(row.depths))]
            low, high = row.growth
            # Stay where the rows to come can still reach their own smallest width.
            least = bisect.bisect_left(row.outs, max(reach, low * channels))
            out = _log_pick(row.outs[least:], next(draw), high * channels)
            inners = row.inners(kind)
            if row.inner_is_width(kind):
                low, high = row.ratio
                least = bisect.bisect_left(inners, low * out)
                inner = _log_pick(inners[least:], next(draw), high * out)
            else:
                inner = inners[int(next(draw) * len(inners))]
            candidate.append((kind, out, inner, depth))
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

        rows = tuple(replace(row, outs=kept(row.outs), mids=kept(row.mids)) for row in self.rows)
        stem = kept(self.stem_widths)
        if not stem or not all(
            row.outs and all(row.inners(kind) for kind in row.kinds) for row in rows
        ):
            raise UsageError(
                f"space '{self.name}': a row has no width that is a multiple of {multiple}, as the "
                "device's kernels want the channels. Widen the space's ranges."
            )
        space = replace(
            self,
            stem_widths=stem,
            rows=reachable(stem, rows),
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
                "kernel": self.stem.kernel,
                "activation": self.stem.activation,
                "max_pool": self.stem.max_pool,
                "focus": self.stem.focus,
            },
            "rows": [_shown(row) for row in self.rows],
            "candidates": self.size(),
        }

    def size(self) -> float:
        """Return the number of candidates, rules between neighbours left out."""
        per_row = (float(row.size()) for row in self.rows)
        return float(len(self.stem_widths)) * math.prod(per_row)


def reachable(stem: tuple[int, ...], rows: tuple[RowSpace, ...]) -> tuple[RowSpace, ...]:
    """Drop the widths that no candidate can have: nothing before or inside suits them."""
    widest = stem[-1]
    kept = []
    for row in rows:
        outs = tuple(
            width
            for width in row.outs
            if width <= row.growth[1] * widest
            and any(
                row.inner_fits(kind, inner, width)
                for kind in row.kinds[:: len(row.kernels)]
                for inner in row.inners(kind)
            )
        )
        kept.append(replace(row, outs=outs or row.outs[:1]))
        widest = kept[-1].outs[-1]
    return tuple(kept)


def _shown(row: RowSpace) -> dict[str, Any]:
    """Return what a row allows, by the words of the file."""
    inner: dict[str, list[int]] = {}
    if row.mids:
        inner["mid"] = [row.mids[0], row.mids[-1]]
    if row.expansions:
        inner["expansion"] = list(row.expansions)
    return {
        "stage": row.stage,
        "family": row.families[0] if len(row.families) == 1 else list(row.families),
        "stride": row.stride,
        "kernels": list(row.kernels),
        "out": [row.outs[0], row.outs[-1]],
        "growth": list(row.growth),
        "monotone": row.growth[0] >= 1,
        **inner,
        "ratio": list(row.ratio) if row.mids else None,
        "blocks": [row.depths[0] * row.unit, row.depths[-1] * row.unit],
        "depth_step": row.unit,
        **({"activation": row.activation} if row.activation else {}),
        **({"groups": row.groups} if row.groups != 1 else {}),
        **({"se": row.se} if row.se else {}),
    }


def _log_pick(values: tuple[int, ...], u: float, most: float) -> int:
    """Return a value of a grid, not above `most`, log-uniformly by the uniform number `u`."""
    count = bisect.bisect_right(values, most)
    target = values[0] * ((values[count - 1] + 1) / values[0]) ** u
    return values[min(count, bisect.bisect_right(values, target)) - 1]

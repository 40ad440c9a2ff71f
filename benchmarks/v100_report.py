"""The V100 benchmark's tables: accuracy beside the baselines, and whether intervals hold."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray
from v100_pieces import BYTES, MODELS, SHIPPED, HeldOutPiece, Pieces

from hwnas.latency.columns import CLASSES
from hwnas.latency.evaluation import accuracy
from hwnas.latency.intervals import HeldOut, kernel_quantiles

Rows = Callable[[HeldOutPiece], NDArray[np.bool_]]
DEPTHWISE = CLASSES.index("depthwise")

# Held-out set -> the split it comes from, and which of its rows.
SETS: dict[str, tuple[str, Rows]] = {
    "random tenth": ("random", lambda p: np.ones_like(p.channels)),
    "random tenth, depthwise": ("random", lambda p: p.columns.kind == DEPTHWISE),
    "off the grid, resolution only": ("off-grid", lambda p: p.resolution & ~p.channels),
    "off the grid, channels only": ("off-grid", lambda p: p.channels & ~p.resolution),
    "off the grid, one or both": ("off-grid", lambda p: np.ones_like(p.channels)),
    "off the grid, both, depthwise": (
        "off-grid",
        lambda p: p.resolution & p.channels & (p.columns.kind == DEPTHWISE),
    ),
    "off the grid, both": ("off-grid", lambda p: p.resolution & p.channels),
}
INTERVALS = "off the grid, both"
CONFIDENCE = 0.9
SUM_OF = 50


def ready(pieces: Pieces, precision: str, split: str, seeds: int, model: str) -> list[int]:
    """Return the seeds of which a piece has run."""
    return [s for s in range(seeds) if not pieces.missing(precision, split, s, model)]


def table_report(pieces: Pieces, seeds: int) -> str:
    """Return the table of accuracy: mean and range over seeds."""
    lines = [
        "| held out | precision | model | MAPE | least to greatest | within 10 % | "
        "least to greatest | seeds | rows |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (split, rows) in SETS.items():
        for precision in BYTES:
            for model in MODELS:
                told = []
                for seed in ready(pieces, precision, split, seeds, model):
                    piece = pieces.get(precision, split, seed, model)
                    some = rows(piece)
                    told.append(accuracy(piece.measured_s[some], piece.predicted_s[some]))
                if told:
                    mape = np.array([100 * t["mape"] for t in told])
                    within = np.array([100 * t["within_10"] for t in told])
                    count = int(np.mean([t["rows"] for t in told]))
                    lines.append(
                        f"| {name} | {precision.upper()} | {model} | {mape.mean():.2f} % | "
                        f"{mape.min():.2f} to {mape.max():.2f} | {within.mean():.1f} % | "
                        f"{within.min():.1f} to {within.max():.1f} | {len(told)} | {count:,} |"
                    )
    return "\n".join(lines) + "\n"


def with_rows_of(table: str, page: str) -> str:
    """Return a table of accuracy with the rows of an older one for what has not run here."""
    rows = {
        tuple(cell.strip().lower() for cell in line.split("|")[1:4]): line
        for text in (page, table)
        for line in text.splitlines()[2:]
    }
    order = [key for key in product(SETS, BYTES, MODELS) if key in rows]
    return "\n".join([*table.splitlines()[:2], *(rows[key] for key in order)]) + "\n"


def held_out(pieces: Pieces, precision: str, seeds: int) -> dict[str, HeldOut]:
    """Return what a card tells: rows of all seeds, held out by split; the last gives intervals.

    Raises:
        SystemExit: a set has not run.
    """
    found = {}
    for name, (split, rows) in SETS.items():
        done = ready(pieces, precision, split, seeds, SHIPPED)
        if not done:
            raise SystemExit(f"nothing has run of {precision} {split}: run without --fit first.")
        parts = [pieces.get(precision, split, seed, SHIPPED) for seed in done]
        found[name] = _joined(parts, rows)
    return found


def coverage_report(pieces: Pieces, seeds: int) -> str:
    """Return how many kernels intervals cover on other values than they were calibrated on."""
    lines = [
        f"| precision | class | {CONFIDENCE:.0%} intervals cover | least to greatest | "
        "half width | calibrated on, covers |",
        "|---|---|---|---|---|---|",
    ]
    split, rows = SETS[INTERVALS]
    for precision in BYTES:
        done = ready(pieces, precision, split, seeds, SHIPPED)
        if len(done) < 2:
            continue
        parts = {seed: pieces.get(precision, split, seed, SHIPPED) for seed in done}
        shares: dict[str, list[tuple[float, float]]] = {}
        for seed in done:
            known = kernel_quantiles(
                _joined([part for other, part in parts.items() if other != seed], rows)
            )
            asked = _joined([parts[seed]], rows)
            ratios = asked.measured_s / asked.predicted_s
            inside = np.zeros(len(ratios), dtype=bool)
            for kind in np.unique(asked.kind):
                low, high = known.get(CLASSES[kind], known["all"]).factors(CONFIDENCE)
                of_class = asked.kind == kind
                inside[of_class] = (low <= ratios[of_class]) & (ratios[of_class] <= high)
                shares.setdefault(CLASSES[kind], []).append(
                    (float(inside[of_class].mean()), (high - low) / 2)
                )
            shares.setdefault("all", []).append((float(inside.mean()), np.nan))
        for name, told in shares.items():
            covered, width = 100 * np.array(told).T
            half = "" if np.isnan(width).all() else f"{width.mean():.0f} %"
            lines.append(
                f"| {precision.upper()} | {name} | {covered.mean():.1f} % | "
                f"{covered.min():.1f} to {covered.max():.1f} | {half} | "
                f"{len(done) - 1} of {len(done)} draws, the other |"
            )
    return "\n".join(lines) + "\n"


def sums_report(pieces: Pieces, seeds: int) -> str:
    """Return how far sums of held-out kernels are off: what one network's errors average to.

    A sum takes SUM_OF kernels of one batch from one draw of removed values, so that they share
    what such kernels have in common.
    """
    lines = [
        f"| precision | measured / predicted, sums of {SUM_OF} kernels: median | "
        "5 % of them below | 5 % above |",
        "|---|---|---|---|",
    ]
    split, rows = SETS[INTERVALS]
    for precision in BYTES:
        rng, ratios = np.random.default_rng(0), []
        for seed in ready(pieces, precision, split, seeds, SHIPPED):
            piece = pieces.get(precision, split, seed, SHIPPED)
            for batch in np.unique(piece.columns.batch):
                usable = np.flatnonzero(rows(piece) & (piece.columns.batch == batch))
                for _ in range(200):
                    some = rng.choice(usable, SUM_OF)
                    ratios.append(piece.measured_s[some].sum() / piece.predicted_s[some].sum())
        if ratios:
            middle, low, high = np.quantile(ratios, [0.5, 0.05, 0.95])
            lines.append(f"| {precision.upper()} | {middle:.3f} | {low:.3f} | {high:.3f} |")
    return "\n".join(lines) + "\n"


def _joined(parts: list[HeldOutPiece], rows: Rows) -> HeldOut:
    masks = [rows(part) for part in parts]
    draws = np.repeat(np.arange(len(parts)), [mask.sum() for mask in masks])
    return HeldOut(
        *(
            np.concatenate([values[mask] for values, mask in zip(column, masks, strict=True)])
            for column in zip(
                *((p.columns.kind, p.measured_s, p.predicted_s) for p in parts), strict=True
            )
        ),
        draws,
    )

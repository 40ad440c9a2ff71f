"""Fitting a predictor: roofline, learned residual, overhead, intervals, held-out accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import features, roofline
from .columns import CLASSES, Columns
from .evaluation import accuracy
from .intervals import HeldOut, kernel_quantiles, no_quantiles, quantiles
from .predictor import Card, Overhead, Predictor, create
from .regressors import Regressor, Trees

FOLDS = 4
DISTURBED = 0.1
"""Disagreement between a network and its kernels that only a disturbance explains."""

LEAST_CALM = 20
"""Networks measured in calm from which something is told about these alone."""

SIZES = ("batch", "in_channels", "out_channels", "in_height", "in_width", "kernel", "stride")

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Networks:
    """Measured networks: `rows` gives the network of each kernel, `latency_s` one per network.

    `calm` says which were measured as a whole and undisturbed; by default all of them.
    """

    rows: NDArray[np.int64]
    latency_s: Seconds
    calm: NDArray[np.bool_] | None = None


def fit(
    columns: Columns,
    seconds: Seconds,
    *,
    device: str,
    runtime: str,
    precision: str,
    feature_set: str,
    bytes_per_value: float,
    provenance: dict[str, Any],
    networks: Networks | None = None,
    blocks: NDArray[np.int64] | None = None,
    folds: NDArray[np.int64] | None = None,
    held_out: dict[str, HeldOut] | None = None,
    regressor: Regressor | None = None,
) -> Predictor:
    """Fit a predictor to measured kernels.

    Intervals and accuracy are told on kernels that the regressor has not seen: each fold is
    predicted by a regressor fitted to all other rows. The one that is kept is fitted to all.

    Where only sums over blocks of kernels were measured, the roofline is fitted to these sums, and
    each is shared out in the roofline's proportions: what a kernel takes by itself is then an
    assumption that no row tests, so accuracy and intervals are told on blocks.

    Args:
        columns: the kernels.
        seconds: what each took; with `blocks`, what each block took.
        device: the device's name.
        runtime: the runtime and its version.
        precision: `fp32`, `fp16` or `int8`.
        feature_set: `cpu` or `gpu`.
        bytes_per_value: size of an activation.
        provenance: where the rows come from.
        networks: which network each kernel belongs to, and what the networks took.
        blocks: the block of each kernel, ascending, where only sums were measured.
        folds: the fold of each kernel; nothing is told on rows of a negative fold. By default
            four random folds: of networks or blocks where these are known, else of kernels.
        held_out: kernels that were predicted already, instead of folds: accuracy is told on each
            of these named sets, intervals come from the last. Without `networks` and `blocks`.
        regressor: what learns the residual; by default boosted trees.
    """
    peaks = roofline.fit(columns, seconds, bytes_per_value, blocks)
    if blocks is not None:
        share = peaks.seconds(columns)
        seconds = share * (seconds / np.bincount(blocks, weights=share))[blocks]
    card = Card(
        device=device,
        runtime=runtime,
        precision=precision,
        feature_set=feature_set,
        roofline=peaks,
        overhead=Overhead(),
        kernel_quantiles={},
        network_quantiles=no_quantiles(),
        measured=ranges(columns),
        features=tuple(features.build(feature_set, columns.take([0]), seconds[:1])[0]),
        provenance=provenance,
    )
    chosen = regressor or Trees()
    unseen = np.full(len(columns), np.nan)
    told = np.ones(len(columns), dtype=bool)
    if held_out is None:
        if folds is None:
            alone = np.arange(len(columns)) if blocks is None else blocks
            folds = _random_folds(networks.rows if networks else alone)
        for k in np.unique(folds[folds >= 0]):
            held = folds == k
            model = _fit_residual(card, columns.take(~held), seconds[~held], chosen)
            unseen[held] = create(card, model).seconds(columns.take(held))
        told &= folds >= 0
        held_out = {"held-out kernels": HeldOut(columns.kind[told], seconds[told], unseen[told])}
    card = replace(
        card,
        kernel_quantiles=kernel_quantiles(list(held_out.values())[-1]),
        accuracy={name: accuracy(h.measured_s, h.predicted_s) for name, h in held_out.items()},
    )
    card = replace(card, network_quantiles=card.kernel_quantiles["all"])
    if networks is not None:
        card = _with_networks(card, networks, unseen)
    elif blocks is not None:
        card = _with_blocks(card, blocks[told], seconds[told], unseen[told])
    return create(card, _fit_residual(card, columns, seconds, chosen))


def _random_folds(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the fold of each row; rows of one group share it."""
    order = np.random.default_rng(0).permutation(int(group.max()) + 1)
    return order[group] % FOLDS


def _with_networks(card: Card, networks: Networks, unseen: Seconds) -> Card:
    """Return the card with overhead, intervals and accuracy of whole networks.

    The overhead, three numbers, is fitted to the same networks that its accuracy is told on; as
    their kernels are predicted by models that have not seen them, it corrects what these miss.
    """
    overhead = _overhead(unseen, networks)
    total = _total(overhead, unseen, networks)
    told = {"held-out networks": accuracy(networks.latency_s, total)}
    if networks.calm is not None and LEAST_CALM <= networks.calm.sum() < len(total):
        told["held-out calm networks"] = accuracy(
            networks.latency_s[networks.calm], total[networks.calm]
        )
    return replace(
        card,
        overhead=overhead,
        network_quantiles=quantiles(np.log(networks.latency_s / total), "networks"),
        accuracy={**card.accuracy, **told},
    )


def _with_blocks(card: Card, blocks: NDArray[np.int64], seconds: Seconds, unseen: Seconds) -> Card:
    """Return the card with intervals and accuracy of blocks, and nothing told on their kernels."""
    known = np.unique(blocks)
    sums = [np.bincount(blocks, weights=values)[known] for values in (seconds, unseen)]
    measured, predicted = (values.astype(np.float64) for values in sums)
    of_blocks = quantiles(np.log(measured / predicted), "blocks")
    return replace(
        card,
        kernel_quantiles={"all": of_blocks},
        network_quantiles=of_blocks,
        accuracy={"held-out blocks": accuracy(measured, predicted)},
    )


def adding_up(
    seconds: Seconds, rows: NDArray[np.int64], network_s: Seconds, calm: NDArray[np.bool_]
) -> Seconds:
    """Return kernel times that add up to what their network takes when nothing disturbs it.

    The profiler itself adds to each kernel; this excess is fitted robustly over all networks and
    taken off as far as a kernel has it. What then remains between a network and its kernels is a
    matter of the minute in which each was timed, and the network, which is what a predictor is
    for, decides. Only where a network was never calm and took clearly longer than its kernels
    say, they decide: a disturbance that outlasts a kernel's runs is rarer than one that outlasts
    all calm moments of a network, and it can only lengthen.

    Args:
        seconds: least time of each kernel.
        rows: the network of each kernel.
        network_s: what each network takes, run without the profiler.
        calm: which networks were undisturbed in most of their runs.
    """
    from scipy.optimize import least_squares

    sums = np.bincount(rows, weights=seconds)
    design = np.stack([sums, np.bincount(rows)], axis=1) / network_s[:, None]
    fitted = least_squares(
        lambda x: design @ (x * [1.0, 1e-6]) - 1, [1.0, 0.0], loss="soft_l1", f_scale=0.01
    )
    excess_s = max(0.0, -1e-6 * float(fitted.x[1]) / float(fitted.x[0]))
    shortest = np.maximum(0.25 * seconds, 0.25e-6)  # the profiler counts whole microseconds
    alone = np.maximum(seconds - excess_s, shortest)
    ratio = network_s / np.bincount(rows, weights=alone)
    enough = calm.sum() >= LEAST_CALM
    typical = float(np.median(ratio[calm]) if enough else np.quantile(ratio, 0.25))
    ratio[~calm & (ratio > (1 + DISTURBED) * typical)] = typical
    corrected: Seconds = alone * ratio[rows]
    return corrected


def _fit_residual(card: Card, columns: Columns, seconds: Seconds, regressor: Regressor) -> Any:
    """Fit a regressor to log(measured / roofline) and return it as an ONNX model."""
    at_peak = card.roofline.seconds(columns)
    _, table = features.build(card.feature_set, columns, at_peak)
    # A kernel counts by the square root of its time: long ones make a network's latency.
    weight = np.sqrt(seconds / seconds.mean()) if card.feature_set == "cpu" else None
    return regressor.fit(table, np.log(seconds / at_peak), weight)


def _overhead(seconds: Seconds, networks: Networks) -> Overhead:
    """Fit constant, scale and cost per kernel to relative errors; only the last may be negative."""
    from scipy.optimize import least_squares

    count = np.bincount(networks.rows)
    sums = np.bincount(networks.rows, weights=seconds)
    scale = float(np.median(networks.latency_s / sums))
    # Steps of the fit: what changes a typical network by about one per cent.
    unit = 0.01 * float(np.median(networks.latency_s)) / np.array([1.0, np.median(count)])

    def build(values: NDArray[np.float64]) -> Overhead:
        constant_s, per_kernel_s = values[[0, 2]] * unit
        return Overhead(float(constant_s), float(values[1] * scale), float(per_kernel_s))

    # Robust: some of the networks were disturbed when they were timed.
    found = least_squares(
        lambda values: _total(build(values), seconds, networks) / networks.latency_s - 1,
        np.array([0.1, 1.0, 0.1]),
        bounds=([0, 0, -np.inf], np.inf),
        loss="soft_l1",
        f_scale=0.02,
    ).x
    return build(found)


def _total(overhead: Overhead, seconds: Seconds, networks: Networks) -> Seconds:
    """Return what networks take, from what each of their kernels does."""
    shares = np.bincount(networks.rows, weights=overhead.shares(seconds)).astype(np.float64)
    return overhead.constant_s + shares


def ranges(columns: Columns) -> dict[str, dict[str, tuple[float, float]]]:
    """Return least and greatest value of each size, by class of kernel."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for kind, name in enumerate(CLASSES):
        rows = columns.kind == kind
        if rows.any():
            found[name] = {
                size: (
                    float(getattr(columns, size)[rows].min()),
                    float(getattr(columns, size)[rows].max()),
                )
                for size in SIZES
            }
    return found


def sequence_of(networks: Sequence[int]) -> NDArray[np.int64]:
    """Return the network of each kernel from the number of kernels of each network."""
    return np.repeat(np.arange(len(networks)), networks)

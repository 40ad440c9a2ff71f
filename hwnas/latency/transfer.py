"""A new device from few samples: the predictor of a similar device, corrected.

The time of each kernel on the source is multiplied by exp(a + b x), x a few smooth features of the
kernel: one scale, then a residual in the kernel's class and shape. The factors b are drawn towards
zero (ridge regression), so that ten whole-network times suffice for the scale and fifty tell
classes apart. A roofline fitted to the new device's own samples is corrected and judged beside the
sources: a runtime or a precision may have little in common with any of them. Sums stay sums: what
comes out is a predictor like any other, whose model is the source's plus one linear term. The
approach is that of HELP (https://arxiv.org/abs/2106.08630) in its simplest form: what a device has
in common with a known one is not learned again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from . import features, roofline
from .columns import Columns
from .evaluation import accuracy
from .fitting import ranges
from .intervals import quantiles
from .predictor import Overhead, Predictor, Quantiles, create
from .residual import INPUT, OUTPUT, write

LEAST = 5
"""Samples below which there is nothing to fit."""

FOLDS = 10

OWN = "a roofline of its own"
"""What stands for a source where none is as good as a roofline fitted to the samples."""

SMOOTH = (
    *("log_depth", "log_rows", "log_out_channels", "log_intensity", "kernel_area", "fused_add"),
    *("log_roofline", "out_padding_16"),
)
"""Features of a kernel's shape that the correction may depend on, beside its class."""

Array = NDArray[np.float64]

Start: TypeAlias = "Callable[[Samples], Predictor]"
"""What is corrected, given the samples that it may rest on."""


@dataclass(frozen=True)
class Samples:
    """What was measured on the new device.

    Attributes:
        columns: kernels.
        rows: the sample that each kernel belongs to [kernels]: a network, or itself.
        seconds: what each sample took [samples].
        whole: samples are whole networks, which take a little besides their kernels.
    """

    columns: Columns
    rows: NDArray[np.int64]
    seconds: Array
    whole: bool

    def take(self, chosen: NDArray[np.int64]) -> Samples:
        """Return some of the samples, in their own order."""
        chosen = np.sort(chosen)
        place = np.full(len(self.seconds), -1)
        place[chosen] = np.arange(len(chosen))
        rows = place[self.rows]
        kept = rows >= 0
        return Samples(self.columns.take(kept), rows[kept], self.seconds[chosen], self.whole)


def transfer(
    sources: Mapping[str, Predictor],
    samples: Samples,
    *,
    device: str,
    runtime: str,
    precision: str,
    provenance: dict[str, Any],
) -> Predictor:
    """Return a predictor for a new device, from what suits it best.

    Each source, and a roofline fitted to the samples, is corrected and judged on samples left out
    (ten folds); the one of least error is kept, named `OWN` if it is the roofline. Its intervals
    and its accuracy are those of the samples left out, as few as they are.

    Args:
        sources: fitted predictors by device.
        samples: what was measured on the new device.
        device: the new device's name.
        runtime: its runtime and version.
        precision: `fp32`, `fp16` or `int8`.
        provenance: where the samples come from.

    Raises:
        UsageError: there are too few samples, or no source has a model.
    """
    count = len(samples.seconds)
    if count < LEAST:
        raise UsageError(f"{count} samples are too few to adapt a predictor: {LEAST} at least.")
    known = {name: source for name, source in sources.items() if source.card.feature_set}
    if not known:
        raise UsageError(
            f"none of the devices {', '.join(sources) or '(none)'} has a fitted predictor to start "
            "from; a device whose predictor is a roofline alone cannot be one."
        )
    starts: dict[str, Start] = {name: partial(_known, source) for name, source in known.items()}
    starts[OWN] = partial(_at_peak, next(iter(known.values())))
    judged = {name: _held_out(start, samples) for name, start in starts.items()}
    errors = {
        name: accuracy(samples.seconds, predicted)["mape"] for name, predicted in judged.items()
    }
    best = min(errors, key=lambda name: errors[name])
    adapted = _Correction(starts[best](samples), samples).predictor()
    ratios = np.log(samples.seconds / judged[best])
    told = "networks" if samples.whole else "kernels"
    spread = quantiles(ratios, told)
    card = replace(
        adapted.card,
        device=device,
        runtime=runtime,
        precision=precision,
        kernel_quantiles={"all": spread},
        network_quantiles=spread,
        accuracy={f"held-out {told}": accuracy(samples.seconds, judged[best])},
        provenance={
            **provenance,
            "adapted_from": best,
            "adapted_from_mape": errors,
            "interval": f"rests on {count} {told}" + _rough(spread),
        },
    )
    return Predictor(card, adapted.model)


def _rough(spread: Quantiles) -> str:
    """Return a warning where the ranks of the highest confidence are not there."""
    beyond = [c for c in spread.confidence if (1 - c) / 2 * (spread.count + 1) < 1]
    return f": beyond {min(beyond):.0%} it is the range of what was seen" if beyond else ""


def _known(source: Predictor, samples: Samples) -> Predictor:
    return source


def _at_peak(source: Predictor, samples: Samples) -> Predictor:
    """Return a predictor by the roofline of the samples alone, with features as the source has."""
    like = source.card
    peaks = roofline.fit(
        samples.columns, samples.seconds, like.roofline.bytes_per_value, samples.rows
    )
    card = replace(
        like,
        roofline=peaks,
        overhead=Overhead(),
        measured=ranges(samples.columns),
        features=tuple(features.names(like.feature_set)),
    )
    return Predictor(card)


def _held_out(start: Start, samples: Samples) -> Array:
    """Return each sample's time as predicted without it."""
    count = len(samples.seconds)
    order = np.random.default_rng(0).permutation(count)
    predicted = np.empty(count)
    for part in np.array_split(order, min(FOLDS, count)):
        fold = np.sort(part)
        others = np.setdiff1d(order, fold)
        few = samples.take(others)
        adapted = _Correction(start(few), few).predictor()
        held = samples.take(fold)
        if samples.whole:
            each = adapted.shares(held.columns)
            predicted[fold] = adapted.constant_s + np.bincount(held.rows, weights=each)
        else:
            predicted[fold] = adapted.seconds(held.columns)
    return predicted


class _Correction:
    """The factors that turn a source's kernel times into the new device's."""

    NOISE = 0.08
    """Relative error of a sample that the correction need not explain."""

    SPREAD = 0.2
    """How far, in logarithms, a class or a standard deviation of a feature may move a kernel."""

    def __init__(self, source: Predictor, samples: Samples) -> None:
        self._source = source
        known = source.card.measured
        new = {k: v for k, v in ranges(samples.columns).items() if k not in known}
        # Classes that the source never measured are answered by its model all the same.
        self._card = replace(source.card, measured={**known, **new})
        base = source.card.overhead.scale * Predictor(self._card, source.model).seconds(
            samples.columns
        )
        names, table = features.build(source.card.feature_set, samples.columns, base)
        known_to_model = list(source.card.features)
        table = table[:, [names.index(name) for name in known_to_model]]
        self._names = names = known_to_model
        used = [i for i, n in enumerate(names) if n in SMOOTH or n.startswith("is_")]
        values = table[:, used].astype(np.float64)
        mean = np.average(values, axis=0, weights=base)
        spread = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=base))
        varies = spread > 1e-6
        self._used = np.array(used)[varies]
        self._mean, self._spread = mean[varies], spread[varies]
        self._x = (values[:, varies] - self._mean) / self._spread
        self._fit(samples, base)

    def _fit(self, samples: Samples, base: Array) -> None:
        from scipy.optimize import least_squares

        count = len(samples.seconds)
        sums = np.bincount(samples.rows, weights=base, minlength=count)
        kernels = np.bincount(samples.rows, minlength=count).astype(np.float64)
        scale = float(np.median(np.log(samples.seconds / sums)))
        typical_s = float(np.median(samples.seconds))
        beside = np.array([0.02 * typical_s, 0.05 * typical_s / float(np.median(kernels))])

        def residuals(parameters: Array) -> Array:
            log_factor = np.clip(parameters[0] + self._x @ parameters[1:-2], -5, 5)
            overhead = self._overhead(parameters, beside, samples.whole)
            shares = overhead.shares(base * np.exp(log_factor))
            times = np.bincount(samples.rows, weights=shares, minlength=count)
            predicted = overhead.constant_s + times
            error = np.log(predicted / samples.seconds) / self.NOISE
            prior = np.concatenate([parameters[1:-2] / self.SPREAD, parameters[-2:]])
            return np.concatenate([error, prior])

        start = np.zeros(self._x.shape[1] + 3)
        start[0] = scale
        found = least_squares(residuals, start, loss="soft_l1", f_scale=3.0).x
        self._log_scale, self._slopes = float(found[0]), found[1:-2]
        self._found = self._overhead(found, beside, samples.whole)

    def _overhead(self, parameters: Array, beside: Array, whole: bool) -> Overhead:
        """Return what comes on top of corrected kernels: the source's, scaled like these, and more.

        Samples that are no whole networks have nothing on top.
        """
        if not whole:
            return Overhead()
        constant_s, per_kernel_s = parameters[-2:] * beside
        per_kernel_s += self._source.card.overhead.per_kernel_s * np.exp(parameters[0])
        return Overhead(abs(float(constant_s)), 1.0, float(per_kernel_s))

    def predictor(self) -> Predictor:
        """Return the source's predictor with the correction as a last, linear term of its model."""
        weights = np.zeros(len(self._names))
        weights[self._used] = self._slopes / self._spread
        bias = self._log_scale + np.log(self._card.overhead.scale)
        bias -= float(self._slopes @ (self._mean / self._spread))
        card = replace(self._card, overhead=self._found)
        return create(card, _with_linear_term(self._source.model, weights, bias))


def _with_linear_term(model: bytes | None, weights: Array, bias: float) -> Any:
    """Return an ONNX model that adds bias + weights x features to another's answer, or to zero."""
    import onnx
    from onnx import helper, numpy_helper

    found = onnx.load_model_from_string(model) if model is not None else None
    inner = f"source_{OUTPUT}_{len(found.graph.node) if found is not None else 0}"
    tensors = [
        numpy_helper.from_array(weights.astype(np.float32)[:, None], f"{inner}_weights"),
        numpy_helper.from_array(np.array([bias], np.float32), f"{inner}_bias"),
    ]
    linear = [INPUT, f"{inner}_weights", f"{inner}_bias"]
    if found is None:
        return write([helper.make_node("Gemm", linear, [OUTPUT])], tensors, len(weights))
    graph = found.graph
    for node in graph.node:
        node.output[:] = [inner if name == OUTPUT else name for name in node.output]
        node.input[:] = [inner if name == OUTPUT else name for name in node.input]
    graph.initializer.extend(tensors)
    graph.node.extend(
        [
            helper.make_node("Gemm", linear, [f"{inner}_term"]),
            helper.make_node("Add", [inner, f"{inner}_term"], [OUTPUT]),
        ]
    )
    return found

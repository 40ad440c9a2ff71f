"""Small multilayer perceptrons: smooth in their inputs, so they hold between the sizes that were
measured; and the mean of several. Fitting needs torch, predicting does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DeviceUnavailableError
from ..residual import CLIPPED, OUTPUT, check_same, clip, write
from .base import Table, Target

if TYPE_CHECKING:
    import onnx

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weights [inputs, outputs] and biases [outputs]."""

MOMENTUM = 0.95
HIDING = 0.7
"""The part of the steps in which inputs are hidden."""


@dataclass(frozen=True)
class Mlp:
    """A perceptron with SiLU, fitted to the Huber loss, its weights averaged over steps.

    Weights between hidden layers are fitted by Muon, the others by AdamW.

    Inputs are clipped to the range of the fitted rows: beyond it the ratio to the roofline stays
    what it is at the edge, and the roofline alone extrapolates.

    Attributes:
        width: units of a hidden layer.
        layers: hidden layers.
        epochs: passes over the rows.
        batch: rows of a step.
        learning_rate: AdamW's greatest; it rises over the first fifth and falls to zero.
        muon_rate: Muon's greatest.
        weight_decay: AdamW's; Muon's is five times as large.
        hidden_inputs: inputs that are hidden from a step at times, each for itself: replaced by
            their mean. What a few of them together betray, such as which of the measured sizes a
            row has, is then not relied upon.
        hidden_share: how often, at the first step. It falls to never: the last steps, small as
            they are, learn what the inputs tell when all are shown, as they are in predictions.
        seed: of weights, order and what is hidden; the fit is the same to the bit.
    """

    width: int = 256
    layers: int = 3
    epochs: int = 20
    batch: int = 2048
    learning_rate: float = 5e-3
    muon_rate: float = 0.03
    weight_decay: float = 0.01
    hidden_inputs: tuple[int, ...] = ()
    hidden_share: float = 0.0
    seed: int = 0

    def fit(self, table: Table, target: Target, weight: Target | None) -> onnx.ModelProto:
        """Return the fitted perceptron; see `Regressor`.

        Raises:
            DeviceUnavailableError: torch is not installed.
        """
        counts = np.ones(len(target)) if weight is None else weight
        return fit_several([self], table, target[:, None], counts[:, None])[0]


def fit_several(
    members: Sequence[Mlp], table: Table, targets: Target, weights: Target
) -> list[onnx.ModelProto]:
    """Return one model for each of several targets: the mean of what the members say.

    In each member, the targets share all but the last layer.

    Args:
        members: the perceptrons to fit, each by itself.
        table: features [kernels, features].
        targets: of each kernel [kernels, targets]; NaN where it was not measured.
        weights: what each target counts [kernels, targets].

    Raises:
        DeviceUnavailableError: torch is not installed.
    """
    low, high = table.min(axis=0), table.max(axis=0)
    mean, deviation = table.mean(axis=0, dtype=np.float64), table.std(axis=0, dtype=np.float64)
    deviation = np.where(deviation > 1e-6, deviation, 1.0)
    measured = np.isfinite(targets)
    centre, scale = np.nanmean(targets, axis=0), np.nanstd(targets, axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    counts = np.where(measured, weights, 0.0)
    counts /= counts.sum(axis=0) / measured.sum(axis=0)
    inputs = ((table - mean) / deviation).astype(np.float32)
    goals = np.where(measured, (targets - centre) / scale, 0.0).astype(np.float32)
    fitted = [train(member, inputs, goals, counts.astype(np.float32)) for member in members]
    models = []
    for k in range(targets.shape[1]):
        layers = [_in_units(f, mean, deviation, k, centre[k], scale[k]) for f in fitted]
        model = to_onnx(layers, low, high)
        check_same(model, table, partial(predict, layers, low, high))
        models.append(model)
    return models


def _in_units(
    layers: list[Layer], mean: Any, deviation: Any, k: int, centre: float, scale: float
) -> list[Layer]:
    """Return a member that takes features and returns its k-th target as they are.

    Both changes of scale are written into the outer layers.
    """
    (first, bias), *inner, (last, last_bias) = layers
    first64 = first / deviation[:, None]
    outer = (
        (first64, bias - mean @ first64),
        (last[:, k : k + 1] * scale, last_bias[k : k + 1] * scale + centre),
    )
    opening, closing = ((w.astype(np.float32), b.astype(np.float32)) for w, b in outer)
    return [opening, *inner, closing]


def train(
    settings: Mlp, inputs: Table, goals: NDArray[np.float32], counts: NDArray[np.float32]
) -> list[Layer]:
    """Return the layers of a perceptron, fitted to standardised rows.

    Args:
        settings: sizes and rates.
        inputs: rows [rows, features].
        goals: targets [rows, targets].
        counts: what each target of a row counts [rows, targets]; zero where it is not known.

    Raises:
        DeviceUnavailableError: torch is not installed.
    """
    try:
        import torch
        from torch.nn import functional
    except ModuleNotFoundError:
        raise DeviceUnavailableError(
            "fitting a multilayer perceptron needs torch, which is not installed: "
            "pip install 'hwnas[torch]'."
        ) from None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order: the same bits whatever the machine is doing
    try:
        rng = np.random.default_rng(settings.seed)
        generator = torch.Generator().manual_seed(settings.seed)
        maskable = list(settings.hidden_inputs)
        x, y, w = (torch.from_numpy(array) for array in (inputs, goals, counts))
        parameters = [
            torch.from_numpy(array).requires_grad_()
            for array in _initial(settings, x.shape[1], y.shape[1], rng)
        ]
        averages = [p.detach().clone() for p in parameters]
        hidden_weights = parameters[2:-2:2]
        moments = [torch.zeros_like(p) for p in hidden_weights]
        optimiser = torch.optim.AdamW(
            [p for i, p in enumerate(parameters) if i % 2 or i in (0, len(parameters) - 2)],
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        size = min(settings.batch, len(x))
        steps = len(x) // size
        total = settings.epochs * steps
        for step in range(total):
            if step % steps == 0:
                order = torch.from_numpy(rng.permutation(len(x)))
            at = step % steps * size
            chosen = order[at : at + size]
            rate = _schedule(step / total)
            optimiser.param_groups[0]["lr"] = settings.learning_rate * rate
            hidden = x[chosen]
            if share := settings.hidden_share * max(0.0, 1 - step / total / HIDING):
                shown = torch.rand((len(chosen), len(maskable)), generator=generator)
                hidden[:, maskable] *= shown >= share
            for weights, biases in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
                hidden = functional.silu(torch.addmm(biases, hidden, weights))
            answers = torch.addmm(parameters[-1], hidden, parameters[-2])
            losses = functional.smooth_l1_loss(answers, y[chosen], beta=0.1, reduction="none")
            loss = (losses * w[chosen]).sum() / w[chosen].sum()
            for parameter in parameters:
                parameter.grad = None
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            with torch.no_grad():
                for parameter, moment in zip(hidden_weights, moments, strict=True):
                    gradient: Any = parameter.grad
                    moment.mul_(MOMENTUM).add_(gradient)
                    ahead = gradient.add(moment, alpha=MOMENTUM)
                    parameter.mul_(1 - 5 * settings.muon_rate * rate * settings.weight_decay)
                    parameter.sub_(orthogonal(ahead), alpha=settings.muon_rate * rate)
            # The average over the last few hundred steps generalises better than the last step
            # (Polyak and Juditsky, 1992).
            keep = min(0.998, step / (step + 10))
            with torch.no_grad():
                for average, parameter in zip(averages, parameters, strict=True):
                    average.lerp_(parameter, 1 - keep)
        arrays = [average.numpy() for average in averages]
    finally:
        torch.set_num_threads(threads)
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def orthogonal(matrix: Any, steps: int = 5) -> Any:
    """Return about the nearest orthogonal matrix [n, n], by Newton-Schulz steps.

    Every direction of the gradient then counts the same (Muon; Jordan et al., 2024, whose
    coefficients these are), which takes a third of the epochs that AdamW alone needs.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x


def _initial(
    settings: Mlp, features: int, targets: int, rng: np.random.Generator
) -> list[NDArray[np.float32]]:
    """Return weights [inputs, outputs] (He et al. 2015) and biases, layer by layer."""
    arrays = []
    sizes = [features, *[settings.width] * settings.layers, targets]
    for i, (into, out) in enumerate(pairwise(sizes)):
        # The last layer starts small, near the mean of the target.
        scale = np.sqrt(2 / into) * (0.1 if i == settings.layers else 1.0)
        weights = scale * rng.standard_normal((into, out))
        arrays += [weights.astype(np.float32), np.zeros(out, np.float32)]
    return arrays


def _schedule(done: float) -> float:
    """Return the learning rate's share of its greatest value (Smith and Topin, 2018)."""
    rise = 0.2
    if done < rise:
        return 0.04 + 0.96 * done / rise
    return 0.5 * (1 + float(np.cos(np.pi * (done - rise) / (1 - rise))))


def predict(members: list[list[Layer]], low: Any, high: Any, table: Table) -> NDArray[np.float64]:
    """Return what the members say, on average, in double precision."""
    total = np.zeros(len(table))
    for *inner, (last, last_bias) in members:
        hidden = np.clip(table, low, high).astype(np.float64)
        for weights, biases in inner:
            hidden = hidden @ weights + biases
            hidden /= 1 + np.exp(-hidden)
        total += (hidden @ last + last_bias)[:, 0]
    return total / len(members)


def to_onnx(
    members: list[list[Layer]], low: NDArray[np.float32], high: NDArray[np.float32]
) -> onnx.ModelProto:
    """Return perceptrons as one ONNX model: clip, then the mean over members."""
    from onnx import helper, numpy_helper

    nodes, arrays = clip(low, high)
    answers = []
    for m, member in enumerate(members):
        hidden = CLIPPED
        for i, (weights, biases) in enumerate(member):
            name = f"member{m}_layer{i}"
            arrays[f"{name}_weights"], arrays[f"{name}_biases"] = weights, biases
            nodes.append(
                helper.make_node("Gemm", [hidden, f"{name}_weights", f"{name}_biases"], [name])
            )
            hidden = name
            if i < len(member) - 1:
                nodes.append(helper.make_node("Sigmoid", [name], [f"{name}_gate"]))
                nodes.append(helper.make_node("Mul", [name, f"{name}_gate"], [f"{name}_silu"]))
                hidden = f"{name}_silu"
        answers.append(hidden)
    nodes.append(helper.make_node("Mean", answers, [OUTPUT]))
    tensors = [numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in arrays.items()]
    return write(nodes, tensors, len(low))

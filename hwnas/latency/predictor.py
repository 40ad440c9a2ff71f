"""A predictor: kernels to seconds with an interval. On disk a card and mostly an ONNX model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..lowering.kernels import Kernel
from ..store.files import new_folder, read_toml
from . import features
from .columns import CLASSES, Columns, from_kernels, from_table
from .residual import INPUT, OUTPUT, session
from .roofline import Roofline

if TYPE_CHECKING:
    import onnx
    import onnxruntime

SCHEMA = "hwnas.predictor/2"
BATCH_ROWS = 8192
"""Kernels predicted at once: as many as stay in the processor's cache."""

LEAST_SHARE = 0.25
"""What a kernel counts at least, in its own scaled time."""


@dataclass(frozen=True)
class Overhead:
    """A network's latency over its kernels': a constant, and of each scale * time + per_kernel.

    `per_kernel_s` is below zero where kernels of small networks, which have the caches to
    themselves, are quicker than those of large ones. None counts less than `LEAST_SHARE` of its
    scaled time for it.
    """

    constant_s: float = 0.0
    scale: float = 1.0
    per_kernel_s: float = 0.0

    def shares(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what each kernel adds to a network's latency, from what it takes by itself."""
        scaled = self.scale * seconds
        added: NDArray[np.float64] = np.maximum(scaled + self.per_kernel_s, LEAST_SHARE * scaled)
        return added


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of log(measured / predicted) on held-out data, by split conformal prediction.

    `low` and `high` hold the bounds of the central interval of each confidence; `count` is the
    number of held-out rows, `of` says of what.
    """

    confidence: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    count: int
    of: str

    def factors(self, confidence: float) -> tuple[float, float]:
        """Return by what a prediction is multiplied for the ends of its interval.

        Raises:
            UsageError: the card has no interval of so high a confidence.
        """
        if not self.confidence[0] <= confidence <= self.confidence[-1]:
            raise UsageError(
                f"the confidence {confidence:g} is not between {self.confidence[0]:g} and "
                f"{self.confidence[-1]:g}, for which this predictor is calibrated."
            )
        low = np.interp(confidence, self.confidence, self.low)
        high = np.interp(confidence, self.confidence, self.high)
        return float(np.exp(low)), float(np.exp(high))


@dataclass(frozen=True)
class Card:
    """What a predictor is and rests on; saved as `card.toml` beside `model.onnx`.

    Without a feature set there is no model: the roofline alone answers.
    """

    device: str
    runtime: str
    precision: str
    feature_set: str
    roofline: Roofline
    overhead: Overhead
    # By class of kernel; `all` stands for classes without their own.
    kernel_quantiles: dict[str, Quantiles]
    network_quantiles: Quantiles
    # Least and greatest value of each size that was measured, by class of kernel.
    measured: dict[str, dict[str, tuple[float, float]]]
    features: tuple[str, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    model_sha256: str = ""
    schema: str = SCHEMA


@dataclass(frozen=True)
class Prediction:
    """A network's predicted latency, the interval that covers the truth at `confidence`.

    `kernels_s` are the kernels' shares of the total, without its constant. `unlike` counts the
    operators that were never measured and are answered by the roofline, `unlike_share` is the
    share of the time on them; `extrapolated_share` is the share on these and on kernels larger or
    smaller than any measured.
    """

    latency_s: float
    interval_s: tuple[float, float]
    confidence: float
    kernels_s: tuple[float, ...]
    extrapolated_share: float
    unlike: dict[str, int]
    unlike_share: float = 0.0


class Predictor:
    """Predicts the latency of kernels and networks on one device."""

    def __init__(self, card: Card, model: bytes | None = None) -> None:
        self.card = card
        self._model = model
        self._session: onnxruntime.InferenceSession | None = None
        # A matrix product is the 1x1 convolution of its rows: that answers where none was measured.
        kinds = np.arange(len(CLASSES), dtype=np.int8)
        if "matmul" not in card.measured:
            kinds[CLASSES.index("matmul")] = CLASSES.index("pointwise")
        self._answered_as = kinds

    @property
    def model(self) -> bytes | None:
        """The ONNX model that corrects the roofline; None where the roofline alone answers."""
        return self._model

    @property
    def constant_s(self) -> float:
        """What a network takes besides its kernels."""
        return self.card.overhead.constant_s

    def seconds(self, columns: Columns) -> NDArray[np.float64]:
        """Return what each kernel takes by itself: roofline times the learned ratio, if any."""
        columns = self._known(columns)
        if self._model is None:
            return self.card.roofline.seconds(columns)
        seconds = np.empty(len(columns))
        measured = np.array([name in self.card.measured for name in CLASSES])
        for start in range(0, len(columns), BATCH_ROWS):
            part = columns.take(slice(start, start + BATCH_ROWS))
            base = self.card.roofline.seconds(part)
            names, table = features.build(self.card.feature_set, part, base)
            if names != list(self.card.features):
                # The card of an older version, which knew fewer features.
                table = table[:, [names.index(name) for name in self.card.features]]
            ratio = np.exp(self._run(table))
            seconds[start : start + BATCH_ROWS] = base * np.where(measured[part.kind], ratio, 1.0)
        return seconds

    def shares(self, columns: Columns) -> NDArray[np.float64]:
        """Return what each kernel adds to a network's latency."""
        return self.card.overhead.shares(self.seconds(columns))

    def table(self, kernel: Kernel, where: Any = None) -> NDArray[np.float64]:
        """Return the share of a kernel whose channels are arrays; NaN outside `where`."""
        columns = from_table(kernel, where)
        shares = self.shares(columns)
        if kernel.unless_multiple:
            shares = np.where(columns.in_channels % kernel.unless_multiple, shares, 0.0)
        shape = np.broadcast_shapes(
            np.shape(kernel.in_channels), np.shape(kernel.out_channels), np.shape(kernel.groups)
        )
        if where is None:
            return shares.reshape(shape)
        table = np.full(shape, np.nan)
        table[where] = shares
        return table

    def kernel_factors(
        self, columns: Columns, confidence: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return by what each kernel's prediction is multiplied for the ends of its interval.

        Raises:
            UsageError: the card has no interval of that confidence.
        """
        by_class = self.card.kernel_quantiles
        factors = [by_class.get(name, by_class["all"]).factors(confidence) for name in CLASSES]
        low, high = np.array(factors).T
        return low[columns.kind], high[columns.kind]

    def predict(self, kernels: Sequence[Kernel], confidence: float = 0.9) -> Prediction:
        """Return a network's latency from its fused kernels.

        Raises:
            UsageError: there are no kernels, or no interval of that confidence.
        """
        if not kernels:
            raise UsageError("the network has no kernels to predict.")
        columns = self._known(from_kernels(kernels))
        shares = self.shares(columns)
        total = self.constant_s + float(shares.sum())
        low, high = self.card.network_quantiles.factors(confidence)
        unlike: dict[str, int] = {}
        unlike_s = 0.0
        for kernel, kind, share in zip(kernels, columns.kind, shares.tolist(), strict=True):
            if CLASSES[kind] not in self.card.measured:
                unlike[kernel.op] = unlike.get(kernel.op, 0) + 1
                unlike_s += share
        strange = float(shares[self.extrapolated(columns)].sum())
        return Prediction(
            total,
            (total * low, total * high),
            confidence,
            tuple(shares.tolist()),
            strange / total,
            unlike,
            unlike_s / total,
        )

    def extrapolated(self, columns: Columns) -> NDArray[np.bool_]:
        """Return which kernels are unlike any measured one: a size outside the measured range."""
        outside = np.zeros(len(columns), dtype=bool)
        for kind, name in enumerate(CLASSES):
            rows = columns.kind == kind
            ranges = self.card.measured.get(name)
            if ranges is None:
                outside |= rows
                continue
            for column, (low, high) in ranges.items():
                values = getattr(columns, column)
                outside |= rows & ((values < low) | (values > high))
        return outside

    def _known(self, columns: Columns) -> Columns:
        return replace(columns, kind=self._answered_as[columns.kind])

    def save(self, folder: Path) -> None:
        """Write card and model; the folder appears whole, replacing an older one.

        Raises:
            HwnasError: the folder cannot be written.
        """
        with new_folder(folder) as beside:
            self.write(beside)

    def write(self, folder: Path) -> None:
        """Write card and model into a folder that exists.

        Raises:
            OSError: the folder cannot be written.
        """
        import tomli_w

        if self._model is not None:
            (folder / "model.onnx").write_bytes(self._model)
        document = {"schema": SCHEMA, **_plain(asdict(self.card))}
        (folder / "card.toml").write_text(tomli_w.dumps(document), encoding="utf-8")

    def _run(self, table: NDArray[np.float32]) -> NDArray[np.float64]:
        if self._session is None:
            assert self._model is not None
            self._session = session(self._model)
        (result,) = self._session.run([OUTPUT], {INPUT: table})
        flat: NDArray[np.float64] = result[:, 0].astype(np.float64)
        return flat


def create(card: Card, model: onnx.ModelProto) -> Predictor:
    """Return a predictor of a card and its model; the card then holds the model's hash."""
    data = model.SerializeToString()
    return Predictor(replace(card, model_sha256=_sha(data)), data)


def load(folder: Path) -> Predictor:
    """Read a predictor from its folder.

    Raises:
        UsageError: the card is malformed or newer, or the model is not the card's.
    """
    path = folder / "card.toml"
    document = read_toml(path)
    schema = document.get("schema")
    if schema != SCHEMA:
        raise UsageError(
            f"{path}: the schema is {schema!r}, this version of hwnas reads '{SCHEMA}'. "
            "Update hwnas, or profile the device again."
        )
    try:
        card = msgspec.convert(document, Card)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {error}.") from None
    if not card.feature_set:
        if card.features or card.model_sha256:
            raise UsageError(f"{path} names a model, but no feature set for it.")
        return Predictor(card)
    try:
        model = (folder / "model.onnx").read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {folder / 'model.onnx'}: {error.strerror}.") from None
    if _sha(model) != card.model_sha256:
        raise UsageError(
            f"{folder / 'model.onnx'} is not the model of its card (its SHA-256 differs): "
            "it was damaged or replaced. Profile the device again, or reinstall hwnas."
        )
    if card.feature_set not in features.FEATURE_SETS:
        raise UsageError(f"{path}: unknown feature set '{card.feature_set}'. Update hwnas.")
    known = features.names(card.feature_set)
    if missing := [name for name in card.features if name not in known]:
        raise UsageError(f"{path}: unknown feature '{missing[0]}'. Update hwnas.")
    return Predictor(card, model)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _plain(value: Any) -> Any:
    """Return data as TOML knows it: no tuples, no None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value

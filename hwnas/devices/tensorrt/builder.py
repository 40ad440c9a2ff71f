"""From an ONNX model to a TensorRT engine."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import HwnasError, UsageError
from ...store.files import write_atomic
from . import precision as precisions
from .cuda import out_of_memory

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class BatchProfile:
    """The batches that an engine takes in one of its optimisation profiles.

    It is tuned for `typical` images at a time and runs for `least` to `most`.
    """

    least: int
    typical: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.typical <= self.most:
            raise UsageError(
                f"the batches {self.least}:{self.typical}:{self.most} are not in order; give "
                "LEAST:TYPICAL:MOST, 1:8:32 for example."
            )

    @classmethod
    def parse(cls, text: str) -> BatchProfile:
        """Return the batches of a text: `8`, or `1:8:32`.

        Raises:
            UsageError: it is neither.
        """
        parts = text.split(":")
        if len(parts) not in (1, 3) or not all(part.isdecimal() for part in parts):
            raise UsageError(f"'{text}' are no batches; give 8, or LEAST:TYPICAL:MOST as 1:8:32.")
        least, typical, most = map(int, parts * (3 if len(parts) == 1 else 1))
        return cls(least, typical, most)


@dataclass(frozen=True)
class Build:
    """A built engine, not yet loaded.

    Attributes:
        plan: the engine's bytes.
        strongly_typed: whether the graph's types decided.
        calibration: where the ranges of INT8 come from; '' for floats.
    """

    plan: bytes
    strongly_typed: bool
    calibration: str


def logger(trt: Any) -> Any:
    """Return a logger that keeps TensorRT's errors, in `errors`, and shows nothing."""

    class Kept(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(msg)

    return Kept()


class Builder:
    """Builds engines for the current GPU and keeps what TensorRT learnt in a timing cache.

    Args:
        trt: the module `tensorrt`.
        cache: the file of the timing cache.
    """

    def __init__(self, trt: Any, cache: Path) -> None:
        self._trt = trt
        self._cache = cache
        self._logger = logger(trt)

    def build(
        self,
        model: onnx.ModelProto,
        precision: str,
        profiles: tuple[BatchProfile, ...] = (),
        images: Path | None = None,
    ) -> Build:
        """Return the engine of a model; this takes from seconds to minutes.

        Args:
            model: an ONNX model; with profiles, its inputs' first size becomes open.
            precision: `fp32`, `fp16` or `int8`.
            profiles: batches to tune for; by default the model's own.
            images: calibration images for `int8`; see `precision.prepare`.

        Raises:
            UsageError: the images or the batches do not fit.
            HwnasError: TensorRT cannot build it.
        """
        trt = self._trt
        strong = precisions.strongly_typed(int(trt.__version__.split(".")[0]))
        model, calibration = precisions.prepare(model, precision, strong, images)
        if profiles:
            open_batch(model)
        del self._logger.errors[:]
        builder = trt.Builder(self._logger)
        network = builder.create_network(
            1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if strong else 0
        )
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(model.SerializeToString()):
            raise HwnasError(f"TensorRT does not take the model: {self._parse_errors(parser)}.")
        config = builder.create_builder_config()
        for flag in precisions.flags(trt, precision, strong):
            config.set_flag(flag)
        # Layers one after the other, so that a network takes what its layers take together.
        config.max_aux_streams = 0
        # The inspector then tells operands, results and the ONNX nodes of each layer.
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        self._add_profiles(builder, config, network, profiles)
        self._load_cache(config)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise self._build_error()
        self._save_cache(config)
        return Build(bytes(plan), strong, calibration)

    def _add_profiles(
        self, builder: Any, config: Any, network: Any, profiles: tuple[BatchProfile, ...]
    ) -> None:
        inputs = [network.get_input(i) for i in range(network.num_inputs)]
        for tensor in inputs:
            sizes = tuple(tensor.shape)
            if any(size < 1 for size in sizes[1:]) or (sizes[0] < 1 and not profiles):
                raise HwnasError(
                    f"the model's input '{tensor.name}' has the open shape {sizes}; export it "
                    "with fixed sizes, or for an open batch give --batches."
                )
        for batches in profiles:
            profile = builder.create_optimization_profile()
            for tensor in inputs:
                rest = tuple(tensor.shape)[1:]
                shapes = [(n, *rest) for n in (batches.least, batches.typical, batches.most)]
                profile.set_shape(tensor.name, *shapes)
            config.add_optimization_profile(profile)

    def _load_cache(self, config: Any) -> None:
        """Start from what earlier builds timed; TensorRT refuses another GPU's or release's."""
        data = b""
        with suppress(OSError):
            data = self._cache.read_bytes()
        cache = config.create_timing_cache(data)
        if cache is None or not config.set_timing_cache(cache, False):
            config.set_timing_cache(config.create_timing_cache(b""), False)

    def _save_cache(self, config: Any) -> None:
        cache = config.get_timing_cache()
        if cache is not None:
            write_atomic(self._cache, bytes(cache.serialize()))

    def _parse_errors(self, parser: Any) -> str:
        told = []
        for i in range(min(parser.num_errors, 3)):
            error = parser.get_error(i)
            told.append(f"{error.node_operator()} '{error.node_name()}': {_line(error.desc())}")
        return "; ".join(told) or "; ".join(map(_line, self._logger.errors[:2])) or "no reason told"

    def _build_error(self) -> HwnasError:
        told = self._logger.errors
        if any(re.search(r"out ?of ?memory", line, re.IGNORECASE) for line in told):
            return out_of_memory()
        reason = "; ".join(map(_line, told[-2:])) or "it gives no reason"
        return HwnasError(f"TensorRT does not build the engine: {reason}.")


def open_batch(model: onnx.ModelProto) -> None:
    """Leave the batch of a model's inputs and outputs open, in place."""
    for tensor in (*model.graph.input, *model.graph.output):
        if tensor.type.tensor_type.shape.dim:
            tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]


def _line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0].rstrip(".")[:300]

"""An engine on disk, with a JSON file beside it that says where it runs."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ... import __version__
from ...errors import HwnasError, UsageError
from ...store.files import read_json, write_atomic
from .availability import Found

SCHEMA = "hwnas.engine/1"


@dataclass(frozen=True)
class Place:
    """What an engine is bound to: TensorRT's engines run nowhere else.

    Attributes:
        gpu: the model of GPU.
        capability: its compute capability.
        multiprocessors: their count.
        tensorrt: the release, "10.4.0".
        system: operating system and processor.
    """

    gpu: str
    capability: tuple[int, int]
    multiprocessors: int
    tensorrt: str
    system: str


@dataclass(frozen=True)
class EngineCard:
    """The JSON beside an engine.

    Attributes:
        place: where it runs.
        cuda_driver: newest CUDA of the driver that it was built with.
        precision: `fp32`, `fp16` or `int8`.
        strongly_typed: whether the graph's types decided, or TensorRT chose.
        calibration: where the ranges of INT8 come from; '' for floats.
        profiles: least, typical and most images at a time; empty where the model states them.
        tensors: name, shape (-1 where open), type and direction of inputs and outputs.
        sha256: of the engine.
        model_sha256: of the ONNX model that it was built from.
        architecture: the architecture's document, where there is one.
        errors: of each output on Gaussian noise, the norm of its difference from the float model's
            under onnxruntime over the norm of that; empty where nobody looked.
    """

    place: Place
    cuda_driver: str
    precision: str
    strongly_typed: bool
    calibration: str
    profiles: tuple[tuple[int, int, int], ...]
    tensors: list[dict[str, Any]]
    sha256: str
    model_sha256: str
    architecture: dict[str, Any] | None = None
    errors: dict[str, float] = field(default_factory=dict)
    hwnas: str = __version__
    schema: str = field(default=SCHEMA)


def place(gpu: Found, tensorrt: str) -> Place:
    """Return where engines that are built here run."""
    release = ".".join(tensorrt.split(".")[:3])
    system = f"{platform.system()} {platform.machine()}"
    return Place(gpu.name, gpu.capability, gpu.multiprocessors, release, system)


def card_path(path: Path) -> Path:
    """Return the file beside an engine."""
    return path.with_name(f"{path.name}.json")


def save(path: Path, plan: bytes, card: EngineCard) -> None:
    """Write an engine and the JSON beside it.

    Raises:
        HwnasError: they cannot be written.
    """
    write_atomic(path, plan)
    write_atomic(card_path(path), msgspec.json.format(msgspec.json.encode(asdict(card))))


def load(path: Path, here: Place) -> tuple[bytes, EngineCard]:
    """Return an engine, once it is known to belong here.

    Raises:
        UsageError: it cannot be read, or nothing says what it is.
        HwnasError: it was built for another place, or is not the one that the JSON describes.
    """
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}.") from None
    beside = card_path(path)
    if not beside.is_file():
        raise UsageError(
            f"{beside} is missing: nothing says where {path.name} runs. Build the engine by "
            "'hwnas export ... --format tensorrt', which writes both."
        )
    document = read_json(beside)
    if document.get("schema") != SCHEMA:
        raise UsageError(
            f"{beside}: the schema is {document.get('schema')!r}, this version of hwnas reads "
            f"'{SCHEMA}'."
        )
    try:
        card = msgspec.convert(document, EngineCard)
    except msgspec.ValidationError as error:
        raise UsageError(f"{beside}: {error}.") from None
    if hashlib.sha256(plan).hexdigest() != card.sha256:
        raise HwnasError(f"{path} is not the engine that {beside.name} describes: build it again.")
    built, now = asdict(card.place), asdict(here)
    other = [f"{key} {_text(built[key])}, here {_text(now[key])}" for key in built
             if built[key] != now[key]]  # fmt: skip
    if other:
        raise HwnasError(
            f"{path} was built elsewhere and does not run here: {'; '.join(other)}. Build it here "
            "by 'hwnas export ... --format tensorrt'."
        )
    return plan, card


def _text(value: Any) -> str:
    return ".".join(map(str, value)) if isinstance(value, tuple | list) else str(value)

"""What is known about a device before anything runs on it: one TOML file each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from ..architecture.graph import Size
from ..errors import UsageError
from ..lowering.kernels import Fusion
from ..store import shelf
from ..store.files import read_toml, write_atomic

SCHEMA = "hwnas.device/1"
OPTIMIZATIONS = ("all", "basic")
BYTES_PER_VALUE = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class DeviceSpec:
    """A device: runtime, precision, and what a short command means on it.

    Attributes:
        name: what commands call it.
        about: one line for people.
        runtime: `onnxruntime`, `openvino`, `torch`, `tensorrt`, or `xnnpack` (its class of kernels,
            from published times).
        precision: `fp32`, `fp16` or `int8`.
        connection: how `measure` reaches it (`devices.registry`); '' where it cannot be reached
            from here.
        threads: threads that a network runs on.
        optimization: onnxruntime's level of graph optimisation, `all` or `basic`.
        resolution: default height and width of the input.
        batch: images at a time.
        space: default search space.
        layers: default limit on the layers of a network.
        channel_multiple: numbers of channels that the device's kernels like are multiples of this;
            a search only uses such widths.
        cores: cores of a remote device that networks run on, `4-7`; '' for the fastest, as many
            as threads.
        cool_down_c: before each measurement a remote device waits until no sensor shows more,
            in degrees Celsius; 0 for no waiting.
        fusion: what the runtime fuses.
    """

    name: str
    about: str
    runtime: str
    precision: str
    resolution: Size
    batch: int
    space: str
    layers: int
    connection: str = ""
    threads: int = 1
    optimization: str = "all"
    channel_multiple: int = 1
    cores: str = ""
    cool_down_c: float = 0.0
    fusion: Fusion = field(default_factory=Fusion)
    schema: str = SCHEMA

    @property
    def bytes_per_value(self) -> int:
        """Size of an activation."""
        return BYTES_PER_VALUE[self.precision]

    @property
    def feature_set(self) -> str:
        """Which features describe its kernels: `gpu` or `cpu`."""
        graphics = (":cuda", ":tensorrt")
        gpu = self.runtime == "tensorrt" or any(mark in self.connection for mark in graphics)
        return "gpu" if gpu else "cpu"


@dataclass(frozen=True)
class Broken:
    """A device whose file cannot be read: its name, the file, and the reason, for people."""

    name: str
    path: str
    reason: str


def names() -> list[str]:
    """Return the names of all devices on the shelves."""
    return sorted(shelf.entries("devices"))


def known() -> tuple[list[DeviceSpec], list[Broken]]:
    """Return all devices on the shelves, and apart from them those whose files are malformed.

    One broken file is no reason to say nothing of the others.
    """
    devices, broken = [], []
    for name, path in sorted(shelf.entries("devices").items()):
        try:
            devices.append(_read(path))
        except UsageError as error:
            broken.append(Broken(name, str(path), str(error)))
    return devices, broken


def load(name: str) -> DeviceSpec:
    """Return the device of that name.

    Raises:
        UsageError: there is none, or its file is malformed.
    """
    return _read(shelf.find("devices", name))


def shipped(name: str) -> DeviceSpec:
    """Return a device as it came with hwnas, whatever stands on the user's own shelf.

    Raises:
        UsageError: there is none of that name.
    """
    return _read(shelf.find("devices", name, own=False))


def _read(path: Path) -> DeviceSpec:
    document = read_toml(path)
    if document.get("schema") != SCHEMA:
        raise UsageError(
            f"{path}: the schema is {document.get('schema')!r}, this version of hwnas reads "
            f"'{SCHEMA}'."
        )
    try:
        spec = msgspec.convert(document, DeviceSpec)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {error}.") from None
    if spec.precision not in BYTES_PER_VALUE:
        raise UsageError(
            f"{path}: the precision is '{spec.precision}', known are {', '.join(BYTES_PER_VALUE)}."
        )
    if spec.optimization not in OPTIMIZATIONS:
        raise UsageError(
            f"{path}: the optimization is '{spec.optimization}', known are "
            f"{', '.join(OPTIMIZATIONS)}."
        )
    return spec


def save(spec: DeviceSpec) -> Path:
    """Write a device to the user's shelf and return its file.

    Raises:
        UsageError: its name cannot be a file.
        HwnasError: the shelf cannot be written.
    """
    import tomli_w

    path = shelf.user_shelf("devices") / f"{shelf.check_name(spec.name)}.toml"
    document = asdict(spec)
    document["resolution"] = list(spec.resolution)
    write_atomic(path, tomli_w.dumps(document))
    return path

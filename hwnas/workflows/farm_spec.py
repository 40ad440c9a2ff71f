"""What a farm is asked to do: the TOML file, checked, and the kinds of devices it stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from ..devices import spec as devices
from ..devices.registry import described
from ..devices.remote.settings import changed
from ..devices.spec import DeviceSpec
from ..errors import UsageError
from ..latency.predictor import Predictor
from ..store.files import read_toml
from ..store.shelf import check_name
from . import adapting
from .profile import Plan, device_of
from .specification import check_keys, check_schema, first_repeat

SCHEMA = "hwnas.farm/1"

ALIKE = (
    "runtime",
    "precision",
    "threads",
    "optimization",
    "cores",
    "cool_down_c",
    "resolution",
    "batch",
)
"""What devices of one kind share."""

ALIKE_KEYS = ("threads", "precision", "cores", "cool_down")
"""The keys of the file that say the same for all devices of a kind."""


@dataclass(frozen=True)
class Unit:
    """One device of a farm.

    Attributes:
        name: what the farm calls it; on a Ray cluster, the resource of the node that reaches it.
        connection: how it is reached, or the name of a device on the shelf.
        threads: threads that a network runs on; None for the connection's own.
        precision: `fp32`, `fp16` or `int8`; None for the connection's own.
        cores: of a phone or board, as `hwnas devices add --cores`; None for the connection's own.
        cool_down: of a phone or board, in degrees Celsius, as `--cool-down`; None likewise.
        kind: what it is one of; its profile and predictor get this name.
    """

    name: str
    connection: str
    threads: int | None = None
    precision: str | None = None
    cores: str | None = None
    cool_down: float | None = None
    kind: str = ""


@dataclass(frozen=True)
class FarmSpec:
    """Devices to profile at once.

    Attributes:
        device: the devices; those of one kind share its work.
        minutes: time to measure, for each device.
        networks: measure no more networks of a kind than these.
        seed: chooses the networks.
        source: a device whose predictor is adapted to whole-network times (the file's `from`); ''
            to measure kernels.

    Raises:
        UsageError: there is no device, a name is there twice, devices of a kind are to be measured
            differently, or an amount makes no sense.
    """

    device: tuple[Unit, ...]
    minutes: float = 2.0
    networks: int | None = None
    seed: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        if not self.device:
            raise UsageError("'device' is empty: there is nothing to measure.")
        if (twice := first_repeat([unit.name for unit in self.device])) is not None:
            raise UsageError(f"two devices have the name '{twice}'; rename one.")
        if self.seed < 0:
            raise UsageError(f"'seed' is {self.seed}; it must not be negative.")
        kinds = self.kinds()
        for unit in self.device:
            check_name(unit.name)
            if unit.name in kinds and kinds[unit.name] != [unit]:
                raise UsageError(
                    f"'{unit.name}' is the name of a device and of a kind; rename one of them."
                )
        for kind, units in kinds.items():
            check_name(kind)
            for key in ALIKE_KEYS:
                first, *others = ((unit.name, getattr(unit, key)) for unit in units)
                for name, value in others:
                    if value != first[1]:
                        raise UsageError(
                            f"devices of one kind are measured alike, but '{key}' is "
                            f"{_shown(first[1])} for '{first[0]}' and {_shown(value)} for "
                            f"'{name}'; give them different kinds."
                        )
            self.plan(kind)

    def kinds(self) -> dict[str, list[Unit]]:
        """Return the devices by kind, in the order of the file."""
        found: dict[str, list[Unit]] = {}
        for unit in self.device:
            found.setdefault(unit.kind or unit.name, []).append(unit)
        return found

    def plan(self, kind: str) -> Plan:
        """Return what `hwnas profile` would be asked for, on the first device of a kind."""
        unit = self.kinds()[kind][0]
        try:
            return Plan(
                unit.connection,
                self.minutes,
                kind,
                unit.threads,
                unit.precision,
                None,
                self.networks,
                self.source,
                self.seed,
            )
        except UsageError as error:
            raise UsageError(of_file(error)) from None

    def document(self) -> dict[str, Any]:
        """Return the specification as JSON data, which `convert` reads back."""
        data = msgspec.to_builtins(asdict(self))
        return {"schema": SCHEMA, "from": data.pop("source"), **data}


def load(path: Path) -> FarmSpec:
    """Return the specification that a TOML file holds.

    Raises:
        UsageError: the file cannot be read, or is not a specification; the message says where.
    """
    return convert(read_toml(path), str(path))


def convert(document: dict[str, Any], source: str) -> FarmSpec:
    """Return the specification of a document.

    Raises:
        UsageError: it is not one; the message begins with `source`.
    """
    data = check_schema(document, SCHEMA, source)
    check_keys(data, {f.name for f in fields(FarmSpec)} - {"source"} | {"from"}, source)
    if "device" not in data:
        raise UsageError(f"{source}: there is no [[device]]; give one for each device.")
    if isinstance(data["device"], list):
        for number, table in enumerate(data["device"], 1):
            if isinstance(table, dict):
                place = f"{source}: [[device]] {number}"
                check_keys(table, {f.name for f in fields(Unit)}, place)
    if "from" in data:
        data["source"] = data.pop("from")
    try:
        farm: FarmSpec = msgspec.convert(data, FarmSpec)
    except (msgspec.ValidationError, UsageError) as error:
        text = str(error).replace("$.source", "$.from")
        raise UsageError(f"{source}: {text.rstrip('.')}.") from None
    return farm


@dataclass(frozen=True)
class Kind:
    """A kind of device as it was understood.

    Attributes:
        plan: what to measure.
        device: what the predictor will be of; its connection is that of the first unit.
        units: its devices as they are reached, by name.
        sources: predictors to adapt to whole networks; none to learn kernels.
    """

    plan: Plan
    device: DeviceSpec
    units: dict[str, DeviceSpec]
    sources: dict[str, Predictor]


def understand(farm: FarmSpec) -> list[Kind]:
    """Return a farm's kinds, with what the shelves say of them; nothing is reached.

    Raises:
        UsageError: a connection or a source is unknown, devices of a kind are not alike, or a
            kind's name is that of another device.
    """
    found = []
    for kind, units in farm.kinds().items():
        plan = farm.plan(kind)
        likes = [_like(unit) for unit in units]
        for unit, like in zip(units, likes, strict=True):
            for key in ALIKE:
                one, other = getattr(likes[0], key), getattr(like, key)
                if one != other:
                    raise UsageError(
                        f"'{units[0].name}' and '{unit.name}' are not of one kind: '{key}' is "
                        f"{one or 'not set'} for the one and {other or 'not set'} for the other."
                    )
        # A kind that was profiled before stays reached as it was, whichever unit comes first now.
        known = devices.load(kind).connection if kind in devices.names() else ""
        first = next((i for i, like in enumerate(likes) if like.connection == known), 0)
        plan = replace(plan, connection=units[first].connection)
        try:
            device = changed(device_of(plan), units[0].cores, units[0].cool_down)
        except UsageError as error:
            raise UsageError(of_file(error)) from None
        found.append(
            Kind(
                plan,
                device,
                {
                    unit.name: replace(device, connection=like.connection)
                    for unit, like in zip(units, likes, strict=True)
                },
                adapting.sources(plan.source, device) if plan.source else {},
            )
        )
    return found


def check_once(kinds: Sequence[Kind]) -> None:
    """Raise where two devices of this machine are one. On a cluster each node has its own `cpu`.

    Raises:
        UsageError: two devices have one connection.
    """
    names: dict[str, str] = {}
    for kind in kinds:
        for name, device in kind.units.items():
            if device.connection in names:
                raise UsageError(
                    f"'{names[device.connection]}' and '{name}' are one device: both have the "
                    f"connection '{device.connection}'. Leave one out; on a Ray cluster (--ray) "
                    "each node can have its own."
                )
            names[device.connection] = name


def _like(unit: Unit) -> DeviceSpec:
    try:
        like = described(unit.connection)
    except UsageError as error:
        raise UsageError(f"'{unit.name}': {error}") from None
    if not like.connection:
        raise UsageError(
            f"'{unit.name}': the device '{unit.connection}' has no connection, so it cannot be "
            "measured; give one, such as cpu. 'hwnas doctor' lists them."
        )
    try:
        like = changed(like, unit.cores, unit.cool_down)
    except UsageError as error:
        raise UsageError(f"'{unit.name}': {of_file(error)}") from None
    return replace(
        like,
        threads=unit.threads or like.threads,
        precision=unit.precision or like.precision,
    )


def _shown(value: object) -> str:
    return "not given" if value is None else repr(value)


def of_file(error: UsageError) -> str:
    """Return an error about options of the command line as one about keys of the file."""
    text = str(error).replace("--name", "'kind'")
    return re.sub(r"--([a-z-]+)", lambda match: f"'{match[1].replace('-', '_')}'", text)

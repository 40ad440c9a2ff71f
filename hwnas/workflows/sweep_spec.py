"""What a sweep is asked to do: the TOML file, checked, and the searches that it stands for."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from .. import __version__
from ..architecture import spaces
from ..errors import UsageError
from ..store import shelf
from ..store.files import read_toml
from ..units import parse_resolution
from .problem import Question, Request, read
from .search import Settings
from .specification import check_keys, check_schema, first_repeat

SCHEMA = "hwnas.sweep/1"

_SWEPT = {"devices", "spaces", "budgets", "methods", "seeds"}
_OPTIONS = {
    f.name: kind
    for kind in (Request, Settings)
    for f in fields(kind)
    if f.name
    not in {"device", "space", "budgets", "method", "seed", "start"}
    | {"corrections", "latency_share"}  # what verifying a search finds out
}
"""What the table `search` may hold: the fields of a request and of settings that are not swept."""


@dataclass(frozen=True)
class Search:
    """One search of a sweep. `name` is that of its run folder."""

    name: str
    request: Request
    settings: Settings


@dataclass(frozen=True)
class SweepSpec:
    """Searches to run: every device with every space, budgets, method and seed.

    Attributes:
        devices: names of devices.
        budgets: each entry the budgets of one search, such as `("latency=20ms", "params=26M")`.
        seeds: seeds of the searches.
        spaces: names or TOML files; None is the device's own.
        methods: search methods.
        search: options that all searches share, by the names of `Request`'s and `Settings`' fields.

    Raises:
        UsageError: an axis is empty or holds a value twice, or an option cannot be understood.
    """

    devices: tuple[str, ...]
    budgets: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...] = (0,)
    spaces: tuple[str | None, ...] = (None,)
    methods: tuple[str, ...] = (Settings.method,)
    search: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for axis in sorted(_SWEPT):
            values = getattr(self, axis)
            if not values:
                raise UsageError(f"'{axis}' is empty: there is nothing to search.")
            if (twice := first_repeat(values)) is not None:
                raise UsageError(f"'{axis}' holds {twice!r} twice; leave one out.")
        self.searches()

    def searches(self) -> list[Search]:
        """Return the searches, seeds varying fastest, then methods, budgets, spaces and devices."""
        requests, settings = self._shared(Request), self._shared(Settings)
        axes = (self.devices, self.spaces, self.budgets, self.methods, self.seeds)
        found = list(itertools.product(*axes))
        digits = len(str(len(found)))
        return [
            Search(
                f"{number:0{digits}d}-{_slug(device, space, budgets, method, seed)}",
                _convert(
                    {"budgets": budgets, "device": device, "space": space} | requests, Request
                ),
                _convert({"method": method, "seed": seed} | settings, Settings),
            )
            for number, (device, space, budgets, method, seed) in enumerate(found, 1)
        ]

    def document(self) -> dict[str, Any]:
        """Return the specification as JSON data, which `convert` reads back."""
        return {"schema": SCHEMA, **msgspec.to_builtins(asdict(self))}

    def _shared(self, kind: type) -> dict[str, Any]:
        return {name: value for name, value in self.search.items() if _OPTIONS.get(name) is kind}


def load(path: Path) -> SweepSpec:
    """Return the specification that a TOML file holds; its space files are relative to it.

    Raises:
        UsageError: the file cannot be read, or is not a specification; the message says where.
    """
    document = read_toml(path)
    if isinstance(document.get("spaces"), list):
        document["spaces"] = [
            str((path.parent / name).absolute())
            if isinstance(name, str) and name.endswith(".toml")
            else name
            for name in document["spaces"]
        ]
    return convert(document, str(path))


def convert(document: dict[str, Any], source: str) -> SweepSpec:
    """Return the specification of a document.

    Raises:
        UsageError: it is not one; the message begins with `source`.
    """
    data = check_schema(document, SCHEMA, source)
    check_keys(data, {*_SWEPT, "search"}, source)
    for axis in ("devices", "budgets"):
        if axis not in data:
            raise UsageError(f"{source}: '{axis}' is missing; give devices and budgets.")
    if isinstance(data["budgets"], list):
        data["budgets"] = [
            [entry] if isinstance(entry, str) else entry for entry in data["budgets"]
        ]
    if isinstance(data.get("search"), dict):
        check_keys(data["search"], set(_OPTIONS), f"{source}: [search]")
        data["search"] = {
            name: list(parse_resolution(str(value)))
            if name.endswith("resolution") and isinstance(value, str | int)
            else value
            for name, value in data["search"].items()
        }
    try:
        spec: SweepSpec = msgspec.convert(data, SweepSpec)
    except (msgspec.ValidationError, UsageError) as error:
        raise UsageError(f"{source}: {str(error).rstrip('.')}.") from None
    return spec


@dataclass(frozen=True)
class Understood:
    """A request as it was understood: its space by name, its budgets, what its result rests on.

    `inputs` are digests of everything outside the request that the result depends on: the
    version of hwnas, the devices' files, their predictors' cards (which hold the digest of the
    model), a space of the user's own, and torch's version where the score runs networks.
    """

    space: str
    questions: tuple[Question, ...]
    inputs: dict[str, str]


def understand(request: Request) -> Understood:
    """Read a request, without preparing its search.

    Raises:
        UsageError: a device, a space or a budget cannot be understood.
        HwnasError: a device has no predictor yet.
    """
    _, space, questions = read(request)
    inputs = {"hwnas": __version__}
    for name in sorted({request.device, *(question.device.name for question in questions)}):
        inputs[f"device {name}"] = _digest(shelf.find("devices", name))
    for question in questions:
        if question.interval is not None:
            name = question.device.name
            inputs[f"predictor {name}"] = _digest(shelf.find("predictors", name) / "card.toml")
    if request.space is not None and request.space not in spaces.SHIPPED:
        inputs[f"space {request.space}"] = _digest(Path(request.space))
    if request.make_score().kind != "closed form":
        inputs["torch"] = version("torch")
    return Understood(space.name, questions, inputs)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}.") from None


def _convert(data: dict[str, Any], kind: type) -> Any:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"[search]: {error}.") from None


def _slug(device: str, space: str | None, budgets: tuple[str, ...], method: str, seed: int) -> str:
    """Return a name that can be a folder; numbers before it tell long ones apart."""
    words = [device, Path(space).stem if space else "", *budgets, method]
    text = "-".join(word.replace("@", "-at-") for word in words if word)
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', text)[:100]}-seed{seed}"

"""From a connection to the device behind it: one adapter a kind of connection.

A connection is what `--device` takes for something that can be measured: the kind, and behind a
colon what it is about: `cpu`, `openvino`, `onnxruntime:xnnpack`, `torch:cuda:0`. An adapter is a
module of this package with

    connections() -> list[str]                  those worth trying on this machine
    missing(argument) -> str                    what is missing, with the command that mends it; ''
    default(connection, argument) -> DeviceSpec  what a short command means on it
    connect(device, argument) -> Device         the device; raises DeviceUnavailableError
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any

from ..errors import DeviceUnavailableError, UsageError, did_you_mean
from ..store import shelf
from . import spec
from .contract import Device
from .spec import DeviceSpec


@dataclass(frozen=True)
class Kind:
    """A kind of connection.

    Attributes:
        form: how it is written.
        about: one line for people.
        adapter: the module of this package.
        remote: whether it is another machine, with cores of its own.
    """

    form: str
    about: str
    adapter: str
    remote: bool = False


KINDS = {
    "cpu": Kind("cpu", "this machine's processor by onnxruntime", "onnxruntime_cpu"),
    "onnxruntime": Kind(
        "onnxruntime:PROVIDER",
        "another execution provider of onnxruntime: xnnpack, openvino, cuda, tensorrt, coreml",
        "onnxruntime_providers",
    ),
    "openvino": Kind("openvino", "this machine's processor by OpenVINO", "openvino_cpu"),
    "cuda": Kind("cuda:INDEX", "an NVIDIA GPU by TensorRT", "tensorrt.device"),
    "trtexec": Kind(
        "trtexec[:INDEX]", "an NVIDIA GPU by NVIDIA's trtexec alone", "tensorrt.trtexec"
    ),
    "adb": Kind(
        "adb[:SERIAL][/xnnpack]", "an Android phone by onnxruntime", "remote.adb", remote=True
    ),
    "torch": Kind("torch[:cuda:N]", "PyTorch, eager: whole networks", "torch_eager"),
    "torch-compile": Kind(
        "torch-compile[:cuda:N]", "PyTorch, torch.compile: whole networks", "torch_compile"
    ),
    "ssh": Kind(
        "ssh://[USER@]HOST[:PORT]",
        "a remote Linux board's processor by onnxruntime",
        "remote.ssh",
        remote=True,
    ),
}


@dataclass(frozen=True)
class Reach:
    """Whether a connection can be reached: `missing` says what is missing, '' where nothing is."""

    connection: str
    about: str
    missing: str


def connect(device: DeviceSpec) -> Device:
    """Return the device behind a specification's connection.

    Raises:
        UsageError: the connection cannot run what the device asks for.
        DeviceUnavailableError: it is of no known kind, or cannot be reached; the message says what
            is missing.
    """
    if not device.connection:
        raise DeviceUnavailableError(
            f"'{device.name}' cannot be reached from here; 'hwnas predict' answers without it."
        )
    adapter, argument = _adapter(device.connection)
    if missing := str(adapter.missing(argument)):
        raise DeviceUnavailableError(f"'{device.connection}' cannot be reached: {missing}")
    connected: Device = adapter.connect(device, argument)
    return connected


def described(name: str) -> DeviceSpec:
    """Return the device of a name on the shelf, or else of a connection, with its defaults.

    Raises:
        UsageError: it is neither.
    """
    if name in spec.names():
        return spec.load(name)
    if is_connection(name):
        adapter, argument = _adapter(name)
        device: DeviceSpec = adapter.default(name, argument)
        return device
    if ":" in name:
        raise UsageError(_unknown(name))
    known = spec.names()
    raise UsageError(
        f"there is no device '{name}'.{did_you_mean(name, [*known, *KINDS])} "
        f"Known: {', '.join(known)}. Connections: {', '.join(k.form for k in KINDS.values())}."
    )


def is_connection(text: str) -> bool:
    """Whether a text begins as a connection of a known kind."""
    return text.partition(":")[0] in KINDS


def is_remote(connection: str) -> bool:
    """Whether a connection reaches another machine."""
    kind = KINDS.get(connection.partition(":")[0])
    return kind is not None and kind.remote


def reachable() -> list[Reach]:
    """Return the connections worth trying on this machine, and what each lacks."""
    found = []
    for kind in KINDS:
        for connection in _adapter(kind)[0].connections():
            adapter, argument = _adapter(connection)
            try:
                about = adapter.default(connection, argument).about
                found.append(Reach(connection, about, str(adapter.missing(argument))))
            except UsageError as error:  # that of a device on the shelf is malformed
                found.append(Reach(connection, "", str(error)))
    return found


def check(device: DeviceSpec) -> Reach:
    """Return whether a device can be reached.

    Raises:
        DeviceUnavailableError: its connection is of no known kind.
    """
    if not device.connection:
        return Reach("", device.about, "it has no connection: 'hwnas predict' answers without it.")
    adapter, argument = _adapter(device.connection)
    return Reach(device.connection, device.about, str(adapter.missing(argument)))


def like_cpu(connection: str, about: str, **changes: Any) -> DeviceSpec:
    """Return a device like the shipped `cpu`, for the adapter of another connection."""
    name = shelf.check_name(connection.replace(":", "-"))
    shown = f"{about}, one image at 224x224"
    return replace(spec.shipped("cpu"), name=name, about=shown, connection=connection, **changes)


def refuse(device: DeviceSpec, precisions: tuple[str, ...] = ("fp32",)) -> None:
    """Raise where a runtime cannot run what a device asks for.

    Raises:
        UsageError: another precision than these, or a level of onnxruntime's optimisation.
    """
    refuse_precision(device, precisions)
    if device.optimization != "all":
        raise UsageError(
            f"--optimization is onnxruntime's; '{device.connection}' has no such level."
        )


def refuse_precision(device: DeviceSpec, precisions: tuple[str, ...]) -> None:
    """Raise where a device asks for another precision than its runtime runs.

    Raises:
        UsageError: it does.
    """
    if device.precision not in precisions:
        raise UsageError(
            f"'{device.connection}' runs {', '.join(precisions)}, not {device.precision}; "
            "leave --precision out."
        )


def no_argument(connection: str, argument: str) -> None:
    """Raise where something stands behind the colon of a connection that takes nothing there.

    Raises:
        UsageError: it does.
    """
    if argument:
        kind = connection.partition(":")[0]
        raise UsageError(f"'{kind}' takes nothing behind it; '{argument}' is not understood.")


def _adapter(connection: str) -> tuple[Any, str]:
    """Return the module behind a connection, and what stands behind its colon."""
    kind, _, argument = connection.partition(":")
    if kind not in KINDS:
        raise DeviceUnavailableError(_unknown(connection))
    return importlib.import_module(f".{KINDS[kind].adapter}", __package__), argument


def _unknown(connection: str) -> str:
    forms = ", ".join(known.form for known in KINDS.values())
    close = did_you_mean(connection.partition(":")[0], KINDS)
    return f"'{connection}' is not a connection of this version.{close} Known: {forms}."

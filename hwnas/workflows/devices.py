"""Which devices there are, which can be reached from here, and what the others lack."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..architecture import lower, spaces
from ..devices import registry, spec
from ..devices.lease import lease
from ..devices.remote.settings import changed
from ..lowering.onnx_writer import to_onnx
from ..lowering.weights import filler
from ..store import shelf
from .profile import Plan, device_of

EXTRAS = {
    "torch": ("torch", "torch modules, scores by forward passes, the device torch"),
    "openvino": ("openvino", "the device openvino"),
    "tensorrt": ("tensorrt", "engines for NVIDIA GPUs"),
    "ray": ("ray", "sweeps and farms on a cluster"),
    "plot": ("matplotlib", "pictures"),
}
"""Extras of hwnas: the package that each brings, and what it is for."""

PROGRAMS = {
    "adb": ("adb", "Android phones: adb[:SERIAL][/xnnpack]"),
    "ssh": ("openssh-client", "remote boards: ssh://[USER@]HOST[:PORT]"),
}
"""Programs that hwnas starts: Debian's package that brings each, and what it is for."""


def doctor() -> dict[str, Any]:
    """Return what this machine has and lacks, as a JSON document; nothing is measured."""
    predicted = shelf.entries("predictors")
    home = shelf.user_shelf("devices").parent
    devices, broken = spec.known()
    return {
        "schema": "hwnas.doctor/1",
        "hwnas": __version__,
        "python": platform.python_version(),
        "onnxruntime": _version("onnxruntime"),
        "shelf": {"path": str(home), "writable": _writable(home)},
        "extras": [
            {
                "name": extra,
                "for": purpose,
                "version": _version(package),
                "mend": "" if _version(package) else f"pip install 'hwnas[{extra}]'",
            }
            for extra, (package, purpose) in EXTRAS.items()
        ],
        "programs": [
            {
                "name": program,
                "for": purpose,
                "path": shutil.which(program) or "",
                "mend": "" if shutil.which(program) else f"apt install {package}",
            }
            for program, (package, purpose) in PROGRAMS.items()
        ],
        "connections": [
            {
                "connection": reach.connection,
                "about": reach.about,
                "reachable": not reach.missing,
                "missing": reach.missing,
            }
            for reach in registry.reachable()
        ],
        "devices": [
            {
                "name": device.name,
                "predictor": device.name in predicted,
                "connection": device.connection,
            }
            for device in devices
        ],
        "broken": [asdict(each) for each in broken],
    }


def check(name: str) -> dict[str, Any]:
    """Connect to a device, run the smallest network on it, and return what was seen.

    Raises:
        UsageError: the name is neither a device nor a connection.
        DeviceUnavailableError: it cannot be reached; the message says what is missing.
        HwnasError: its runtime does not run the network.
    """
    device = registry.described(name)
    runtime = registry.connect(device)
    space = spaces.load("mobile")
    graph = lower(space.decode(space.narrowest()), (64, 64))
    with lease(runtime.resource):
        timings, whole = runtime.profile(to_onnx(graph, filler(graph)).SerializeToString())
    return {
        "schema": "hwnas.device-check/1",
        "device": device.name,
        "connection": device.connection,
        "environment": runtime.environment(),
        "kernels": len(timings),
        "latency_s": whole.latency_s,
        "contended": whole.contended,
        "predictor": device.name in shelf.entries("predictors"),
    }


def add(
    connection: str,
    name: str = "",
    threads: int | None = None,
    precision: str | None = None,
    *,
    cores: str | None = None,
    cool_down_c: float | None = None,
) -> tuple[str, Path]:
    """Put a device on the user's shelf without measuring it, and return its name and file.

    `cores` and `cool_down_c` are for devices on another machine; see `remote.settings`. A device
    that is on the shelf keeps what is not given.

    Raises:
        UsageError: the connection is of no known kind, the name is taken by another device, or the
            device does not have these cores.
        DeviceUnavailableError: the device cannot be reached.
    """
    plan = Plan(connection, name=name, threads=threads, precision=precision)
    device = changed(device_of(plan), cores, cool_down_c)
    registry.connect(device).environment()  # it has these cores, and as many as threads
    return device.name, spec.save(device)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _writable(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)

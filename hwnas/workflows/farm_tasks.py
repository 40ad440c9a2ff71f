"""What a farm's workers do: each reaches one device, and measures spells of networks on it."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

import msgspec

from .. import __version__
from ..devices.contract import Device
from ..devices.lease import lease
from ..devices.registry import connect
from ..devices.spec import DeviceSpec
from ..errors import DeviceLostError
from ..lowering.kernels import Fusion
from ..profiling.session import Sample, WholeNetworks, measure_spell
from .profile import drawn

WAIT_S = 600.0
"""How long a spell waits for another client to leave the device: two devices of a farm may share
what they run on, such as this machine's processor, and take turns."""


def hello(unit: str, device: dict[str, Any]) -> dict[str, Any]:
    """Reach a device and say what it is.

    Raises:
        DeviceUnavailableError: it cannot be reached; the message says what mends it.
    """
    spec = _read(device)
    runtime = _reached(spec)
    with lease(runtime.resource, WAIT_S):
        fusion = _fusion(spec)
    return {
        "unit": unit,
        "host": socket.gethostname(),
        "hwnas": __version__,
        "tells_kernels": runtime.tells_kernels,
        "fusion": msgspec.to_builtins(asdict(fusion)),
        "environment": msgspec.to_builtins(runtime.environment()),
    }


def spell(
    kind: str,
    numbers: Sequence[int],
    seed: int,
    whole: bool,
    seconds: float,
    unit: str,
    device: dict[str, Any],
) -> dict[str, Any]:
    """Measure networks, and the sentinel behind them.

    Args:
        kind: what the device is one of.
        numbers: which of the networks that the seed draws.
        seed: of the networks.
        whole: whether networks as a whole are enough, without their kernels.
        seconds: no further network is begun once so many are over.
        unit: the device's name in the farm.
        device: its specification.

    Raises:
        DeviceLostError: it went away half-way.
        DeviceUnavailableError: it cannot be reached, or is busy with something else.
    """
    spec = _read(device)
    runtime = _reached(spec)
    known = _drawn(seed, whole, spec)
    samples = {number: known(number) for number in numbers}
    try:
        with lease(runtime.resource, WAIT_S):
            records = list(
                measure_spell(
                    WholeNetworks(runtime) if whole else runtime,
                    _fusion(spec),
                    samples,
                    seconds,
                )
            )
    except DeviceLostError:
        # Whether it is back is for a new connection to find out.
        _reached.cache_clear()
        _fusion.cache_clear()
        raise
    return {"kind": kind, "unit": unit, "records": records}


class _Drawn:
    """The networks that a seed draws, by number; each is drawn once."""

    def __init__(self, seed: int, whole: bool, device: DeviceSpec) -> None:
        self._drawn: list[Sample] = []
        self._more = drawn(seed, device, whole=whole)

    def __call__(self, number: int) -> Sample:
        """Return the network of a number."""
        missing = number + 1 - len(self._drawn)
        self._drawn.extend(itertools.islice(self._more, max(0, missing)))
        return self._drawn[number]


_drawn = cache(_Drawn)


@cache
def _reached(device: DeviceSpec) -> Device:
    return connect(device)


@cache
def _fusion(device: DeviceSpec) -> Fusion:
    """Return what a device's runtime fuses, which takes a measurement to know."""
    return _reached(device).fusion()


def _read(device: dict[str, Any]) -> DeviceSpec:
    spec: DeviceSpec = msgspec.convert(device, DeviceSpec)
    return spec

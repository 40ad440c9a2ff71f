"""What a device on another machine is told beside its connection: its cores, and when to begin."""

from __future__ import annotations

import math
from dataclasses import replace

from ...errors import UsageError
from ..registry import is_remote
from ..spec import DeviceSpec
from . import cores as core_lists

FASTEST = "fastest"
"""How the fastest cores, as many as there are threads, are asked for: those of no list."""


def changed(device: DeviceSpec, cores: str | None, cool_down_c: float | None) -> DeviceSpec:
    """Return a device with other cores and another cool-down; None leaves what it has.

    Args:
        device: the device.
        cores: a list, `0-3`, or `fastest`.
        cool_down_c: wait before each measurement until no sensor shows more, in degrees Celsius; 0
            for no waiting.

    Raises:
        UsageError: it is this machine, the list is none, or the temperature makes no sense.
    """
    if cores is None and cool_down_c is None:
        return device
    if not is_remote(device.connection):
        raise UsageError(
            f"--cores and --cool-down are for phones and boards; '{device.connection}' is this "
            "machine."
        )
    if cores is not None:
        if not cores:
            raise UsageError(f"--cores is empty; give '0-3' for example, or '{FASTEST}'.")
        device = replace(device, cores="" if cores == FASTEST else core_lists.check(cores))
    if cool_down_c is not None:
        if not 0 <= cool_down_c < math.inf:
            raise UsageError(
                f"--cool-down is {cool_down_c:g}; give degrees Celsius, 45 for example, or 0 for "
                "no waiting."
            )
        device = replace(device, cool_down_c=cool_down_c)
    return device

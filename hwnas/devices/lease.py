"""A lease: while one client measures on a device, all others wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DeviceUnavailableError
from ..store import shelf
from ..store.locks import HeldError, lock

WAIT_S = 60.0
"""How long a client waits for another one's measurement to end."""


@contextmanager
def lease(resource: str, wait_s: float = WAIT_S) -> Iterator[None]:
    """Have a device's resource to oneself, among all clients that share a shelf ($HWNAS_HOME).

    Raises:
        DeviceUnavailableError: another client measured all the time; the message names it.
        HwnasError: the shelf cannot be written.
    """
    try:
        with lock(path(resource), wait_s):
            yield
    except HeldError as error:
        raise DeviceUnavailableError(
            f"'{resource}' is being measured by {error.holder}; two measurements at a time would "
            "disturb each other. Wait until it ends, or end it, and repeat the command."
        ) from None


def path(resource: str) -> Path:
    """Return the file of a resource's lease."""
    return shelf.user_shelf("leases") / f"{shelf.check_name(resource)}.lock"

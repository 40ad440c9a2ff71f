"""The errors that hwnas raises on purpose. Each one says what, why, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class HwnasError(Exception):
    """Base of every error that hwnas raises on purpose; the command line exits with `exit_code`."""

    exit_code = 1


class UsageError(HwnasError):
    """What was asked for cannot be understood: a name, a unit, a malformed file."""

    exit_code = 2


class InfeasibleError(HwnasError):
    """No architecture of the space fits the budget.

    `document` describes the cheapest one and its costs, as JSON data.
    """

    exit_code = 3

    def __init__(self, message: str, document: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.document = document or {}


class DeviceUnavailableError(HwnasError):
    """The device cannot be reached, or the extra that drives it is not installed."""

    exit_code = 4


class DeviceLostError(DeviceUnavailableError):
    """The device went away half-way: a cable, a network, a driver. What was journalled is kept."""


class TooNoisyError(HwnasError):
    """The machine was too busy for the measurement to be trusted."""

    exit_code = 5


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean X?' for the nearest known name, or '' when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""

"""How files and commands reach the far end: what adb and ssh do alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Result:
    """How a command on the far end ended: 128 and the signal where one ended it, as shells say."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Transport(Protocol):
    """A folder on the far end, and commands in it.

    Names are of files in that folder, without a slash. Everything here raises `DeviceLostError`
    where the far end stops answering, and `DeviceUnavailableError` where it cannot be reached in
    the first place, with the command that mends it. When a connection is back, the same transport
    works again.

    Attributes:
        resource: what is busy while the device behind it measures; see `contract.Device`.
    """

    resource: str

    def runner(self) -> list[str]:
        """Put the runner in place, where it is not there already, and return how it is started.

        Raises:
            DeviceUnavailableError: there is none for this far end, or the far end lacks what it
                needs.
        """

    def about(self) -> dict[str, str]:
        """Return what the environment should say beyond what the runner tells: a phone's model.

        Control characters are taken out (`protocol.printable`).
        """

    def push(self, data: bytes, name: str) -> None:
        """Write a file of a new name: it is whole where this returns."""

    def pull(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            FileNotFoundError: there is no such file.
        """

    def run(self, command: Sequence[str], timeout_s: float) -> Result:
        """Run a command in the folder and return how it ended.

        However this is left, by a timeout or by an interruption, the command does not go on on
        the far end, as far as it can still be told so. Each word arrives as it is: no shell reads
        it on the way.

        Raises:
            DeviceLostError: it did not end within `timeout_s`, or the connection broke.
        """

    def remove(self, prefix: str) -> None:
        """Remove the files whose names begin so."""

"""Far machines as ssh names them, and why one of them cannot be reached."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...errors import DeviceUnavailableError, UsageError
from .protocol import printable
from .transport import Result


@dataclass(frozen=True)
class Place:
    """A far machine as `ssh` finds it: host, and where they are not the configuration's, user and
    port."""

    host: str
    user: str = ""
    port: int | None = None

    def __str__(self) -> str:
        """Return the connection, `ssh://pi@board:2222`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"ssh://{self.login_of(host)}{port}"

    def login_of(self, host: str) -> str:
        """Return a host with the user before it."""
        return f"{self.user}@{host}" if self.user else host

    @property
    def arguments(self) -> list[str]:
        """What names the place to ssh."""
        port = ["-p", str(self.port)] if self.port else []
        return [*port, "--", self.login_of(self.host)]

    @property
    def command(self) -> str:
        """The command that reaches it, for messages."""
        port = f"-p {self.port} " if self.port else ""
        return f"ssh {port}{self.login_of(self.host)}"


_HOST = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}"
_ADDRESS = r"\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9_.-]+)?\]"
_PLACE = re.compile(
    rf"//(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,63}})@)?(?P<host>{_HOST}|{_ADDRESS})"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


def parse(argument: str) -> Place:
    """Return the place of a connection, from what stands behind `ssh:`.

    Raises:
        UsageError: it is none. Names hold letters, digits, `_`, `.` and `-`, and begin with no `-`,
            so that none of them is taken for an option of ssh.
    """
    found = _PLACE.fullmatch(argument)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port < 2**16):
        raise UsageError(
            f"'ssh:{printable(argument)}' is no connection: write ssh://[USER@]HOST[:PORT], "
            "ssh://pi@raspberrypi.local for example."
        )
    return Place(found["host"].strip("[]"), found["user"] or "", port)


def said(result: Result) -> str:
    """Return the last line of what was said about a failure, for a message."""
    lines = (result.stderr or result.stdout).decode(errors="replace").splitlines()
    told = [text for text in map(printable, lines) if text]
    return told[-1].rstrip(".") if told else "it does not say why"


def unavailable(place: Place, reason: str) -> DeviceUnavailableError:
    """Return the error for a place that cannot be used."""
    return DeviceUnavailableError(f"{unreachable(place)}{reason}.")


def unreachable(place: Place) -> str:
    """Return how the message of each such error begins."""
    return f"'{place}' cannot be reached: "


def explained(place: Place, result: Result) -> str:
    """Return why ssh did not connect, and what mends it; the check of host keys stays on."""
    text = result.stderr.decode(errors="replace")
    check = (
        f"run '{place.command}' once yourself and compare the fingerprint with the one that "
        "'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub' prints on the board"
    )
    for sign, advice in (
        (
            "IDENTIFICATION HAS CHANGED",
            "its host key is another one than before. If the board was set up anew, forget the old "
            f"key with 'ssh-keygen -R {_known_as(place)}', then {check}; else somebody may be "
            "between you and the board",
        ),
        ("Host key verification failed", f"its host key is not known yet: {check}"),
        (
            "Permission denied",
            "it does not accept your key (a password is never asked for): give it one with "
            f"'{place.command.replace('ssh', 'ssh-copy-id', 1)}', and unlock a key that has a "
            "passphrase with ssh-add",
        ),
        ("Could not resolve hostname", "there is no host of that name: check the name"),
        (
            "Connection refused",
            "nothing listens on that port: enable ssh on the board, 'sudo systemctl enable --now "
            "ssh'",
        ),
        ("timed out", "it does not answer: is it switched on, and in a network that you reach?"),
        ("No route to host", "it does not answer: is it switched on, and in your network?"),
    ):
        if sign in text:
            return f"{advice} ({said(result)})"
    # What the login's shell says is more to the point than a banner before it.
    return said(Result(result.exit_code, b"", result.stdout or result.stderr))


def _known_as(place: Place) -> str:
    """Return how known_hosts calls a place."""
    return f'"[{place.host}]:{place.port}"' if place.port not in (None, 22) else place.host

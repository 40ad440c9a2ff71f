"""One connection to a far machine by OpenSSH's own client, and scripts run over it."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DeviceLostError, DeviceUnavailableError, UsageError
from .pipes import exchange
from .protocol import printable
from .transport import Result

CONNECT_S = 15
"""How long the far end may take to accept a connection."""

LOGIN_S = 60.0
"""How long it may take from there to the first word of its shell: a busy board is slow."""

STEP_S = 60.0
"""How long a small step may take, such as to remove a file."""

HELLO_BYTES = 2**20
"""The most that a login may print before anything was asked."""

NO_CLIENT = "there is no ssh on this machine: apt install openssh-client, or your system's way."

OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": str(CONNECT_S),
    # A board that went away is noticed within 20 seconds.
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "4",
    # Models of networks that were never trained are mostly repetition: 100 MB become 3.
    "Compression": "yes",
    # What a configuration may add for people at a terminal.
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "LogLevel": "ERROR",
}
"""Told to ssh before the user's own configuration, which is otherwise respected."""

SSH_FAILED = 255
"""How ssh exits where the fault is its own, and not the command's."""

HELLO = """
cd && folder="${XDG_CACHE_HOME:-$HOME/.cache}/hwnas" && umask 077 && mkdir -p "$folder" &&
cd "$folder" && pwd -P && uname -m && printf '%s\\n' "$1" || exit 1
find . -name 'run-*' -mmin +60 -exec rm -f {} + >/dev/null 2>&1
exec cat >/dev/null
"""
"""Runs as long as the connection is wanted: until its standard input ends. What a measurement that
was cut off left behind an hour ago is removed."""


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


def client() -> str:
    """Return the path of ssh, '' where there is none."""
    return shutil.which("ssh") or ""


class Connection:
    """A connection that stays open, so that each script takes milliseconds and no new login.

    It is ssh's own sharing of connections: a first ssh holds the connection, and further ones use
    it through a socket in a private folder. The first ends with this object, and, as its standard
    input then ends, with this process, however that ends.

    Attributes:
        folder: the folder on the far end that files are put into, made if need be.
        machine: the far processor's architecture.
        close: ends the connection, and with it what still runs over it.

    Raises:
        DeviceUnavailableError: the place cannot be reached; the message says what to do.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        files = tempfile.TemporaryDirectory(prefix="hwnas-")
        socket = str(Path(files.name) / "s").replace("%", "%%")
        options = [f"-o{name}={value}" for name, value in OPTIONS.items()]
        self._ssh = [client() or "ssh", "-S", socket, *options]
        self._mark = f"hwnas-{secrets.token_hex(8)}"
        self._holder = self._started("yes", HELLO, [self._mark])
        self.close = weakref.finalize(self, _end, self._holder, files, os.getpid())
        try:
            self.folder, self.machine = self._greeted()
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it has not ended, as far as this end knows."""
        return self._holder.poll() is None

    def script(
        self,
        text: str,
        words: Sequence[str] = (),
        *,
        data: bytes = b"",
        hold: bool = False,
        timeout_s: float = STEP_S,
    ) -> Result:
        """Run a script of the far end's `sh` with words as $1, $2 ..., and return how it ended.

        Args:
            text: the script; nothing from elsewhere is put into it.
            words: arrive as they are.
            data: its standard input.
            hold: its standard input does not end before the script does: where it ends earlier,
                the script is not wanted any more.
            timeout_s: how long it may take.

        Raises:
            DeviceLostError: the connection broke, or the time is over.
            DeviceUnavailableError: the far end runs no scripts.
            HwnasError: it answers far too much.
        """
        with self._started("no", text, words) as process:
            try:
                result = exchange(process, data, hold=hold, timeout_s=timeout_s)
            except TimeoutError:
                raise DeviceLostError(
                    f"'{self.place}' did not answer within {timeout_s:g} s. When it does again, "
                    "repeat the command; a profile goes on with --resume."
                ) from None
            finally:
                process.kill()
        if result.exit_code == SSH_FAILED:
            raise DeviceLostError(
                f"the connection to '{self.place}' broke: {_last(result.stderr)}. When it is back, "
                "repeat the command; a profile goes on with --resume."
            )
        _, found, stdout = result.stdout.partition(f"{self._mark}\n".encode())
        if not found:
            raise unavailable(self.place, f"it runs no shell scripts ({_said(result)})")
        return Result(result.exit_code, stdout, result.stderr)

    def _started(self, master: str, text: str, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start ssh with a script, apart from the terminal: it asks nothing, and Ctrl-C reaches
        hwnas alone. What a login prints by itself ends at the mark."""
        line = shlex.join(["sh", "-c", f"printf '%s\\n' {self._mark}\n{text}", "sh", *words])
        command = [*self._ssh, f"-oControlMaster={master}", *self.place.arguments, line]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, "LC_ALL": "C"},
                bufsize=0,
            )
        except FileNotFoundError:
            raise DeviceUnavailableError(NO_CLIENT) from None

    def _greeted(self) -> tuple[str, str]:
        """Wait for the far end's first words, and return its folder and its architecture."""
        mark = f"{self._mark}\n".encode()
        end = b"\n" + mark  # the second one
        try:
            result = exchange(
                self._holder,
                hold=True,
                timeout_s=CONNECT_S + LOGIN_S,
                until=end,
                most_bytes=HELLO_BYTES,
            )
        except TimeoutError:
            raise unavailable(self.place, "it takes the login, but its shell is silent") from None
        _, begun, told = result.stdout.partition(mark)
        if not begun:
            raise unavailable(self.place, explained(self.place, result))
        lines = told.removesuffix(mark).decode(errors="replace").splitlines()
        if len(lines) == 2 and lines[0].startswith("/") and lines[0].isprintable():
            return lines[0], printable(lines[1])
        raise unavailable(
            self.place,
            f"files cannot be put into its ~/.cache/hwnas ({_said(result)}): free some space or "
            f"mend the permissions, '{self.place.command} df -h'",
        )


def _end(holder: subprocess.Popen[bytes], files: Any, pid: int) -> None:
    """End a connection, in the process that began it."""
    if os.getpid() != pid:
        return
    holder.terminate()
    with holder:  # closes its pipes and waits
        try:
            holder.wait(5.0)
        except subprocess.TimeoutExpired:
            holder.kill()
    files.cleanup()


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
            return f"{advice} ({_last(result.stderr)})"
    return _said(result)


def _known_as(place: Place) -> str:
    """Return how known_hosts calls a place."""
    return f'"[{place.host}]:{place.port}"' if place.port not in (None, 22) else place.host


def _last(stderr: bytes) -> str:
    """Return the last line that was said, for a message."""
    lines = stderr.decode(errors="replace").splitlines()
    told = [text for text in map(printable, lines) if text]
    return told[-1].rstrip(".") if told else "it does not say why"


def _said(result: Result) -> str:
    """Return what a far end that failed said, for a message."""
    return _last(result.stderr or result.stdout)

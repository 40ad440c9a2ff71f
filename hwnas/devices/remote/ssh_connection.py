"""One connection to a far machine by OpenSSH's own client, and scripts run over it."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import DeviceLostError, DeviceUnavailableError
from .pipes import exchange
from .protocol import printable
from .ssh_place import Place, explained, said, unavailable
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
    # A board that went away is noticed within 25 seconds.
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "4",
    # Models of networks that were never trained are mostly repetition: 100 MB become 3.
    "Compression": "yes",
    # The connection ends with hwnas.
    "ControlPersist": "no",
    # What a configuration may add for people at a terminal.
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "VisualHostKey": "no",
    "LogLevel": "INFO",
}
"""Told to ssh before the user's own configuration, which is otherwise respected."""

SSH_FAILED = 255
"""How ssh exits where the fault is its own, and not the command's."""

HELLO = """
cd && folder="${XDG_CACHE_HOME:-$HOME/.cache}/hwnas" && umask 077 && mkdir -p "$folder" &&
cd "$folder" && pwd -P && uname -m && printf '%s\\n' "$1" || exit 1
find . \\( -name 'run-*' -o -name 'part-*' \\) -mmin +60 -exec rm -f {} + >/dev/null 2>&1
exec cat >/dev/null
"""
"""Runs as long as the connection is wanted: until its standard input ends. What a measurement that
was cut off left behind an hour ago is removed."""


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
                f"the connection to '{self.place}' broke: {self._why(result)}. When it is back, "
                "repeat the command; a profile goes on with --resume."
            )
        _, found, stdout = result.stdout.partition(f"{self._mark}\n".encode())
        if not found:
            raise unavailable(self.place, f"it runs no shell scripts ({said(result)})")
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
                env={**os.environ, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"},
                bufsize=0,
            )
        except FileNotFoundError:
            raise DeviceUnavailableError(NO_CLIENT) from None

    def _why(self, result: Result) -> str:
        """Return why the connection broke, which the ssh that holds it says."""
        told = result.stderr
        with suppress(TimeoutError):  # it goes on: then the other one says it
            told = exchange(self._holder, hold=True, timeout_s=1.0).stderr or told
        return said(Result(SSH_FAILED, b"", told))

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
            f"files cannot be put into its ~/.cache/hwnas ({said(result)}): free some space or "
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

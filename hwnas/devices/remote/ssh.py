"""Remote Linux boards, reached by OpenSSH's own client: a Raspberry Pi, a Jetson, a server."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path

from ...errors import DeviceLostError, DeviceUnavailableError
from .. import onnxruntime_graph, spec
from ..registry import refuse_precision
from ..spec import DeviceSpec
from . import runners
from .device import RemoteDevice, file_name
from .ssh_connection import NO_CLIENT, Connection, client
from .ssh_place import Place, parse, said, unavailable, unreachable
from .transport import Result

RUNNER = Path(__file__).with_name("runner.py")
PUSH_S = 600.0
"""How long a file may take to get there or back."""

ABSENT = 44
"""How the script that reads a file exits where there is none."""

NO_PYTHON, NO_ONNXRUNTIME = 45, 46

PUSH = """
cd "$1" && cat >"$4" && [ "$(wc -c <"$4")" -eq "$3" ] && mv -f "$4" "$2" && exit
code=$?
rm -f "$4"
exit "$code"
"""
"""A connection that breaks ends the input as well, so what came is counted."""

PULL = f"""
cd "$1" && [ -f "$2" ] || exit {ABSENT}
exec cat "$2"
"""

REMOVE = """
cd "$1" && rm -f -- "$2"*
"""

DIGESTS = """
cd "$1" && sha256sum -- * 2>/dev/null
"""

EXECUTABLE = """
cd "$1" && chmod 700 "$2"
"""

RUN = """
cd "$1" || exit
shift
exec 3<&0
"$@" </dev/null 3<&- &
runs=$!
{ cat <&3; kill "$runs"; } >/dev/null 2>&1 &
watches=$!
exec 3<&-
wait "$runs"
code=$?
kill "$watches" 2>/dev/null
exit "$code"
"""
"""The input ends early where this end went away, and then the command is ended."""

FIND_PYTHON = f"""
python="$HOME/.hwnas/bin/python"
[ -x "$python" ] || python=$(command -v python3) || exit {NO_PYTHON}
"$python" -c "import sys
assert sys.version_info >= (3, 8), 'Python 3.8 or later is needed'
import numpy, onnxruntime" >/dev/null || exit {NO_ONNXRUNTIME}
printf '%s' "$python"
"""


class SshTransport:
    """The folder ~/.cache/hwnas of a far machine, and commands in it; see `Transport`.

    One connection serves all of them. It is made when it is needed, and again where it broke.
    """

    def __init__(self, place: Place) -> None:
        self.resource = name_of(place)
        self._place = place
        self._open: Connection | None = None
        self._runner: list[str] = []

    def reach(self) -> None:
        """See that the far end can be used now: a connection from before may be broken.

        Raises:
            DeviceUnavailableError: it cannot.
        """
        if self._open is not None:
            with suppress(DeviceLostError):  # the reason is what making a new one comes to
                self._script("true", [])
        self.runner()

    def runner(self) -> list[str]:
        """Put the runner in place and return how it is started: that in C where one was built.

        Raises:
            DeviceUnavailableError: there is none for the board, and it has no Python with numpy and
                onnxruntime.
        """
        machine = self._connected().machine
        if not self._runner:
            abi = runners.ready([f"linux-{machine}"])
            self._runner = self._built(abi) if abi else self._interpreted()
        return self._runner

    def about(self) -> dict[str, str]:
        """Return which runner it is: a run takes some microseconds more from Python."""
        return {"runner": "C" if runners.RUNNER in self.runner()[-1] else "Python"}

    def push(self, data: bytes, name: str) -> None:
        """Write a file: it is whole, or absent.

        Raises:
            DeviceUnavailableError: there is no room for it.
        """
        part = f"part-{secrets.token_hex(8)}"  # of this client alone
        words = [_checked(name), str(len(data)), part]
        result = self._script(PUSH, words, data=data, timeout_s=PUSH_S)
        if result.exit_code != 0:
            raise DeviceUnavailableError(
                f"'{self._place}' does not store a file of {len(data) / 1e6:.1f} MB: "
                f"{said(result)}. See '{self._place.command} df -h' and free some space."
            )

    def pull(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            FileNotFoundError: there is no such file.
        """
        result = self._script(PULL, [_checked(name)], timeout_s=PUSH_S)
        if result.exit_code == ABSENT:
            raise FileNotFoundError(name)
        if result.exit_code != 0:
            raise DeviceLostError(f"'{self._place}' does not read {name}: {said(result)}.")
        return result.stdout

    def run(self, command: Sequence[str], timeout_s: float) -> Result:
        """Run a command in the folder and return how it ended; see `Transport`."""
        return self._script(RUN, command, hold=True, timeout_s=timeout_s)

    def remove(self, prefix: str) -> None:
        """Remove the files whose names begin so."""
        self._script(REMOVE, [_checked(prefix)])

    def _built(self, abi: str) -> list[str]:
        """Send a runner in C and its onnxruntime, as far as they are not there."""
        folder = self._connected().folder
        told = self._script(DIGESTS, []).stdout.decode(errors="replace").splitlines()
        for name, (path, digest) in runners.parts(abi).items():
            if f"{digest}  {name}" not in told:
                self.push(path.read_bytes(), name)
                self._script(EXECUTABLE, [_checked(name)])
        return ["env", f"LD_LIBRARY_PATH={folder}", f"./{runners.RUNNER}"]

    def _interpreted(self) -> list[str]:
        """Send the runner in Python, under a name that another version of hwnas does not use."""
        python = self._python()
        source = RUNNER.read_bytes()
        name = f"runner-{sha256(source).hexdigest()[:12]}.py"
        self.push(source, name)
        return [python, name]

    def _script(
        self,
        text: str,
        words: Sequence[str],
        *,
        data: bytes = b"",
        hold: bool = False,
        timeout_s: float = 60.0,
    ) -> Result:
        connection = self._connected()
        words = [connection.folder, *words]
        return connection.script(text, words, data=data, hold=hold, timeout_s=timeout_s)

    def _connected(self) -> Connection:
        """Return the connection, made anew where it broke."""
        if self._open is None or not self._open.alive:
            if self._open is not None:
                self._open.close()
            self._open, self._runner = None, []
            self._open = Connection(self._place)
        return self._open

    def _python(self) -> str:
        """Return the far Python: that of ~/.hwnas, where there is one, else python3.

        Raises:
            DeviceUnavailableError: there is none, or it has no onnxruntime.
        """
        ssh = self._place.command
        result = self._script(FIND_PYTHON, [])
        if result.exit_code == NO_PYTHON:
            raise unavailable(
                self._place,
                f"it has no python3: {ssh} sudo apt install python3 python3-venv",
            )
        python = result.stdout.decode(errors="replace")
        if result.exit_code != 0 or not (python.startswith("/") and python.isprintable()):
            raise unavailable(
                self._place,
                f"its Python does not import numpy and onnxruntime ({said(result)}): {ssh} "
                "'python3 -m venv ~/.hwnas && ~/.hwnas/bin/pip install onnxruntime'",
            )
        return python


def connections() -> list[str]:
    """Return the connections of the boards on the shelf."""
    known = {device.connection for device in spec.known()[0]}
    return sorted(connection for connection in known if connection.startswith("ssh:"))


def missing(argument: str) -> str:
    """Return why a board cannot be used, with what mends it; '' where it can: this connects.

    Raises:
        UsageError: the place is malformed.
    """
    place = parse(argument)
    if not client():
        return NO_CLIENT
    try:
        _transport(place).reach()
    except DeviceUnavailableError as error:
        return str(error).removeprefix(unreachable(place))
    return ""


def default(connection: str, argument: str) -> DeviceSpec:
    """Return what a short command means on a board: what it means on this machine's processor.

    Raises:
        UsageError: the place is malformed.
    """
    place = parse(argument)
    return replace(
        spec.shipped("cpu"),
        name=name_of(place),
        about=f"the processor of {place} by onnxruntime, FP32, one image at 224x224",
        connection=str(place),
    )


def connect(device: DeviceSpec, argument: str) -> RemoteDevice:
    """Return the device.

    Raises:
        UsageError: the place is malformed, or onnxruntime does not run the precision.
    """
    refuse_precision(device, onnxruntime_graph.PRECISIONS)
    transport = _transport(parse(argument))
    return RemoteDevice(
        transport,
        device.threads,
        device.precision,
        device.optimization,
        cores=device.cores,
        cool_down_c=device.cool_down_c,
    )


def name_of(place: Place) -> str:
    """Return a place as a name that may be a file's and a device's: ssh-pi-board."""
    return file_name(str(place))


@cache
def _transport(place: Place) -> SshTransport:
    """Return the one transport of this process to a place: a login takes a second on a board."""
    return SshTransport(place)


def _checked(name: str) -> str:
    """Return the name of a file, none in another folder."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise ValueError(f"'{name}' is no name of a file")
    return name

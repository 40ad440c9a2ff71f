"""Android phones by Google's `adb`: the connection `adb:SERIAL`, with `/xnnpack` for XNNPACK.

The runner, its onnxruntime and one model at a time go to FOLDER on the phone; it needs no app, and
no root.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import DeviceLostError, DeviceUnavailableError, HwnasError, UsageError
from ...lowering.kernels import Fusion
from .. import onnxruntime_graph, spec
from ..registry import refuse_precision
from ..spec import DeviceSpec
from . import adb_tool, runners
from .device import PROVIDERS, RemoteDevice, file_name
from .protocol import printable
from .transport import Result

FOLDER = "/data/local/tmp/hwnas"
"""The one place where a phone lets its shell write programs and run them."""

PROPERTIES = {
    "maker": "ro.product.manufacturer",
    "phone": "ro.product.model",
    "soc": "ro.board.platform",
    "android": "ro.build.version.release",
}
"""What the environment says about a phone, and what it calls that."""

COMMAND_TIMEOUT_S = 60.0
COPY_TIMEOUT_S = 600.0
STALE_MINUTES = 60
"""Age at which files of a measurement are left-overs of one that was cut off."""

ENDED = "hwnas-exit:"
"""Stands before the exit code that the phone's shell tells: adb itself exits with 0 when the
connection breaks."""


class AdbTransport:
    """Brings files and commands to a phone; see `transport.Transport`.

    Args:
        serial: of the phone, as `adb devices` lists it.
    """

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self.resource = file_name(f"adb-{serial}")
        self._in_place = False

    def runner(self) -> list[str]:
        """Send the runner and its onnxruntime, as far as the phone does not have them.

        Raises:
            DeviceUnavailableError: there is none for a processor like the phone's.
        """
        if not self._in_place:
            abi = require_runner(self)
            self._shell(f"mkdir -p {FOLDER}")
            stale = f"find {FOLDER} -name 'run-*' -mmin +{STALE_MINUTES} -exec rm -f {{}} +"
            self._shell(stale, check=False)
            told = self._shell(f"cd {FOLDER} && sha256sum * 2>/dev/null", check=False).stdout
            there = {line.strip() for line in told.decode(errors="replace").splitlines()}
            for name, (path, digest) in runners.parts(abi).items():
                if f"{digest}  {name}" not in there:
                    self._copy("push", str(path), f"{FOLDER}/{name}.part")
                    place = shlex.quote(name)
                    self._shell(f"cd {FOLDER} && chmod 755 {place}.part && mv {place}.part {place}")
            self._in_place = True
        return ["env", f"LD_LIBRARY_PATH={FOLDER}", f"./{runners.RUNNER}"]

    def about(self) -> dict[str, str]:
        """Return the phone's maker and model, its processor and its version of Android."""
        return {
            name: printable(self.property(key), 80) or "unknown" for name, key in PROPERTIES.items()
        }

    def property(self, key: str) -> str:
        """Return a property of the phone's system, '' where it has none of that name."""
        return self._shell(f"getprop {shlex.quote(key)}").stdout.decode(errors="replace").strip()

    def push(self, data: bytes, name: str) -> None:
        """Write a file; see `transport.Transport`."""
        with tempfile.TemporaryDirectory(prefix="hwnas-") as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            self._copy("push", str(path), f"{FOLDER}/{name}")

    def pull(self, name: str) -> bytes:
        """Return a file's content; see `transport.Transport`."""
        with tempfile.TemporaryDirectory(prefix="hwnas-") as folder:
            path = Path(folder) / name
            self._copy("pull", f"{FOLDER}/{name}", str(path))
            return path.read_bytes()

    def run(self, command: Sequence[str], timeout_s: float) -> Result:
        """Run a command in FOLDER; see `transport.Transport`."""
        script = f"cd {FOLDER} && exec {shlex.join(command)}"
        result = self._shell(script, timeout_s, check=False)
        if result.exit_code in (126, 127):
            self._in_place = False  # somebody removed the runner: it is sent again
        return result

    def remove(self, prefix: str) -> None:
        """Remove files; see `transport.Transport`."""
        self._shell(f"cd {FOLDER} && rm -f -- {shlex.quote(prefix)}*", check=False)

    def _shell(
        self, script: str, timeout_s: float = COMMAND_TIMEOUT_S, *, check: bool = True
    ) -> Result:
        """Run a script by the phone's shell.

        When the connection ends, the phone's adbd hangs up its shell, and that ends the script.

        Raises:
            DeviceLostError: the connection broke, or it did not end in time.
            HwnasError: it fails, and `check` says that it must not.
        """
        watched = (
            f"sh -c {shlex.quote(script)} & p=$!; trap 'kill $p' HUP INT TERM; wait $p; r=$?; "
            f"echo {ENDED}$r >&2; exit $r"
        )
        result = self._adb(["shell", watched], timeout_s)
        told, marker, code = result.stderr.decode(errors="replace").rpartition(ENDED)
        if not marker or not code.strip().isdecimal():
            told = adb_tool.said(result) if result.stderr else "the connection broke"
            raise self._lost(told)
        ended = Result(int(code), result.stdout, told.encode())
        if check and ended.exit_code != 0:
            raise HwnasError(f"a command fails on the phone: {adb_tool.said(ended)}.")
        return ended

    def _copy(self, way: str, source: str, target: str) -> None:
        """Push or pull a file.

        Raises:
            FileNotFoundError: there is none to pull.
            DeviceLostError: the connection broke.
            HwnasError: the phone does not take it.
        """
        result = self._adb([way, source, target], COPY_TIMEOUT_S)
        if result.exit_code == 0:
            return
        told = adb_tool.said(result)
        if way == "pull" and ("does not exist" in told or "No such file" in told):
            raise FileNotFoundError(source)
        if "No space left" in told:
            raise HwnasError(
                f"the storage of the phone '{printable(self.serial, 80)}' is full: "
                "'adb shell df /data/local/tmp' tells how full; remove something."
            )
        if "remote" in told and ("Permission" in told or "Read-only" in told):
            raise HwnasError(f"the phone does not let adb write to {FOLDER}: {told}.")
        raise self._lost(told)

    def _adb(self, arguments: list[str], timeout_s: float) -> Result:
        try:
            return adb_tool.run(["-s", self.serial, *arguments], timeout_s)
        except TimeoutError:
            raise self._lost(f"no answer within {timeout_s:.0f} s") from None

    def _lost(self, told: str) -> DeviceLostError:
        self._in_place = False  # it may come back as another one, or wiped
        return DeviceLostError(
            f"the phone '{printable(self.serial, 80)}' went away: {told}. When 'adb devices' lists "
            "it again, repeat the command; a profile goes on with --resume."
        )


class Phone(RemoteDevice):
    """A phone, whose system lowers the clock's limit while it is hot: that is no setting."""

    limits_are_settings = False


def require_runner(transport: AdbTransport) -> str:
    """Return the first kind of machine that a phone is and that there is a runner for.

    Raises:
        DeviceUnavailableError: there is none.
    """
    told = transport.property("ro.product.cpu.abilist").split(",")
    abi = runners.ready(told)
    if abi is None:
        name = printable(told[0], 40) or "its processor"
        place = runners.folder(name if name in runners.ABIS else "arm64-v8a")
        raise DeviceUnavailableError(
            f"there is no runner for {name} at {place}: 'hwnas devices runner "
            f"onnxruntime-android-VERSION.aar --abi {name} --ndk FOLDER' builds it "
            "(docs/android.md)."
        )
    return abi


def connections() -> list[str]:
    """Return the connections worth trying: each phone that is listed, whatever its state."""
    try:
        serials = [phone.serial for phone in adb_tool.phones()]
        return [f"adb:{s}/cpu" if "/" in s else f"adb:{s}" for s in serials] or ["adb"]
    except DeviceUnavailableError:
        return ["adb"]


def missing(argument: str) -> str:
    """Return what is missing, with the command that mends it; '' where nothing is.

    Raises:
        UsageError: the argument names no provider that runners have.
    """
    serial, _ = place(argument)
    try:
        require_runner(AdbTransport(adb_tool.chosen(serial).serial))
    except DeviceUnavailableError as error:
        return str(error)
    return ""


def default(connection: str, argument: str) -> DeviceSpec:
    """Return what a short command means on a phone: what it means on the shipped Pixel 2.

    Raises:
        UsageError: the argument names no provider that runners have.
    """
    serial, provider = place(argument)
    name = file_name("-".join(filter(None, ("adb", serial, provider if provider != "cpu" else ""))))
    by = "onnxruntime" if provider == "cpu" else "onnxruntime and XNNPACK"
    about = f"the Android phone {printable(serial, 80) or 'that is connected'} by {by}"
    return replace(
        spec.shipped("pixel2-cpu-fp32"),
        name=name,
        about=f"{about}, FP32, one image at 320x320",
        runtime="onnxruntime",
        connection=connection,
        fusion=Fusion(rules="onnxruntime") if provider == "cpu" else PROVIDERS[provider].fusion,
    )


def connect(device: DeviceSpec, argument: str) -> Phone:
    """Return the device.

    Raises:
        UsageError: runners do not run what the device asks for.
        DeviceUnavailableError: there is no such phone, or it cannot be used.
    """
    serial, provider = place(argument)
    shown = replace(device, connection=printable(device.connection))
    refuse_precision(shown, onnxruntime_graph.PRECISIONS)
    return Phone(
        AdbTransport(adb_tool.chosen(serial).serial),
        device.threads,
        device.precision,
        device.optimization,
        provider,
        device.cores,
        device.cool_down_c,
    )


def place(argument: str) -> tuple[str, str]:
    """Return the serial number and the provider that an argument names.

    Raises:
        UsageError: runners have no such provider.
    """
    serial, slash, provider = argument.rpartition("/")
    if not slash:
        return argument, "cpu"
    if provider not in PROVIDERS:
        known = ", ".join(PROVIDERS)
        raise UsageError(f"'adb:{printable(argument)}' names no provider of {known}.")
    return serial, provider

"""Google's `adb`, which reaches Android phones: where it is, what it lists, what it says.

It is run as it stands, so $ANDROID_SERIAL, $ANDROID_ADB_SERVER_PORT and the like mean what they
always do. What phones say, their serial numbers included, is data: it never reaches a shell of
this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import DeviceUnavailableError, did_you_mean
from .protocol import printable
from .transport import Result

INSTALL = "'apt install adb' on Debian and Ubuntu, 'brew install android-platform-tools' on a Mac"
LIST_TIMEOUT_S = 20.0
"""How long its server may take to start, and to list what is connected."""

MENDED = {
    "unauthorized": "it does not trust this machine yet: unlock it and allow USB debugging when it "
    "asks; if it does not ask, 'adb kill-server' and plug it in again",
    "authorizing": "it does not trust this machine yet: unlock it and allow USB debugging",
    "offline": "it does not answer: 'adb reconnect offline', or plug it in again",
    "connecting": "it is only just connecting: repeat the command",
    "no permissions": "this user may not open USB devices: 'apt install "
    "android-sdk-platform-tools-common', 'usermod -aG plugdev $USER', and plug it in again",
    "recovery": "it runs its recovery system: 'adb reboot'",
    "sideload": "it waits for an update: 'adb reboot'",
    "bootloader": "it is in its bootloader: 'fastboot reboot'",
}
"""States in which a phone cannot be used: why, and what mends it."""


@dataclass(frozen=True)
class Listed:
    """A phone as `adb devices` lists it: a serial number, and a state, `device` if it is usable."""

    serial: str
    state: str

    @property
    def missing(self) -> str:
        """Say why it cannot be used; '' where it can."""
        if self.state == "device":
            return ""
        why = next((text for state, text in MENDED.items() if self.state.startswith(state)), "")
        shown = printable(self.state, 40)
        told = why or f"adb calls its state '{shown}', in which nothing can be run"
        return f"the phone '{printable(self.serial, 80)}' is {shown}: {told}."


def tool() -> str:
    """Return where adb is: what $ADB names, else on the path.

    Raises:
        DeviceUnavailableError: nowhere.
    """
    named = os.environ.get("ADB")
    found = shutil.which(named or "adb")
    if found is None:
        where = f"$ADB names '{named}', which is no program" if named else "adb is not on the path"
        raise DeviceUnavailableError(f"{where}: {INSTALL}.")
    return found


def run(arguments: Sequence[str], timeout_s: float) -> Result:
    """Run adb and return how it ended; it is ended when this is left early.

    Raises:
        DeviceUnavailableError: there is no adb.
        TimeoutError: it did not end in time.
    """
    try:
        process = subprocess.Popen(
            [tool(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise DeviceUnavailableError(f"adb cannot be run: {error.strerror}. {INSTALL}.") from None
    with process:
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"adb did not end within {timeout_s:.0f} s") from None
        finally:
            process.kill()  # where this is left early, also by KeyboardInterrupt
            process.wait()
    return Result(process.returncode, stdout, stderr)


def said(result: Result) -> str:
    """Return what adb has to say about a failure, for a message."""
    text = (result.stderr or result.stdout).decode(errors="replace")
    told = [line for line in text.splitlines() if not line.startswith("*")]  # its own server's news
    line = printable(" ".join(told))
    for lead in ("adb: ", "error: "):
        line = line.removeprefix(lead)
    return line.rstrip(".") or f"exit code {result.exit_code}"


def phones() -> list[Listed]:
    """Return the phones that are connected, in whatever state.

    Raises:
        DeviceUnavailableError: there is no adb, or its server does not start.
    """
    try:
        result = run(["devices"], LIST_TIMEOUT_S)
    except TimeoutError as error:
        raise DeviceUnavailableError(f"{error}: 'adb kill-server', and repeat it.") from None
    if result.exit_code != 0:
        raise DeviceUnavailableError(f"adb fails: {said(result)}.")
    lines = result.stdout.decode(errors="replace").splitlines()
    found = [line.rpartition("\t") for line in lines if "\t" in line]
    # A serial number that a terminal would obey names no connection that anyone could type.
    return [Listed(s, state.strip()) for s, _, state in found if s and s.isprintable()]


def chosen(serial: str) -> Listed:
    """Return the phone of a serial number; of none, that of $ANDROID_SERIAL, or the only one.

    Raises:
        DeviceUnavailableError: there is none, or several, or it cannot be used; the message says
            what to do.
    """
    known = phones()
    wanted = serial or os.environ.get("ANDROID_SERIAL", "")
    if not known:
        raise DeviceUnavailableError(
            "no phone is connected: switch on USB debugging in its developer options, plug it in, "
            "and allow it; 'adb devices' must list it (docs/android.md)."
        )
    names = [printable(phone.serial, 80) for phone in known]
    listed = ", ".join(f"adb:{name}" for name in names)
    if not wanted and len(known) > 1:
        raise DeviceUnavailableError(f"several phones are connected; say which: {listed}.")
    phone = next((phone for phone in known if phone.serial == wanted), None) if wanted else known[0]
    if phone is None:
        shown = printable(wanted, 80)
        raise DeviceUnavailableError(
            f"no phone '{shown}' is connected.{did_you_mean(shown, names)} Connected: {listed}."
        )
    if phone.missing:
        raise DeviceUnavailableError(phone.missing)
    return phone

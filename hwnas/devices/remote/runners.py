"""Runners for far ends: `runner.c`, compiled by the user's compiler against an onnxruntime.

A runner lies on the user's shelf, `$HWNAS_HOME/runners/ABI/`, with the onnxruntime that it was
linked to: `hwnas-runner` and `libonnxruntime.so`. All of it is sent to the far end.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from importlib.resources import files
from pathlib import Path

from ...errors import DeviceUnavailableError, HwnasError, UsageError
from ...store import shelf
from ...store.files import new_folder
from .protocol import printable

RUNNER = "hwnas-runner"
ABIS = {
    "arm64-v8a": "aarch64-linux-android",
    "armeabi-v7a": "armv7a-linux-androideabi",
    "x86_64": "x86_64-linux-android",
    "x86": "i686-linux-android",
}
"""Android's names of its machines, and what the NDK's compilers call them."""

API = 24
"""The lowest version of Android that onnxruntime's package supports: Android 7."""

FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra")
COMPILE_TIMEOUT_S = 300.0


def folder(abi: str) -> Path:
    """Return where the runner for a machine lies, or would lie."""
    return shelf.user_shelf("runners") / shelf.check_name(abi)


def ready(abis: list[str]) -> str | None:
    """Return the first of these machines that there is a runner for."""
    known = [abi for abi in abis if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", abi)]
    return next((abi for abi in known if (folder(abi) / RUNNER).is_file()), None)


def parts(abi: str) -> dict[str, tuple[Path, str]]:
    """Return the files of a runner by name, each with its SHA-256.

    Raises:
        HwnasError: one cannot be read.
    """
    found = {}
    for path in sorted(folder(abi).iterdir()):
        if path.is_file() and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", path.name):
            try:
                found[path.name] = (path, hashlib.sha256(path.read_bytes()).hexdigest())
            except OSError as error:
                raise HwnasError(f"cannot read {path}: {error.strerror}.") from None
    return found


def build(package: Path, abi: str = "arm64-v8a", ndk: Path | None = None, cc: str = "") -> Path:
    """Compile the runner against an onnxruntime, put both on the user's shelf, and say where.

    Args:
        package: onnxruntime's Android package (AAR), or the folder of an unpacked package or
            release: headers in `headers` or `include`, the library in `jni/ABI` or `lib`.
        abi: the machine: a key of ABIS, or, with `cc`, what the far end calls itself.
        ndk: folder of Android's NDK; by default that of $ANDROID_NDK_HOME or below $ANDROID_HOME.
        cc: another C compiler for that machine.

    Raises:
        UsageError: the package is none, or holds nothing for this machine.
        DeviceUnavailableError: there is no compiler.
        HwnasError: it does not compile.
    """
    compiler = shutil.which(cc) if cc else str(_clang(abi, ndk))
    if compiler is None:
        raise DeviceUnavailableError(f"--cc is '{cc}', which is no program on the path.")
    with tempfile.TemporaryDirectory(prefix="hwnas-") as name, new_folder(folder(abi)) as made:
        source = _unpacked(package, Path(name))
        headers = _header(source, package)
        library = _library(source, package, abi)
        data = library.read_bytes()
        # Programs ask for a library by the name that stands inside it.
        own = re.search(rb"\0(libonnxruntime\.so(?:\.\d+)*)\0", data)
        (made / (own[1].decode() if own else library.name)).write_bytes(data)
        _compile(compiler, headers, library, made / RUNNER)
    return folder(abi)


def _clang(abi: str, ndk: Path | None) -> Path:
    if abi not in ABIS:
        raise UsageError(f"--abi is '{abi}'; Android's are {', '.join(ABIS)}. Else give --cc.")
    roots = [ndk] if ndk else _ndks()
    pattern = f"toolchains/llvm/prebuilt/*/bin/{ABIS[abi]}{API}-clang"
    found = next((path for root in roots for path in sorted(root.glob(pattern))), None)
    if found is None:
        where = f"{ndk} holds no {pattern}" if ndk else "there is no NDK in $ANDROID_NDK_HOME"
        raise DeviceUnavailableError(
            f"{where}: unpack Android's NDK (r19 or later) and give --ndk FOLDER, or another "
            "compiler for the phone with --cc."
        )
    return found


def _ndks() -> list[Path]:
    named = [os.environ.get(name) for name in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT")]
    homes = [os.environ.get(name) for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT")]
    below = [path for home in homes if home for path in sorted(Path(home).glob("ndk/*"))]
    return [Path(name) for name in named if name] + below[::-1]


def _unpacked(package: Path, into: Path) -> Path:
    if package.is_dir():
        return package
    try:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(into)
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{package} is no package of onnxruntime (an AAR): {error}.") from None
    return into


def _header(source: Path, package: Path) -> Path:
    for place in ("headers", "include", "include/onnxruntime"):
        if (source / place / "onnxruntime_c_api.h").is_file():
            return source / place
    raise UsageError(f"{package} holds no onnxruntime_c_api.h; take onnxruntime's AAR.")


def _library(source: Path, package: Path, abi: str) -> Path:
    android = source / "jni" / abi / "libonnxruntime.so"
    if android.is_file():
        return android
    # The longest name is the file itself, the shorter ones are links to it.
    found = sorted(source.glob("lib*/libonnxruntime.so*"), key=lambda path: len(path.name))
    if not found:
        raise UsageError(f"{package} holds no libonnxruntime.so for {abi}.")
    return found[-1]


def _compile(compiler: str, headers: Path, library: Path, target: Path) -> None:
    source = str(files(__package__) / "runner.c")
    words = [compiler, *FLAGS, "-isystem", str(headers), "-o", str(target), source, str(library)]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMPILE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HwnasError(f"{compiler} fails: {error}.") from None
    if done.returncode != 0:
        told = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise HwnasError(f"the runner does not compile: {printable(told[0], 400)}")

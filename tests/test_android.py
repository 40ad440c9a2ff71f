"""Phones by the real `adb`, against an adbd on loopback that executes the runner."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import onnxruntime
import pytest
from android_far_end import Phone
from device_contract import DeviceContract

from hwnas.devices import registry
from hwnas.devices.contract import Device
from hwnas.devices.remote import adb_tool, runners
from hwnas.errors import DeviceLostError

HERE = Path(__file__).parent
PARTS = os.environ.get("HWNAS_TEST_ONNXRUNTIME", "")
"""A folder with `headers` of onnxruntime and the library for arm64: `.ci/onnxruntime` fills it."""

LACKING = [tool for tool in ("adb", "gcc") if shutil.which(tool) is None]
if not PARTS:
    LACKING.append("$HWNAS_TEST_ONNXRUNTIME")
if LACKING and os.environ.get("CI") == "true":
    raise RuntimeError(f"the tests of phones need {', '.join(LACKING)}")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)}")

X86 = Path(onnxruntime.__file__).parent / "capi"


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder like an unpacked release of onnxruntime, for this machine."""
    folder = tmp_path_factory.mktemp("onnxruntime")
    (folder / "include").symlink_to(Path(PARTS) / "headers")
    (folder / "lib").mkdir()
    (folder / "lib" / "libonnxruntime.so").symlink_to(next(X86.glob("libonnxruntime.so.*")))
    return folder


@pytest.fixture(scope="session")
def built(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the runner for this machine."""
    home = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(home))
        patch.setattr(runners, "FLAGS", (*runners.FLAGS, "-Werror", '-DSYSFS="sys"'))
        return runners.build(package, "arm64-v8a", cc="gcc")


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library that asks before each run."""
    target = tmp_path_factory.mktemp("shim") / "run_hook.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-isystem", f"{PARTS}/headers", "-o", str(target),
         str(HERE / "run_hook.c"), "-ldl"],
        check=True,
    )  # fmt: skip
    return target


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run an adb server of the tests' own, and return what leads to it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home = str(tmp_path_factory.mktemp("adb"))
    variables = {
        "ADB": shutil.which("adb") or "",
        "ANDROID_ADB_SERVER_PORT": str(port),
        "ANDROID_SDK_HOME": home,
        "HOME": home,
    }
    environment = {**os.environ, **variables}
    subprocess.run(["adb", "start-server"], env=environment, check=True, capture_output=True)
    yield variables
    subprocess.run(["adb", "kill-server"], env=environment, check=True, capture_output=True)


@pytest.fixture
def tool(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have hwnas use that server."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)


@pytest.fixture
def phone(tool: None, shim: Path, built: Path, own_shelf: Path, tmp_path: Path) -> Iterator[Phone]:
    (own_shelf / "runners").mkdir()
    (own_shelf / "runners" / "arm64-v8a").symlink_to(built)
    phone = Phone(tmp_path, shim)
    for path in built.iterdir():  # sent in an earlier session
        shutil.copy(path, phone.folder)
    plug_in(phone)
    yield phone
    phone.close()
    subprocess.run(["adb", "disconnect", phone.serial], check=False, capture_output=True)


def plug_in(phone: Phone) -> None:
    """Connect a phone, anew where its connection broke."""
    for _ in range(50):
        if any(
            known.serial == phone.serial and known.state == "device" for known in adb_tool.phones()
        ):
            return
        subprocess.run(["adb", "disconnect", phone.serial], check=False, capture_output=True)
        subprocess.run(["adb", "connect", phone.serial], check=True, capture_output=True)
        time.sleep(0.1)
    pytest.fail("adb does not reach the far end")


class TestPhone(DeviceContract):
    @pytest.fixture(autouse=True)
    def plugged_in(self, phone: Phone) -> None:
        self.phone = phone

    def connect(self) -> Device:
        plug_in(self.phone)
        return registry.connect(registry.described(f"adb:{self.phone.serial}"))

    def before_each_run(
        self, monkeypatch: pytest.MonkeyPatch, device: Device, hook: Callable[[], None]
    ) -> None:
        monkeypatch.setattr(self.phone, "hook", hook)

    def lose(
        self, monkeypatch: pytest.MonkeyPatch, device: Device, when: Callable[[], bool]
    ) -> None:
        def hook() -> None:
            if when():
                self.phone.hook = None  # it comes back whole
                raise DeviceLostError("the cable is pulled")

        self.before_each_run(monkeypatch, device, hook)

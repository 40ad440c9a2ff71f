"""Phones by the real `adb`, against an adbd on loopback that executes the runner."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from android_far_end import Phone
from device_contract import DeviceContract, tiny

from hwnas.architecture import lower, spaces
from hwnas.cli import main
from hwnas.devices import registry
from hwnas.devices.contract import Device
from hwnas.devices.onnxruntime_cpu import OnnxRuntimeCpu
from hwnas.devices.onnxruntime_graph import quantized
from hwnas.devices.remote import adb, adb_tool, runners
from hwnas.devices.remote import device as remote
from hwnas.devices.remote.protocol import Answer, FarEnvironment, Request, parse
from hwnas.errors import DeviceLostError, DeviceUnavailableError, HwnasError
from hwnas.lowering.kernels import fuse
from hwnas.lowering.onnx_writer import to_onnx
from hwnas.lowering.weights import filler
from hwnas.profiling.profile import match

HERE = Path(__file__).parent
PARTS = os.environ.get("HWNAS_TEST_ONNXRUNTIME", "")
"""A folder with `headers` of onnxruntime and the library for arm64: `.ci/onnxruntime` fills it."""

LACKING = [tool for tool in ("adb", "gcc") if shutil.which(tool) is None]
if not PARTS:
    LACKING.append("$HWNAS_TEST_ONNXRUNTIME")
if LACKING and os.environ.get("CI") == "true":
    raise RuntimeError(f"the tests of phones need {', '.join(LACKING)}")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)}")

CPUINFO = """processor\t: 0
BogoMIPS\t: 100.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd05
CPU revision\t: 0
"""
"""What onnxruntime looks for on an arm64 machine, which the emulator does not make up."""

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
def arm64(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a folder with the runner for arm64, and the root that an emulator runs it in."""
    folder = tmp_path_factory.mktemp("arm64")
    with zipfile.ZipFile(folder / "onnxruntime.aar", "w") as package:
        for path in Path(PARTS, "headers").iterdir():
            package.write(path, f"headers/{path.name}")
        package.write(next(Path(PARTS, "arm64").iterdir()), "jni/arm64-v8a/libonnxruntime.so")
    root = folder / "root"
    (root / "proc").mkdir(parents=True)
    (root / "lib").symlink_to("/usr/aarch64-linux-gnu/lib")
    (root / "proc" / "cpuinfo").write_text(CPUINFO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(folder))
        patch.setattr(runners, "FLAGS", (*runners.FLAGS, "-Werror"))
        runner = runners.build(folder / "onnxruntime.aar", cc="aarch64-linux-gnu-gcc")
    return runner, root


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

    def test_it_fuses_what_this_machine_does(self, device: Device) -> None:
        assert device.fusion() == OnnxRuntimeCpu().fusion()

    def test_int8_runs_its_own_kernels_on_two_threads(self) -> None:
        spec = dataclasses.replace(
            registry.described(f"adb:{self.phone.serial}"),
            precision="int8",
            threads=min(2, len(os.sched_getaffinity(0))),
        )
        device = registry.connect(spec)
        space = spaces.load("mobile")
        architecture = space.decode(space.sample(np.random.default_rng(3)))
        graph = lower(architecture, (96, 96))
        model = to_onnx(graph, filler(graph)).SerializeToString()
        timings, measured = device.profile(model, seconds=0.0)
        kernels = match(architecture, (96, 96), 1, device.fusion(), timings)
        assert sorted(str(k) for k, _ in kernels) == sorted(map(str, fuse(graph, device.fusion())))
        assert measured.threads == spec.threads

    def test_the_runner_is_sent_where_it_is_not_there_already(self, built: Path) -> None:
        sent = {path.name for path in built.iterdir()}
        for name in sent:
            (self.phone.folder / name).unlink()
        assert self.connect().measure(tiny(), least_runs=1, least_s=0.0).least_s > 0
        assert {path.name for path in self.phone.folder.iterdir()} == {*sent, "lock"}
        before = {name: (self.phone.folder / name).stat().st_mtime_ns for name in sent}
        (self.phone.folder / runners.RUNNER).write_text("of another version")
        assert self.connect().measure(tiny(), least_runs=1, least_s=0.0).least_s > 0
        after = {name: (self.phone.folder / name).stat().st_mtime_ns for name in sent}
        assert [name for name in sent if after[name] != before[name]] == [runners.RUNNER]

    def test_nothing_that_the_phone_says_is_executed(self) -> None:
        evil = "$(touch evil); `touch evil`; touch evil\n'\"; touch evil \x1b[2J\x07 é"
        for key in ("ro.product.manufacturer", "ro.product.model", "ro.build.version.release"):
            self.phone.properties[key] = evil
        self.phone.properties["ro.product.cpu.abilist"] = f"../../{evil},arm64-v8a"
        self.phone.banner = f"ro.product.model={evil}"
        self.phone.drop()
        device = self.connect()
        told = device.environment()
        assert told["phone"] == "$(touch evil); `touch evil`; touch evil '\"; touch evil [2J é"
        device.measure(tiny(), least_runs=1, least_s=0.0)
        assert not any("evil" in script for script in self.phone.scripts)
        assert not [*self.phone.folder.rglob("evil"), *Path.cwd().glob("evil")]

    @pytest.mark.parametrize("interrupted", [False, True])
    def test_what_is_left_early_ends_on_the_phone(self, interrupted: bool) -> None:
        device = self.connect()
        waiting = threading.Event()

        def hook() -> None:
            waiting.set()
            raise KeyboardInterrupt if interrupted else HangsError

        device.environment()
        device.margin_s = 1.0
        self.phone.hook = hook
        with pytest.raises(KeyboardInterrupt if interrupted else DeviceLostError) as caught:
            device.measure(tiny(), least_runs=1, least_s=0.0, most_s=0.5)
        assert interrupted or "no answer within 2 s" in str(caught.value)
        assert waiting.is_set()
        for _ in range(30):
            if not self.phone.running():
                break
            time.sleep(0.1)
        assert not self.phone.running()
        assert not [path.name for path in self.phone.folder.glob("run-*")]
        self.phone.hook = None
        device.margin_s = 60.0
        assert device.measure(tiny(), least_runs=1, least_s=0.0).least_s > 0

    def test_another_host_measures(self, device: Device) -> None:
        with (self.phone.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(DeviceUnavailableError, match="another client, of another host"):
                device.measure(tiny(), least_runs=1, least_s=0.0)
        assert device.measure(tiny(), least_runs=1, least_s=0.0).least_s > 0

    def test_a_full_phone(self, device: Device) -> None:
        device.environment()
        self.phone.room = 1000
        with pytest.raises(HwnasError, match=r"storage of the phone .* is full"):
            device.measure(tiny())
        assert not [path.name for path in self.phone.folder.glob("run-*")]

    def test_an_onnxruntime_without_xnnpack(self) -> None:
        connection = f"adb:{self.phone.serial}/xnnpack"
        assert registry.described(connection).fusion.rules == "xnnpack"
        device = registry.connect(registry.described(connection))
        assert not device.tells_kernels
        with pytest.raises(DeviceUnavailableError, match=r"has no Xnnpack.*only.*CPUExecution"):
            device.measure(tiny())

    def test_sensors_and_clocks(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        system = self.phone.folder / "sys"
        for core in cores:
            folder = system / f"devices/system/cpu/cpu{core}/cpufreq"
            folder.mkdir(parents=True)
            most = 2_457_600 if core == cores[0] else 1_900_800
            for name, value in (
                ("cpuinfo_max_freq", most),
                ("scaling_max_freq", most // 2),
                ("scaling_cur_freq", 300_000),
                ("scaling_governor", "schedutil"),
            ):
                (folder / name).write_text(f"{value}\n")
        zones = {"cpu-1-0": 45_000, "battery": 310, "gpu": 41, "off": -40_000, "none": "x"}
        for i, (kind, temperature) in enumerate(zones.items()):
            zone = system / f"class/thermal/thermal_zone{i}"
            zone.mkdir(parents=True)
            (zone / "type").write_text(f"{kind}\n")
            (zone / "temp").write_text(f"{temperature}\n")
        hot = dataclasses.replace(
            registry.described(f"adb:{self.phone.serial}"), name="hot", cool_down_c=40.0
        )
        device = registry.connect(hot)
        device.cool_down_most_s = 0.3
        told = device.environment()
        assert told["cores"] == str(cores[0])
        assert (told["clock"], told["power_mode"]) == ("at most 2458 MHz", "schedutil")
        details = device.measure(tiny(), least_runs=1, least_s=0.0).details()
        assert details["before"]["temperature_c"] == {
            "thermal_zone0 cpu-1-0": 45.0,
            "thermal_zone1 battery": 31.0,
            "thermal_zone2 gpu": 41.0,
        }
        assert details["after"]["frequency_hz"][str(cores[0])] == 300e6
        assert details["cool_down"]["reached"] is False
        assert details["cool_down"]["waited_s"] >= 0.3
        (system / "class/thermal/thermal_zone0/temp").write_text("39000\n")
        (system / "class/thermal/thermal_zone2/temp").write_text("39\n")
        cooled = device.measure(tiny(), least_runs=1, least_s=0.0).details()["cool_down"]
        assert cooled["reached"] is True

    def test_the_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        name = f"adb:{self.phone.serial}"
        assert code_of(["devices", "check", name]) == 0
        assert "Pixel 2" in capsys.readouterr().out
        assert code_of(["doctor", "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)["connections"]
        assert [c["reachable"] for c in listed if c["connection"] == name] == [True]
        assert code_of(["devices", "add", name, "--name", "slow", "--cores", "0"]) == 0
        assert code_of(["measure", "mobilenetv2-0.5", "--device", "slow", "--seconds", "0"]) == 0
        assert code_of(["devices", "add", "cpu", "--name", "own", "--cores", "0"]) == 2
        assert "for phones and boards" in capsys.readouterr().err


def code_of(arguments: list[str]) -> int:
    """Run a command and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


class HangsError(DeviceLostError):
    """A run that never ends."""


def test_a_phone_that_does_not_trust_this_machine(tool: None, tmp_path: Path) -> None:
    phone = Phone(tmp_path)
    phone.trusted = False
    try:
        subprocess.run(["adb", "connect", phone.serial], check=True, capture_output=True)
        told = adb.missing(phone.serial)
        assert "unauthorized" in told or "offline" in told or "authorizing" in told
        assert "USB debugging" in told or "adb reconnect" in told
    finally:
        phone.close()
        subprocess.run(["adb", "disconnect", phone.serial], check=False, capture_output=True)


def become_arm64(
    phone: Phone, arm64: tuple[Path, Path], own_shelf: Path, cpu: str = "cortex-a76"
) -> None:
    """Have a phone run the runner for arm64, in an emulator."""
    runner, root = arm64
    (own_shelf / "runners" / "arm64-v8a").unlink()
    (own_shelf / "runners" / "arm64-v8a").symlink_to(runner)
    for path in runner.iterdir():  # sent in an earlier session
        shutil.copy(path, phone.folder)
    phone.emulate(root, cpu)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_outputs_are_those_of_onnxruntime(
    phone: Phone, arm64: tuple[Path, Path], own_shelf: Path, precision: str, tmp_path
) -> None:
    """On this machine, and as an arm64 machine, by adb from end to end."""
    model = onnx.load_model_from_string(tiny())
    data = tiny() if precision == "fp32" else quantized(tiny())
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    image = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    session = onnxruntime.InferenceSession(data)
    expected = np.concatenate([o.ravel() for o in session.run(None, {"images": image})])
    found = {}
    for machine in ("x86_64", "aarch64"):
        if machine == "aarch64":
            become_arm64(phone, arm64, own_shelf)
        transport = adb.AdbTransport(phone.serial)
        transport._in_place = True
        words = transport.runner()
        far = parse(transport.run([*words, "--environment"], 60.0).stdout, FarEnvironment)
        assert far.machine == machine
        transport.push(data, "run-model")
        transport.push(image.tobytes(), "run-inputs")
        request = Request("run-model", "run-answer", most_s=0.1, inputs="run-inputs",
                          outputs="run-outputs")  # fmt: skip
        assert transport.run([*words, *request.arguments()], 60.0).exit_code == 0
        assert parse(transport.pull("run-answer"), Answer).wall_s
        found[machine] = np.frombuffer(transport.pull("run-outputs"), np.float32)
    limit = 1e-4 if precision == "fp32" else 2e-2  # rounding may differ by a step
    for outputs in found.values():
        assert np.linalg.norm(outputs - expected) <= limit * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("cpu", "options"),
    [
        ("cortex-a76", {}),
        ("max", {}),  # with SME, for which onnxruntime has kernels of its own
        ("cortex-a76", {"precision": "int8"}),
        ("cortex-a76", {"optimization": "basic"}),
    ],
)
def test_arm64_executes_the_predicted_kernels(
    phone: Phone,
    arm64: tuple[Path, Path],
    own_shelf: Path,
    monkeypatch: pytest.MonkeyPatch,
    cpu: str,
    options: dict[str, str],
) -> None:
    monkeypatch.setattr(remote, "CALM_RUNS", 1)  # times of an emulator mean nothing
    monkeypatch.setattr(remote, "MOST_RUNS", 1)
    become_arm64(phone, arm64, own_shelf, cpu)
    spec = dataclasses.replace(registry.described(f"adb:{phone.serial}"), **options)
    device = registry.connect(spec)
    fusion = device.fusion()
    for name in ("mobile", "resnet"):
        space = spaces.load(name)
        architecture = space.decode(space.sample(np.random.default_rng(5)))
        graph = lower(architecture, (48, 48))
        timings, _ = device.profile(to_onnx(graph, filler(graph)).SerializeToString(), seconds=0.0)
        kernels = match(architecture, (48, 48), 1, fusion, timings)
        assert sorted(str(k) for k, _ in kernels) == sorted(map(str, fuse(graph, fusion)))

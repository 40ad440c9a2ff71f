"""Phones by the real `adb`, against an adbd on loopback that executes the runner."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import math
import os
import shutil
import socket
import subprocess
import sys
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
from device_contract import FarDeviceContract, small_samples, tiny

from hwnas.architecture import lower, spaces
from hwnas.cli import main
from hwnas.devices import registry
from hwnas.devices.contract import Device
from hwnas.devices.onnxruntime_cpu import OnnxRuntimeCpu
from hwnas.devices.onnxruntime_graph import quantized
from hwnas.devices.remote import adb, adb_tool, runners
from hwnas.devices.remote import device as remote
from hwnas.devices.remote.protocol import Answer, FarEnvironment, Request, parse
from hwnas.errors import DeviceLostError, DeviceUnavailableError, HwnasError, UsageError
from hwnas.lowering.fusing import fuse
from hwnas.lowering.onnx_writer import to_onnx
from hwnas.lowering.weights import filler
from hwnas.profiling import session
from hwnas.profiling.profile import match
from hwnas.store import shelf
from hwnas.workflows.profile import Plan, device_of

HERE = Path(__file__).parent
PARTS = os.environ.get("HWNAS_TEST_ONNXRUNTIME", "")
"""A folder with `headers` of onnxruntime and the library for arm64: `.ci/onnxruntime` fills it."""

LACKING = [tool for tool in ("adb", "gcc") if shutil.which(tool) is None]
if not PARTS:
    LACKING.append("$HWNAS_TEST_ONNXRUNTIME")
if LACKING and os.environ.get("CI") == "true":
    raise RuntimeError(f"the tests of phones need {', '.join(LACKING)}")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)}")

ARM64_CC = "aarch64-linux-gnu-gcc"
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
    lacking = [tool for tool in (ARM64_CC, "qemu-aarch64-static") if shutil.which(tool) is None]
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(f"the tests for arm64 need {', '.join(lacking)}")
    if lacking:
        pytest.skip(f"needs {', '.join(lacking)}")
    folder = tmp_path_factory.mktemp("arm64")
    with zipfile.ZipFile(folder / "onnxruntime.aar", "w") as package:
        for path in Path(PARTS, "headers").iterdir():
            package.write(path, f"headers/{path.name}")
        package.write(next(Path(PARTS, "lib").iterdir()), "jni/arm64-v8a/libonnxruntime.so")
    root = folder / "root"
    (root / "proc").mkdir(parents=True)
    (root / "lib").symlink_to("/usr/aarch64-linux-gnu/lib")
    (root / "proc" / "cpuinfo").write_text(CPUINFO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(folder))
        patch.setattr(runners, "FLAGS", (*runners.FLAGS, "-Werror"))
        runner = runners.build(folder / "onnxruntime.aar", cc=ARM64_CC)
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


class TestPhone(FarDeviceContract):
    @pytest.fixture(autouse=True)
    def plugged_in(self, phone: Phone) -> None:
        self.far = self.phone = phone

    def connect(self) -> Device:
        plug_in(self.phone)
        return registry.connect(registry.described(f"adb:{self.phone.serial}"))

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
        with (
            pytest.raises(KeyboardInterrupt if interrupted else DeviceLostError) as caught,
            self.phone.interrupts.expected(),
        ):
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

    def test_xnnpack_is_asked_for_with_its_threads(self, tmp_path: Path) -> None:
        self.phone.xnnpack = tmp_path / "asked-for"
        connection = f"adb:{self.phone.serial}/xnnpack"
        threads = min(2, len(os.sched_getaffinity(0)))
        spec = dataclasses.replace(registry.described(connection), threads=threads)
        device = registry.connect(spec)
        assert device.environment()["provider"] == "XnnpackExecutionProvider"
        kernels, measured = device.profile(tiny(), seconds=0.0)
        assert (kernels, measured.threads) == ([], threads)
        assert self.phone.xnnpack.read_text() == f"XNNPACK intra_op_num_threads={threads}"

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
    for name in ("resnet", "mobile") if not options else ("resnet",):
        space = spaces.load(name)
        architecture = space.decode(space.sample(np.random.default_rng(5)))
        graph = lower(architecture, (48, 48))
        timings, _ = device.profile(to_onnx(graph, filler(graph)).SerializeToString(), seconds=0.0)
        kernels = match(architecture, (48, 48), 1, fusion, timings)
        assert sorted(str(k) for k, _ in kernels) == sorted(map(str, fuse(graph, fusion)))


STAND_IN = """#!{python}
import json, sys
with open({log!r}, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1:] == ["devices"]:
    print("List of devices attached")
    print(open({list!r}).read())
else:
    sys.stderr.write({said!r})
    sys.exit(1)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return what puts an adb in place that lists what it is told, and fails at all else."""

    def put(listed: str, said: str = "") -> Path:
        program, log, names = (tmp_path / name for name in ("adb", "log", "list"))
        names.write_text(listed)
        program.write_text(
            STAND_IN.format(python=sys.executable, log=str(log), list=str(names), said=said)
        )
        program.chmod(0o755)
        monkeypatch.setenv("ADB", str(program))
        monkeypatch.delenv("ANDROID_SERIAL", raising=False)
        return log

    return put


@pytest.mark.parametrize(
    ("listed", "connection", "message"),
    [
        ("", "adb", "no phone is connected: switch on USB debugging.*docs/android.md"),
        ("A1\tunauthorized", "adb:A1", "'A1' is unauthorized: .*unlock it and allow USB debugging"),
        ("A1\toffline", "adb:A1", "'A1' is offline: .*adb reconnect offline"),
        ("A1\tno permissions (user in plugdev?); see [x]", "adb", "is no permissions.*usermod -aG"),
        ("A1\tbootloader", "adb:A1", "fastboot reboot"),
        ("A1\trescue", "adb:A1", "adb calls its state 'rescue'"),
        ("A1\tdevice\nB2\tdevice", "adb", "several phones.*adb:A1, adb:B2"),
        ("A1234567\tdevice", "adb:A1234576", r"no phone 'A1234576'.*Did you mean 'A1234567'\?"),
        ("A1\tdevice", "adb:A1", r"the phone 'A1' went away: device 'A1' not found\. When"),
    ],
)
def test_why_a_phone_cannot_be_used(
    stand_in: Callable[..., Path], listed: str, connection: str, message: str
) -> None:
    stand_in(listed, "error: device 'A1' not found")
    with pytest.raises(DeviceUnavailableError, match=message) as caught:
        registry.connect(registry.described(connection))
    assert caught.value.exit_code == 4


def test_a_machine_without_adb(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceUnavailableError, match=r"names '.*no-adb'.*apt install adb.*brew"):
        registry.connect(registry.described("adb"))
    monkeypatch.delenv("ADB")
    monkeypatch.setenv("PATH", "")
    assert "adb is not on the path: 'apt install adb'" in adb.missing("")
    assert adb.connections() == ["adb"]


def test_serial_numbers_are_words(
    stand_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    evil = "-s $(touch evil) `touch evil`; touch evil '\" && touch evil|x/../\\"
    log = stand_in(f"{evil}\tdevice\nA\x1b[2J\tdevice", "error: closed")
    assert adb.connections() == [f"adb:{evil}/cpu"]
    told = adb.missing(evil + "/cpu")
    assert "went away: closed" in told
    assert json.loads(log.read_text().splitlines()[-1])[:3] == ["-s", evil, "shell"]
    assert not (tmp_path / "evil").exists()
    spec = registry.described(f"adb:{evil}/cpu")
    assert spec.name == shelf.check_name(spec.name)
    assert "\x1b" not in adb.missing("A\x1b[2J")


def test_a_phone_may_take_the_name_of_one_that_is_only_predicted() -> None:
    plan = Plan("adb:A1", name="pixel2-cpu-fp32", threads=64)  # more than this machine has
    assert device_of(plan).connection == "adb:A1"
    with pytest.raises(UsageError, match="'cpu' is known as 'cpu'; give another --name"):
        device_of(Plan("adb:A1", name="cpu"))


def test_a_serial_number_from_the_environment(
    stand_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in("A1\tdevice\nB2\tdevice")
    monkeypatch.setenv("ANDROID_SERIAL", "B2")
    assert adb_tool.chosen("").serial == "B2"
    assert adb_tool.chosen("A1").serial == "A1"
    with pytest.raises(UsageError, match="no provider of cpu, xnnpack"):
        registry.described("adb:A1/nnapi")


def test_a_phone_without_a_runner(phone: Phone, own_shelf: Path) -> None:
    (own_shelf / "runners" / "arm64-v8a").unlink()
    told = adb.missing(phone.serial)
    assert "no runner for arm64-v8a" in told
    assert "hwnas devices runner onnxruntime-android-VERSION.aar --abi arm64-v8a" in told


def test_what_a_runner_is_built_from(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_shelf: Path
) -> None:
    for name in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT", "ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "no.aar").write_bytes(b"no archive")
    with pytest.raises(UsageError, match=r"no\.aar is no package of onnxruntime"):
        runners.build(tmp_path / "no.aar", cc="gcc")
    with pytest.raises(UsageError, match=r"holds no onnxruntime_c_api\.h"):
        runners.build(tmp_path, cc="gcc")
    (tmp_path / "headers").symlink_to(package / "include")
    with pytest.raises(UsageError, match=r"no libonnxruntime\.so for arm64-v8a"):
        runners.build(tmp_path, cc="gcc")
    with pytest.raises(DeviceUnavailableError, match=r"ANDROID_NDK_HOME.*--ndk FOLDER"):
        runners.build(package)
    with pytest.raises(DeviceUnavailableError, match="holds no toolchains"):
        runners.build(package, ndk=tmp_path)
    with pytest.raises(UsageError, match=r"--abi is 'arm9'.*arm64-v8a"):
        runners.build(package, "arm9")
    with pytest.raises(DeviceUnavailableError, match="'no-cc', which is no program"):
        runners.build(package, cc="no-cc")
    monkeypatch.setattr(runners, "FLAGS", ("-include", "no.h"))
    with pytest.raises(HwnasError, match=r"does not compile: .*no\.h: No such file"):
        runners.build(package, cc="gcc")
    assert not (own_shelf / "runners" / "arm64-v8a").exists()
    # An NDK names its compilers like this; the one here compiles for this machine.
    monkeypatch.undo()
    monkeypatch.setenv("HWNAS_HOME", str(own_shelf))
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))
    bin = tmp_path / "ndk" / "27.0" / "toolchains/llvm/prebuilt/linux-x86_64/bin"
    bin.mkdir(parents=True)
    (bin / "x86_64-linux-android24-clang").symlink_to(shutil.which("gcc") or "")
    assert code_of(["devices", "runner", str(package), "--abi", "x86_64"]) == 0
    made = own_shelf / "runners" / "x86_64"
    assert {path.name for path in made.iterdir()} == {"hwnas-runner", "libonnxruntime.so.1"}
    told = subprocess.run(
        [made / "hwnas-runner", "--environment"],
        env={"LD_LIBRARY_PATH": str(made)},
        capture_output=True,
        check=True,
    ).stdout
    assert parse(told, FarEnvironment).runtime == f"onnxruntime {onnxruntime.__version__}"


def test_options_that_the_runner_does_not_take(built: Path, tmp_path: Path) -> None:
    def answer(*words: str) -> tuple[int, Answer]:
        done = subprocess.run(
            [built / "hwnas-runner", "--model", "m", "--out", 'a"\n.json', *words],
            cwd=tmp_path,
            env={"LD_LIBRARY_PATH": str(built)},
            capture_output=True,
        )
        return done.returncode, parse((tmp_path / 'a"\n.json').read_bytes(), Answer)

    (tmp_path / "m").write_bytes(b'no model\x80"\\')
    for words, code, kind, message in (
        (("--thread", "1"), 2, "usage", "no option --thread"),
        (("--threads",), 2, "usage", "--threads needs a value"),
        (("--threads", "0"), 2, "usage", "--threads is '0'"),
        (("--threads", "nan"), 2, "usage", "--threads is 'nan'"),
        (("--cores", "1-"), 2, "usage", "--cores is '1-'"),
        (("--cores", "4,"), 2, "usage", "--cores is '4,'"),
        (("--provider", 'x"\n\x1b\\'), 2, "usage", "--provider is 'x\"\n\x1b\\'"),
        (("--cores", "1023"), 1, "run", "does not let it run on the cores 1023"),
        ((), 1, "load", "Protobuf parsing failed"),
        (("--inputs", "none"), 1, "load", ""),
    ):
        found, told = answer(*words)
        assert told.error is not None
        assert (found, told.error.kind) == (code, kind)
        assert message in told.error.message
    assert {path.name for path in tmp_path.iterdir()} == {"m", "lock", 'a"\n.json'}


def test_a_profile_goes_on_where_the_cable_was_pulled(
    phone: Phone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "SENTINEL", "mobilenetv2-0.5")
    monkeypatch.setattr(session, "DRIFT", math.inf)
    monkeypatch.setattr(session, "VISITS", 1)
    monkeypatch.setattr(
        "hwnas.workflows.profile.drawn", lambda seed, device, whole: small_samples()
    )
    journal = shelf.user_shelf("profiles") / "mine.journal"

    def hook() -> None:
        if journal.exists() and journal.read_text().count('"network"') == 2:
            phone.hook = None
            raise DeviceLostError("the cable is pulled")

    phone.hook = hook
    words = ["profile", "--device", f"adb:{phone.serial}", "--networks", "8", "--name", "mine"]
    assert code_of(words) == 4
    assert "went away" in (told := capsys.readouterr().err) and "--resume" in told
    kept = journal.read_text().count('"network"')
    assert kept >= 1
    plug_in(phone)
    assert code_of([*words, "--resume"]) == 0
    assert "8 networks" in capsys.readouterr().out
    assert code_of(["search", "--device", "mine", "--budget", "latency=50ms"]) == 0

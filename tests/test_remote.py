"""What is asked of a far end, and what is made of its answers, whoever writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from hwnas.devices.registry import described
from hwnas.devices.remote import answers
from hwnas.devices.remote import device as remote
from hwnas.devices.remote.device import RemoteDevice
from hwnas.devices.remote.protocol import Answer, Request, parse, printable
from hwnas.devices.remote.settings import changed
from hwnas.devices.remote.transport import Result
from hwnas.errors import DeviceLostError, DeviceUnavailableError, HwnasError, UsageError

FAR = {
    "schema": "hwnas.runner/1",
    "runtime": "onnxruntime 1.32.0",
    "machine": "aarch64",
    "system": "Linux 5.10",
    "cpu": "",
    "providers": ["CPUExecutionProvider"],
    "cores": [
        {"index": i, "most_hz": 1.8e9 if i < 4 else 2.4e9, "limit_hz": 1.8e9, "governor": "walt"}
        for i in range(8)
    ],
}
TIMES = {
    "schema": "hwnas.runner/1",
    "wall_s": [0.03, 0.02, 0.021],
    "cpu_s": [0.02, 0.02, 0.021],
    "preempted": [1, 0, 0],
}


class Folder:
    """A transport to a folder in memory, behind which a runner answers as it is told."""

    resource = "far"

    def __init__(self, answer: object = TIMES, far: object = FAR) -> None:
        self.answer, self.far = answer, far
        self.files: dict[str, bytes] = {}
        self.commands: list[list[str]] = []
        self.result = Result(0, b"", b"")
        self.lost = False

    def runner(self) -> list[str]:
        return ["./runner"]

    def about(self) -> dict[str, str]:
        return {"phone": "One"}

    def push(self, data: bytes, name: str) -> None:
        self.files[name] = data

    def pull(self, name: str) -> bytes:
        if name not in self.files:
            raise FileNotFoundError(name)
        return self.files[name]

    def run(self, command: Sequence[str], timeout_s: float) -> Result:
        self.commands.append(list(command))
        if command[-1] == "--environment":
            return Result(0, json.dumps(self.far).encode(), b"")
        if self.lost:
            raise DeviceLostError("gone")
        options = dict(zip(command[1::2], command[2::2], strict=True))
        self.options = options
        assert self.files[options["--model"]] == b"model"
        if self.answer is not None:
            self.files[options["--out"]] = json.dumps(self.answer).encode()
        return self.result

    def remove(self, prefix: str) -> None:
        if self.lost:
            raise DeviceLostError("gone")
        self.files = {
            name: data for name, data in self.files.items() if not name.startswith(prefix)
        }


def test_a_model_is_sent_timed_and_removed() -> None:
    folder = Folder()
    measured = RemoteDevice(folder).measure(b"model", least_runs=4, least_s=0.5, most_s=7.0)
    assert measured.wall_samples_s == (0.03, 0.02, 0.021)
    assert measured.calm == (False, True, True)
    assert folder.options["--calm-runs"] == "4"
    assert folder.options["--most-runs"] == "12"
    assert (folder.options["--least-s"], folder.options["--most-s"]) == ("0.5", "7")
    assert folder.options["--cores"] == "7"  # one of the fast ones
    assert not folder.files


def test_several_threads_get_the_fastest_cores_and_are_calm_where_not_preempted() -> None:
    folder = Folder({**TIMES, "cpu_s": [0.01] * 3})
    device = RemoteDevice(folder, threads=5)
    assert device.measure(b"model").calm == (False, True, True)
    assert folder.options["--cores"] == "3,4,5,6,7"
    with pytest.raises(UsageError, match=r"--threads is 9.*are 8 cores"):
        RemoteDevice(folder, threads=9).environment()
    with pytest.raises(UsageError, match="numbers and ranges"):
        RemoteDevice(folder, cores="4-7;reboot")


def test_the_environment_names_cores_clock_and_governor() -> None:
    told = RemoteDevice(Folder(), cores="0-3").environment()
    assert told["cores"] == "0-3"
    assert told["clock"] == "at most 1800 MHz"
    assert (told["power_mode"], told["driver"], told["phone"]) == ("walt", "none", "One")


def test_a_provider_that_is_not_there() -> None:
    with pytest.raises(DeviceUnavailableError, match=r"has no Xnn.*only CPUExecution"):
        RemoteDevice(Folder(), provider="xnnpack").measure(b"model")


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("memory", HwnasError, "out of memory.*lower resolution"),
        ("run", HwnasError, "does not run the model: it hurts"),
        ("load", HwnasError, "does not load the model: it hurts"),
        ("busy", DeviceUnavailableError, "another client.*Wait"),
        ("provider", DeviceUnavailableError, "could not start.*it hurts"),
        ("usage", HwnasError, "build it again"),
    ],
)
def test_why_there_are_no_times(kind: str, error: type[HwnasError], message: str) -> None:
    answer = {"schema": "hwnas.runner/1", "error": {"kind": kind, "message": "it\x1b[2J\nhurts"}}
    folder = Folder(answer)
    with pytest.raises(error, match=message.replace("it hurts", r"it \[2J hurts")) as caught:
        RemoteDevice(folder).measure(b"model")
    assert "\x1b" not in str(caught.value)
    assert not folder.files


def test_a_runner_that_ends_without_an_answer() -> None:
    folder = Folder(None)
    folder.result = Result(127, b"", b"CANNOT LINK\x1b]0; EXECUTABLE\n")
    with pytest.raises(HwnasError, match=r"exit code 127.*CANNOT LINK \]0; EXECUTABLE$"):
        RemoteDevice(folder).measure(b"model")
    folder.result = Result(137, b"", b"")
    with pytest.raises(HwnasError, match="out of memory"):
        RemoteDevice(folder).measure(b"model")


def test_a_lost_device_is_what_is_said() -> None:
    folder = Folder()
    folder.lost = True
    device = RemoteDevice(folder)
    with pytest.raises(DeviceLostError, match="gone"):
        device.measure(b"model")
    folder.lost = False
    assert device.measure(b"model").wall_s == 0.021


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"schema": "hwnas.runner/2"},
        {**TIMES, "wall_s": ["$(reboot)"]},
        {**TIMES, "wall_s": []},
        {**TIMES, "wall_s": [0.0, 0.02, 0.02]},
        {**TIMES, "cpu_s": [0.02]},
        {**TIMES, "before": {"temperature_c": {"zone": "hot\x1b[2J"}}},
    ],
)
def test_an_answer_of_another_kind_is_refused(answer: object) -> None:
    with pytest.raises(HwnasError, match="answer cannot be used") as caught:
        RemoteDevice(Folder(answer)).measure(b"model")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", [None, "/etc/passwd", "../run-x", "run-1-profile; reboot"])
def test_only_profiles_of_ones_own_are_pulled(name: object) -> None:
    with pytest.raises(HwnasError, match="names the profile"):
        RemoteDevice(Folder({**TIMES, "profile": name})).profile(b"model")


def test_options_are_words_and_empty_ones_are_left_out() -> None:
    arguments = Request("m.onnx", "o.json", least_s=1e-7).arguments()
    assert arguments[:4] == ["--model", "m.onnx", "--out", "o.json"]
    assert "--profile" not in arguments
    assert arguments[arguments.index("--least-s") + 1] == "1e-07"


def test_names_and_messages_are_made_safe() -> None:
    assert remote.file_name("adb-192.168.1.5:5555") == "adb-192.168.1.5-5555"
    assert remote.file_name("../$(rm -rf /)\n") == "rm-rf"
    assert printable("a\x1b[31m\r\n\tb\x7f\u202ec") == "a [31m b c"
    with pytest.raises(HwnasError, match="cannot be used"):
        parse(b"\xff{", Answer)


@pytest.mark.parametrize(
    "change",
    [
        {"dur": -1},
        {"dur": "1"},
        {"args": {}},
        {"args": {"op_name": "Conv\x1b[2J", "output_type_shape": []}},
        {"args": {"op_name": ["Conv"], "output_type_shape": []}},
        {"args": {"op_name": "Conv", "output_type_shape": [{"float": ["$(reboot)"]}]}},
        {"name": 5},
    ],
)
def test_a_profile_of_another_kind_is_refused(change: dict[str, object]) -> None:
    event = {
        "cat": "Node",
        "name": "c1_kernel_time",
        "dur": 5,
        "args": {"op_name": "Conv", "output_type_shape": [{"float": [1, 8]}]},
    }
    (kernel,) = answers.kernels(json.dumps([event, event]).encode())
    assert kernel.samples_s == (5e-6,)
    for events in ([{**event, **change}] * 2, [event]):
        with pytest.raises(HwnasError, match="profile is not onnxruntime's"):
            answers.kernels(json.dumps(events).encode())


@pytest.mark.parametrize(
    ("connection", "cores", "cool_down_c", "message"),
    [
        ("cpu", "0", None, "for phones and boards"),
        ("cpu", None, 45.0, "for phones and boards"),
        ("ssh://pi", "0-", None, "the cores are '0-'.*fastest"),
        ("ssh://pi", "", None, "--cores is empty"),
        ("ssh://pi", None, -1.0, "--cool-down is -1"),
        ("ssh://pi", None, float("nan"), "--cool-down is nan"),
        ("ssh://pi", None, float("inf"), "--cool-down is inf"),
    ],
)
def test_settings_that_make_no_sense(
    connection: str, cores: str | None, cool_down_c: float | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        changed(described(connection), cores, cool_down_c)

"""Remote boards: the real ssh against a real sshd on loopback, which runs the Python runner."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from device_contract import FarDeviceContract, tiny
from ssh_board import Board, command_lines, missing
from test_android import LACKING
from test_android import package as release  # noqa: F401 (a fixture)

from hwnas.cli import main
from hwnas.devices import spec
from hwnas.devices.contract import Device
from hwnas.devices.onnxruntime_cpu import OnnxRuntimeCpu
from hwnas.devices.registry import check, connect, described
from hwnas.devices.remote import runners, ssh
from hwnas.devices.remote.device import RemoteDevice
from hwnas.devices.remote.ssh import SshTransport
from hwnas.devices.remote.ssh_place import Place, parse
from hwnas.devices.remote.transport import Result
from hwnas.errors import DeviceLostError, DeviceUnavailableError, HwnasError, UsageError
from hwnas.workflows.devices import doctor
from hwnas.workflows.profile import Plan, device_of


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A board for all tests of a module, or none where there is no sshd."""
    if reason := missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with contextlib.closing(Board(tmp_path_factory.mktemp("board"))) as found:
        yield found


@pytest.fixture
def board(running: Board, monkeypatch: pytest.MonkeyPatch) -> Board:
    """A board as it was set up, which ssh reaches."""
    monkeypatch.setenv("PATH", f"{running.folder / 'bin'}:{os.environ['PATH']}")
    running.reset()
    ssh._transport.cache_clear()  # no test goes on with the connection of the one before
    return running


class TestBoard(FarDeviceContract):
    @pytest.fixture(autouse=True)
    def reach(self, board: Board) -> None:
        self.far = board

    def connect(self) -> Device:
        return connect(described(self.far.connection))


def test_an_interruption_that_comes_too_late_ends_nothing(board: Board) -> None:
    over = threading.Event()

    def hook() -> None:
        board.cut()
        over.wait(60)
        raise KeyboardInterrupt

    device = connect(described(board.connection))
    board.hook = hook
    with pytest.raises(DeviceLostError), board.interrupts.expected():
        device.measure(tiny(), least_s=0.0)
    board.hook = None
    over.set()
    assert device.measure(tiny(), least_runs=1, least_s=0.0).least_s > 0


@pytest.fixture
def transport(board: Board) -> SshTransport:
    return SshTransport(parse(board.connection.removeprefix("ssh:")))


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    return int(exit_.value.code or 0)


def unreachable(connection: str) -> str:
    """Return why a board cannot be reached."""
    with pytest.raises(DeviceUnavailableError) as caught:
        connect(described(connection))
    assert caught.value.exit_code == 4
    text = str(caught.value)
    assert text.isprintable() and text.startswith(f"'{connection}' cannot be reached: ")
    return text


def gone(pid: int) -> bool:
    """Whether a process ends within some seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not Path(f"/proc/{pid}").exists() or process_state(pid) == "Z":
            return True
        time.sleep(0.02)
    return False


def process_state(pid: int) -> str:
    return told_of(pid)[0]


def told_of(pid: int) -> list[str]:
    """Return what the system tells of a process: its state, its parent ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@pytest.mark.parametrize(
    ("argument", "place", "arguments"),
    [
        ("//pi", Place("pi"), ["--", "pi"]),
        ("//pi@board.local", Place("board.local", "pi"), ["--", "pi@board.local"]),
        ("//pi@10.0.0.7:2222", Place("10.0.0.7", "pi", 2222), ["-p", "2222", "--", "pi@10.0.0.7"]),
        ("//[fe80::1%eth0]:22", Place("fe80::1%eth0", "", 22), ["-p", "22", "--", "fe80::1%eth0"]),
    ],
)
def test_places(argument: str, place: Place, arguments: list[str]) -> None:
    assert parse(argument) == place
    assert place.arguments == arguments
    assert str(place) == f"ssh:{argument}"


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "//",
        "pi@board",
        "//-oProxyCommand=touch x",
        "//-oProxyCommand=x",
        "//pi@-oProxyCommand=x",
        "//-l@board",
        "//pi@board:0",
        "//pi@board:65536",
        "//pi@board:-1",
        "//pi@board/etc",
        "//pi board",
        "//pi@board\n",
        "//pi@board;reboot",
        "//$(reboot)@board",
        "//pi@[::1",
        "//pi@b\x1b[2Jard",
    ],
)
def test_what_is_no_place_never_reaches_ssh(
    argument: str, board: Board, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a process was started"))
    assert exit_code("measure", "mobilenetv2-0.5", "--device", f"ssh:{argument}") == 2
    said = capsys.readouterr().err.rstrip("\n")
    assert "write ssh://[USER@]HOST[:PORT]" in said and said.isprintable()


def test_a_board_has_a_name_for_the_shelf() -> None:
    device = described("ssh://pi@raspberrypi.local")
    assert device.name == "ssh-pi-raspberrypi.local"
    assert (device.resolution, device.batch, device.space) == ((224, 224), 1, "resnet")


def test_words_arrive_as_they_are(transport: SshTransport, board: Board) -> None:
    words = ["$(touch here)", "a'b\"c", "", "two\nlines", "-n", "*", "`touch there`", "ä\x1b[2J"]
    result = transport.run(["printf", "%s\\0", *words], 30)
    assert result.stdout.decode().split("\0")[:-1] == words
    assert not list(board.cache.glob("*here"))
    assert transport.run(["sh", "-c", "echo out; echo err >&2; exit 7"], 30) == Result(
        7, b"out\n", b"err\n"
    )
    assert transport.run(["sh", "-c", "kill -9 $$"], 30).exit_code == 128 + 9


def test_files_come_back_as_they_went(transport: SshTransport, board: Board) -> None:
    data = os.urandom(3_000_000)
    transport.push(data, "some-file")
    transport.push(b"", "some-empty")
    assert transport.pull("some-file") == data
    assert transport.pull("some-empty") == b""
    assert (board.cache.stat().st_mode & 0o777) == 0o700
    transport.push(b"other", "other")
    for name in ("run-old", "part-old", "run-new"):
        transport.push(b"left behind", name)
        if "old" in name:
            os.utime(board.cache / name, (0, 0))
    transport.remove("some-")
    with pytest.raises(FileNotFoundError):
        transport.pull("some-file")
    assert transport.pull("other") == b"other"
    SshTransport(transport._place).run(["true"], 30)
    left = {path.name for path in board.cache.iterdir() if path.name.endswith(("old", "new"))}
    assert left == {"run-new"}
    transport.remove("run-new")


def test_what_a_login_prints_is_no_answer(board: Board, transport: SshTransport) -> None:
    (board.home / ".bashrc").write_text("echo hello; printf '\\033[2J'; echo warning >&2\n")
    try:
        transport.push(b"data", "file")
        assert transport.pull("file") == b"data"
        assert transport.run(["echo", "word"], 30).stdout == b"word\n"
    finally:
        (board.home / ".bashrc").unlink()


def test_a_command_ends_with_the_time_it_has(transport: SshTransport, board: Board) -> None:
    with pytest.raises(DeviceLostError, match="did not answer within 2 s"):
        transport.run(["sh", "-c", "echo $$ >pid; exec sleep 600"], 2.0)
    assert gone(int(transport.pull("pid")))
    assert transport.run(["echo", "again"], 30).stdout == b"again\n"


def test_a_command_ends_with_the_connection(transport: SshTransport, board: Board) -> None:
    def pull_the_plug() -> None:
        while not (board.cache / "cut-pid").exists():
            time.sleep(0.01)
        board.cut()

    thread = threading.Thread(target=pull_the_plug)
    thread.start()
    with pytest.raises(DeviceLostError, match=r"the connection .* broke.*--resume"):
        transport.run(["sh", "-c", "echo $$ >cut-pid; exec sleep 600"], 60)
    thread.join()
    assert gone(int(transport.pull("cut-pid")))  # over a new connection


def test_a_command_ends_with_hwnas_however_that_ends(board: Board, tmp_path: Path) -> None:
    code = (
        "import sys; from hwnas.devices.remote.ssh import *\n"
        "transport = SshTransport(parse(sys.argv[1]))\n"
        "transport.run(['sh', '-c', 'echo $$ >own-pid; exec sleep 600'], 600)\n"
    )
    place = board.connection.removeprefix("ssh:")
    with subprocess.Popen([sys.executable, "-c", code, place]) as hwnas:
        deadline = time.monotonic() + 30
        while not (board.cache / "own-pid").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        clients = [
            pid
            for pid, line in command_lines()
            if "-oControlMaster" in line and int(told_of(pid)[1]) == hwnas.pid
        ]
        hwnas.kill()
    assert gone(int((board.cache / "own-pid").read_text()))
    assert clients and all(gone(pid) for pid in clients)


def test_an_ended_command_leaves_no_files(board: Board, own_shelf: Path, tmp_path: Path) -> None:
    words = ["profile", "--device", board.connection, "--name", "pi", "--minutes", "5"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-m", "hwnas", *words], env=environment) as hwnas:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("hwnas-*/s")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(tmp_path.glob("hwnas-*/s"))
        hwnas.terminate()
        assert hwnas.wait(30) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_the_connection_ends_with_the_transport(transport: SshTransport, board: Board) -> None:
    transport.run(["true"], 30)
    socket = f"{transport._open._ssh[2]}"  # type: ignore[union-attr]
    clients = [pid for pid, line in command_lines() if socket in line]
    assert len(clients) == 1 and Path(socket).exists()
    del transport._open
    assert gone(clients[0]) and not Path(socket).parent.exists()


def test_a_host_key_is_never_accepted_unseen(board: Board) -> None:
    board.know("")
    assert "its host key is not known yet: run 'ssh -p" in unreachable(board.connection)
    assert (board.folder / "known_hosts").read_text() == ""
    board.know("other_key")
    told = unreachable(board.connection)
    assert "another one than before" in told and "ssh-keygen -R" in told
    assert "(Host key verification failed)" in told


def test_a_board_that_wants_a_password(board: Board, capsys) -> None:
    (board.folder / "authorized_keys").write_text("")
    board.restart("PasswordAuthentication yes")
    told = unreachable(board.connection)
    assert "ssh-copy-id -p" in told and "Permission denied" in told
    assert exit_code("devices", "check", board.connection) == 4
    assert "ssh-copy-id" in capsys.readouterr().err


def test_a_board_that_is_not_there(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board.stop()
    assert "Connection refused" in unreachable(board.connection)
    assert "no host of that name" in unreachable("ssh://nowhere.invalid")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "apt install openssh-client" in unreachable(board.connection)
    told = {program["name"]: program for program in doctor()["programs"]}
    assert told["ssh"]["path"] == "" and "openssh-client" in told["ssh"]["mend"]


def test_a_board_without_onnxruntime(board: Board) -> None:
    python = board.home / ".hwnas" / "bin" / "python"
    python.write_text("#!/bin/sh\necho \"No module named 'onnxruntime'\" >&2\nexit 1\n")
    told = unreachable(board.connection)
    assert "(No module named 'onnxruntime')" in told
    assert "-m venv ~/.hwnas && ~/.hwnas/bin/pip install onnxruntime" in told


def test_the_python_of_a_board_without_a_venv(board: Board, tmp_path: Path) -> None:
    python = board.home / ".hwnas" / "bin" / "python"
    for name in ("python3", "nothing"):
        (tmp_path / name).mkdir()
    python.rename(tmp_path / "python3" / "python3")
    for name in ("sh", "cat", "mkdir", "uname", "wc", "mv", "rm"):
        for folder in ("python3", "nothing"):
            (tmp_path / folder / name).symlink_to(shutil.which(name) or "")
    board.restart(PATH=str(tmp_path / "python3"))
    device = connect(described(board.connection))
    assert device.environment()["runtime"].startswith("onnxruntime")
    board.restart(PATH=str(tmp_path / "nothing"))
    assert "it has no python3: ssh -p" in unreachable(board.connection)


def test_a_full_disk(
    board: Board, transport: SshTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport.run(["ln", "-s", "/dev/full", "part-full"], 30)
    with monkeypatch.context() as patch:
        patch.setattr(secrets, "token_hex", lambda size: "full")
        with pytest.raises(DeviceUnavailableError, match=r"does not store.*No space left") as e:
            transport.push(bytes(1_000_000), "full")
    assert e.value.exit_code == 4 and "df -h" in str(e.value)
    assert not list(board.cache.glob("*full"))
    shutil.rmtree(board.cache)
    board.cache.write_text("in the way")
    try:
        board.cut()
        assert "cannot be put into its ~/.cache/hwnas" in unreachable(board.connection)
    finally:
        board.cache.unlink()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo This account is not available.; exit 1", "This account is not available"),
        ("printf '\\033]0;owned\\007\\033[2J\\n' >&2; exit 3", r"\]0;owned \[2J"),
        ("exit 0", "Authorized use only"),
        ("printf '%s\\n' \"$SSH_ORIGINAL_COMMAND\"", "cannot be used|cannot be reached"),
    ],
)
def test_a_login_that_runs_no_scripts(board: Board, command: str, message: str) -> None:
    (board.folder / "banner").write_text("Authorized use only.\n")
    board.restart(f"Banner {board.folder}/banner", f"ForceCommand {command}")
    assert re.search(message, unreachable(board.connection))


def test_a_far_end_that_never_stops_talking(board: Board, capsys) -> None:
    board.restart("ForceCommand yes")
    assert exit_code("measure", "mobilenetv2-0.5", "--device", board.connection) == 1
    assert "answers more than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("\\033]0;owned\\007{", "answer cannot be used"),
        ('{"schema": "hwnas.runner/9"}', "answer cannot be used"),
        ("[" * 5000, "answer cannot be used"),
    ],
)
def test_a_runner_that_talks_nonsense(board: Board, answer: str, message: str) -> None:
    python = board.home / ".hwnas" / "bin" / "python"
    (board.home / "answer").write_text(answer)
    python.write_text('#!/bin/sh\n[ "$1" = -c ] || printf "$(cat ~/answer)"\n')
    with pytest.raises(HwnasError, match=message) as caught:
        connect(described(board.connection)).environment()
    assert str(caught.value).isprintable()


def test_a_client_of_another_host_is_waited_for(board: Board) -> None:
    device = connect(described(board.connection))
    with (board.cache / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DeviceUnavailableError, match=r"another client.*Wait"):
            device.measure(tiny(), least_s=0.0)
    assert device.measure(tiny(), least_s=0.0).wall_s > 0
    assert {path.name.partition("-")[0] for path in board.cache.iterdir()} == {"lock", "runner"}


def test_a_board_is_added_with_cores_that_it_has(
    board: Board, own_shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in (["--cores", "999"], ["--threads", "999"]):
        with pytest.raises(SystemExit) as ended:
            main(["devices", "add", board.connection, *options])
        assert ended.value.code == 2
        assert f"{options[0]} is" in capsys.readouterr().err
    assert not (own_shelf / "devices").exists()


def test_what_a_board_was_told_is_kept_and_can_be_undone(board: Board, own_shelf: Path) -> None:
    core = str(min(os.sched_getaffinity(0)))

    def told(*options: str) -> tuple[str, float]:
        assert exit_code("devices", "add", *options) == 0
        device = spec.load("pi")
        return device.cores, device.cool_down_c

    options = ("--cores", core, "--cool-down", "60")
    assert told(board.connection, "--name", "pi", *options) == (core, 60.0)
    assert told("pi") == (core, 60.0)
    assert told("pi", "--cool-down", "0") == (core, 0.0)
    assert told("pi", "--cores", "fastest") == ("", 0.0)


def test_int8_and_threads(board: Board) -> None:
    device = replace(described(board.connection), precision="int8", threads=2)
    int8 = connect(device)
    timings, measured = int8.profile(tiny())
    assert "QLinearConv" in {timing.op for timing in timings}
    assert measured.threads == 2
    assert (int8.environment()["precision"], int8.fusion().rules) == ("int8", "onnxruntime-int8")
    with pytest.raises(UsageError, match="runs fp32, int8, not fp16"):
        connect(replace(device, precision="fp16"))
    many = device_of(Plan(board.connection, threads=4096))  # more than this machine has
    with pytest.raises(UsageError, match="--threads is 4096"):
        connect(many).environment()


@pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)}")
def test_a_board_runs_the_runner_in_c_where_there_is_one(
    board: Board, transport: SshTransport, request: pytest.FixtureRequest
) -> None:
    abi = f"linux-{os.uname().machine}"
    runners.build(request.getfixturevalue("release"), abi, cc="gcc")
    (board.home / ".hwnas" / "bin" / "python").unlink()  # none is needed
    device = RemoteDevice(transport)
    assert device.environment()["runner"] == "C"
    timings, measured = device.profile(tiny(), seconds=0.0)
    assert timings and measured.wall_s > 0
    assert device.fusion() == OnnxRuntimeCpu().fusion()
    sent = board.cache / "hwnas-runner"
    before = sent.stat().st_mtime_ns
    assert SshTransport(transport._place).runner()[-1] == "./hwnas-runner"
    assert sent.stat().st_mtime_ns == before  # it is there already
    sent.write_bytes(b"another version")
    assert RemoteDevice(SshTransport(transport._place)).environment()["runner"] == "C"
    for path in board.cache.glob("*onnxruntime*"):
        path.unlink()


def test_from_a_board_to_a_search(board: Board, capsys, own_shelf: Path, tmp_path: Path) -> None:
    def told(*arguments: str) -> dict[str, Any]:
        code = exit_code(*arguments, "--json")
        said = capsys.readouterr()
        assert code == 0, said.err
        document: dict[str, Any] = json.loads(said.out)
        return document

    checked = told("devices", "check", board.connection)
    assert checked["kernels"] > 5
    assert checked["environment"]["runtime"].startswith("onnxruntime")
    small = replace(described(board.connection), name="pi", resolution=(96, 96), space="mobile")
    spec.save(small)
    profiled = told("profile", "--device", "pi", "--networks", "8")
    assert (profiled["networks"], profiled["device"]) == (8, "pi")
    run = str(tmp_path / "run")
    found = told("search", "--device", "pi", "--budget", "latency=5ms", "--out", run)
    assert 0 < found["costs"]["latency_s"]["pi"] <= 5e-3
    assert told("measure", run, "--device", "pi", "--seconds", "0.1")["latency_s"] > 0
    assert ssh.connections() == [board.connection]
    assert check(small).missing == ""
    board.stop()
    assert "Connection refused" in check(small).missing

"""The runner for boards with Python: it is started as a board starts it, apart from hwnas."""

from __future__ import annotations

import ast
import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
from device_contract import tiny
from onnx import TensorProto, helper

from hwnas.devices import onnxruntime_graph
from hwnas.devices.measurement import CONTENDED
from hwnas.devices.onnxruntime_cpu import import_onnxruntime
from hwnas.devices.remote import device as remote
from hwnas.devices.remote import runner
from hwnas.devices.remote.protocol import SCHEMA, Answer, FarEnvironment, Request, parse

SOURCE = Path(runner.__file__)


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """The folder of a runner, with a model."""
    shutil.copy(SOURCE, tmp_path / "runner.py")
    (tmp_path / "model.onnx").write_bytes(tiny())
    return tmp_path


def start(far: Path, request: Request, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "runner.py", *request.arguments()],
        cwd=far,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answered(far: Path, **options: object) -> tuple[int, Answer]:
    """Run a request and return exit code and answer."""
    named = {"model": "model.onnx", "out": "answer.json", "least_s": 0.0, **options}
    asked = Request(**named)  # type: ignore[arg-type]
    with start(far, asked) as process:
        _, errors = process.communicate(timeout=60)
    assert not errors
    return process.returncode, parse((far / "answer.json").read_bytes(), Answer)


def failed(far: Path, **options: object) -> tuple[str, str]:
    code, answer = answered(far, **options)
    assert answer.error is not None
    assert code == (2 if answer.error.kind == "usage" else 1)
    return answer.error.kind, answer.error.message


def test_it_imports_nothing_of_hwnas_and_runs_on_old_pythons() -> None:
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 8))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {
        name.partition(".")[0]
        for node in imports
        for name in (
            [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else [each.name for each in node.names]
        )
    }
    assert named - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


def test_it_takes_what_is_asked_and_says_what_hwnas_says() -> None:
    options = {action.dest for action in runner.parser()._actions}
    assert {field.name for field in fields(Request)} == options - {"help", "environment"}
    assert (runner.SCHEMA, runner.CONTENDED) == (SCHEMA, CONTENDED)
    assert {key: known.name for key, known in remote.PROVIDERS.items()} == runner.PROVIDERS


def test_a_model_is_timed_with_and_without_the_profiler(far: Path) -> None:
    code, answer = answered(far, calm_runs=4, most_runs=40, profile="own-profile")
    assert code == 0 and answer.error is None
    assert 4 <= len(answer.wall_s) == len(answer.cpu_s) == len(answer.preempted) <= 41
    assert answer.profile is not None and answer.profile.startswith("own-profile")
    timings = onnxruntime_graph.timings(json.loads((far / answer.profile).read_text()), skip=1)
    assert "Conv" in {timing.op for timing in timings}
    assert not (far / "answer.json.part").exists()


def test_it_runs_at_least_so_long_and_at_most(far: Path) -> None:
    _, answer = answered(far, calm_runs=1, most_runs=1, least_s=0.2)
    assert sum(answer.wall_s) > 0.02  # between the runs of so small a model it does other things
    _, answer = answered(far, calm_runs=10**9, most_runs=10**9, least_s=1e9, most_s=0.1)
    assert sum(answer.wall_s) < 0.5


def test_outputs_are_those_of_the_model(far: Path) -> None:
    session = import_onnxruntime().InferenceSession(tiny(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(5).standard_normal((1, 3, 64, 64), dtype=np.float32)
    expected = session.run(None, {session.get_inputs()[0].name: image})
    image.tofile(far / "in")
    code, _ = answered(far, inputs="in", outputs="out")
    assert code == 0
    assert np.array_equal(
        np.fromfile(far / "out", np.float32), np.concatenate([each.ravel() for each in expected])
    )
    (far / "in").write_bytes(b"1234")
    assert failed(far, inputs="in") == ("usage", "in is too short for the input 'images'")


def test_it_is_pinned_to_cores(far: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert runner.cores("0,4-7") == [0, 4, 5, 6, 7]
    core = max(os.sched_getaffinity(0))
    _, answer = answered(far, cores=str(core))
    assert answer.error is None
    assert failed(far, cores="9999")[0] == "run"
    pinned: list[list[int]] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: pinned.append(cores))
    monkeypatch.chdir(far)
    monkeypatch.setattr(signal, "signal", lambda *a: None)
    monkeypatch.setattr(runner, "__file__", str(far / "runner.py"))
    asked = Request("model.onnx", "answer.json", cores="0,1", least_s=0.0)
    assert runner.main(asked.arguments()) == 0
    assert pinned == [[0, 1]]


def test_why_there_are_no_times(far: Path) -> None:
    assert failed(far, provider="xnnpack")[0] == "provider"
    assert failed(far, model="none.onnx")[0] == "load"
    (far / "model.onnx").write_bytes(b"no model")
    assert failed(far)[0] == "load"
    (far / "model.onnx").write_bytes(tiny((2**14, 2**14), batch=2**16))
    assert failed(far)[0] == "memory"
    (far / "model.onnx").write_bytes(one_node(["N", 3]))
    assert failed(far) == ("load", "the input 'x' has the open shape ['N', 3]")
    (far / "model.onnx").write_bytes(one_node([1, 3], TensorProto.INT64))
    assert failed(far) == ("load", "the input 'x' is not float")


def one_node(shape: list[object], kind: int = TensorProto.FLOAT) -> bytes:
    tensors = [helper.make_tensor_value_info(name, kind, shape) for name in "xy"]
    node = helper.make_node("Neg", ["x"], ["y"])
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:])
    opset = helper.make_opsetid("", 17)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def test_a_runner_that_is_being_ended_is_waited_for(far: Path) -> None:
    with (far / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ending = threading.Timer(0.5, fcntl.flock, (file, fcntl.LOCK_UN))
        ending.start()
        assert answered(far)[0] == 0
        ending.join()


def test_one_client_at_a_time(far: Path) -> None:
    with (far / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, answer = answered(far)
    assert code == runner.BUSY
    assert answer.error is not None and answer.error.kind == "busy"
    assert answered(far)[0] == 0


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_it_ends_at_once_without_half_an_answer(far: Path, ending: signal.Signals) -> None:
    endless = {"calm_runs": 10**9, "most_runs": 10**9, "least_s": 60.0}
    asked = Request("model.onnx", "answer.json", profile="begun", **endless)  # type: ignore[arg-type]
    with start(far, asked) as process:
        deadline = time.monotonic() + 30
        while not list(far.glob("begun*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(ending)
        assert process.wait(5) == -ending
    assert not list(far.glob("answer*"))
    assert answered(far)[0] == 0  # the lock is free


def test_a_disk_without_room_is_said(far: Path) -> None:
    (far / "answer.json.part").symlink_to("/dev/full")
    with start(far, Request("model.onnx", "answer.json", least_s=0.0)) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors == "cannot write answer.json: No space left on device\n"


@pytest.mark.parametrize("options", [["--most"], ["--threads", "many"], ["--turbo", "1"], []])
def test_other_options_are_refused(options: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        runner.parser().parse_args(options) if options else runner.main([])
    assert caught.value.code == 2


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What /sys says on a board with two clusters of cores."""
    monkeypatch.setattr(runner, "THERMAL", tmp_path / "thermal")
    monkeypatch.setattr(runner, "PROCESSORS", tmp_path / "cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 4})
    for core, most in ((0, 1_400_000), (4, 1_800_000)):
        folder = tmp_path / "cpu" / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text("600000\n")
        (folder / "cpuinfo_max_freq").write_text(f"{most}\n")
        (folder / "scaling_max_freq").write_text("1200000\n")
        (folder / "scaling_governor").write_text("ondemand\n")
    for zone, name, told in ((0, "cpu-thermal", "48312"), (1, "gpu-thermal", "51000")):
        folder = tmp_path / "thermal" / f"thermal_zone{zone}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(f"{name}\n")
        (folder / "temp").write_text(f"{told}\n")
    (tmp_path / "thermal" / "thermal_zone2").mkdir()  # a sensor that cannot be read
    return tmp_path


def test_the_environment_is_what_hwnas_reads(
    system: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = parse(json.dumps(runner.environment()).encode(), FarEnvironment)
    assert told.runtime.startswith("onnxruntime 1.")
    assert "CPUExecutionProvider" in told.providers
    assert [(core.index, core.most_hz, core.limit_hz) for core in told.cores] == [
        (0, 1.4e9, 1.2e9),
        (4, 1.8e9, 1.2e9),
    ]
    assert {core.governor for core in told.cores} == {"ondemand"}
    assert told.power_mode == ""
    (tmp_path / "nvpmodel").write_text("#!/bin/sh\necho 'NV Power Mode: MAXN'\necho 0\n")
    (tmp_path / "nvpmodel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert runner.environment()["power_mode"] == "nvpmodel MAXN"


def test_sensors_and_clocks_are_read(system: Path) -> None:
    assert runner.state() == {
        "temperature_c": {"thermal_zone0 cpu-thermal": 48.312, "thermal_zone1 gpu-thermal": 51.0},
        "frequency_hz": {"0": 6e8, "4": 6e8},
    }
    shutil.rmtree(system)
    assert runner.state() == {"temperature_c": {}, "frequency_hz": {}}
    assert {core["governor"] for core in runner.environment()["cores"]} == {None}


def test_it_waits_until_the_board_is_cool(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = system / "thermal" / "thermal_zone1" / "temp"
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(time, "sleep", lambda seconds: sensor.write_text("44000"))
    asked = runner.parser().parse_args(["--cool-down-c", "50"])
    assert runner.cool_down(asked) == {"waited_s": 2.0, "reached": True}
    asked = runner.parser().parse_args(["--cool-down-c", "20", "--cool-down-most-s", "3"])
    assert runner.cool_down(asked) == {"waited_s": 3.0, "reached": False}
    assert runner.cool_down(runner.parser().parse_args([])) is None


def test_disturbed_runs_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    walls = itertools.chain([1.0] * 3, itertools.repeat(0.1))
    wall = cpu = 0.0

    def run() -> None:
        nonlocal wall, cpu
        wall, cpu = wall + next(walls), cpu + 0.1

    monkeypatch.setattr(time, "perf_counter", lambda: wall)
    monkeypatch.setattr(time, "thread_time", lambda: cpu)

    def timed(*options: str) -> list[float]:
        told = runner.timed(run, runner.parser().parse_args(["--least-s", "0", *options]))
        return [round(each, 6) for each in told["wall_s"]]

    assert timed("--calm-runs", "2") == [1.0, 1.0, 0.1, 0.1]  # one of warm-up before
    walls = itertools.repeat(1.0)
    assert timed("--calm-runs", "2", "--most-runs", "5") == [1.0] * 5
    assert timed("--calm-runs", "2", "--most-runs", "99", "--most-s", "3") == [1.0] * 3

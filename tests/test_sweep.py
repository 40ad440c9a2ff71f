"""Sweeps: the same results on any backend, through kills, and clear words for bad input."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import ends, hwnas
from ray_cluster import LOOPBACK, two_nodes

from hwnas.errors import HwnasError, InfeasibleError, UsageError
from hwnas.workflows.search import search
from hwnas.workflows.sweep import check
from hwnas.workflows.sweep_spec import _OPTIONS, convert, load, understand

SPEC = """
schema = "hwnas.sweep/1"
devices = ["v100-trt-fp16"]
budgets = [{budgets}]
seeds = [{seeds}]
[search]
resolution = 224
iterations = {iterations}
"""


def specify(folder: Path, budgets: str, seeds: str = "0", iterations: int = 2000) -> str:
    text = SPEC.format(budgets=budgets, seeds=seeds, iterations=iterations)
    (folder / "spec.toml").write_text(text)
    return "spec.toml"


def answers(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "sweep.json").read_bytes(), (folder / "sweep.csv").read_bytes()


def test_a_sweep_is_its_searches(tmp_path: Path) -> None:
    spec = specify(tmp_path, '"flops=1G", ["flops=1G", "params=5M"], "params=10K"', "0, 1")
    swept = hwnas("sweep", spec, "--workers", "2", "--out", "two", "--json", cwd=tmp_path)
    assert swept.returncode == 0, swept.stderr
    document = json.loads(swept.stdout)
    assert document["schema"] == "hwnas.sweep-result/1"
    status = [entry["status"] for entry in document["searches"]]
    assert status == ["found"] * 4 + ["infeasible"] * 2
    for entry, one in zip(document["searches"], load(tmp_path / spec).searches(), strict=True):
        if entry["status"] == "infeasible":
            with pytest.raises(InfeasibleError) as refused:
                search(one.request, one.settings, tmp_path / "serial" / one.name)
            assert entry["error"] == {"message": str(refused.value), "exit_code": 3}
            assert entry["cheapest"] == json.loads(json.dumps(refused.value.document))
            assert not (tmp_path / "two/runs" / one.name).exists()
            continue
        serial = search(one.request, one.settings, tmp_path / "serial" / one.name)
        told = json.loads(json.dumps(serial.document))
        for key in ("score", "evaluations", "costs", "budgets", "architecture"):
            assert entry[key] == told[key]
        run = tmp_path / "two/runs" / one.name
        assert (run / "history.csv").read_bytes() == (serial.run / "history.csv").read_bytes()
        shown = hwnas("show", str(run), "--json", cwd=tmp_path)
        assert json.loads(shown.stdout)["params"] == entry["costs"]["params"]
    rows = list(csv.DictReader((tmp_path / "two/sweep.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == status
    assert float(rows[0]["score"]) == document["searches"][0]["score"]
    assert rows[2]["budgets"] == "flops=1G params=5M"
    assert hwnas("sweep", spec, "--workers", "1", "--out", "one", cwd=tmp_path).returncode == 0
    assert answers(tmp_path / "one") == answers(tmp_path / "two")


def test_a_killed_sweep_goes_on_to_the_same_results(tmp_path: Path) -> None:
    spec = specify(tmp_path, '"flops=1G"', "0, 1, 2", iterations=400_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "hwnas", "sweep", spec, "--workers", "2", "--out", "killed"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    journal = tmp_path / "killed/journal.jsonl"
    deadline = time.monotonic() + 240
    while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while _alive(process.pid):  # workers do not outlive the command
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not (tmp_path / "killed/sweep.json").exists()
    again = hwnas("sweep", spec, "--out", "killed", cwd=tmp_path)
    assert again.returncode == 2
    assert "--resume killed" in again.stderr
    before = journal.read_text().splitlines()
    assert 2 <= len(before) < 4
    resumed = hwnas("sweep", "--resume", "killed", "--workers", "2", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert journal.read_text().splitlines()[: len(before)] == before
    assert hwnas("sweep", spec, "--workers", "2", "--out", "whole", cwd=tmp_path).returncode == 0
    assert answers(tmp_path / "killed") == answers(tmp_path / "whole")


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_changed_device_ends_a_sweep(tmp_path: Path, own_shelf: Path) -> None:
    spec = specify(tmp_path, '"flops=1G"')
    assert hwnas("sweep", spec, "--out", "sweep", cwd=tmp_path).returncode == 0
    shipped = Path(__file__).parents[1] / "devices/v100-trt-fp16.toml"
    own = own_shelf / "devices" / shipped.name
    own.parent.mkdir(parents=True)
    own.write_text(shipped.read_text().replace("batch = 32", "batch = 16"))
    resumed = hwnas("sweep", "--resume", "sweep", cwd=tmp_path)
    assert resumed.returncode == 2
    assert "device v100-trt-fp16 changed since" in resumed.stderr


def test_budgets_that_nothing_fits_are_exit_code_3(tmp_path: Path) -> None:
    spec = specify(tmp_path, '"params=10K", "flops=1M"')
    swept = hwnas("sweep", spec, cwd=tmp_path)
    assert swept.returncode == 3
    assert swept.stdout.count("none fits; cheapest: ") == 2
    assert "no architecture fits the budgets of any search" in swept.stderr
    assert (tmp_path / "sweeps/spec/sweep.json").exists()


def test_a_failed_search_is_exit_code_1() -> None:
    found = {"status": "found", "name": "1"}
    failed = {"status": "failed", "name": "2", "error": {"message": "it broke.", "exit_code": 2}}
    none = {"status": "infeasible", "name": "3"}
    check({"searches": [found, none], "run": "x"})
    with pytest.raises(HwnasError, match="1 of 3 searches failed; the first: 2: it broke") as told:
        check({"searches": [found, failed, none], "run": "x"})
    assert told.value.exit_code == 1


GOOD = ['schema = "hwnas.sweep/1"', 'devices = ["cpu"]', 'budgets = ["flops=1G"]']


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["x = 1"], "the schema is None"),
        (["]"], "not a TOML file"),
        ([*GOOD, "sede = [1]"], "Did you mean 'seeds'"),
        (GOOD[:2], "'budgets' is missing"),
        ([*GOOD[:2], "budgets = []"], "'budgets' is empty"),
        ([*GOOD[:2], 'budgets = ["flops=1"]'], "has no unit"),
        ([GOOD[0], 'devices = "cpu"', GOOD[2]], "Expected `array`"),
        ([GOOD[0], 'devices = ["cpuu"]', GOOD[2]], "Did you mean 'cpu'"),
        ([*GOOD, "seeds = [1, 1]"], "holds 1 twice"),
        ([*GOOD, "seeds = [-1]"], "seed is -1"),
        ([*GOOD, 'methods = ["evolutoin"]'], "Did you mean 'evolution'"),
        ([*GOOD, 'spaces = ["resnett"]'], "Did you mean 'resnet'"),
        ([*GOOD, 'spaces = ["a.toml"]'], "cannot read the space"),
        ([*GOOD, "[search]", "iteration = 1"], "Did you mean 'iterations'"),
        ([*GOOD, "[search]", 'iterations = "many"'], "iterations"),
        ([*GOOD, "[search]", "alpha = [1, 2]"], "expected 5 weights"),
        ([*GOOD, "[search]", 'resolution = "2xx"'], "not a resolution"),
    ],
)
def test_bad_specifications_get_one_clear_message(
    lines: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text("\n".join(lines))
    ends(["sweep", "spec.toml"], 2, message, "spec.toml", capsys)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give SPEC.toml"),
        (["nothing.toml"], 2, "cannot read nothing.toml"),
        (["--resume", "nothing"], 2, "not the folder of a sweep"),
        (["spec.toml", "--resume", "nothing"], 2, "takes everything"),
        (["spec.toml", "--workers", "0"], 2, "at least 1"),
        (["spec.toml", "--ray", "local", "--workers", "2"], 2, "leave it out"),
        (["spec.toml", "--ray", "127.0.0.1:9"], 4, "--ray"),
    ],
)
def test_bad_arguments_get_one_clear_message(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    specify(tmp_path, '"flops=1G"')
    ends(["sweep", *arguments], code, message, "spec.toml", capsys)


def test_a_device_without_predictor_is_told_before_anything_runs(tmp_path: Path) -> None:
    spec = specify(tmp_path, '"latency=5ms@cpu"')
    result = hwnas("sweep", spec, cwd=tmp_path)
    assert result.returncode == 1
    assert "hwnas profile --device cpu" in result.stderr
    assert not (tmp_path / "sweeps").exists()


def test_a_specification_is_read_back() -> None:
    spec = convert(
        {
            "schema": "hwnas.sweep/1",
            "devices": ["cpu"],
            "budgets": ["flops=1G", ["flops=2G", "layers=30"]],
            "spaces": ["resnet", "mobile"],
            "search": {"alpha": [0, 0, 0, 0, 1], "resolution": "160x224"},
        },
        "here",
    )
    assert convert(json.loads(json.dumps(spec.document())), "there") == spec
    first = spec.searches()[0]
    assert first.request.resolution == (160, 224)
    assert first.request.alpha == (0, 0, 0, 0, 1)
    assert len({one.name for one in spec.searches()}) == 4
    with pytest.raises(UsageError, match="here: the schema"):
        convert({"schema": "hwnas.sweep/2"}, "here")


def test_the_example_is_understood() -> None:
    spec = load(Path(__file__).parents[1] / "examples/sweep.toml")
    assert len(spec.searches()) == 18
    assert all(understand(one.request).space == "resnet" for one in spec.searches())


def test_the_page_names_every_option_of_a_search() -> None:
    page = (Path(__file__).parents[1] / "docs/sweep.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| `[search]`"))
    assert re.findall(r"`(\w+)`", row) == sorted(_OPTIONS)


def test_a_sweep_may_be_over_whole_detectors(tmp_path: Path) -> None:
    spec = specify(tmp_path, '"latency=40ms"', iterations=100)
    path = tmp_path / spec
    path.write_text(path.read_text() + 'detector = "gfl"\n')
    swept = hwnas("sweep", spec, "--workers", "1", "--out", "out", "--json", cwd=tmp_path)
    assert swept.returncode == 0, swept.stderr
    assert "(the whole detector)" in swept.stderr


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")
def test_a_killed_ray_node_does_not_change_the_results(tmp_path: Path) -> None:
    spec = specify(tmp_path, '"flops=1G"', "0, 1, 2", iterations=400_000)
    with two_nodes() as (address, kill):
        sweep = subprocess.Popen(
            [sys.executable, "-m", "hwnas", "sweep", spec, "--ray", address, "--out", "ray"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | LOOPBACK,
        )
        kill()
        _, told = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, told
    records = (tmp_path / "ray/journal.jsonl").read_text().splitlines()[1:]
    assert len(records) == 3
    assert max(json.loads(record)["attempts"] for record in records) > 1
    assert hwnas("sweep", spec, "--workers", "2", "--out", "pool", cwd=tmp_path).returncode == 0
    assert answers(tmp_path / "ray") == answers(tmp_path / "pool")

"""Farms: the work of a kind shared by its devices, through losses and kills, on any backend."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from commands import ends
from made_up_devices import small_samples
from ray_cluster import LOOPBACK, two_nodes

from hwnas import __version__
from hwnas.cli import main
from hwnas.devices import spec as devices
from hwnas.errors import HwnasError, UsageError
from hwnas.parallel.tasks import Failure, Task
from hwnas.profiling.profile import load as load_profile
from hwnas.profiling.session import SPELL, VISITS
from hwnas.workflows.farm import check, slower
from hwnas.workflows.farm_spec import FarmSpec, Kind, Unit, convert, load, understand
from hwnas.workflows.farm_units import alike, as_keys, refused, shared
from hwnas.workflows.farm_work import Work

HERE = Path(__file__).parent
NETWORKS = 16
FARM = f"""
schema = "hwnas.farm/1"
networks = {NETWORKS}
[[device]]
name = "a1"
connection = "made-up:a1"
kind = "alpha"
[[device]]
name = "a2"
connection = "made-up:a2"
kind = "alpha"
[[device]]
name = "b1"
connection = "made-up:b1"
kind = "beta"
"""


ONE = """
[[device]]
name = "c1"
connection = "made-up:c1"
"""


def command(*arguments: str, home: Path, **environment: str) -> dict[str, Any]:
    """Return how to run `hwnas profile` with made-up devices, in a folder and shelf of its own."""
    home.mkdir(exist_ok=True)
    (home / "lab.toml").write_text(FARM)
    own = {"HWNAS_HOME": str(home / "shelf"), "PYTHONPATH": str(HERE)}
    return {
        "args": [sys.executable, str(HERE / "made_up_farm.py"), "profile", *arguments],
        "cwd": home,
        "env": os.environ | own | environment,
        "text": True,
    }


def hwnas(*arguments: str, home: Path, **environment: str) -> Any:
    return subprocess.run(
        **command(*arguments, home=home, **environment), capture_output=True, timeout=300
    )


def written(home: Path) -> dict[str, bytes]:
    """Return what a farm leaves behind, but for the date and for what each device did."""
    files = [home / "farms/lab/farm.json", *(home / "shelf").rglob("*")]
    found = {}
    for path in sorted(path for path in files if path.is_file() and path.suffix != ".lock"):
        data = path.read_bytes()
        found[str(path.relative_to(home))] = re.sub(rb'date = "[-\d]+"', b"", data)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A farm in which nothing happened."""
    home = tmp_path_factory.mktemp("whole")
    farmed = hwnas("--devices", "lab.toml", "--json", home=home)
    assert farmed.returncode == 0, farmed.stderr
    (home / "document.json").write_text(farmed.stdout)
    return home


def test_devices_of_a_kind_share_its_work(whole: Path) -> None:
    document = json.loads((whole / "document.json").read_text())
    assert document["schema"] == "hwnas.farm-result/1"
    assert [kind["device"] for kind in document["kinds"]] == ["alpha", "beta"]
    assert {kind["status"] for kind in document["kinds"]} == {"fitted"}
    devices = {row["device"]: row for row in document["devices"]}
    assert [devices[name]["networks"] for name in ("a1", "a2", "b1")] == [8, 8, 16]
    assert all(row["sentinel_ratio"] == 1 and not row["lost"] for row in devices.values())
    rows = list(csv.DictReader((whole / "farms/lab/devices.csv").read_text().splitlines()))
    assert [row["networks"] for row in rows] == ["8", "8", "16"]
    expected = [s.architecture for s in itertools.islice(small_samples(), NETWORKS)]
    for kind, units in (("alpha", ["a1", "a2"]), ("beta", ["b1"])):
        profile = load_profile(whole / "shelf/profiles" / kind)
        assert [network.architecture for network in profile.networks] == expected
        assert profile.provenance["units"] == units
        assert profile.provenance["networks_left_out"] == 0
        assert (whole / "shelf/predictors" / kind / "card.toml").is_file()
    alpha = (whole / "shelf/devices/alpha.toml").read_text()
    assert 'connection = "made-up:a1"' in alpha


def test_what_a_lost_device_was_doing_another_one_of_its_kind_does(
    whole: Path, tmp_path: Path
) -> None:
    farmed = hwnas("--devices", "lab.toml", home=tmp_path / "home", MADE_UP_DIES="a2:5")
    assert farmed.returncode == 0, farmed.stderr
    assert re.search(r"a1 +alpha +made-up:a1 +16 ", farmed.stdout)
    assert re.search(r"a2 +alpha +made-up:a2 +0 .* lost", farmed.stdout)
    assert "a2 was lost: 'made-up:a2' cannot be reached: it is unplugged" in farmed.stdout
    assert written(tmp_path / "home") == written(whole)


def test_a_killed_farm_goes_on_to_the_same_results(whole: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = subprocess.Popen(
        **command("--devices", "lab.toml", home=home, MADE_UP_PAUSE="0.3"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    journal = home / "farms/lab/journal.jsonl"
    deadline = time.monotonic() + 120
    while not journal.exists() or b'"records"' not in journal.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (home / "farms/lab/farm.json").exists()
    again = hwnas("--devices", "lab.toml", "--out", "farms/lab", home=home)
    assert again.returncode == 2
    assert "hwnas profile --resume farms/lab" in again.stderr
    before = journal.read_text()
    resumed = hwnas("--resume", "farms/lab", home=home)
    assert resumed.returncode == 0, resumed.stderr
    assert journal.read_text().startswith(before)
    numbers = [
        (result["kind"], entry["number"])
        for line in journal.read_text().splitlines()[1:]
        if "records" in (result := json.loads(line)["result"])
        for entry in result["records"]
        if "number" in entry
    ]
    assert sorted(numbers) == [(k, n) for k in ("alpha", "beta") for n in range(NETWORKS)]
    assert written(home) == written(whole)


def test_a_kind_that_cannot_be_reached_waits_for_the_next_time(whole: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    farmed = hwnas("--devices", "lab.toml", home=home, MADE_UP_DIES="b1:0 a2:0")
    assert farmed.returncode == 4
    assert "a2 is left out: 'made-up:a2' cannot be reached: it is unplugged" in farmed.stderr
    assert "1 of 2 kinds have no predictor; the first: beta: 'made-up:b1'" in farmed.stderr
    assert (home / "shelf/predictors/alpha").is_dir()
    assert not (home / "shelf/predictors/beta").exists()
    # This time alpha's devices are away, and nothing is missing of it.
    resumed = hwnas("--resume", "farms/lab", home=home, MADE_UP_DIES="a1:0 a2:0")
    assert resumed.returncode == 0, resumed.stderr
    assert "alpha: measured" not in resumed.stderr
    alpha = "shelf/profiles/alpha/networks.jsonl.gz"
    beta = "shelf/predictors/beta/card.toml"
    assert written(home)[alpha] == written(whole)[alpha]
    assert written(home)[beta] == written(whole)[beta]


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")
def test_a_dead_nodes_work_is_done_on_another_device_of_the_kind(
    whole: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    nodes = [{"a1": 1, "b1": 1}, {"a2": 1}]
    paths = {"PYTHONPATH": str(HERE), "MADE_UP_PAUSE": "0.3"}
    with two_nodes(*map(json.dumps, nodes), **paths) as (address, kill):
        alone = tmp_path / "alone"
        alone.mkdir()
        (alone / "c.toml").write_text(FARM.partition("[[")[0] + ONE)
        away = hwnas("--devices", "c.toml", "--ray", address, home=alone, **LOOPBACK)
        assert away.returncode == 4
        assert f"""ray start --address={address} --resources='{{"c1": 1}}'""" in away.stderr
        farm = subprocess.Popen(
            **command("--devices", "lab.toml", "--ray", address, home=home, **LOOPBACK),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        journal = home / "farms/lab/journal.jsonl"
        deadline = time.monotonic() + 120
        while not journal.exists() or journal.read_bytes().count(b'"fusion"') < 3:
            assert time.monotonic() < deadline
            assert farm.poll() is None
            time.sleep(0.02)
        kill()
        out, told = farm.communicate(timeout=240)
    assert farm.returncode == 0, told
    assert re.search(r"a1 +alpha +made-up:a1 +16 ", out)
    assert "a2 was lost: no node of the Ray cluster has the resource 'a2'" in out
    assert written(home) == written(whole)


def test_this_machine_is_a_device_of_a_farm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    farm = ['schema = "hwnas.farm/1"', "networks = 8", "[[device]]", 'name = "cpu"']
    Path("lab.toml").write_text("\n".join([*farm, 'connection = "cpu"']))
    with pytest.raises(SystemExit) as ended:
        main(["profile", "--devices", "lab.toml", "--json"])
    out, told = capsys.readouterr()
    assert ended.value.code == 0, told
    (kind,) = json.loads(out)["kinds"]
    assert kind["networks"] == 8
    assert kind["environment"]["runtime"].startswith("onnxruntime ")
    with pytest.raises(SystemExit) as ended:
        main(["predict", "mobilenetv2-0.5", "--device", "cpu"])
    assert ended.value.code == 0


def kind(units: int = 2, networks: int | None = None, minutes: float = 1.0) -> Kind:
    tables = [{"name": f"u{i}", "connection": "cpu", "kind": "unit"} for i in range(1, units + 1)]
    data = {"schema": "hwnas.farm/1", "minutes": minutes, "device": tables}
    if networks is not None:
        data["networks"] = networks
    return understand(convert(data, "here"))[0]


def answer(unit: str, task: Task, sentinel_s: float = 1.0, contended: bool = False) -> Any:
    one = {"architecture": None, "resolution": [64, 64], "batch": 1, "kernels": []}
    one |= {"least_s": 1.0, "median_s": 1.0, "contended": contended}
    records = [
        {"network": {**one, "probe": str(number)}, "number": number, "seconds": 1.0}
        for number in task.arguments["numbers"]
    ]
    sentinel = {"sentinel_s": sentinel_s, "seconds": 1.0}
    return {"kind": "unit", "unit": unit, "records": [*records, sentinel]}


def test_disturbed_networks_are_visited_again_by_whoever_is_free() -> None:
    work = Work(kind())
    first, second = work.next(1, 2)
    assert (first.name, first.resource) == ("1.spell.unit.1", "unit")
    assert second.arguments["numbers"] == list(range(SPELL, 2 * SPELL))
    assert list(work.next(1, 2)) == []
    for unit, contended in (("u1", True), ("u2", True), ("u1", True)):
        work.tell(answer(unit, first, contended=contended))
        work.ended(first, None)
        (first,) = work.next(1, 2)
    # Visited three times, they are contended for ever; the next are fresh.
    assert VISITS == 3
    assert first.arguments["numbers"] == list(range(2 * SPELL, 3 * SPELL))
    assert work.networks == SPELL


def test_a_slow_spell_counts_against_its_own_device_only() -> None:
    work = Work(kind())
    for unit, sentinel_s, good in (
        ("u1", 1.0, 8),
        ("u2", 1.5, 16),  # a slower device, not a slow spell
        ("u1", 1.0, 24),
        ("u1", 1.3, 24),
        ("u1", 1.0, 32),
    ):
        (task,) = work.next(1, 1)
        work.tell(answer(unit, task, sentinel_s))
        work.ended(task, None)
        assert work.networks == good
    one, other = work.table()
    assert (one["sentinel_ratio"], other["sentinel_ratio"]) == (1, 1.5)
    assert (one["drift"], other["drift"]) == (pytest.approx(0.3), 0)
    assert (one["networks"], one["spells"]) == (32, 4)
    assert slower([one, other]) == ["u2"]


def test_enough_networks_end_the_work_wherever_they_are() -> None:
    work = Work(kind(networks=12))
    tasks = list(work.next(1, 3))
    assert len(tasks) == 2  # a third spell would be one too many
    for task in reversed(tasks):
        work.tell(answer("u1", task))
        work.ended(task, None)
        assert list(work.next(1, 3)) == []
    assert work.complete
    # What another one had begun beyond that changes nothing.
    work.tell(answer("u2", Task("late", "f", {"numbers": list(range(16, 24))})))
    assert work.networks == 24
    measured = work.measured({})
    assert [network.probe for network in measured.networks] == [str(i) for i in range(12)]
    assert measured.count == 12


def test_time_is_counted_for_each_device() -> None:
    work = Work(kind(minutes=0.1))  # six seconds; a spell takes nine
    first, second = work.next(1, 2)
    work.tell(answer("u1", first))
    work.ended(first, None)
    assert work.complete
    work.tell(answer("u2", second))
    work.ended(second, Failure("it broke"))
    assert list(work.next(1, 2)) == []


def said(unit: str, **changes: Any) -> dict[str, Any]:
    environment = {"runtime": "made up 1", "threads": 1, "precision": "fp32", "clock": unit}
    return {
        "unit": unit,
        "host": "there",
        "hwnas": __version__,
        "tells_kernels": True,
        "fusion": {"block": 8},
        "environment": environment,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"environment": {"runtime": "made up 2"}}, "runtime is made up 1 for the one and made up"),
        ({"fusion": {"block": 16}}, "what its runtime fuses is"),
        ({"hwnas": "0"}, "'u2' is reached by hwnas 0 on there"),
    ],
)
def test_devices_of_a_kind_are_alike(changes: dict[str, Any], message: str) -> None:
    hellos = {"u1": said("u1"), "u2": said("u2", **changes)}
    refusal = refused(kind(), hellos, {})
    if message:
        assert refusal is not None
        assert (message in refusal.message, refusal.exit_code) == (True, 2)
    else:
        assert refusal is None
    assert alike(said("u1"), said("u1")) == ""
    assert "'u1' changed since the farm began" in alike(said("u1"), said("u1", fusion={}))


def test_a_kind_without_devices_or_kernels_is_refused() -> None:
    away = {unit: Failure(f"plug in {unit}.", 4) for unit in ("u1", "u2")}
    refusal = refused(kind(), {}, away)
    assert refusal == Failure("u1: plug in u1. u2: plug in u2.", 4)
    assert refused(kind(), {"u2": said("u2")}, {"u1": away["u1"]}) is None
    refusal = refused(kind(), {"u1": said("u1", tells_kernels=False)}, {})
    assert refusal is not None
    assert "with 'from' DEVICE" in refusal.message  # a key of the file
    told = shared([said(unit)["environment"] for unit in ("u1", "u2")])
    assert (told["clock"], told["threads"]) == ("u1 or u2", 1)


def test_how_a_farm_ends() -> None:
    fitted = {"status": "fitted", "device": "a"}
    few = {"message": "too few.", "exit_code": 1}
    failed = {"status": "failed", "device": "b", "error": few}
    gone = {"message": "plug it in.", "exit_code": 4}
    away = {"status": "unreachable", "device": "c", "error": gone}
    check({"kinds": [fitted, fitted], "run": "x"})
    for kinds, code in (([fitted, failed], 1), ([failed, away], 4)):
        with pytest.raises(Exception, match="hwnas profile --resume x") as ended:
            check({"kinds": kinds, "run": "x"})
        assert getattr(ended.value, "exit_code", None) == code
    mistaken = {**failed, "error": {"message": "give 'from'.", "exit_code": 2}}
    with pytest.raises(HwnasError, match=r"b: give 'from'\.$"):
        check({"kinds": [mistaken], "run": "x"})


GOOD = ['schema = "hwnas.farm/1"']
CPU = ["[[device]]", 'name = "cpu"', 'connection = "cpu"']
PI = ["[[device]]", 'name = "pi"', 'connection = "ssh://pi"']
TWO = [*GOOD, "[[device]]", 'name = "a"', 'connection = "cpu"', 'kind = "k"']
TWO += ["[[device]]", 'name = "b"', 'connection = "openvino"', 'kind = "k"']


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["x = 1"], "the schema is None"),
        (["]"], "not a TOML file"),
        (GOOD, "there is no [[device]]"),
        ([*GOOD, "device = []"], "'device' is empty"),
        ([*GOOD, "devices = []"], "Did you mean 'device'"),
        ([*GOOD, "[device]", 'name = "x"'], "Expected `array`"),
        ([*GOOD, *CPU, "thread = 1"], "[[device]] 1: unknown key 'thread'. Did you mean 'threads'"),
        ([*GOOD, "[[device]]", 'connection = "cpu"'], "missing required field `name`"),
        ([*GOOD, "[[device]]", 'name = "cpu"'], "missing required field `connection`"),
        ([*GOOD, *CPU, *CPU], "two devices have the name 'cpu'"),
        ([*GOOD, *CPU, *CPU[:1], 'name = "x"', CPU[2]], "'cpu' and 'x' are one device"),
        ([*GOOD, *CPU, *CPU[:1], 'name = "x"', CPU[2], 'kind = "cpu"'], "a device and of a kind"),
        ([*TWO, "threads = 1"], "'threads' is not given for 'a' and 1 for 'b'"),
        ([*TWO, 'precision = "int8"'], "'precision' is not given for 'a' and 'int8' for 'b'"),
        (TWO, "'a' and 'b' are not of one kind: 'runtime' is onnxruntime"),
        ([*GOOD, *CPU, 'kind = "openvino"'], "known as 'openvino'; give another 'kind'"),
        ([*GOOD, *CPU[:2], 'connection = "v100-trt-fp16"'], "has no connection"),
        ([*GOOD, *CPU[:2], 'connection = "cpuu"'], "Did you mean 'cpu'"),
        ([*GOOD, "[[device]]", 'name = "a b"', 'connection = "cpu"'], "cannot name a device"),
        ([GOOD[0], "minutes = 0", *CPU], "'minutes' is 0"),
        ([GOOD[0], "networks = 3", *CPU], "'networks' is 3"),
        ([GOOD[0], "seed = -1", *CPU], "'seed' is -1"),
        ([GOOD[0], "seed = 1.5", *CPU], "$.seed"),
        ([GOOD[0], "from = 1", *CPU], "$.from"),
        ([GOOD[0], 'from = "cpuu"', *CPU], "Did you mean 'cpu'"),
        ([*GOOD, *CPU, "threads = 4096"], "'threads' is 4096"),
        ([*GOOD, *CPU, "threads = 2"], "known with 1 threads"),
        ([*TWO, 'cores = "0"'], "'cores' is not given for 'a' and '0' for 'b'"),
        ([*TWO, "cool_down = 45"], "'cool_down' is not given for 'a' and 45.0 for 'b'"),
        ([*GOOD, *CPU, 'cores = "0"'], "'cpu': 'cores' and 'cool_down' are for phones and boards"),
        ([*GOOD, *PI, 'cores = "0-"'], "'pi': the cores are '0-'"),
        ([*GOOD, *PI, "cores = 1"], "Expected `str | null`"),
        ([*GOOD, *PI, "cool_down = -1"], "'pi': 'cool_down' is -1; give degrees Celsius"),
        ([*GOOD, *PI, "cool_down = nan"], "'pi': 'cool_down' is nan"),
        ([*GOOD, *CPU, 'precision = "fp8"'], "known are fp32, fp16, int8"),
    ],
)
def test_bad_files_get_one_clear_message(
    lines: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lab.toml").write_text("\n".join(lines))
    ends(["profile", "--devices", "lab.toml"], 2, message, "lab.toml", capsys)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--devices", "nothing.toml"], 2, "cannot read nothing.toml"),
        (["--devices", "lab.toml", "--device", "cpu"], 2, "exclude each other"),
        (["--devices", "lab.toml", "--minutes", "3"], 2, "'minutes' stands in lab.toml"),
        (["--devices", "lab.toml", "--networks", "9"], 2, "--networks goes with --device"),
        (["--devices", "lab.toml", "--precision", "int8"], 2, "--precision goes with --device"),
        (["--devices", "lab.toml", "--resume", "x"], 2, "takes everything"),
        (["--devices", "lab.toml", "--resume"], 2, "goes on with --resume FOLDER alone"),
        (["--devices", "lab.toml", "--ray", "127.0.0.1:9"], 4, "--ray"),
        (["--device", "cpu", "--ray", "auto"], 2, "--ray goes with --devices"),
        (["--resume", "nothing"], 2, "not the folder of a farm"),
        (["--resume"], 2, "say what to measure"),
        (["--resume", "--device", "cpuu"], 2, "Did you mean 'cpu'"),
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
    Path("lab.toml").write_text("\n".join([*GOOD, *CPU]))
    ends(["profile", *arguments], code, message, "lab.toml", capsys)


def test_the_page_shows_the_example_and_every_key() -> None:
    page = (HERE.parent / "docs/farm.md").read_text()
    assert (HERE.parent / "examples/farm.toml").read_text() in page
    table = page.partition("## The file")[2].partition("An unknown key")[0]
    named = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| ([^|]+) \|", table, re.M))))
    keys = {field.name for kind in (FarmSpec, Unit) for field in dataclasses.fields(kind)}
    assert named == keys - {"source", "device"} | {"from", "schema"}


def test_what_one_device_of_a_kind_does_not_set_is_said() -> None:
    pinned = dataclasses.replace(devices.shipped("cpu"), name="pinned", cores="0")
    devices.save(pinned)
    farm = FarmSpec((Unit("a", "pinned", kind="k"), Unit("b", "cpu", kind="k")))
    with pytest.raises(UsageError, match="'cores' is 0 for the one and not set for the other"):
        understand(farm)


def test_cores_and_cool_down_are_those_of_the_file_then_of_the_shelf() -> None:
    unit = {"name": "a", "connection": "ssh://a", "kind": "board"}
    data = {"schema": "hwnas.farm/1", "device": [unit]}

    def told(**keys: Any) -> set[tuple[str, float]]:
        farm = convert({**data, "device": [{**unit, **keys}]}, "here")
        assert convert(json.loads(json.dumps(farm.document())), "there") == farm
        (kind,) = understand(farm)
        devices.save(kind.device)
        return {(d.cores, d.cool_down_c) for d in (kind.device, *kind.units.values())}

    assert told() == {("", 0.0)}
    assert told(cores="0-3", cool_down=45) == {("0-3", 45.0)}
    assert told() == {("0-3", 45.0)}
    assert told(cores="fastest") == {("", 45.0)}
    assert told(cool_down=0) == {("", 0.0)}


def test_cores_that_a_device_lacks_are_told_as_a_key() -> None:
    failure = as_keys(Failure("--cores is '9'; the device lets a program use the cores 0, 1.", 2))
    assert failure.message.startswith("'cores' is '9'")
    lost = Failure("a profile goes on with --resume.", 4)
    assert as_keys(lost) is lost


def test_a_kind_stays_reached_as_it_was() -> None:
    tables: list[dict[str, str]] = []
    data = {"schema": "hwnas.farm/1", "device": tables}
    for name in ("a", "b"):
        like = dataclasses.replace(devices.load("cpu"), name=name, connection=f"ssh://{name}")
        devices.save(like)
        tables.append({"name": f"unit-{name}", "connection": name, "kind": "board"})
    (first,) = understand(convert(data, "here"))
    assert first.device.connection == "ssh://a"
    devices.save(first.device)
    tables.reverse()
    (again,) = understand(convert(data, "here"))
    assert again.device == first.device
    assert [unit.connection for unit in again.units.values()] == ["ssh://b", "ssh://a"]


def test_a_file_is_read_back() -> None:
    farm = load(HERE.parent / "examples/farm.toml")
    assert convert(json.loads(json.dumps(farm.document())), "there") == farm
    assert list(farm.kinds()) == [found.device.name for found in understand(farm)]

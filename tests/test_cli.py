"""The command line as a user meets it: documents, exit codes, messages."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import hwnas

from hwnas.architecture import spaces
from hwnas.store.shelf import find

FAST = ("--iterations", "3000")


def document(*arguments: str, cwd: Path | None = None) -> dict[str, Any]:
    result = hwnas(*arguments, "--json", cwd=cwd)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_show_keeps_the_json_contract() -> None:
    shown = document("show", "maedet-m", "--resolution", "800x1280", "--flops-convention", "mmcv")
    assert shown["schema"] == "hwnas.show/1"
    assert shown["flops"] == pytest.approx(89.933e9, rel=1e-3)
    assert shown["params"] == pytest.approx(25.844e6, rel=1e-3)
    assert shown["layers"] == 91
    assert len(shown["entropy"]["stages"]) == 5
    assert shown["memory_bytes"] > 0
    assert [stage["stride"] for stage in shown["stages"]] == [2, 4, 8, 16, 32]
    assert [stage["channels"] for stage in shown["stages"]] == [64, 120, 512, 1632, 2048]
    assert [stage["depth"] for stage in shown["stages"]] == [0, 2, 10, 10, 8]


def test_search_export_predict(tmp_path: Path) -> None:
    run = document(
        "search", "--budget", "latency=20ms", "--budget", "params=26M", "--out", "run",
        cwd=tmp_path,
    )  # fmt: skip
    assert run["schema"] == "hwnas.search/1"
    assert (run["method"], run["proven"], run["gap"]) == ("certified", True, 0.0)
    assert run["upper_bound"] == run["score"]
    for budget in run["budgets"]:
        assert budget["cost"] <= budget["limit"]
    latency = run["costs"]["latency_s"]["v100-trt-fp16"]
    predicted = document("predict", "run", cwd=tmp_path)
    assert predicted["latency_s"] == pytest.approx(latency, rel=1e-9)
    low, high = predicted["interval_s"]
    assert low < predicted["latency_s"] < high
    for format_, name in (("onnx", "run.onnx"), ("torch", "run.py")):
        exported = document("export", "run", "--format", format_, "--batch", "1", cwd=tmp_path)
        assert (tmp_path / name).stat().st_size == exported["bytes"]
    again = hwnas("export", "run", "--format", "torch", cwd=tmp_path)
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "architecture.json", "history.csv", "run.json", "search.json",
    ]  # fmt: skip
    shown = document("show", "run", cwd=tmp_path)
    assert shown["params"] == run["costs"]["params"]
    model = document("predict", "run.onnx", cwd=tmp_path)
    small = document("predict", "run", "--batch", "1", cwd=tmp_path)
    assert model["latency_s"] == pytest.approx(small["latency_s"], rel=1e-6)


def test_a_structure_text_is_an_architecture(tmp_path: Path) -> None:
    exported = document("export", "maedet-s", "--format", "tinynas", cwd=tmp_path)
    assert exported["path"] == "maedet-s.txt"
    again = hwnas("export", "maedet-s", "--format", "tinynas", cwd=tmp_path)
    assert (again.returncode, "--force" in again.stderr) == (2, True)
    # Their notation is Python's; what other programs make of it may be JSON.
    text = (tmp_path / "maedet-s.txt").read_text()
    (tmp_path / "json.json").write_text(text.replace("'", '"'))
    for command in ("show", "predict"):
        expected = document(command, "maedet-s", cwd=tmp_path)
        for name in ("maedet-s.txt", "json.json"):
            found = document(command, name, cwd=tmp_path)
            for key in ("flops", "params", "layers", "latency_s"):
                assert found.get(key) == expected.get(key)
    (tmp_path / "code.txt").write_text(text.replace("'s': 2", "'s': print(2)", 1))
    bad = hwnas("show", "code.txt", cwd=tmp_path)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "code.txt, line 2" in bad.stderr
    mobile = "[{'class': 'ConvKXBNRELU', 'in': 3, 'out': 8, 's': 2, 'k': 3}" + "".join(
        f", {{'class': 'SuperResK1DWK1', 'in': 8, 'out': 8, 's': 2, 'k': 3, 'L': {i}, 'btn': 16}}"
        for i in (1, 2, 3, 1)
    )
    (tmp_path / "mobile.txt").write_text(mobile + "]")
    noted = hwnas("show", "mobile.txt", cwd=tmp_path)
    assert noted.returncode == 0
    assert "ends in an activation" in noted.stderr


@pytest.mark.parametrize("format_", ["torch", "torchvision", "timm", "mmdet"])
def test_export_writes_what_frameworks_read(format_: str, tmp_path: Path) -> None:
    exported = document("export", "maedet-s", "--format", format_, "--out", "o", cwd=tmp_path)
    assert exported["bytes"] == sum(f["bytes"] for f in exported["files"])
    for file in exported["files"]:
        assert (tmp_path / file["path"]).stat().st_size == file["bytes"]
        compile((tmp_path / file["path"]).read_text(), file["path"], "exec")


def test_a_score_is_searched_recorded_and_shown(tmp_path: Path) -> None:
    run = document(
        "search", "--score", "random", "--budget", "flops=1G", "--resolution", "224",
        "--iterations", "300", "--seed", "4", "--out", "run", cwd=tmp_path,
    )  # fmt: skip
    assert (run["score_name"], run["score_kind"]) == ("random", "closed form")
    shown = document("show", "run", "--score", "random", "--seed", "4", cwd=tmp_path)["score"]
    assert shown == {
        "name": "random",
        "kind": "closed form",
        "resolution": [224, 224],
        "seed": 4,
        "value": run["score"],
    }


def test_the_same_seed_gives_the_same_result(tmp_path: Path) -> None:
    runs = [
        document(
            "search", "--budget", "flops=1G", "--resolution", "224", *FAST,
            "--seed", seed, "--out", out, cwd=tmp_path,
        )
        for seed, out in (("1", "a"), ("1", "b"), ("2", "c"))
    ]  # fmt: skip
    assert runs[0]["score"] == runs[1]["score"]
    assert runs[0]["architecture"]["stages"] == runs[1]["architecture"]["stages"]
    assert runs[0]["architecture"]["stages"] != runs[2]["architecture"]["stages"]
    assert (tmp_path / "a/history.csv").read_text() == (tmp_path / "b/history.csv").read_text()


def test_a_killed_search_goes_on_to_the_same_result(tmp_path: Path) -> None:
    search = ("search", "--budget", "flops=2G", "--iterations", "1500000", "--json")
    whole = document(*search[:-1], "--out", "whole", cwd=tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "hwnas", *search, "--out", "killed"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed/checkpoint.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed/run.json").exists()
    again = hwnas(*search, "--out", "killed", cwd=tmp_path)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    resumed = document("search", "--resume", "killed", cwd=tmp_path)
    assert resumed["score"] == whole["score"]
    assert resumed["evaluations"] == whole["evaluations"]
    assert resumed["architecture"]["stages"] == whole["architecture"]["stages"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["search", "--budget", "latency=20"], 2, "has no unit"),
        (["search", "--budget", "latncy=20ms"], 2, "Did you mean 'latency'"),
        (["search", "--budget", "flops=4G@cpu"], 2, "does not depend on a device"),
        (["search", "--budget", "latency=20ms@v100-trt-fp61"], 2, "Did you mean 'v100-trt-fp16'"),
        (["search", "--budget", "latency=1ms"], 3, "cheapest architecture"),
        (["search", "--budget", "latency=5ms", "--device", "cpu"], 1, "hwnas profile --device cpu"),
        (["search"], 2, "needs a budget"),
        (["search", "--budget", "flops=1G", "--space", "resnett"], 2, "Did you mean 'resnet'"),
        (["search", "--budget", "flops=1G", "--method", "evolve"], 2, "Did you mean 'evolution'"),
        (["search", "--budget", "memory=9MB", "--method", "certified"], 2, "--method evolution"),
        (["search", "--budget", "memory=9MB", "--alternatives", "3"], 2, "--method evolution"),
        (["search", "--budget", "flops=1G", "--method", "certified", *FAST], 2, "--iterations"),
        (["search", "--budget", "flops=1G", "--alternatives", "3", *FAST], 2, "--alternatives"),
        (["search", "--budget", "flops=1G", "--alternatives", "0"], 2, "at least 1"),
        (
            ["search", "--budget", "latency=8ms", "--budget", "params=20K"],
            3,
            "params <= 20 k cannot be kept",
        ),
        (["show"], 2, "give ARCH, or --space"),
        (["show", "--space", "resnett"], 2, "Did you mean 'resnet'"),
        (["search", "--budget", "flops=1G", "--alpha", "1,2"], 2, "five weights"),
        (["search", "--budget", "flops=1G", "--score", "synflo"], 2, "Did you mean 'synflow'"),
        (
            ["search", "--budget", "flops=1G", "--score", "params", "--alpha", "1,1,1,1,1"],
            2,
            "does not weight the stages",
        ),
        (
            ["search", "--budget", "flops=1G", "--score", "madnas", "--feature-size"],
            2,
            "belongs to the entropy",
        ),
        (["show", "maedet-m", "--score", "madnass"], 2, "Did you mean 'madnas'"),
        (["search", "--budget", "flops=1G", "--start", "maedet-m"], 2, "outside the space"),
        (["show", "resnet5"], 2, "Did you mean 'resnet50'"),
        (["show", "maedet-m", "--resolution", "20"], 2, "total stride 32"),
        (["show", "maedet-m", "--resolution", "axb"], 2, "not a resolution"),
        (["predict", "nothing.onnx"], 2, "cannot read nothing.onnx"),
        (["predict", "resnet50", "--confidence", "0.999"], 2, "calibrated"),
        (["evaluate", "--kernels", "nothing.csv"], 2, "cannot read nothing.csv"),
        (["measure", "resnet50", "--device", "v100-trt-fp16"], 4, "cannot be reached"),
        (["profile", "--device", "serial:1"], 2, "not a connection"),
        (["profile", "--device", "ssh://-oProxyCommand=true"], 2, "ssh://[USER@]HOST[:PORT]"),
        (["export", "maedet-s", "--format", "caffe"], 2, "unknown format"),
        (["export", "maedet-s", "--format", "mmdt"], 2, "Did you mean 'mmdet'"),
        (["export", "resnet50", "--format", "tinynas"], 2, "no max-pool"),
        (["show", "nothing.txt"], 2, "cannot read nothing.txt"),
        (["serch"], 2, "Did you mean 'search'"),
    ],
)
def test_bad_input_gets_one_clear_message(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    result = hwnas(*arguments, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout.startswith("the cheapest:") if code == 3 else result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_certified_search_is_a_run_like_others(tmp_path: Path) -> None:
    search = ("search", "--budget", "flops=300M", "--resolution", "224", "--space", "mobile")
    first = document(*search, "--alternatives", "3", "--out", "a", cwd=tmp_path)
    assert first["proven"]
    assert first["alternatives"][0]["score"] <= first["score"]
    for number, other in enumerate(first["alternatives"], 2):
        assert other["file"] == f"architecture-{number}.json"
        assert other["gap"] == pytest.approx(1 - other["score"] / first["score"])
        shown = document("show", f"a/{other['file']}", cwd=tmp_path)
        assert shown["entropy"]["score"] == pytest.approx(other["score"])
        assert shown["flops"] <= 300e6
    exported = document("export", "a/architecture-2.json", "--format", "torch", cwd=tmp_path)
    assert exported["bytes"] > 0
    assert document("search", "--resume", "a", cwd=tmp_path) == first
    # Interrupted before the end, it starts over; seeds and repetitions change nothing.
    (tmp_path / "a/run.json").unlink()
    assert "--resume" in hwnas(*search, "--out", "a", cwd=tmp_path).stderr
    again = document("search", "--resume", "a", cwd=tmp_path)
    other = document(*search, "--alternatives", "3", "--seed", "7", "--out", "b", cwd=tmp_path)
    for key in ("score", "upper_bound", "evaluations", "costs"):
        assert first[key] == again[key] == other[key]
    assert first["architecture"]["stages"] == other["architecture"]["stages"]


def test_evolution_says_how_good_it_is_and_why_it_was_chosen(tmp_path: Path) -> None:
    search = ("search", "--budget", "flops=2G", "--resolution", "224")
    best = document(*search, cwd=tmp_path)
    found = document(*search, *FAST, cwd=tmp_path)
    assert found["method"] == "evolution"
    assert found["upper_bound"] == pytest.approx(best["score"], rel=1e-9)
    assert found["gap"] == pytest.approx(1 - found["score"] / best["score"], rel=1e-6)
    assert not found["proven"]
    result = hwnas(*search, "--budget", "memory=20MB", cwd=tmp_path)
    assert result.returncode == 0
    assert "method evolution: no optimum can be proven under memory <= 20 MB" in result.stderr
    assert "the bound ignores memory" in result.stdout


def test_budgets_on_several_devices_are_all_kept(tmp_path: Path) -> None:
    limits = {"v100-trt-fp16": 0.02, "v100-trt-int8": 0.015}
    budgets = [f"--budget=latency={1e3 * limit:g}ms@{device}" for device, limit in limits.items()]
    found = document("search", *budgets, cwd=tmp_path)
    assert found["proven"]
    assert set(found["costs"]["latency_s"]) == set(limits)
    for device, limit in limits.items():
        assert found["costs"]["latency_s"][device] <= limit
        alone = document("search", f"--budget=latency={1e3 * limit:g}ms@{device}", cwd=tmp_path)
        assert alone["score"] >= found["score"]


def test_a_budget_that_everything_meets_does_not_bind(tmp_path: Path) -> None:
    search = ("search", "--budget", "flops=100T", "--resolution", "224")
    assert document(*search, cwd=tmp_path)["binding"] is False
    assert "nor without them, but for the limit of 91 layers" in hwnas(*search, cwd=tmp_path).stdout


def test_budgets_that_contradict_each_other_are_told_as_such(tmp_path: Path) -> None:
    refused = hwnas("search", "--budget=latency=1us", cwd=tmp_path).stderr
    least_ms = float(re.search(r"needs latency ([0-9.]+) ms", refused).group(1))
    together = (f"latency={1.001 * least_ms}ms", "params=32K")
    for budget in together:
        document("search", "--budget", budget, cwd=tmp_path)
    result = hwnas("search", *(f"--budget={budget}" for budget in together), cwd=tmp_path)
    assert result.returncode == 3, result.stderr
    assert "the budgets contradict each other: the cheapest architecture" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("launch_s = 1.3765267965809563e-06", "launch_s = nan"),
        ("launch_s = 1.3765267965809563e-06", "launch_s = -1.0"),
        ("constant_s = 0.0", "constant_s = nan"),
        ("constant_s = 0.0", "constant_s = -0.001"),
    ],
)
def test_a_predictor_that_answers_no_cost_is_refused(
    old: str, new: str, own_shelf: Path, tmp_path: Path
) -> None:
    name = "pixel2-cpu-fp32"
    for kind, file in (("devices", f"{name}.toml"), ("predictors", f"{name}/card.toml")):
        text = find(kind, name).joinpath(*Path(file).parts[1:]).read_text("utf-8")
        assert kind == "devices" or old in text
        path = own_shelf / kind / file.replace(name, "broken")
        path.parent.mkdir(parents=True)
        path.write_text(text.replace(name, "broken").replace(old, new), "utf-8")
    result = hwnas("search", "--budget", "latency=60ms@broken", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "a cost is a finite number and not negative" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_space_with_an_empty_stage_is_refused(tmp_path: Path) -> None:
    text = (spaces.files(spaces.__package__) / "resnet.toml").read_text("utf-8")
    first, *rows = text.split("[[rows]]")
    kept = [row for row in rows if "stage = 4" not in row]
    (tmp_path / "own.toml").write_text("[[rows]]".join([first, *kept]), "utf-8")
    result = hwnas("search", "--budget", "flops=1G", "--space", "own.toml", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "stage C4 is empty" in result.stderr


def test_a_space_says_what_it_allows() -> None:
    shown = document("show", "--space", "resnet")
    assert shown["width_step"] == 8
    assert shown["layers"] == 91
    row = shown["rows"][-1]
    assert (row["out"], row["mid"], row["growth"]) == ([32, 2048], [16, 512], [1.0, 4.0])
    assert (row["ratio"], row["monotone"], row["kernels"]) == ([0.0, 1.0], True, [3, 5])
    assert (row["blocks"], row["depth_step"]) == ([2, 10], 2)
    text = hwnas("show", "--space", "mobile", "--device", "v100-trt-fp16").stdout
    assert "may shrink in row 1 only" in text


def test_an_infeasible_budget_prints_the_cheapest_network(tmp_path: Path) -> None:
    result = hwnas("search", "--budget", "params=10K", "--json", cwd=tmp_path)
    assert result.returncode == 3
    cheapest = json.loads(result.stdout)
    assert cheapest["costs"]["params"] > 10_000
    assert cheapest["architecture"]["stem"]["channels"] == 16


@pytest.mark.parametrize("content", [b"", b"\x08\x07garbage" * 50, b"\xff" * 1000])
def test_a_malformed_model_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    result = hwnas("predict", "bad.onnx", cwd=tmp_path)
    assert result.returncode == 2
    assert "bad.onnx" in result.stderr
    assert "Traceback" not in result.stderr


def test_evaluate_counts_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "type,batch,in_channels,in_height,in_width,out_channels,kernel,stride,fused_add,latency_ms\n"
        "Regular,32,64,60,60,64,3,1,0,0.5\n"
        "Regular,32,64,60,60,128,1,1,0,0.25\n"
        "Regular,32,64,60,60,64,3,1,0,\n"
        "Regular,32,64,60,60,64,3,1,0,-1\n"
        "Regular,32,64,60,60,x,3,1,0,1\n"
        "Other,32,64,60,60,64,3,1,0,1\n"
    )
    found = document("evaluate", "--kernels", "rows.csv", cwd=tmp_path)
    assert (found["rows"], found["failed_rows"], len(found["bad_rows"])) == (2, 1, 3)
    assert "line 5" in found["bad_rows"][0]


def test_starting_is_quick_and_light() -> None:
    script = "import hwnas.cli, sys; print([m for m in ('numpy', 'onnx', 'torch', 'sklearn', " \
        "'onnxruntime', 'msgspec') if m in sys.modules])"  # fmt: skip
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_colour_is_off_on_request() -> None:
    result = hwnas("show", "nothing", NO_COLOR="1")
    assert "\x1b" not in result.stderr

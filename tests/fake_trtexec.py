"""A trtexec without a GPU: takes its options, release by release, and writes its files.

Options and formats are those of NVIDIA's samples/common/sampleOptions.cpp and sampleReporting.cpp.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from pathlib import Path

import onnx
import tensorrt_far_end as far

BOTH = {
    "onnx", "saveEngine", "loadEngine", "timingCacheFile", "skipInference", "profilingVerbosity",
    "maxAuxStreams", "minShapes", "optShapes", "maxShapes", "shapes", "profile", "useProfile",
    "exportTimes", "exportProfile", "exportLayerInfo", "iterations", "duration", "warmUp", "device",
    "help", "useCudaGraph", "useSpinWait", "separateProfileRun",
}  # fmt: skip
BEFORE_11 = {"fp16", "int8"}
SINCE_11 = {"noCudaGraph", "includeDataTransfers"}


def main(given: list[str]) -> int:
    number, *arguments = given
    strong = int(number) >= 110000
    print(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{number}] [b11] # trtexec {arguments}")
    options: dict[str, list[str]] = {}
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        options.setdefault(name, []).append(value)
    known = BOTH | (SINCE_11 if strong else BEFORE_11)
    if unknown := set(options) - known:
        print(f"[11/24/2026-10:00:00] [E] Unknown option: --{min(unknown)} ")
        return 1
    if "help" in options:
        return 0
    if "onnx" in options:
        return build(options, strong)
    return run(options, strong)


def build(options: dict[str, list[str]], strong: bool) -> int:
    data = Path(options["onnx"][0]).read_bytes()
    model = onnx.load_model_from_string(data)
    flags = {name.upper() for name in ("fp16", "int8") if name in options}
    profiles = [
        {"images": [shape.partition(":")[2].split("x") for shape in shapes]}
        for shapes in zip(
            *(options.get(f"{n}Shapes", []) for n in ("min", "opt", "max")), strict=True
        )
    ]
    why = far.refused(model, flags, strong, profiles)
    size = 4 * max(math.prod(far._shape(t)) for t in (*model.graph.input, *model.graph.output))
    if size > 40 * 2**30:
        why = "Error Code 2: OutOfMemory (Requested size was too large.)"
    if why:
        print(f"[11/24/2026-10:00:00] [E] {why}")
        return 1
    plan = {
        "options": options,
        "layers": far.executed(model, False),
        "sha": hashlib.sha256(data).hexdigest(),
    }
    Path(options["saveEngine"][0]).write_text(json.dumps(plan))
    Path(options["timingCacheFile"][0]).write_bytes(b"cache")
    return 0


def run(options: dict[str, list[str]], strong: bool) -> int:
    plan = json.loads(Path(options["loadEngine"][0]).read_text())
    layers = plan["layers"]
    graph = ("noCudaGraph" not in options) if strong else ("useCudaGraph" in options)
    transfers = "includeDataTransfers" in options if strong else True
    compute = 1e3 * sum(layer["seconds"] for layer in layers) * (1.0 if graph else 1.01)
    copy = 0.05 if transfers else 0.0
    runs = []
    duration = float(options.get("duration", ["3"])[0])
    time.sleep(duration)
    # As trtexec: so many runs and so many seconds, whichever is more.
    wanted = max(int(options.get("iterations", ["10"])[0]), int(10 * duration))
    for i in range(wanted):
        start = 10.0 * i
        runs.append({
            "startEnqMs": start, "endEnqMs": start + 0.01,
            "startH2dMs": start, "endH2dMs": start + copy,
            "startComputeMs": start + copy, "endComputeMs": start + copy + compute,
            "startD2hMs": start + copy + compute, "endD2hMs": start + 2 * copy + compute,
            "h2dMs": copy, "computeMs": compute, "d2hMs": copy, "latencyMs": compute + 2 * copy,
        })  # fmt: skip
    Path(options["exportTimes"][0]).write_text(json.dumps(runs))
    if "exportProfile" in options:
        assert strong or "separateProfileRun" in options, "the profiler would slow the runs timed"
        told = [{"count": 100}] + [
            {"name": layer["name"], "timeMs": 1e5 * layer["seconds"],
             "averageMs": 1e3 * layer["seconds"], "medianMs": 1e3 * layer["seconds"],
             "percentage": 1.0}
            for layer in layers
        ]  # fmt: skip
        Path(options["exportProfile"][0]).write_text(json.dumps(told))
    if "exportLayerInfo" in options:
        told = [{"Name": layer["name"], "Metadata": layer["metadata"]} for layer in layers]
        Path(options["exportLayerInfo"][0]).write_text(json.dumps({"Layers": told}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Times one ONNX model on a board that has Python 3.8 or later, numpy and onnxruntime.

hwnas copies this file to the board and starts it there, so it imports nothing of hwnas. For the
same reason its timing loop is a second copy of the one in `hwnas/devices/local.py`: runs have to be
timed on the board, beside the runtime. `runner.c` does the same where there is no Python, with the
same options and the same answer (`protocol.py`).
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA = "hwnas.runner/1"
CONTENDED = 1.03
"""Wall time over CPU time above which other processes took part in a run."""

BUSY = 75
"""Exit code where another client measures on this board."""

ENDING_S = 2.0
"""How much longer a runner that is being ended may hold the lock."""

THERMAL = Path("/sys/class/thermal")
PROCESSORS = Path("/sys/devices/system/cpu")
PROVIDERS = {"cpu": "CPUExecutionProvider", "xnnpack": "XnnpackExecutionProvider"}
MEMORY = ("bad_alloc", "out of memory", "allocate memory", "failed to allocate", "unable to alloc")
"""What runtimes say when memory is short, in lower case."""


class FailedError(Exception):
    """What the answer tells instead of times: a kind that hwnas knows, and a message."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    # At once, even in the middle of a run: the answer is a whole file or none.
    for ending in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(ending, signal.SIG_DFL)
    options = parser()
    asked = options.parse_args(arguments)
    if asked.environment:
        print(json.dumps(environment()))
        return 0
    if not (asked.model and asked.out):
        options.error("--model and --out are needed, or --environment")
    code = 0
    try:
        with alone():
            answer = measured(asked)
    except FailedError as error:
        answer = {"error": {"kind": error.kind, "message": str(error)}}
        code = {"busy": BUSY, "usage": 2}.get(error.kind, 1)
    part = Path(asked.out + ".part")
    try:
        part.write_text(json.dumps({"schema": SCHEMA, **answer}), encoding="utf-8")
        part.replace(asked.out)
    except OSError as error:
        print(f"cannot write {asked.out}: {error.strerror}", file=sys.stderr)
        return 1
    return code


def parser() -> argparse.ArgumentParser:
    """Return the options, which `runner.c` takes as well."""
    options = argparse.ArgumentParser(allow_abbrev=False)
    options.add_argument("--environment", action="store_true")
    options.add_argument("--model")
    options.add_argument("--out")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--provider", default="cpu", choices=sorted(PROVIDERS))
    options.add_argument("--optimization", default="all", choices=("all", "basic"))
    options.add_argument("--cores", type=cores, default=[])
    options.add_argument("--warm-up", type=int, default=1)
    options.add_argument("--calm-runs", type=int, default=10)
    options.add_argument("--most-runs", type=int, default=30)
    options.add_argument("--least-s", type=float, default=1.0)
    options.add_argument("--most-s", type=float, default=60.0)
    options.add_argument("--profile", default="")
    options.add_argument("--inputs", default="")
    options.add_argument("--outputs", default="")
    options.add_argument("--cool-down-c", type=float, default=0.0)
    options.add_argument("--cool-down-most-s", type=float, default=60.0)
    return options


def cores(text: str) -> list[int]:
    """Return the cores of a list such as 0,4-7."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock of this folder: two measurements at a time would disturb each other."""
    with (Path(__file__).resolve().parent / "lock").open("w") as file:
        deadline = time.monotonic() + ENDING_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    message = "another client is measuring on this device"
                    raise FailedError("busy", message) from None
            time.sleep(0.1)
        yield


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    """Return the answer to a measurement."""
    if asked.cores:
        try:
            os.sched_setaffinity(0, asked.cores)
        except OSError as error:
            message = f"the system does not let it run on the cores asked for: {error.strerror}"
            raise FailedError("run", message) from None
    session, run = loaded(asked)
    answer: dict[str, Any] = {"cool_down": cool_down(asked), "before": state()}
    if asked.profile:
        timed(run, asked)
        answer["profile"] = session.end_profiling()
    # Profiling has ended: what runs now is undisturbed.
    return {**answer, **timed(run, asked), "after": state()}


def loaded(asked: argparse.Namespace) -> tuple[Any, Callable[[], Any]]:
    """Return the session of a model and what runs it once; write its outputs where asked to."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = asked.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if asked.optimization == "basic":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if asked.profile:
        options.enable_profiling = True
        options.profile_file_prefix = asked.profile
    provider = PROVIDERS[asked.provider]
    if provider not in ort.get_available_providers():
        raise FailedError("provider", f"this build of onnxruntime has no {provider}")
    chosen: list[Any] = ["CPUExecutionProvider"]
    if asked.provider == "xnnpack":
        chosen.insert(0, (provider, {"intra_op_num_threads": str(asked.threads)}))
    session = attempt("load", lambda: ort.InferenceSession(asked.model, options, providers=chosen))
    if provider not in session.get_providers():
        raise FailedError("provider", f"onnxruntime could not start {provider}")
    feeds = attempt("run", lambda: images(session.get_inputs(), asked.inputs))

    def run() -> Any:
        return attempt("run", lambda: session.run(None, feeds))

    if asked.outputs:
        with Path(asked.outputs).open("wb") as file:
            for array in run():
                file.write(array.tobytes())
    return session, run


def images(tensors: list[Any], path: str) -> dict[str, Any]:
    """Return an image for each input: float32 values of a file, one behind another, or noise."""
    import numpy as np

    given = np.fromfile(path, dtype=np.float32) if path else None
    feeds = {}
    for tensor in tensors:
        shape = list(tensor.shape)
        if tensor.type != "tensor(float)":
            raise FailedError("load", f"the input '{tensor.name}' is not float")
        if not all(isinstance(size, int) and size > 0 for size in shape):
            raise FailedError("load", f"the input '{tensor.name}' has the open shape {shape}")
        if given is None:
            feeds[tensor.name] = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
            continue
        count = int(np.prod(shape))
        if len(given) < count:
            raise FailedError("usage", f"{path} is too short for the input '{tensor.name}'")
        feeds[tensor.name], given = given[:count].reshape(shape), given[count:]
    return feeds


def attempt(what: str, do: Callable[[], Any]) -> Any:
    """Return what a call returns, its errors told by kind: `memory`, or what was attempted."""
    try:
        return do()
    except FailedError:
        raise
    except Exception as error:  # onnxruntime's errors share no public base class
        line = next((text.strip() for text in str(error).splitlines() if text.strip()), "")
        short = isinstance(error, MemoryError) or any(mark in line.lower() for mark in MEMORY)
        raise FailedError(
            "memory" if short else what, (line or type(error).__name__)[:300]
        ) from None


def timed(run: Callable[[], Any], asked: argparse.Namespace) -> dict[str, Any]:
    """Run until enough runs were calm and enough time is over, but not for ever."""
    for _ in range(asked.warm_up):
        run()
    clock = time.thread_time if asked.threads == 1 else time.process_time
    walls: list[float] = []
    cpus: list[float] = []
    preempted: list[int] = []
    calm = 0
    began = time.perf_counter()
    while True:
        switches = preemptions()
        cpu, wall = clock(), time.perf_counter()
        run()
        wall_end, cpu_end = time.perf_counter(), clock()
        walls.append(wall_end - wall)
        cpus.append((cpu_end - cpu) / asked.threads)
        preempted.append(preemptions() - switches)
        calm += walls[-1] <= CONTENDED * cpus[-1] if asked.threads == 1 else not preempted[-1]
        spent = wall_end - began
        runs = len(walls)
        enough = calm >= asked.calm_runs and spent >= asked.least_s
        tired = runs >= asked.most_runs and spent >= 3 * asked.least_s
        if enough or tired or spent >= asked.most_s:
            return {"wall_s": walls, "cpu_s": cpus, "preempted": preempted}


def preemptions() -> int:
    """Return how often another process was given a core that this one was using."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def cool_down(asked: argparse.Namespace) -> dict[str, Any] | None:
    """Wait until the hottest sensor shows less than asked for, but not for ever."""
    began = time.monotonic()
    while asked.cool_down_c > 0:
        hottest = max(state()["temperature_c"].values(), default=None)
        if hottest is None:
            break
        waited_s = time.monotonic() - began
        if hottest < asked.cool_down_c or waited_s >= asked.cool_down_most_s:
            return {"waited_s": waited_s, "reached": hottest < asked.cool_down_c}
        time.sleep(0.5)
    return None


def state() -> dict[str, dict[str, float]]:
    """Return sensors in degrees Celsius and clocks in Hz at this moment, as far as there are."""
    temperatures = {}
    for zone in sorted(THERMAL.glob("thermal_zone*")):
        millidegrees = number(zone / "temp")
        if millidegrees is not None:
            temperatures[f"{zone.name} {first_line(zone / 'type')}"] = millidegrees / 1000
    clocks = {}
    for core in sorted(os.sched_getaffinity(0)):
        kilohertz = number(PROCESSORS / f"cpu{core}/cpufreq/scaling_cur_freq")
        if kilohertz is not None:
            clocks[str(core)] = kilohertz * 1000
    return {"temperature_c": temperatures, "frequency_hz": clocks}


def environment() -> dict[str, Any]:
    """Return what measurements on this board depend on, as far as the system tells."""
    ort = onnxruntime()
    cores = []
    for index in sorted(os.sched_getaffinity(0)):
        folder = PROCESSORS / f"cpu{index}/cpufreq"
        most, limit = number(folder / "cpuinfo_max_freq"), number(folder / "scaling_max_freq")
        cores.append(
            {
                "index": index,
                "most_hz": None if most is None else most * 1000,
                "limit_hz": None if limit is None else limit * 1000,
                "governor": first_line(folder / "scaling_governor") or None,
            }
        )
    return {
        "schema": SCHEMA,
        "runtime": f"onnxruntime {ort.__version__}",
        "providers": ort.get_available_providers(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": processor(),
        "power_mode": jetson_mode(),
        "cores": cores,
    }


def processor() -> str:
    """Return the board's model, and the processor's where the kernel names one."""
    board = first_line(Path("/proc/device-tree/model"))
    names = []
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Hardware", "Model") and value.strip() not in names:
                names.append(value.strip())
    except OSError:
        pass
    found = [board, *(name for name in names if name != board)]
    return ", ".join(name for name in found if name) or platform.processor()


def jetson_mode() -> str:
    """Return the power mode of a Jetson board, '' elsewhere."""
    try:
        told = subprocess.run(
            ["nvpmodel", "-q"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10
        ).stdout.decode("utf-8", "replace")
    except (OSError, subprocess.SubprocessError):
        return ""
    lines = [line.partition(":")[2].strip() for line in told.splitlines() if "Power Mode" in line]
    return f"nvpmodel {lines[0]}" if lines and lines[0] else ""


def onnxruntime() -> Any:
    """Return onnxruntime, told to send nothing home."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    return ort


def number(path: Path) -> float | None:
    """Return the number in a file, None where there is none."""
    try:
        return float(first_line(path))
    except ValueError:
        return None


def first_line(path: Path) -> str:
    """Return the first line of a file, '' where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0].strip(" \t\r\x00")
    except (OSError, ValueError):
        return ""


if __name__ == "__main__":
    sys.exit(main())

"""What trtexec writes: its times, its profile of layers, and what it prints.

The fields are those of `samples/common/sampleReporting.cpp` in NVIDIA's TensorRT repository, the
same from 10.4 to 11.1.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ...errors import DeviceLostError, DeviceUnavailableError, HwnasError
from . import availability
from .cuda import out_of_memory
from .layers import LayerTime

BANNER = re.compile(r"&&&& RUNNING TensorRT\.trtexec \[TensorRT v(\d+)\]")
ERROR = re.compile(r"^(?:\[[^\]]*\] )?\[E\] (.*)$", re.MULTILINE)

UNREACHABLE = (
    "driver version is insufficient",
    "no CUDA-capable device",
    "Cannot find any available devices",
    "Cannot find device ID",
    "CUDA initialization failure",
)
LOST = ("illegal memory access", "unspecified launch failure", "Cuda failure", "device is lost")


def version(printed: str) -> str:
    """Return the release that trtexec's first line names, "10.4.0".

    Raises:
        HwnasError: it names none.
    """
    found = BANNER.search(printed)
    if found is None:
        raise HwnasError(
            "trtexec does not say its version: it is not NVIDIA's, or older than TensorRT 10."
        )
    number = int(found[1])
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def times(path: Path) -> tuple[list[float], list[float]]:
    """Return what each run of `--exportTimes` took, in seconds: the GPU's time, and with transfers.

    Raises:
        HwnasError: the file does not hold them.
    """
    runs = _json(path)
    try:
        compute = [float(run["computeMs"]) / 1e3 for run in runs]
        latency = [float(run["latencyMs"]) / 1e3 for run in runs]
    except (KeyError, TypeError, ValueError):
        raise _malformed(path) from None
    if not compute or min(compute) <= 0:
        raise HwnasError(f"trtexec timed no run: {path.name} holds {len(compute)}.")
    return compute, latency


def layer_times(path: Path) -> list[LayerTime]:
    """Return the layers of `--exportProfile` in the order of execution, each with its median.

    Raises:
        HwnasError: the file does not hold them.
    """
    try:
        return [
            # Averages alone are what old releases tell.
            LayerTime(entry["name"], (float(entry.get("medianMs", entry["averageMs"])) / 1e3,))
            for entry in _json(path)
            if "name" in entry  # the first entry counts the runs
        ]
    except (KeyError, TypeError, ValueError):
        raise _malformed(path) from None


def failure(printed: str) -> HwnasError:
    """Return the error that trtexec's output tells."""
    told = [line.strip() for line in ERROR.findall(printed)]
    last = [line.strip() for line in printed.splitlines() if line.strip()]
    reason = "; ".join(told[-2:]) or (last[-1] if last else "it prints nothing")
    reason = reason.rstrip(".")[:400]
    if "is not supported by this TensorRT release" in printed:
        return DeviceUnavailableError(
            f"this trtexec no longer supports the GPU ({reason}). 10.4 is the last release for "
            f"compute capability 7.0: {availability.INSTALL_VOLTA}, and give --device cuda:0."
        )
    if re.search(r"out ?of ?memory", printed, re.IGNORECASE):
        return out_of_memory()
    if any(text in printed for text in UNREACHABLE):
        return DeviceUnavailableError(
            f"trtexec does not reach the GPU: {reason}. 'nvidia-smi' must list it, and the driver "
            "be as new as trtexec's CUDA."
        )
    if any(text in printed for text in LOST):
        return DeviceLostError(f"the GPU stopped answering: {reason}. 'nvidia-smi' tells more.")
    if re.search(r"parse|onnx", reason, re.IGNORECASE):
        return HwnasError(f"trtexec does not load the model: {reason}.")
    return HwnasError(f"trtexec fails: {reason}.")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise _malformed(path) from None


def _malformed(path: Path) -> HwnasError:
    return HwnasError(f"trtexec wrote no {path.name} that hwnas can read; it is another version's.")

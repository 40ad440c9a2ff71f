"""What a runner's answer comes to: a measurement, kernels' times, or an error."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from ...errors import DeviceUnavailableError, HwnasError
from .. import onnxruntime_graph
from ..local import WARM_UP, failure
from ..measurement import KernelTiming, Measurement
from .protocol import Answer, CoolDown, Failure, State, malformed, printable
from .transport import Result

KILLED = 128 + 9
"""How a command ends that the system kills, which it does when memory is short."""


@dataclass(frozen=True)
class RemoteMeasurement(Measurement):
    """What a runner measured, and how hot and how fast the far end was around the runs.

    Attributes:
        before, after: sensors and clocks.
        cool_down: how long it waited to cool down, where it was told to and has a sensor.
    """

    before: State = field(default_factory=State)
    after: State = field(default_factory=State)
    cool_down: CoolDown | None = None

    def details(self) -> dict[str, Any]:
        """Return sensors, clocks and the wait."""
        waited = asdict(self.cool_down) if self.cool_down else None
        return {"before": _told(self.before), "after": _told(self.after), "cool_down": waited}


def measurement(answer: Answer, threads: int) -> RemoteMeasurement:
    """Return what an answer without an error measured.

    Raises:
        HwnasError: it holds no times.
    """
    wall, cpu, calm = answer.samples(threads)
    return RemoteMeasurement(
        wall, cpu, calm, threads, answer.before, answer.after, answer.cool_down
    )


def kernels(data: bytes) -> list[KernelTiming]:
    """Return the kernels of onnxruntime's own profile.

    Raises:
        HwnasError: it is not onnxruntime's.
    """
    try:
        timings = onnxruntime_graph.timings(json.loads(data), WARM_UP)
        if all(_sound(timing) for timing in timings):
            return timings
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise malformed("its profile is not onnxruntime's")


def refused(error: Failure, resource: str) -> HwnasError:
    """Return the error for a runner that says why it has no times."""
    message = printable(error.message)
    if error.kind == "memory":
        return failure("onnxruntime", "run", message, memory=True)
    if error.kind in ("load", "run"):
        return failure("onnxruntime", error.kind, message)
    if error.kind == "busy":
        return DeviceUnavailableError(
            f"another client, of another host maybe, measures on '{resource}'; two measurements "
            "at a time would disturb each other. Wait until it ends, or end it, and repeat the "
            "command."
        )
    if error.kind == "provider":
        return DeviceUnavailableError(
            f"onnxruntime on the device could not start its execution provider: {message}"
        )
    return malformed(message)


def absent(result: Result) -> HwnasError:
    """Return the error for a runner that ended without an answer."""
    if result.exit_code == KILLED:
        return failure("onnxruntime", "run", "", memory=True)
    told = printable((result.stderr or result.stdout).decode(errors="replace"))
    return HwnasError(
        f"the runner ended with exit code {result.exit_code} and no answer: {told or 'not a word'}"
    )


def _sound(timing: KernelTiming) -> bool:
    """Whether a kernel is one that could have run: names become messages, sizes are multiplied."""
    sizes = [size for shape in (timing.out_shape, *timing.in_shapes) for size in shape]
    return (
        isinstance(timing.op, str)
        and re.fullmatch(r"\w{1,80}", timing.op, re.ASCII) is not None
        and all(isinstance(size, int) and size >= 0 for size in sizes)
        and len(timing.samples_s) > 0
        and all(0 <= seconds < 1e6 for seconds in timing.samples_s)
    )


def _told(state: State) -> dict[str, Any]:
    """Return a state for a document; the names are the far end's."""
    return {
        what: {printable(name, 80): value for name, value in values.items()}
        for what, values in asdict(state).items()
    }

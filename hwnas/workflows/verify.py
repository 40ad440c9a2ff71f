"""Closing the loop: time what a search found, correct the prediction by it, and search again."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ..architecture import detectors
from ..architecture.detectors import Detector
from ..architecture.genotype import Architecture
from ..architecture.graph import Size
from ..errors import DeviceUnavailableError, HwnasError
from ..searchers.loop import Moment
from .measure import measure
from .problem import Request, read
from .runs import RunFolder
from .search import Result, Settings, search

FULL = 0.97
"""The least share of the budget that a measured latency must use."""

AIM = 0.985
"""The share that predictions may use: the middle of what is accepted, as errors have both signs."""

ROUNDS = 8

KEPT, UNUSED, OVER = "kept", "unused", "over"


class Timer(Protocol):
    """Times an architecture on a device (`workflows.measure.measure`)."""

    def __call__(
        self,
        model: Architecture,
        device: str,
        resolution: Size | None = None,
        *,
        detector: Detector | None = None,
    ) -> dict[str, Any]:
        """Return a document with `latency_s` and `contended`."""


def verified_search(
    request: Request,
    settings: Settings,
    out: Path | None = None,
    *,
    rounds: int = ROUNDS,
    timer: Timer = measure,
    announce: Callable[[list[str]], None] = lambda lines: None,
    report: Callable[[Moment], None] = lambda moment: None,
    tell: Callable[[dict[str, Any]], None] = lambda round: None,
) -> Result:
    """Search until the measured latency is within the budget and uses at least 97 % of it.

    After each search its result is compiled and timed on every device of a latency budget that can
    be reached; measured over predicted is the correction of the next search. Where a search finds
    a network that was measured before, there is nothing new to try.

    Args:
        request: budgets, device and space.
        settings: how to search.
        out: the run folder to make.
        rounds: searches before it gives up.
        timer: times an architecture on a device.
        announce: told what was understood, once.
        report: told how each search goes.
        tell: told of each round as it ends.

    Returns:
        The best result within the budget, else the one nearest to it. Its document's
        `verification` holds the verdict, the rounds, and which of them it is: `kept`, `unused`
        (the space cannot use more of the budget), or `over`.

    Raises:
        DeviceUnavailableError: no device of a latency budget can be reached.
        UsageError, InfeasibleError: as `search`.
    """
    began = time.perf_counter()
    limits = _measurable(request)
    corrections = dict(request.corrections)
    told: list[dict[str, Any]] = []
    requests: list[Request] = []
    seen: set[Architecture] = set()
    repeated = False
    while len(told) < rounds:
        asked = replace(request, corrections=tuple(sorted(corrections.items())), latency_share=AIM)
        with tempfile.TemporaryDirectory(prefix="hwnas-") as folder:
            lines = announce if not told else lambda lines: None
            found = search(asked, settings, Path(folder) / "run", announce=lines, report=report)
        if found.architecture in seen:
            repeated = True
            break
        seen.add(found.architecture)
        requests.append(asked)
        told.append(_measured(found, limits, request, timer))
        tell(told[-1])
        if _verdict(told[-1]) == KEPT:
            break
        for device, timed in told[-1]["devices"].items():
            corrections[device] = (
                corrections.get(device, 1.0) * timed["measured_s"] / timed["predicted_s"]
            )
    chosen = max(range(len(told)), key=lambda k: _worth(told[k]))
    result = search(requests[chosen], settings, out)
    verification = {
        "verdict": _verdict(told[chosen]),
        "round": chosen + 1,
        "repeated": repeated,
        "least_share": FULL,
        "aimed_share": AIM,
        "rounds": told,
        "elapsed_s": time.perf_counter() - began,
    }
    document = RunFolder(result.run).amend({"verification": verification})
    return replace(result, document=document)


def check(document: dict[str, Any]) -> None:
    """Raise where the measured latency of a verified search exceeds a budget.

    Raises:
        HwnasError: it does; the message says by how much.
    """
    verification = document["verification"]
    if verification["verdict"] == OVER:
        share = _share(verification["rounds"][verification["round"] - 1])
        count = len(verification["rounds"])
        raise HwnasError(
            f"gave up after {count} rounds: the best result takes {share:.1%} of the budget when "
            "it is measured. Repeat the search when the machine is quiet, or profile it again."
        )


def _measurable(request: Request) -> dict[str, float]:
    """Return the limit in seconds of each device of a latency budget that can be reached."""
    _, _, questions = read(request)
    latencies = [question for question in questions if question.budget.quantity == "latency"]
    limits = {q.device.name: q.budget.limit for q in latencies if q.device.connection}
    if not limits:
        names = ", ".join(q.device.name for q in latencies)
        raise DeviceUnavailableError(
            f"--verify times the result, but {names} cannot be reached from here."
            if latencies
            else "--verify times the result, but no budget is a latency. Leave it out, or give "
            "--budget latency=20ms."
        )
    return limits


def _measured(
    found: Result, limits: dict[str, float], request: Request, timer: Timer
) -> dict[str, Any]:
    """Time a result on every device, and describe the round."""
    devices = {}
    more = {"detector": detectors.parse(request.detector)} if request.detector else {}
    for device, limit in limits.items():
        timed = timer(found.architecture, device, request.resolution, **more)
        devices[device] = {
            "limit_s": limit,
            "predicted_s": found.document["costs"]["latency_s"][device],
            "measured_s": timed["latency_s"],
            "contended": timed["contended"],
        }
    return {"score": found.document["score"], "devices": devices}


def _share(told: dict[str, Any]) -> float:
    """Return how much of its budget a round's result used, on the device that is nearest to it."""
    shares = (timed["measured_s"] / timed["limit_s"] for timed in told["devices"].values())
    return float(max(shares))


def _verdict(told: dict[str, Any]) -> str:
    share = _share(told)
    return OVER if share > 1 else KEPT if share >= FULL else UNUSED


def _worth(told: dict[str, Any]) -> tuple[bool, float]:
    """Order results: those within the budget by score, the others by how near they came."""
    within = _verdict(told) != OVER
    return within, told["score"] if within else -_share(told)

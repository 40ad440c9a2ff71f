"""A sweep: many searches on many workers, and one folder of results.

spec.json      what was asked for, what the results depend on, the environment
journal.jsonl  the answer of every search, as it came; all else is written from it
runs/NAME/     the run folder of each search that found a network
sweep.json     the results, the same to the bit on any backend
sweep.csv      the same as a table
"""

from __future__ import annotations

import csv
import io
import json
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from ..errors import HwnasError, InfeasibleError, UsageError
from ..parallel.orchestrator import Backend, Outcome, run
from ..parallel.tasks import Failure, Task
from ..store.files import new_folder, write_atomic
from ..store.journal import Journal
from .problem import Question, Request
from .runs import environment
from .search import Settings, search
from .specification import check_new, saved
from .sweep_spec import Search, SweepSpec, Understood, convert, understand

SCHEMA = "hwnas.sweep-result/1"
JOURNAL = {"schema": "hwnas.sweep-journal/1"}


def sweep(
    spec: SweepSpec,
    out: Path,
    backend: Backend,
    *,
    announce: Callable[[Sequence[Question]], None] = lambda questions: None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Run the searches of a specification and return the results as a JSON document.

    Args:
        spec: the searches.
        out: the folder to make.
        backend: the workers; entered once the specification is known to be good.
        announce: told what was understood of the budgets of each device, space and entry.
        report: told how many searches have ended, of how many.

    Raises:
        UsageError: something in the specification cannot be understood, or `out` exists.
        HwnasError: a device has no predictor yet, or the folder cannot be written.
        DeviceUnavailableError: the backend's cluster does not answer.
    """
    understood = _understood(spec, announce)
    check_new(out, "sweep.json", "sweep", "hwnas sweep")
    with backend:
        document = {**spec.document(), "inputs": _inputs(understood), "environment": environment()}
        write_atomic(out / "spec.json", json.dumps(document, indent=2) + "\n")
        return _sweep(spec, out, understood, backend, report)


def resume_sweep(
    path: Path,
    backend: Backend,
    *,
    announce: Callable[[Sequence[Question]], None] = lambda questions: None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Go on with an interrupted sweep; searches that failed are tried again.

    Raises:
        UsageError: `path` is not the folder of a sweep, or what its results depend on changed.
    """
    document = saved(path, "sweep")
    before = document.pop("inputs", None)
    spec = convert(document, str(path / "spec.json"))
    understood = _understood(spec, announce)
    now = _inputs(understood)
    if now != before:
        raise UsageError(
            f"{_changed(now, before)} changed since the sweep in {path} began, and its results "
            "would not belong together. Begin a new sweep."
        )
    with backend:
        return _sweep(spec, path, understood, backend, report)


def run_search(
    name: str, request: dict[str, Any], settings: dict[str, Any], inputs: dict[str, str]
) -> dict[str, Any]:
    """Do one search of a sweep, on whatever worker this is, and return its run folder.

    Returns:
        `document`, the result, and `files`, the folder's texts by name.

    Raises:
        UsageError: this worker would search with other inputs than those of the sweep.
        InfeasibleError: no architecture of the space keeps the budgets.
    """
    asked = msgspec.convert(request, Request)
    own = understand(asked).inputs
    if own != inputs:
        raise UsageError(
            f"{_changed(own, inputs)} is not the one on {socket.gethostname()} that the sweep "
            "began with: give all nodes one version of hwnas, and one $HWNAS_HOME."
        )
    with tempfile.TemporaryDirectory(prefix="hwnas-") as folder:
        found = search(asked, msgspec.convert(settings, Settings), Path(folder) / name)
        files = {
            path.name: path.read_text(encoding="utf-8") for path in sorted(found.run.iterdir())
        }
    return {"document": found.document, "files": files}


def check(document: dict[str, Any]) -> None:
    """Raise what a command ends with after it has shown a sweep that did not find all it should.

    A budget that nothing fits is an answer. So a sweep is a success where every search found a
    network or showed that there is none, and at least one found one.

    Raises:
        HwnasError: a search failed for another reason.
        InfeasibleError: no search found a network.
    """
    failed = [entry for entry in document["searches"] if entry["status"] == "failed"]
    if failed:
        raise HwnasError(
            f"{len(failed)} of {len(document['searches'])} searches failed; the first: "
            f"{failed[0]['name']}: {failed[0]['error']['message']} "
            f"Try them again with 'hwnas sweep --resume {document['run']}'."
        )
    if all(entry["status"] == "infeasible" for entry in document["searches"]):
        raise InfeasibleError(
            "no architecture fits the budgets of any search; raise them, or choose another space."
        )


def _understood(
    spec: SweepSpec, announce: Callable[[Sequence[Question]], None]
) -> dict[Request, Understood]:
    """Read every different request, and tell what was understood."""
    found: dict[Request, Understood] = {}
    for one in spec.searches():
        if one.request not in found:
            found[one.request] = understand(one.request)
            announce(found[one.request].questions)
    return found


def _inputs(understood: dict[Request, Understood]) -> dict[str, str]:
    return {name: digest for one in understood.values() for name, digest in one.inputs.items()}


def _changed(now: dict[str, str], before: Any) -> str:
    """Return the first input that differs."""
    earlier: dict[str, str] = before if isinstance(before, dict) else {}
    return next(name for name in {**now, **earlier} if now.get(name) != earlier.get(name))


def _sweep(
    spec: SweepSpec,
    path: Path,
    understood: dict[Request, Understood],
    backend: Backend,
    report: Callable[[int, int], None],
) -> dict[str, Any]:
    searches = spec.searches()
    tasks = [
        Task(
            one.name,
            f"{__name__}:{run_search.__name__}",
            {
                "name": one.name,
                "request": asdict(one.request),
                "settings": asdict(one.settings),
                "inputs": understood[one.request].inputs,
            },
        )
        for one in searches
    ]
    ended = 0

    def tell(outcome: Outcome) -> None:
        nonlocal ended
        ended += 1
        if outcome.failure is None:
            _write_run(path / "runs" / outcome.task.name, outcome.result)
        report(ended, len(tasks))

    with Journal(path / "journal.jsonl", JOURNAL) as journal:
        outcomes = run(tasks, backend, journal, tell)
    entries = [
        _entry(one, understood[one.request].space, outcome)
        for one, outcome in zip(searches, outcomes, strict=True)
    ]
    document = {
        "schema": SCHEMA,
        "spec": spec.document(),
        "inputs": _inputs(understood),
        "searches": entries,
    }
    write_atomic(path / "sweep.csv", _table(entries))
    write_atomic(path / "sweep.json", json.dumps(document, indent=2) + "\n")
    return {**document, "run": str(path)}


def _write_run(path: Path, result: dict[str, Any]) -> None:
    """Write a run folder as `hwnas search` leaves it, where an earlier run did not already."""
    if path.exists():
        return
    files = dict(result["files"])
    document = {**result["document"], "run": str(path)}
    files["run.json"] = json.dumps(document, indent=2) + "\n"
    asked = json.loads(files["search.json"])
    asked["environment"]["command"] = ["hwnas", *sys.argv[1:]]
    files["search.json"] = json.dumps(asked, indent=2) + "\n"
    with new_folder(path) as folder:
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")


def _entry(search: Search, space: str, outcome: Outcome) -> dict[str, Any]:
    """Return what `sweep.json` says of a search: nothing that depends on when or where it ran."""
    entry: dict[str, Any] = {
        "name": search.name,
        "device": search.request.device,
        "space": space,
        "asked": list(search.request.budgets),
        "method": search.settings.method,
        "seed": search.settings.seed,
    }
    if outcome.failure is None:
        said = {"schema", "run", "device", "space", "seed"}
        told = {
            key: value
            for key, value in outcome.result["document"].items()
            if key not in said and not key.endswith(("elapsed_s", "cpu_s"))
        }
        return {**entry, "status": "found", **told}
    return entry | _failed(outcome.failure)


def _failed(failure: Failure) -> dict[str, Any]:
    error = {"message": failure.message, "exit_code": failure.exit_code}
    if failure.exit_code == InfeasibleError.exit_code:
        return {"status": "infeasible", "error": error, "cheapest": failure.document}
    return {"status": "failed", "error": error}


def _table(searches: Sequence[dict[str, Any]]) -> str:
    """Return the results as CSV, a row a search; latencies in seconds, a column a device."""
    latencies = sorted({name for s in searches for name in s.get("costs", {}).get("latency_s", {})})
    first = ["name", "device", "space", "budgets", "method", "seed", "status"]
    second = ["score", "upper_bound", "evaluations"]
    third = ["flops", "params", "layers"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [*first, *second, *third, *(f"latency_s@{name}" for name in latencies), "error"]
    )
    for entry in searches:
        costs = entry.get("costs", {})
        values = {**entry, "budgets": " ".join(entry["asked"])}
        writer.writerow(
            [values.get(name) for name in first + second]
            + [costs.get(name) for name in third]
            + [costs.get("latency_s", {}).get(name) for name in latencies]
            + [entry.get("error", {}).get("message")]
        )
    return text.getvalue()

"""A farm: many devices profiled at once, those of one kind sharing its work.

spec.json      what was asked for, the environment
journal.jsonl  the answer of every task, as it came; all else is written from it
farm.json      what each kind's profile and predictor are like; nothing that depends on which
               device measured what, or when
devices.csv    what each device did; times in seconds

The profiles and predictors themselves go to the user's shelf, as those of `hwnas profile`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from ..errors import DeviceUnavailableError, HwnasError, UsageError
from ..lowering.kernels import Fusion
from ..parallel.orchestrator import Backend, Outcome, run
from ..parallel.pool import ProcessPool
from ..parallel.ray_stations import RayStations
from ..parallel.tasks import Failure, Station, Task
from ..store import shelf
from ..store.files import write_atomic
from ..store.journal import Journal
from . import farm_work
from .farm_spec import FarmSpec, Kind, check_once, convert, understand
from .farm_units import alike, as_keys, refused, shared, told
from .farm_work import Work
from .profiled import keep
from .runs import environment
from .specification import check_new, saved

SCHEMA = "hwnas.farm-result/1"
JOURNAL = {"schema": "hwnas.farm-journal/1"}

SLOWER = 0.05
"""How much longer than the quickest of its kind a device may take before it is named."""

Announce = Callable[[str], None]
Report = Callable[[int, int | None], None]


def farm(
    spec: FarmSpec,
    out: Path,
    ray: str | None = None,
    *,
    announce: Announce = lambda line: None,
    report: Report = lambda done, total: None,
) -> dict[str, Any]:
    """Profile all devices of a farm and return the results as a JSON document.

    Args:
        spec: the devices.
        out: the folder to make.
        ray: the address of a Ray cluster whose nodes reach the devices; None to reach them from
            here, each by a process of its own.
        announce: told which devices were reached, and what mends it where one was not.
        report: told how many networks are good, and of how many if that is known.

    Raises:
        UsageError: something in the specification cannot be understood, or `out` exists.
        DeviceUnavailableError: the cluster does not answer.
        HwnasError: the folder cannot be written.
    """
    kinds = understand(spec)
    backend = _backend(kinds, ray)
    check_new(out, "farm.json", "farm", "hwnas profile")
    with backend:
        return _farm(spec, out, kinds, backend, announce, report)


def resume_farm(
    path: Path,
    ray: str | None = None,
    minutes: float | None = None,
    *,
    announce: Announce = lambda line: None,
    report: Report = lambda done, total: None,
) -> dict[str, Any]:
    """Go on with a farm that was interrupted, or of which devices were missing.

    Args:
        path: its folder.
        ray: as of `farm`.
        minutes: time to measure for each device, in all; by default as it was.
        announce: as of `farm`.
        report: as of `farm`.

    Raises:
        UsageError: `path` is not the folder of a farm.
    """
    document = saved(path, "farm")
    spec = convert(document, str(path / "spec.json"))
    if minutes is not None:
        spec = replace(spec, minutes=minutes)
    kinds = understand(spec)
    with _backend(kinds, ray) as backend:
        return _farm(spec, path, kinds, backend, announce, report)


def check(document: dict[str, Any]) -> None:
    """Raise what a command ends with after it has shown a farm that did not do all it should.

    Raises:
        DeviceUnavailableError: no device of a kind could be reached, or the last one was lost.
        HwnasError: a kind has no predictor for another reason.
    """
    failed = [entry for entry in document["kinds"] if entry["status"] != "fitted"]
    if failed:
        unreachable = [entry for entry in failed if entry["status"] == "unreachable"]
        first = (unreachable or failed)[0]
        error = DeviceUnavailableError if unreachable else HwnasError
        # Going on mends no mistake in the file, which the folder holds as it was.
        resume = (
            f" What was measured is kept: go on with 'hwnas profile --resume {document['run']}'."
        )
        advice = "" if first["error"]["exit_code"] == UsageError.exit_code else resume
        raise error(
            f"{len(failed)} of {len(document['kinds'])} kinds have no predictor; the first: "
            f"{first['device']}: {first['error']['message']}{advice}"
        )


def _backend(kinds: Sequence[Kind], ray: str | None) -> Backend:
    stations = [
        Station(unit, kind.device.name, {"unit": unit, "device": msgspec.to_builtins(asdict(spec))})
        for kind in kinds
        for unit, spec in kind.units.items()
    ]
    if ray is not None:
        return RayStations(ray, stations)
    check_once(kinds)
    return ProcessPool(stations=stations)


def _farm(
    spec: FarmSpec,
    path: Path,
    kinds: Sequence[Kind],
    backend: Backend,
    announce: Announce,
    report: Report,
) -> dict[str, Any]:
    asked = {**spec.document(), "environment": environment()}
    began = datetime.now(timezone.utc)
    with Journal(path / "journal.jsonl", JOURNAL) as journal:
        write_atomic(path / "spec.json", json.dumps(asked, indent=2) + "\n")
        number = 1 + max((int(r["task"].partition(".")[0]) for r in journal.records), default=0)
        works = {kind.device.name: Work(kind) for kind in kinds}
        hellos = _known(journal, works)
        # A kind that has all it needs does without its devices.
        unfinished = [work for work in works.values() if not work.complete]
        missing: dict[str, Failure] = {}
        for outcome in run(_hellos(unfinished, number), backend, journal):
            unit = outcome.task.resource
            if outcome.failure is not None:
                missing[unit] = as_keys(outcome.failure)
                continue
            changed = alike(hellos.setdefault(unit, outcome.result), outcome.result)
            if changed:
                missing[unit] = Failure(changed, UsageError.exit_code)
        for work in unfinished:
            work.failure = refused(work.kind, hellos, missing)
            announce(told(work.kind, missing))

        def begin(work: Work) -> list[Task]:
            units = [unit for unit in work.kind.units if unit not in missing]
            return list(work.next(number, len(units)))

        def follow(outcome: Outcome) -> list[Task]:
            work = works[outcome.task.resource]
            if outcome.failure is None:
                work.tell(outcome.result)
            work.ended(outcome.task, outcome.failure)
            counts = [work.networks for work in works.values()]
            done = sum(min(count, spec.networks or count) for count in counts)
            report(done, spec.networks and spec.networks * len(works))
            return begin(work)

        run([task for work in unfinished for task in begin(work)], backend, journal, follow=follow)
    entries = [_concluded(work, hellos, began) for work in works.values()]
    lost = {**{unit: failure.message for unit, failure in missing.items()}, **backend.gone}
    devices = [
        {**row, "lost": lost.get(row["device"], "")}
        for work in works.values()
        for row in work.table()
    ]
    document = {"schema": SCHEMA, "spec": spec.document(), "kinds": entries}
    write_atomic(path / "devices.csv", _csv(devices))
    write_atomic(path / "farm.json", json.dumps(document, indent=2) + "\n")
    fitted = [entry["device"] for entry in entries if entry["status"] == "fitted"]
    return {
        **document,
        "devices": devices,
        "slower": slower(devices),
        "predictors": {name: str(shelf.user_shelf("predictors") / name) for name in fitted},
        "elapsed_s": (datetime.now(timezone.utc) - began).total_seconds(),
        "run": str(path),
    }


def _known(journal: Journal, works: Mapping[str, Work]) -> dict[str, dict[str, Any]]:
    """Tell the works what was measured before; return what each device first said of itself."""
    hellos: dict[str, dict[str, Any]] = {}
    for record in journal.records:
        result = record.get("result", {})
        if "records" in result:
            works[result["kind"]].tell(result)
        elif "unit" in result:
            hellos.setdefault(result["unit"], result)
    return hellos


def _hellos(works: Sequence[Work], number: int) -> list[Task]:
    """Return tasks that reach each device, of a run of that number."""
    return [
        Task(f"{number}.hello.{unit}", f"{farm_work.TASKS}:hello", {}, unit)
        for work in works
        for unit in work.kind.units
    ]


def _concluded(work: Work, hellos: Mapping[str, dict[str, Any]], began: datetime) -> dict[str, Any]:
    """Fit what was measured of a kind, and return what `farm.json` says of it."""
    kind, failure = work.kind, work.failure
    if failure is None:
        units = [hellos[unit] for unit in kind.units if unit in hellos]
        common = shared([unit["environment"] for unit in units])
        provenance = {**common, "date": began.date().isoformat(), "seed": kind.plan.seed}
        device = replace(kind.device, fusion=msgspec.convert(units[0]["fusion"], Fusion))
        names = {"units": [unit["unit"] for unit in units]}
        try:
            _, document = keep(device, work.measured(provenance), kind.sources, names)
        except HwnasError as error:
            failure = Failure(str(error), error.exit_code)
        else:
            document.pop("schema")
            return {**document, "status": "fitted", "environment": common}
    away = failure.exit_code == DeviceUnavailableError.exit_code
    return {
        "device": kind.device.name,
        "status": "unreachable" if away else "failed",
        "networks": work.networks,
        "error": {"message": failure.message, "exit_code": failure.exit_code},
    }


def slower(devices: Sequence[dict[str, Any]]) -> list[str]:
    """Return the devices that take longer for the same network than another of their kind."""
    return [
        row["device"]
        for row in devices
        if row["sentinel_ratio"] is not None and row["sentinel_ratio"] > 1 + SLOWER
    ]


def _csv(devices: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(devices[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(devices)
    return text.getvalue()

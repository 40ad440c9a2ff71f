"""`hwnas profile --devices`: many devices at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from .profile_text import predictor_text, told
from .progress import Bar
from .render import emit, say, table
from .tables import EXCHANGING, IMPORTING, MEASURING, refuse_options

ELSEWHERE = {"minutes", "resume"}


def profile_farm(
    spec: Path | None,
    resume: Path | None,
    ray: str | None,
    out: Path | None,
    minutes: float,
    as_json: bool,
) -> None:
    """Profile the devices of a file, or go on with the folder of an earlier farm.

    Raises:
        click.UsageError: an option would silently mean nothing.
        HwnasError: see `workflows.farm`.
    """
    from ..workflows.farm import check, farm, resume_farm
    from ..workflows.farm_spec import load
    from ..workflows.runs import free_path

    refuse_options((name for name in MEASURING if name not in ELSEWHERE), "--device CONNECTION")
    refuse_options((*IMPORTING, *EXCHANGING), "--device, --import or --export")
    given = click.get_current_context().get_parameter_source("minutes")
    asked = minutes if given is ParameterSource.COMMANDLINE else None
    with Bar("network") as bar:
        if resume is not None:
            if spec or out:
                raise click.UsageError("--resume takes everything from the farm's folder.")
            document = resume_farm(resume, ray, asked, announce=say, report=bar.show)
        else:
            assert spec is not None
            if asked is not None:
                raise click.UsageError(f"'minutes' stands in {spec}; leave --minutes out.")
            folder = out or free_path(spec.stem, "farms")
            document = farm(load(spec), folder, ray, announce=say, report=bar.show)
    emit(document, _text(document), as_json)
    check(document)


def _text(document: dict[str, Any]) -> str:
    parts = []
    for entry in document["kinds"]:
        if entry["status"] == "fitted":
            where = document["predictors"][entry["device"]]
            parts.append(f"{told(entry, '')}\n{predictor_text({**entry, 'predictor': where})}")
        else:
            parts.append(f"{entry['networks']} networks; no predictor: {entry['error']['message']}")
    kinds = [
        f"{entry['device']}: {part}" for entry, part in zip(document["kinds"], parts, strict=True)
    ]
    lines = [*kinds, "", _table(document["devices"]), ""]
    for name in document["slower"]:
        row = next(row for row in document["devices"] if row["device"] == name)
        lines.append(
            f"{name} takes {row['sentinel_ratio'] - 1:.0%} longer than the quickest of its kind "
            "for the same network; see whether it is warm, busy or set up in another way"
        )
    known = " ".join(parts)
    for row in document["devices"]:
        if row["lost"] and row["lost"] not in known:
            lines.append(f"{row['device']} was lost: {row['lost']}")
    fitted = len(document["predictors"])
    lines.append(
        f"{fitted} of {len(kinds)} kinds have a predictor, in {document['elapsed_s']:.0f} s; "
        f"written to {document['run']}"
    )
    return "\n".join(lines)


def _table(devices: list[dict[str, Any]]) -> str:
    """Return what each device did. Networks are counted once a visit."""
    rows = [["device", "kind", "connection", "networks", "time", "sentinel", "drift", ""]]
    for row in devices:
        measured = row["sentinel_s"] is not None
        rows.append(
            [
                row["device"],
                row["kind"],
                row["connection"],
                str(row["networks"]),
                f"{row['seconds']:.0f} s",
                f"{row['sentinel_ratio']:.2f}" if measured else "",
                f"{row['drift']:.1%}" if measured else "",
                "lost" if row["lost"] else "",
            ]
        )
    return table(rows)

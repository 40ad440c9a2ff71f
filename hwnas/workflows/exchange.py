"""Latency tables that people exchange: a predictor from a table, a table from a profile."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import __version__
from ..architecture import spaces
from ..architecture.graph import Size
from ..devices import spec
from ..devices.spec import BYTES_PER_VALUE, DeviceSpec
from ..errors import HwnasError, UsageError, did_you_mean
from ..latency.columns import from_kernels
from ..latency.features import FEATURE_SETS
from ..latency.fitting import fit
from ..latency.predictor import Predictor, load
from ..latency.regressors import Regressor, Trees
from ..latency.tables import KernelTable, format_of, proxyless, read, table_of, write
from ..latency.tables.table import median_of_repeats
from ..lowering.kernels import Fusion, Kernel
from ..profiling import profile as profiles
from ..profiling.profile import Profile
from ..store import shelf
from ..store.files import new_folder
from .predict import load_predictor
from .profiled import kernel_times

LEAST_ROWS = 20
"""A 90 % interval leaves 5 % on each side: fewer than 19 rows held out cannot tell it."""

FEW_ROWS = 1000
"""Below, small trees answer rows that they have not seen better than large ones."""

NAMED = 10
"""Bad rows that messages name; the document has all of them."""


def import_table(
    path: Path,
    *,
    name: str = "",
    like: str | None = None,
    kind: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    resolution: Size | None = None,
    format: str | None = None,
    bad_rows: str = "skip",
    force: bool = False,
) -> tuple[Predictor, dict[str, Any]]:
    """Fit a predictor to a table, and put device, profile and predictor on the user's shelf.

    Args:
        path: the table.
        name: what to call the device; by default the file's name.
        like: a known device, which gives what is not said here.
        kind: `cpu` or `gpu`: which features the predictor learns from.
        precision: `fp32`, `fp16` or `int8`.
        batch: the device's default; by default `like`'s, or the batch of most rows. It is the
            batch of all rows where the format does not state it, 1 unless given.
        resolution: the device's default.
        format: of the table; by default that of the file's ending.
        bad_rows: `skip` leaves rows out that make no sense, `stop` refuses the table.
        force: replace a device of that name.

    Returns:
        The predictor and a JSON document about it.

    Raises:
        UsageError: the table cannot be read, has bad rows that are not to be skipped, or too few
            good ones; the device is not described, or exists.
        HwnasError: the shelf cannot be written. It is then as it was.
    """
    stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    name = shelf.check_name(name or stem)
    if name in spec.names() and not force:
        raise UsageError(
            f"there is a device '{name}' already: choose another --name, or give --force."
        )
    base = spec.load(like) if like else None
    kind, precision = _kind(base, kind), _precision(base, precision)
    table = read(path, format, batch=batch or 1, fusion=base.fusion if base else None)
    account = account_of(table)
    if bad_rows == "stop":
        refuse(path, account)
    if len(table.seconds) < LEAST_ROWS:
        usable = f"{path} holds {len(table.seconds)} usable rows."
        raise UsageError(
            "\n".join([usable, *named_rows(account)])
            + f"\nA predictor with an interval needs {LEAST_ROWS} at least."
        )
    device = _device(name, path, table, base, precision, batch, resolution)
    source = {
        "source": path.name,
        "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "format": format_of(path, format),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "rows": len(table.seconds),
        "rows_merged": table.merged,
        "rows_left_out": table.counts(),
        **({"like": like} if like else {}),
    }
    rows = tuple(zip(table.blocks, table.seconds.tolist(), strict=True))
    profile = Profile(name, (), source, rows)
    predictor = fit_rows(profile, device, kind)
    profile_folder = shelf.user_shelf("profiles") / name
    predictor_folder = shelf.user_shelf("predictors") / name
    with new_folder(profile_folder) as one, new_folder(predictor_folder) as other:
        profile.write(one)
        predictor.write(other)
        spec.save(device)
    ((told_on, told),) = predictor.card.accuracy.items()
    document = {
        "schema": "hwnas.profile-import/1",
        "device": name,
        "format": source["format"],
        "of": table.of,
        **account,
        "kind": kind,
        "precision": precision,
        "batch": device.batch,
        "resolution": list(device.resolution),
        "accuracy": {"on": told_on, **told},
        "predictor": str(predictor_folder),
    }
    return predictor, document


def fit_rows(profile: Profile, device: DeviceSpec, kind: str) -> Predictor:
    """Fit a predictor to the rows of a profile, which were measured apart from networks.

    Raises:
        UsageError: the rows are too few.
    """
    table = table_of(profile.rows)
    notes = {"network_interval": "from single kernels: no whole network was measured"}
    if table.of == "blocks":
        backbone = [row for row in profile.rows if not _is_classifier(row[0])]
        notes = {
            "fitted_to": f"the sums of {len(backbone)} blocks of kernels, shared out in the "
            "roofline's proportions: no kernel was measured by itself",
            "network_interval": "from single blocks: no whole network was measured",
        }
        if len(backbone) < len(profile.rows):
            notes["classifiers_left_out"] = str(len(profile.rows) - len(backbone))
        table = table_of(backbone)
        if len(backbone) < LEAST_ROWS:
            raise UsageError(
                f"{len(backbone)} blocks of a backbone are too few: a predictor with an interval "
                f"needs {LEAST_ROWS} at least."
            )
    return fit(
        from_kernels(table.kernels),
        table.seconds,
        device=device.name,
        runtime=device.runtime,
        precision=device.precision,
        feature_set=kind,
        bytes_per_value=device.bytes_per_value,
        provenance={**profile.provenance, **notes},
        blocks=table.rows if table.of == "blocks" else None,
        regressor=_regressor(kind, len(table.seconds)),
    )


def export_table(
    path: Path,
    device: DeviceSpec,
    *,
    format: str | None = None,
    batch: int | None = None,
    resolution: Size | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write a device's profile as a table, and return a JSON document about it.

    A kernel that was measured several times is written once, with its median. A table of blocks
    holds what was measured where the profile is of blocks, else what the predictor says of the
    blocks that a ProxylessNAS search looks up; the head of the file says which.

    Args:
        path: the file.
        device: whose profile.
        format: by default that of the file's ending.
        batch: images at a time, for predicted blocks; by default the device's.
        resolution: of the image, for predicted blocks; by default the device's.
        force: replace an existing file.

    Raises:
        UsageError: the file exists, or the format cannot say the profile's rows.
        HwnasError: the device has no profile, or no predictor; the file cannot be written.
    """
    chosen = format_of(path, format)
    if path.exists() and not force:
        raise UsageError(f"{path} exists already: choose another file, or give --force.")
    found = shelf.entries("profiles").get(device.name)
    # A folder of published figures, from which nothing was measured here, is no profile.
    profile = profiles.load(found) if found and (found / "profile.toml").exists() else None
    of_blocks = profile is not None and table_of(profile.rows).of == "blocks"
    comment = ""
    if chosen == "proxyless" and not of_blocks:
        size, images = resolution or device.resolution, batch or device.batch
        predictor = load_predictor(device)
        table, source = _predicted(predictor, device, size, images), "predicted"
        count = len(table.seconds)
        comment = (
            f"PREDICTED, not measured: sums of what hwnas {__version__} predicts for each kernel\n"
            f"on {device.name} ({device.runtime}, {device.precision}); milliseconds for a batch "
            f"of {images} at {size[0]}x{size[1]}."
        )
        if predictor.constant_s:
            comment += f"\nA network takes {1e3 * predictor.constant_s:.4g} ms besides its blocks."
    else:
        if batch or resolution:
            raise UsageError(
                "what was measured has its own batch and resolution: --batch and --resolution go "
                "with predicted blocks only (--format proxyless)."
            )
        if profile is None:
            raise HwnasError(
                f"the device '{device.name}' has no profile, so there are no measured kernels to "
                "write. A YAML table (--format proxyless) holds what its predictor says; "
                f"'hwnas profile --device {device.connection or 'CONNECTION'}' measures a device."
            )
        rows = _measured(profile)
        count = len(rows)
        table, source = median_of_repeats(rows), "measured"
        comment = f"Measured on {device.name}, milliseconds for a batch."
    done = write(path, table, chosen, fusion=device.fusion, comment=comment)
    return {
        "schema": "hwnas.profile-export/1",
        "device": device.name,
        "file": str(path),
        "format": chosen,
        "source": source,
        "of": table.of,
        "rows": done.rows,
        "merged_rows": count - done.rows - sum(done.left_out.values()),
        "left_out": done.left_out,
    }


def account_of(table: KernelTable) -> dict[str, Any]:
    """Return as JSON data which rows of a file were used, and which were not."""
    return {
        "rows": len(table.seconds),
        "merged_rows": table.merged,
        "failed_rows": table.failed,
        "failed_lines": [row.line for row in table.bad if row.reason == "failed"],
        "bad_rows": [str(row) for row in table.bad if row.reason != "failed"],
        "bad_row_counts": table.counts(),
    }


def named_rows(account: dict[str, Any]) -> list[str]:
    """Return lines for people about the rows that were left out: how many, and the first."""
    counts = account["bad_row_counts"]
    if not counts:
        return []
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.items())
    lines = [f"{sum(counts.values()):,} bad rows: {reasons}"]
    bad, failed = account["bad_rows"], account["failed_lines"]
    lines += [f"  {message}" for message in bad[:NAMED]]
    if len(bad) > NAMED:
        lines.append(f"  and {len(bad) - NAMED:,} more")
    if failed:
        first = ", ".join(map(str, failed[:NAMED]))
        more = f" and {len(failed) - NAMED:,} more" if len(failed) > NAMED else ""
        lines.append(f"  without a time, as their measurement failed: line {first}{more}")
    return lines


def refuse(path: Path, account: dict[str, Any]) -> None:
    """Stop at a table that has bad rows.

    Raises:
        UsageError: it has; the message names them.
    """
    if account["bad_row_counts"]:
        first, *named = named_rows(account)
        raise UsageError(
            "\n".join([f"{path} has {first}", *named])
            + "\nCorrect them, or leave them out with --bad-rows skip."
        )


def _kind(base: DeviceSpec | None, kind: str | None) -> str:
    """Return which features to learn from: as said, or as the other device's predictor."""
    if kind is not None:
        if kind not in FEATURE_SETS:
            raise UsageError(f"--kind is '{kind}'; known are {', '.join(FEATURE_SETS)}.")
        return kind
    if base is None:
        raise UsageError(
            "say on what the table was measured: --kind cpu|gpu and --precision "
            f"{'|'.join(BYTES_PER_VALUE)}, or --like DEVICE, a known device of that kind "
            f"({', '.join(spec.names())})."
        )
    found = shelf.entries("predictors").get(base.name)
    learned = load(found).card.feature_set if found is not None else ""
    if learned:  # a predictor may be a roofline alone
        return learned
    return "gpu" if base.runtime == "tensorrt" else "cpu"


def _precision(base: DeviceSpec | None, precision: str | None) -> str:
    if precision is None and base is not None:
        return base.precision
    if precision is None:
        raise UsageError(
            f"say in which precision the table was measured: --precision "
            f"{'|'.join(BYTES_PER_VALUE)}."
        )
    if precision not in BYTES_PER_VALUE:
        raise UsageError(
            f"--precision is '{precision}'.{did_you_mean(precision, BYTES_PER_VALUE)} "
            f"Known: {', '.join(BYTES_PER_VALUE)}."
        )
    return precision


def _device(
    name: str,
    path: Path,
    table: KernelTable,
    base: DeviceSpec | None,
    precision: str,
    batch: int | None,
    resolution: Size | None,
) -> DeviceSpec:
    batches = Counter(kernel.batch for kernel in table.kernels)
    usual = base.batch if base and base.batch in batches else batches.most_common(1)[0][0]
    images = batch or usual
    size = resolution or (base.resolution if base else (224, 224))
    about = f"from the table {path.name}, {precision.upper()}, batch {images}, {size[0]}x{size[1]}"
    if base is not None:
        return replace(
            base,
            name=name,
            about=f"{about}, like {base.name}",
            precision=precision,
            connection="",
            resolution=size,
            batch=images,
        )
    space = "mobile" if table.of == "blocks" else "resnet"
    adds_apart = any(kernel.op == "add" for kernel in table.kernels)
    return DeviceSpec(
        name=name,
        about=about,
        runtime="not stated",
        precision=precision,
        resolution=size,
        batch=images,
        space=space,
        layers=spaces.load(space).layers,
        fusion=Fusion(add=not adds_apart),
    )


def _regressor(kind: str, rows: int) -> Regressor:
    if rows < FEW_ROWS:
        return Trees(count=100, leaves=8, learning_rate=0.1, min_leaf=10)
    if kind == "cpu":
        return Trees(count=400, leaves=31, learning_rate=0.05, min_leaf=5)
    return Trees()


def _is_classifier(kernels: tuple[Kernel, ...]) -> bool:
    """Whether a block ends in a product of one vector, which no kernel of a backbone is."""
    return kernels[-1].op == "conv" and kernels[-1].in_size == (1, 1)


def _measured(profile: Profile) -> list[tuple[tuple[Kernel, ...], float]]:
    """Return the rows of a profile: those of its networks' kernels, and those of its own."""
    rows = list(profile.rows)
    if profile.networks:
        kernels, seconds = kernel_times(profile)
        # It ran, so under which condition it would not have is no part of the row.
        bare = (kernel._replace(unless_multiple=0) for kernel in kernels)
        rows += [((kernel,), time_s) for kernel, time_s in zip(bare, seconds.tolist(), strict=True)]
    return rows


def _predicted(predictor: Predictor, device: DeviceSpec, size: Size, batch: int) -> KernelTable:
    rows = []
    for kernels in proxyless.skeleton(size, batch, device.fusion):
        rows.append((kernels, float(predictor.shares(from_kernels(kernels)).sum())))
    return table_of(rows)

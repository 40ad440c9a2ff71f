"""The devices of a kind: what each says of itself, and whether they are one kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .. import __version__
from ..errors import DeviceUnavailableError, UsageError
from ..parallel.tasks import Failure
from .farm_spec import Kind, of_file
from .profile import check_kernels

SAME = ("runtime", "precision", "threads")
"""What the environments of a kind's devices agree in, always."""


def refused(
    kind: Kind, hellos: Mapping[str, dict[str, Any]], missing: Mapping[str, Failure]
) -> Failure | None:
    """Return why a kind cannot be measured: none of its devices is there, or they are not alike.

    Args:
        kind: the kind.
        hellos: what devices said of themselves (`farm_tasks.hello`), in earlier runs, too.
        missing: why others have not answered, now.
    """
    away = {unit: missing[unit] for unit in kind.units if unit in missing}
    broken = [f for f in away.values() if f.exit_code != DeviceUnavailableError.exit_code]
    if broken:
        return broken[0]
    if len(away) == len(kind.units):
        texts = [f"{unit}: {failure.message}" for unit, failure in away.items()]
        only = next(iter(away.values())).message
        return Failure(
            " ".join(texts) if len(texts) > 1 else only, DeviceUnavailableError.exit_code
        )
    answers = [hellos[unit] for unit in kind.units if unit in hellos]
    try:
        check_kernels(kind.plan, answers[0]["tells_kernels"])
    except UsageError as error:
        return as_keys(Failure(str(error), error.exit_code))
    unlike = next((text for answer in answers if (text := alike(answers[0], answer))), "")
    return Failure(unlike, UsageError.exit_code) if unlike else None


def as_keys(failure: Failure) -> Failure:
    """Return a device's complaint about an option, such as cores, as one about the file's key."""
    if failure.exit_code != UsageError.exit_code:
        return failure
    return replace(failure, message=of_file(UsageError(failure.message)))


def alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return in what two devices of a kind differ, or one at two times; '' where they do not."""
    if other["hwnas"] != __version__:
        return (
            f"'{other['unit']}' is reached by hwnas {other['hwnas']} on {other['host']}, and this "
            f"is hwnas {__version__}: give all nodes one version."
        )
    pairs = [(key, one["environment"].get(key), other["environment"].get(key)) for key in SAME]
    pairs.append(("what its runtime fuses", one["fusion"], other["fusion"]))
    for key, first, second in pairs:
        if first != second and one["unit"] == other["unit"]:
            return (
                f"'{one['unit']}' changed since the farm began: {key} was {first} and is {second}. "
                "Begin a new farm."
            )
        if first != second:
            return (
                f"'{one['unit']}' and '{other['unit']}' are not of one kind: {key} is {first} for "
                f"the one and {second} for the other. Make them alike, or give them two kinds."
            )
    return ""


def told(kind: Kind, missing: Mapping[str, Failure]) -> str:
    """Return which of a kind's devices were reached, and what the others lack."""
    there = [unit for unit in kind.units if unit not in missing]
    lines = [f"{kind.device.name}: measured on {', '.join(there) or 'no device'}"]
    lines += [
        f"  {unit} is left out: {missing[unit].message}" for unit in kind.units if unit in missing
    ]
    return "\n".join(lines)


def shared(environments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the environments of a kind's devices as one; what differs is listed."""
    found = {}
    for key in environments[0]:
        values = list(dict.fromkeys(str(each.get(key)) for each in environments))
        found[key] = environments[0][key] if len(values) == 1 else " or ".join(values)
    return found

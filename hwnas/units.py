"""Amounts with units: read from the command line, printed for people. SI units inside."""

from __future__ import annotations

import math
import re

from .errors import UsageError

_DECIMAL = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_UNITS: dict[str, dict[str, float]] = {
    "flops": _DECIMAL,
    "params": _DECIMAL,
    "memory": {
        "B": 1.0,
        "kB": 1e3,
        "MB": 1e6,
        "GB": 1e9,
        "KiB": 2.0**10,
        "MiB": 2.0**20,
        "GiB": 2.0**30,
    },
    "latency": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
}
_EXAMPLES = {
    "flops": "4.4G",
    "params": "26M",
    "memory": "64MB",
    "latency": "20ms",
    "layers": "91",
}
_AMOUNT = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ]*)")


def parse_amount(text: str, quantity: str) -> float:
    """Read an amount such as `20ms`, `4.4G` or `64MB`; layers are a bare whole number.

    Returns:
        The amount in SI units: seconds, bytes, or a count.

    Raises:
        UsageError: no number, an unknown or missing unit, or an amount that is not positive.
    """
    example = f"write {quantity}={_EXAMPLES[quantity]}, for example"
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"'{text}' is not an amount of {quantity}: {example}.")
    value, unit = float(match[1]), match[2].replace("µ", "u")
    if quantity == "layers":
        if unit or value != int(value):
            raise UsageError(f"'{text}' is not a number of layers: {example}.")
    else:
        units = {name.lower(): factor for name, factor in _UNITS[quantity].items()}
        if not unit:
            raise UsageError(
                f"'{text}' has no unit; {quantity} is given in "
                f"{', '.join(_UNITS[quantity])}: {example}."
            )
        if unit.lower() not in units:
            raise UsageError(
                f"'{text}': '{unit}' is not a unit of {quantity} "
                f"({', '.join(_UNITS[quantity])}): {example}."
            )
        value *= units[unit.lower()]
    if not 0 < value < math.inf:
        raise UsageError(f"'{text}': an amount must be positive and finite: {example}.")
    return value


def format_amount(value: float, quantity: str) -> str:
    """Return an amount as a person reads it: `20 ms`, `4.38 G`, `64 MB`, `91`."""
    if quantity == "latency":
        return format_seconds(value)
    if quantity == "memory":
        return _scaled(value, _BYTES)
    if quantity == "layers":
        return f"{value:g}"
    return _scaled(value, {"": 1.0, **_DECIMAL})


def format_seconds(seconds: float) -> str:
    """Return a duration as a person reads it: `840 us`, `19.8 ms`, `1.23 s`."""
    return _scaled(seconds, _SECONDS)


def axis_unit(value: float, quantity: str) -> tuple[str, float]:
    """Return the unit in which a value of that size reads best, and its factor."""
    if quantity == "layers":
        return "", 1.0
    scales = {"latency": _SECONDS, "memory": _BYTES}.get(quantity, {"": 1.0, **_DECIMAL})
    return _unit(value, scales)


def parse_resolution(text: str) -> tuple[int, int]:
    """Read `H` or `HxW`, height first.

    Raises:
        UsageError: the text is neither.
    """
    match = re.fullmatch(r"([0-9]{1,6})(?:[xX]([0-9]{1,6}))?", text.strip())
    if match is None or not int(match[1]) or match[2] == "0":
        raise UsageError(f"'{text}' is not a resolution: write 224, or 800x1280 (height first).")
    return int(match[1]), int(match[2] or match[1])


def _scaled(value: float, units: dict[str, float]) -> str:
    name, factor = _unit(value, units)
    return f"{value / factor:.4g} {name}".rstrip()


def _unit(value: float, units: dict[str, float]) -> tuple[str, float]:
    name, factor = next(iter(units.items()))
    for unit, size in units.items():
        if abs(value) >= 0.9995 * size:
            name, factor = unit, size
    return name, factor

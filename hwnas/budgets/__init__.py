"""Budgets: a quantity, an upper limit and, for latency, the device that it is meant for."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError, did_you_mean
from ..units import format_amount, parse_amount

QUANTITIES = ("flops", "params", "layers", "memory", "latency")


@dataclass(frozen=True)
class Budget:
    """An upper limit: FLOPs, parameters, layers, bytes, or seconds on a device."""

    quantity: str
    limit: float
    device: str | None = None

    @property
    def key(self) -> str:
        """The budget's name: `flops`, or `latency@v100-trt-fp16`."""
        return f"{self.quantity}@{self.device}" if self.device else self.quantity

    def text(self) -> str:
        """Return the budget as `parse` reads it."""
        unit = {"latency": "s", "memory": "B", "layers": ""}.get(self.quantity, "k")
        amount = self.limit / 1e3 if unit == "k" else self.limit
        number = f"{amount:.0f}" if not unit else repr(amount)
        return f"{self.quantity}={number}{unit}" + (f"@{self.device}" if self.device else "")

    def __str__(self) -> str:
        """Return the budget as a person reads it."""
        place = f" on {self.device}" if self.device else ""
        return f"{self.quantity} <= {format_amount(self.limit, self.quantity)}{place}"


def parse(text: str, default_device: str) -> Budget:
    """Read `QUANTITY=AMOUNT[@DEVICE]`, such as `latency=20ms@v100-trt-fp16` or `flops=4.4G`.

    Args:
        text: what the user wrote.
        default_device: the device of a latency that names none.

    Raises:
        UsageError: the text is not a budget; the message says what one looks like.
    """
    quantity, equals, rest = text.partition("=")
    quantity = quantity.strip().lower()
    if not equals or quantity not in QUANTITIES:
        raise UsageError(
            f"'{text}' is not a budget.{did_you_mean(quantity, QUANTITIES)} "
            "Write QUANTITY=AMOUNT[@DEVICE], such as latency=20ms or flops=4.4G; "
            f"the quantities are {', '.join(QUANTITIES)}."
        )
    amount, at, device = rest.partition("@")
    if at and quantity != "latency":
        raise UsageError(
            f"'{text}': {quantity} does not depend on a device; leave '@{device}' out."
        )
    if at and not device.strip():
        raise UsageError(f"'{text}': a device's name must follow the '@'.")
    limit = parse_amount(amount.strip(), quantity)
    return Budget(
        quantity, limit, (device.strip() or default_device) if quantity == "latency" else None
    )


def tightest(budgets: list[Budget]) -> list[Budget]:
    """Return the budgets with only the lowest limit of each quantity and device, in order."""
    kept: dict[str, Budget] = {}
    for budget in budgets:
        if budget.key not in kept or budget.limit < kept[budget.key].limit:
            kept[budget.key] = budget
    return list(kept.values())

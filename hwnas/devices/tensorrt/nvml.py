"""Clocks of a GPU while it is measured, by NVML; and how to lock them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..measurement import UNKNOWN

SLOWED_BY = {
    0x4: "power limit",
    0x8: "hardware slowdown",
    0x20: "temperature",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}
"""What NVML's clock event reasons mean that lower the clock under load (nvml.h)."""

STEADY = 0.01
"""How far below the highest clock of a measurement another may lie for a run to count as calm."""


@dataclass(frozen=True)
class Reading:
    """The clock of the multiprocessors at one moment, and why it is not higher."""

    sm_mhz: int
    reasons: int = 0

    @property
    def slowed_by(self) -> list[str]:
        """What holds the clock down, in words."""
        return [text for bit, text in SLOWED_BY.items() if self.reasons & bit]


class Clocks:
    """Reads a GPU's clocks; without the package nvidia-ml-py, or rights, there are no readings.

    Args:
        bus: where the GPU is plugged in.
        nvml: the module `pynvml`; None to import it.
    """

    def __init__(self, bus: str, nvml: Any = None) -> None:
        self._bus = bus
        self.missing = ""
        self._nvml: Any = None
        self.readings: list[Reading] = []
        try:
            if nvml is None:
                import pynvml

                nvml = pynvml
            nvml.nvmlInit()
            self._handle = nvml.nvmlDeviceGetHandleByPciBusId(bus)
            self._nvml = nvml
            self.read()
        except ImportError:
            self.missing = "nvidia-ml-py is not installed: pip install nvidia-ml-py"
        except Exception as error:  # NVML's errors exist only where it is installed
            self.missing = f"NVML does not tell them: {error}"
            self._nvml = None
        self.readings = []

    def read(self) -> Reading | None:
        """Return the clock now, and remember it."""
        if self._nvml is None:
            return None
        nvml = self._nvml
        reading = Reading(
            nvml.nvmlDeviceGetClockInfo(self._handle, nvml.NVML_CLOCK_SM),
            nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle),
        )
        self.readings.append(reading)
        return reading

    def limits(self) -> dict[str, str]:
        """Return driver, highest clock and power limit; `unknown` where NVML does not tell."""
        nvml, handle = self._nvml, getattr(self, "_handle", None)
        asked: dict[str, Callable[[], str]] = {
            "driver": lambda: str(nvml.nvmlSystemGetDriverVersion()),
            "clock": lambda: (
                f"at most {nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)} MHz"
            ),
            "power_mode": lambda: f"{nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000:.0f} W",
        }
        told = dict.fromkeys(asked, UNKNOWN)
        for key, ask in asked.items():
            with suppress(Exception):  # some GPUs have no power limit; NVML's errors as above
                told[key] = ask() if nvml is not None else UNKNOWN
        return told

    def document(self) -> dict[str, Any]:
        """Return what the readings since `forget` say, as JSON data."""
        if self._nvml is None:
            return {"advice": self.advice()}
        nvml = self._nvml
        clocks = [reading.sm_mhz for reading in self.readings]
        slowed = {text for reading in self.readings for text in reading.slowed_by}
        return {
            "sm_mhz": [min(clocks), max(clocks)],
            "most_sm_mhz": nvml.nvmlDeviceGetMaxClockInfo(self._handle, nvml.NVML_CLOCK_SM),
            "steady": self.steady,
            "slowed_by": sorted(slowed),
            "advice": self.advice(),
        }

    def forget(self) -> None:
        """Begin anew."""
        self.readings = []

    @property
    def steady(self) -> bool:
        """Whether the clock stayed the same: locked, or never disturbed."""
        clocks = [reading.sm_mhz for reading in self.readings]
        return not clocks or min(clocks) >= (1 - STEADY) * max(clocks)

    def advice(self) -> str:
        """Return how to make the clocks steady; '' where they are."""
        if self._nvml is None:
            return f"the GPU's clocks are unknown ({self.missing}); lock them: {self._lock()}"
        slowed = sorted({text for r in self.readings for text in r.slowed_by})
        if self.steady and not slowed:
            return ""
        clocks = [reading.sm_mhz for reading in self.readings]
        reason = f", held down by {', '.join(slowed)}" if slowed else ""
        return (
            f"the GPU's clock went from {min(clocks)} to {max(clocks)} MHz{reason}; lock it where "
            f"it can stay: {self._lock()} (back by 'sudo nvidia-smi -i {self._bus} -rgc')"
        )

    def _lock(self) -> str:
        clock = "MHZ"
        if self._nvml is not None:
            try:
                value = self._nvml.nvmlDeviceGetDefaultApplicationsClock(
                    self._handle, self._nvml.NVML_CLOCK_GRAPHICS
                )
            except Exception:  # many GPUs have none: then a clock that was held all the time
                value = min(reading.sm_mhz for reading in self.readings)
            clock = str(value)
        return f"'sudo nvidia-smi -i {self._bus} -lgc {clock},{clock}'"

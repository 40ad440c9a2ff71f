"""What runtimes in this process have in common: loading a model, and timing its runs with care."""

from __future__ import annotations

import resource as usage
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import HwnasError
from ..lowering.kernels import Fusion
from .measurement import CONTENDED, SLOWED, KernelTiming, Measurement, Pace, environment

WARM_UP = 1
CALM_RUNS = 5
MOST_RUNS = 20

Run = Callable[[], object]
"""Runs a loaded model once."""


class LocalRuntime(ABC):
    """Runs ONNX models in this process (`devices.contract.Device`).

    Args:
        threads: threads that a network runs on.
        alone: whether the processor's own time says what a run took. It does for one thread; with
            several, or where another processor computes, only wall time does.
    """

    name: ClassVar[str]
    """What messages call the runtime."""

    resource = "processor"
    tells_kernels = True

    def __init__(self, threads: int = 1, alone: bool | None = None) -> None:
        self.threads = threads
        # Wall time alone lies on a shared machine; with several threads only it is meaningful.
        self._alone = threads == 1 if alone is None else alone
        self._cpu_clock: Callable[[], float] = (
            time.thread_time if threads == 1 else time.process_time
        )
        self._pace = Pace()

    def environment(self) -> dict[str, Any]:
        """Return machine, runtime and version, driver, threads, precision, clock, power mode."""
        return {
            **environment(),
            "runtime": self.version(),
            "driver": "none",
            "threads": self.threads,
            "precision": "fp32",
        }

    @abstractmethod
    def version(self) -> str:
        """Return the runtime's name and version."""

    @abstractmethod
    def fusion(self) -> Fusion:
        """Return what the runtime fuses."""

    @abstractmethod
    def load(self, model: bytes) -> Run:
        """Return what runs a model once, on an input of its own.

        Raises:
            HwnasError: the runtime does not load the model, or memory does not hold it.
        """

    def measure(
        self, model: bytes, *, least_runs: int = 10, least_s: float = 1.0, most_s: float = 60.0
    ) -> Measurement:
        """Time a model: at least so many calm runs and so many seconds, after one of warm-up.

        Where the machine does other work, it ends after three times as many runs or seconds.

        Raises:
            HwnasError: the runtime does not run the model, or memory does not hold it.
        """
        return self._timed(self.load(model), least_runs, 3 * least_runs, least_s, most_s)

    def profile(
        self, model: bytes, *, seconds: float = 0.03
    ) -> tuple[list[KernelTiming], Measurement]:
        """Return no kernels, and the whole network's times; see `devices.contract.Device`.

        Raises:
            HwnasError: the runtime does not run the model, or memory does not hold it.
        """
        return [], self._timed(self.load(model), CALM_RUNS, MOST_RUNS, seconds)

    def _timed(
        self, run: Run, calm_runs: int, most_runs: int, least_s: float, most_s: float = 60.0
    ) -> Measurement:
        """Run until enough runs were calm and enough time is over, but not for ever."""
        for _ in range(WARM_UP):
            self._run(run)
        walls: list[float] = []
        cpus: list[float] = []
        calm: list[bool] = []
        began = time.perf_counter()
        before = self._pace()
        while True:
            preempted = self._preemptions()
            cpu, wall = self._cpu_clock(), time.perf_counter()
            self._run(run)
            wall_end, cpu_end = time.perf_counter(), self._cpu_clock()
            walls.append(wall_end - wall)
            cpus.append((cpu_end - cpu) / self.threads)
            alone = (
                walls[-1] <= CONTENDED * cpus[-1]
                if self._alone
                else self._preemptions() == preempted
            )
            after = self._pace()
            calm.append(alone and max(before, after) <= SLOWED)
            before = after
            spent = wall_end - began
            enough = sum(calm) >= calm_runs and spent >= least_s
            if enough or spent >= most_s or (len(walls) >= most_runs and spent >= 3 * least_s):
                # What computes elsewhere costs this processor little time, which says nothing.
                told = cpus if self._alone or self.threads > 1 else walls
                return Measurement(tuple(walls), tuple(told), tuple(calm), self.threads)

    def _run(self, run: Run) -> None:
        try:
            run()
        except HwnasError:
            raise
        except Exception as error:  # runtimes' errors share no public base class
            self._explain(error, "run")

    def _explain(self, error: Exception, what: str) -> NoReturn:
        """Raise what a runtime's own error means.

        Raises:
            HwnasError: in any case.
        """
        memory = isinstance(error, MemoryError)
        raise failure(self.name, what, str(error) or type(error).__name__, memory) from None

    @staticmethod
    def _preemptions() -> int:
        """Return how often another process was given a core that this one was using."""
        return usage.getrusage(usage.RUSAGE_SELF).ru_nivcsw


_MEMORY = ("bad_alloc", "out of memory", "allocate memory", "failed to allocate", "unable to alloc")
"""What runtimes say when memory is short, in lower case."""


def failure(runtime: str, what: str, message: str, memory: bool = False) -> HwnasError:
    """Return the error that a runtime's own message means.

    Args:
        runtime: its name.
        what: what it does not do to the model: `load` or `run` it.
        message: what it says.
        memory: whether memory is known to be short; otherwise the message tells.
    """
    lines = [text.strip() for text in message.splitlines()]
    told = [text for text in lines if text and not text.startswith("Exception from")]
    line = (told or ["it does not say why"])[0][:300]
    if memory or any(mark in line.lower() for mark in _MEMORY):
        return HwnasError(
            f"out of memory: {runtime} cannot hold the model on this device; try a lower "
            "resolution or batch."
        )
    return HwnasError(f"{runtime} does not {what} the model: {line}")


def random_input(name: str, shape: Any, is_float: bool = True) -> NDArray[np.float32]:
    """Return a random image of the shape that a model states.

    Raises:
        HwnasError: the shape is open, or the input is not made of floats.
    """
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise HwnasError(
            f"the model's input '{name}' has the open shape {list(shape)}; "
            "export it with fixed sizes."
        )
    if not is_float:
        raise HwnasError(f"the model's input '{name}' is not float.")
    image: NDArray[np.float32] = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return image

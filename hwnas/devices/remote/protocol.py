"""What is asked of a runner on the far end and what it answers: options, and JSON.

Each runner takes the options that `Request.arguments` writes, and writes what `Answer` and
`FarEnvironment` hold. What comes from the far end is data of unknown origin: it is checked here,
and `printable` takes what a terminal would obey out of messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeVar

import msgspec

from ...errors import HwnasError

SCHEMA = "hwnas.runner/1"


@dataclass(frozen=True)
class Request:
    """What to time, and for how long; the fields are a runner's options of the same names.

    Files are names in the runner's own folder.

    Attributes:
        model: file of the ONNX model; its inputs have fixed sizes and hold floats.
        out: file of the answer. It is written beside and moved there, so it is whole or absent.
        threads: threads that the model runs on.
        provider: onnxruntime's execution provider, `cpu` or `xnnpack`.
        optimization: onnxruntime's level of graph optimisation, `all` or `basic`.
        cores: cores to be pinned to, `4-7` or `0,2`; '' for all.
        warm_up: runs that do not count.
        calm_runs: undisturbed runs that are enough, once `least_s` is over. A run of one thread is
            calm if its wall time is at most 3 % above its CPU time; of several, if no thread of
            the process was preempted in it.
        most_runs: runs after which it ends, calm or not, once three times `least_s` is over.
        least_s: seconds to run at least.
        most_s: seconds after which it ends in any case; the run that is going on is the last.
        profile: prefix of onnxruntime's own profile. The runs then happen twice, with the
            profiler and without; the times of the answer are those without.
        inputs: file of the inputs' values, raw little-endian float32, one input behind another;
            '' for values from a generator of fixed seed.
        outputs: file to write the outputs to, in the same form; '' for none.
        cool_down_c: wait before the first run until the hottest sensor shows less, in degrees
            Celsius; 0 for no waiting.
        cool_down_most_s: seconds to wait for that at most.
    """

    model: str
    out: str
    threads: int = 1
    provider: str = "cpu"
    optimization: str = "all"
    cores: str = ""
    warm_up: int = 1
    calm_runs: int = 10
    most_runs: int = 30
    least_s: float = 1.0
    most_s: float = 60.0
    profile: str = ""
    inputs: str = ""
    outputs: str = ""
    cool_down_c: float = 0.0
    cool_down_most_s: float = 60.0

    def arguments(self) -> list[str]:
        """Return the runner's arguments: `--most-s 60` for each field that is not empty."""
        found: list[str] = []
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            text = f"{value:.9g}" if isinstance(value, float) else str(value)
            if text:
                found += [f"--{name.replace('_', '-')}", text]
        return found


@dataclass(frozen=True)
class State:
    """How the far end is at one moment: sensors in degrees Celsius, cores' clocks in Hz.

    Empty where its system does not tell.
    """

    temperature_c: dict[str, float] = field(default_factory=dict)
    frequency_hz: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Why a runner has no times: `memory`, `load`, `run`, `provider`, `busy` or `usage`.

    A runner exits with 1 then, with 2 for `usage`, and with 75 (EX_TEMPFAIL of sysexits.h) for
    `busy`: another client measures, as the lock on the file `lock` in the runner's folder says.
    """

    kind: Literal["memory", "load", "run", "provider", "busy", "usage"]
    message: str


@dataclass(frozen=True)
class CoolDown:
    """How long a runner waited to cool down, and whether it was cool then."""

    waited_s: float
    reached: bool


@dataclass(frozen=True)
class Answer:
    """What a runner measured, or why it did not.

    Attributes:
        schema: SCHEMA.
        wall_s: wall time of each run behind the warm-up.
        cpu_s: CPU time of each run: of its thread, or of the process over the threads.
        preempted: involuntary switches of the process in each run.
        before, after: the far end around the runs.
        profile: file of onnxruntime's profile, where one was asked for.
        cool_down: where one was asked for and there is a sensor.
        error: why there are no times.
    """

    schema: Literal["hwnas.runner/1"]
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    preempted: list[int] = field(default_factory=list)
    before: State = field(default_factory=State)
    after: State = field(default_factory=State)
    profile: str | None = None
    cool_down: CoolDown | None = None
    error: Failure | None = None

    def samples(
        self, threads: int
    ) -> tuple[tuple[float, ...], tuple[float, ...], tuple[bool, ...]]:
        """Return wall times, CPU times, and which runs were calm, as a `Measurement` takes them.

        Raises:
            HwnasError: they are no times.
        """
        samples = len(self.wall_s)
        if not samples or {len(self.cpu_s), len(self.preempted)} != {samples}:
            raise malformed("it does not hold as many wall times as CPU times, or none")
        if min(*self.wall_s, *self.cpu_s) < 0 or not min(self.wall_s) > 0:
            raise malformed("a time is not positive")
        # CPU time tells whether one thread was disturbed; several wait for each other as well.
        calm = () if threads == 1 else tuple(switches == 0 for switches in self.preempted)
        return tuple(self.wall_s), tuple(self.cpu_s), calm


@dataclass(frozen=True)
class Core:
    """A core that a runner may use; None what the system does not tell.

    Attributes:
        index: its number.
        most_hz: the highest clock that the hardware has (`cpuinfo_max_freq`).
        limit_hz: the highest clock that the system allows now (`scaling_max_freq`).
        governor: what chooses the clock.
    """

    index: int
    most_hz: float | None = None
    limit_hz: float | None = None
    governor: str | None = None


@dataclass(frozen=True)
class FarEnvironment:
    """What a runner tells of its machine.

    Attributes:
        schema: SCHEMA.
        runtime: onnxruntime and its version.
        providers: the execution providers that it was built with, by onnxruntime's names.
        machine: the processor's architecture, as `uname -m` says.
        system: the operating system and its release.
        cpu: the machine's or processor's model; '' where the system does not tell.
        power_mode: the mode of boards that have such modes; '' elsewhere.
        cores: those that the runner may use.
    """

    schema: Literal["hwnas.runner/1"]
    runtime: str
    machine: str
    system: str
    cpu: str = ""
    power_mode: str = ""
    providers: list[str] = field(default_factory=list)
    cores: list[Core] = field(default_factory=list)


T = TypeVar("T", Answer, FarEnvironment)


def parse(data: bytes, kind: type[T]) -> T:
    """Return what a runner wrote.

    Raises:
        HwnasError: it is not what runners of this version write.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(printable(str(error))) from None


def malformed(reason: str) -> HwnasError:
    """Return the error for an answer that cannot be used."""
    return HwnasError(
        f"the runner's answer cannot be used: {reason}. It may be another version's: build it "
        "again from this version's source."
    )


def printable(text: str, most: int = 300) -> str:
    """Return a text of the far end for a message: one line, without control characters."""
    spaced = "".join(c if c.isprintable() else " " for c in text[: 4 * most])
    return " ".join(spaced.split())[:most]

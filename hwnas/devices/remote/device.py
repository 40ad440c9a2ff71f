"""A device on a far end: the contract of devices, kept through a transport and a runner."""

from __future__ import annotations

import json
import re
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ...errors import DeviceUnavailableError, HwnasError, UsageError
from ...lowering.kernels import Fusion
from .. import onnxruntime_graph, spec
from ..local import CALM_RUNS, MOST_RUNS, WARM_UP, failure
from ..measurement import UNKNOWN, KernelTiming, Measurement
from ..spec import DeviceSpec
from .protocol import (
    Answer,
    CoolDown,
    Core,
    FarEnvironment,
    Request,
    State,
    malformed,
    parse,
    printable,
)
from .transport import Result, Transport

PROVIDERS = {"cpu": "CPUExecutionProvider", "xnnpack": "XnnpackExecutionProvider"}
"""What runners take as `--provider`, by onnxruntime's names."""

KILLED = 128 + 9
"""How a command ends that the system kills, which it does when memory is short."""


@dataclass(frozen=True)
class RemoteMeasurement(Measurement):
    """What a runner measured, and how hot and how fast the far end was around the runs.

    Attributes:
        before, after: sensors and clocks.
        cool_down: how long it waited to cool down, where it was told to and has a sensor.
    """

    before: State = field(default_factory=State)
    after: State = field(default_factory=State)
    cool_down: CoolDown | None = None

    def details(self) -> dict[str, Any]:
        """Return sensors, clocks and the wait."""
        waited = asdict(self.cool_down) if self.cool_down else None
        return {"before": _told(self.before), "after": _told(self.after), "cool_down": waited}


class RemoteDevice:
    """Runs ONNX models by onnxruntime on a far end; see `contract.Device`.

    Args:
        transport: how it is reached.
        threads: threads that a network runs on.
        precision: `fp32`, or `int8`: float models are quantised here before they are sent.
        optimization: onnxruntime's level of graph optimisation, `all` or `basic`.
        provider: a key of PROVIDERS; of XNNPACK's kernels no times are told.
        cores: cores to run on, `4-7`; '' for the fastest, as many as threads.
        cool_down_c: wait before each measurement until no sensor shows more; 0 for no waiting.
    """

    margin_s = 120.0
    """How much longer than asked for a runner may take: for loading, and for one slow run."""

    cool_down_most_s = 120.0

    limits_are_settings = True
    """Whether the highest clock that the system allows is a setting, which times belong to, or
    moves with the temperature."""

    def __init__(
        self,
        transport: Transport,
        threads: int = 1,
        precision: str = "fp32",
        optimization: str = "all",
        provider: str = "cpu",
        cores: str = "",
        cool_down_c: float = 0.0,
    ) -> None:
        if not re.fullmatch(r"(\d{1,4}(-\d{1,4})?(,(?!$)|$))*", cores):
            raise UsageError(f"the cores are '{cores}'; give numbers and ranges, '4-7' or '0,2'.")
        self.resource = transport.resource
        self.tells_kernels = provider == "cpu"
        self.threads = threads
        self.precision = precision
        self.optimization = optimization
        self.provider = provider
        self._cores = cores
        self._cool_down_c = cool_down_c
        self._transport = transport
        self._known: FarEnvironment | None = None

    def environment(self) -> dict[str, Any]:
        """Return the far machine, its runtime and how networks run there.

        Raises:
            DeviceUnavailableError: it cannot be reached, or its onnxruntime lacks the provider.
            UsageError: it does not have so many cores.
        """
        self._known = None  # what it is allowed to do may have changed
        far = self._far()
        cores = self._chosen(far)
        used = [core for core in far.cores if str(core.index) in _listed(cores)] or far.cores
        return {
            **self._transport.about(),
            "cpu": printable(far.cpu) or UNKNOWN,
            "machine": printable(far.machine),
            "system": printable(far.system),
            "runtime": printable(far.runtime),
            "provider": PROVIDERS[self.provider],
            "driver": "none",
            "threads": self.threads,
            "cores": cores or "all",
            "precision": self.precision,
            "optimization": self.optimization,
            "clock": self._clock(used),
            "power_mode": printable(far.power_mode)
            or _joined({printable(core.governor or "") for core in used}),
        }

    def fusion(self) -> Fusion:
        """Return what onnxruntime fuses there, as a small network shows it.

        Raises:
            HwnasError: the network does not run there.
        """
        if self.provider == "xnnpack":
            return Fusion(add=False, rules="xnnpack")
        return onnxruntime_graph.fusion(
            self.precision,
            self.optimization,
            lambda model: self.profile(model, seconds=0.0)[0],
        )

    def measure(
        self, model: bytes, *, least_runs: int = 10, least_s: float = 1.0, most_s: float = 60.0
    ) -> Measurement:
        """Time a whole network; see `contract.Device`.

        Raises:
            DeviceUnavailableError: it cannot be reached, or another host measures on it.
            DeviceLostError: it went away, or does not answer in time.
            HwnasError: onnxruntime does not run the model there.
        """
        request = self._request(
            calm_runs=least_runs, most_runs=3 * least_runs, least_s=least_s, most_s=most_s
        )
        return self._answer(model, request)[0]

    def profile(
        self, model: bytes, *, seconds: float = 0.03
    ) -> tuple[list[KernelTiming], Measurement]:
        """Time each kernel by onnxruntime's profiler, then the whole network without it.

        Raises:
            DeviceUnavailableError, DeviceLostError, HwnasError: as `measure`.
        """
        request = self._request(
            profile="profile" if self.tells_kernels else "",
            calm_runs=CALM_RUNS,
            most_runs=MOST_RUNS,
            least_s=seconds,
        )
        measured, timings = self._answer(model, request)
        return timings, measured

    def _request(self, **limits: Any) -> Request:
        return Request(
            "",
            "",
            threads=self.threads,
            provider=self.provider,
            optimization=self.optimization,
            cores=self._chosen(self._far()),
            warm_up=WARM_UP,
            cool_down_c=self._cool_down_c,
            cool_down_most_s=self.cool_down_most_s,
            **limits,
        )

    def _answer(self, model: bytes, request: Request) -> tuple[Measurement, list[KernelTiming]]:
        """Send a model, have it timed, and take the answer in; the far end keeps no file of it."""
        token = f"run-{secrets.token_hex(6)}-"
        request = replace(
            request,
            model=f"{token}model.onnx",
            out=f"{token}answer.json",
            profile=request.profile and token + request.profile,
        )
        if self.precision == "int8":
            model = onnxruntime_graph.quantized(model)
        runner = self._transport.runner()
        limit_s = request.most_s * (2 if request.profile else 1) + self.margin_s
        if request.cool_down_c:
            limit_s += request.cool_down_most_s
        try:
            self._transport.push(model, request.model)
            result = self._transport.run([*runner, *request.arguments()], limit_s)
            answer = self._read(result, request.out)
            wall, cpu, calm = answer.samples(self.threads)
            measured = RemoteMeasurement(
                wall, cpu, calm, self.threads, answer.before, answer.after, answer.cool_down
            )
            timings = self._kernels(answer, token) if request.profile else []
        finally:
            with suppress(DeviceUnavailableError):  # that it is gone is said already
                self._transport.remove(token)
        return measured, timings

    def _read(self, result: Result, name: str) -> Answer:
        """Return a runner's answer.

        Raises:
            HwnasError: it says why there is none, or there is none at all.
        """
        try:
            answer = parse(self._transport.pull(name), Answer)
        except FileNotFoundError:
            raise _unanswered(result) from None
        if answer.error is None:
            return answer
        message = printable(answer.error.message)
        if answer.error.kind in ("memory", "load", "run"):
            what = "run" if answer.error.kind == "memory" else answer.error.kind
            raise failure("onnxruntime", what, message, answer.error.kind == "memory")
        if answer.error.kind == "busy":
            raise _busy(self.resource)
        if answer.error.kind == "provider":
            raise DeviceUnavailableError(
                f"onnxruntime on the device could not start {PROVIDERS[self.provider]}: {message}"
            )
        raise malformed(message)

    def _kernels(self, answer: Answer, token: str) -> list[KernelTiming]:
        """Return the kernels of the profile that an answer names.

        Raises:
            HwnasError: it names none of its own, or it is not onnxruntime's.
        """
        name = answer.profile or ""
        if not name.startswith(token) or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise malformed(f"it names the profile '{printable(name)}'")
        try:
            events = json.loads(self._transport.pull(name))
            return onnxruntime_graph.timings(events, WARM_UP)
        except FileNotFoundError:
            raise malformed("the profile that it names is not there") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise malformed("its profile is not onnxruntime's") from None

    def _clock(self, cores: list[Core]) -> str:
        limits = {core.limit_hz if self.limits_are_settings else core.most_hz for core in cores}
        known = {f"at most {limit / 1e6:.0f} MHz" for limit in limits if limit is not None}
        return UNKNOWN if None in limits else _joined(known)

    def _far(self) -> FarEnvironment:
        """Return what the runner tells of its machine, having seen that it has the provider."""
        if self._known is not None:
            return self._known
        result = self._transport.run([*self._transport.runner(), "--environment"], self.margin_s)
        if result.exit_code != 0:
            raise _unanswered(result)
        far = parse(result.stdout, FarEnvironment)
        wanted = PROVIDERS[self.provider]
        if wanted not in far.providers:
            known = ", ".join(printable(name) for name in far.providers) or "none"
            raise DeviceUnavailableError(
                f"onnxruntime on the device has no {wanted}, only {known}: give the runner an "
                "onnxruntime that was built with it, or leave the provider out."
            )
        self._known = far
        return far

    def _chosen(self, far: FarEnvironment) -> str:
        """Return the cores to run on: those asked for, else the fastest; '' for all.

        Raises:
            UsageError: there are not so many.
        """
        have = {str(core.index) for core in far.cores}
        wanted = _listed(self._cores) or have
        if have and not wanted <= have:
            raise UsageError(
                f"--cores is '{self._cores}'; the device lets a program use the cores "
                f"{', '.join(sorted(have, key=int))}."
            )
        if wanted and self.threads > len(wanted):
            raise UsageError(
                f"--threads is {self.threads}; there are {len(wanted)} cores to use on the device."
            )
        if self._cores:
            return self._cores
        if not far.cores or any(core.most_hz is None for core in far.cores):
            return ""  # the system does not say which are fast, so let it choose
        fastest = sorted(far.cores, key=lambda core: (-(core.most_hz or 0), -core.index))
        return ",".join(str(i) for i in sorted(core.index for core in fastest[: self.threads]))


def like_phone(
    connection: str, name: str, about: str, provider: str = "cpu", **changes: Any
) -> DeviceSpec:
    """Return a device that is used like the shipped Pixel 2: images of 320x320, one at a time."""
    fusion = (
        Fusion(add=False, rules="xnnpack") if provider == "xnnpack" else Fusion(rules="onnxruntime")
    )
    return replace(
        spec.shipped("pixel2-cpu-fp32"),
        name=name,
        about=f"{about}, FP32, one image at 320x320",
        runtime="onnxruntime",
        connection=connection,
        fusion=fusion,
        **changes,
    )


def file_name(text: str) -> str:
    """Return a text as a name that may be a file's and a device's, `ssh-pi-10.0.0.7`."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:64] or "device"


def _listed(cores: str) -> set[str]:
    """Return the numbers of the cores of a list, `0,4-7`."""
    found: set[str] = set()
    for part in filter(None, cores.split(",")):
        first, _, last = part.partition("-")
        found |= {str(i) for i in range(int(first), int(last or first) + 1)}
    return found


def _told(state: State) -> dict[str, Any]:
    """Return a state for a document; the names are the far end's."""
    return {
        field: {printable(name, 80): value for name, value in values.items()}
        for field, values in asdict(state).items()
    }


def _joined(texts: set[str]) -> str:
    return ", ".join(sorted(filter(None, texts))) or UNKNOWN


def _busy(resource: str) -> DeviceUnavailableError:
    return DeviceUnavailableError(
        f"another client, of another host maybe, measures on '{resource}'; two measurements at a "
        "time would disturb each other. Wait until it ends, or end it, and repeat the command."
    )


def _unanswered(result: Result) -> HwnasError:
    """Return the error for a runner that ended without an answer."""
    if result.exit_code == KILLED:
        return failure("onnxruntime", "run", "", memory=True)
    told = printable((result.stderr or result.stdout).decode(errors="replace"))
    return HwnasError(
        f"the runner ended with exit code {result.exit_code} and no answer: {told or 'not a word'}"
    )

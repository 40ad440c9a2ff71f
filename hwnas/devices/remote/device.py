"""A device on a far end: the contract of devices, kept through a transport and a runner."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ...errors import DeviceUnavailableError
from ...lowering.kernels import Fusion
from .. import onnxruntime_graph, onnxruntime_providers
from ..local import CALM_RUNS, MOST_RUNS, WARM_UP
from ..measurement import UNKNOWN, KernelTiming, Measurement
from . import answers
from . import cores as core_lists
from .protocol import Answer, FarEnvironment, Request, malformed, parse, printable
from .transport import Result, Transport

PROVIDERS = {name: onnxruntime_providers.PROVIDERS[name] for name in ("cpu", "xnnpack")}
"""What runners take as `--provider`."""


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
        self.resource = transport.resource
        self.tells_kernels = provider == "cpu"
        self.threads = threads
        self.precision = precision
        self.optimization = optimization
        self.provider = provider
        self._cores = core_lists.check(cores)
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
        cores = core_lists.chosen(far.cores, self._cores, self.threads)
        used = core_lists.used(far.cores, cores)
        return {
            **self._transport.about(),
            "cpu": printable(far.cpu) or UNKNOWN,
            "machine": printable(far.machine),
            "system": printable(far.system),
            "runtime": printable(far.runtime),
            "provider": PROVIDERS[self.provider].name,
            "driver": "none",
            "threads": self.threads,
            "cores": cores or "all",
            "precision": self.precision,
            "optimization": self.optimization,
            "clock": core_lists.clock(used, self.limits_are_settings),
            "power_mode": printable(far.power_mode) or core_lists.governors(used),
        }

    def fusion(self) -> Fusion:
        """Return what onnxruntime fuses there, as a small network shows it.

        Raises:
            HwnasError: the network does not run there.
        """
        if not self.tells_kernels:
            return PROVIDERS[self.provider].fusion
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
            cores=core_lists.chosen(self._far().cores, self._cores, self.threads),
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
            measured = answers.measurement(answer, self.threads)
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
            raise answers.absent(result) from None
        if answer.error is not None:
            raise answers.refused(answer.error, self.resource)
        return answer

    def _kernels(self, answer: Answer, token: str) -> list[KernelTiming]:
        """Return the kernels of the profile that an answer names.

        Raises:
            HwnasError: it names none of its own, or it is not onnxruntime's.
        """
        name = answer.profile or ""
        if not name.startswith(token) or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise malformed(f"it names the profile '{printable(name)}'")
        try:
            return answers.kernels(self._transport.pull(name))
        except FileNotFoundError:
            raise malformed("the profile that it names is not there") from None

    def _far(self) -> FarEnvironment:
        """Return what the runner tells of its machine, having seen that it has the provider."""
        if self._known is not None:
            return self._known
        result = self._transport.run([*self._transport.runner(), "--environment"], self.margin_s)
        if result.exit_code != 0:
            raise answers.absent(result)
        far = parse(result.stdout, FarEnvironment)
        wanted = PROVIDERS[self.provider].name
        if wanted not in far.providers:
            known = ", ".join(printable(name) for name in far.providers) or "none"
            raise DeviceUnavailableError(
                f"onnxruntime on the device has no {wanted}, only {known}: give the runner an "
                "onnxruntime that was built with it, or leave the provider out."
            )
        self._known = far
        return far


def file_name(text: str) -> str:
    """Return a text as a name that may be a file's and a device's, `ssh-pi-10.0.0.7`."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:64] or "device"

"""What every adapter to a device keeps: a class of tests that its own test class inherits.

A subclass says how to reach the device (`connection`), and, where the runtime does not run in
this process, how to look into a run (`before_each_run`) and how the device goes away (`lose`).
"""

from __future__ import annotations

import contextlib
import itertools
import math
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hwnas.architecture import lower, spaces
from hwnas.architecture.graph import Size
from hwnas.devices.contract import ENVIRONMENT, Device
from hwnas.devices.lease import lease
from hwnas.devices.registry import connect, described
from hwnas.errors import DeviceLostError, DeviceUnavailableError, HwnasError
from hwnas.lowering.onnx_writer import to_onnx
from hwnas.lowering.weights import filler
from hwnas.profiling import session
from hwnas.profiling.profile import NetworkRecord, from_record
from hwnas.profiling.session import Sample, WholeNetworks, collect
from hwnas.store.journal import Journal


def tiny(resolution: Size = (64, 64), batch: int = 1) -> bytes:
    """Return the smallest network of the mobile space as an ONNX model."""
    space = spaces.load("mobile")
    graph = lower(space.decode(space.narrowest()), resolution, batch=batch)
    data: bytes = to_onnx(graph, filler(graph)).SerializeToString()
    return data


def hold(resource: str, held, done) -> None:
    """Hold a lease in another process until told."""
    with lease(resource):
        held.set()
        done.wait(30)


class DeviceContract:
    """Inherit it, and give `connection`."""

    connection: ClassVar[str]

    @pytest.fixture
    def device(self) -> Device:
        return self.connect()

    def connect(self) -> Device:
        """Return the device, connected anew."""
        return connect(described(self.connection))

    def before_each_run(
        self, monkeypatch: pytest.MonkeyPatch, device: Device, hook: Callable[[], None]
    ) -> None:
        """Have a hook called before each run of a model, warm-up included."""
        original = device._timed

        def timed(run, *args, **options):
            def hooked() -> None:
                hook()
                run()

            return original(hooked, *args, **options)

        monkeypatch.setattr(device, "_timed", timed)

    def interruptible(self) -> contextlib.AbstractContextManager[None]:
        """Return what stands around an interruption by a hook."""
        return contextlib.nullcontext()

    def lose(
        self, monkeypatch: pytest.MonkeyPatch, device: Device, when: Callable[[], bool]
    ) -> None:
        """Have the device go away in the first run at which `when` says so."""

        def hook() -> None:
            if when():
                raise DeviceLostError("the device went away")

        self.before_each_run(monkeypatch, device, hook)

    def test_the_environment_names_what_times_depend_on(self, device: Device) -> None:
        environment = device.environment()
        assert set(ENVIRONMENT) <= set(environment)
        assert all(isinstance(value, (str, int, float)) for value in environment.values())
        assert environment == self.connect().environment()  # or no profile could go on

    def test_at_least_so_many_runs_behind_a_warm_up(
        self, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        runs: list[float] = []
        self.before_each_run(monkeypatch, device, lambda: runs.append(time.perf_counter()))
        measured = device.measure(tiny(), least_runs=6, least_s=0.0)
        assert len(measured.wall_samples_s) >= 6
        assert len(runs) > len(measured.wall_samples_s)  # the warm-up does not count
        assert len(measured.cpu_samples_s) == len(measured.calm) == len(measured.wall_samples_s)
        assert all(seconds > 0 for seconds in measured.wall_samples_s)
        assert 0 < measured.least_s <= measured.typical_s

    def test_at_least_so_many_seconds(self, device: Device) -> None:
        began = time.perf_counter()
        measured = device.measure(tiny(), least_runs=1, least_s=0.2)
        assert time.perf_counter() - began >= 0.2
        assert len(measured.wall_samples_s) > 1

    def test_it_ends_in_time(self, device: Device) -> None:
        measured = device.measure(tiny(), least_runs=10**9, least_s=1e9, most_s=0.1)
        assert len(measured.wall_samples_s) >= 1
        assert sum(measured.wall_samples_s) < 5.0

    def test_it_may_be_interrupted_and_used_again(
        self, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            self.before_each_run(patch, device, failing_after(3, KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt), self.interruptible(), lease(device.resource):
                device.measure(tiny(), least_runs=50, least_s=0.0)
        with lease(device.resource, wait_s=0.0):  # it was given back
            assert device.measure(tiny(), least_runs=1, least_s=0.0).least_s > 0

    def test_a_model_that_no_memory_holds(self, device: Device) -> None:
        with pytest.raises(HwnasError, match=r"out of memory.*lower resolution"):
            device.measure(tiny((2**14, 2**14), batch=2**16), least_runs=1, least_s=0.0)
        assert device.measure(tiny(), least_runs=1, least_s=0.0).least_s > 0

    def test_memory_that_runs_out_half_way(
        self, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        error = RuntimeError("Failed to allocate memory for requested buffer of size 123")
        self.before_each_run(monkeypatch, device, failing_after(2, error))
        with pytest.raises(HwnasError, match="out of memory"):
            device.measure(tiny(), least_runs=5, least_s=0.0)

    def test_what_is_no_model_is_an_error(self, device: Device) -> None:
        with pytest.raises(HwnasError, match="does not load"):
            device.measure(b"no model")

    def test_a_lost_device_loses_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(session, "SPELL", 2)
        monkeypatch.setattr(session, "DRIFT", math.inf)
        monkeypatch.setattr(session, "VISITS", 1)  # a busy machine is not this test's business
        path = tmp_path / "profile.journal"

        def profiled(device: Device, journal: Journal) -> tuple[NetworkRecord, ...]:
            whole = device if device.tells_kernels else WholeNetworks(device)
            return collect(whole, device.fusion(), small_samples(), journal, 1e9, networks=3)

        device = self.connect()
        with Journal(path, {}) as journal:
            self.lose(monkeypatch, device, lambda: any("network" in r for r in journal.records))
            with pytest.raises(DeviceLostError) as caught:
                profiled(device, journal)
        assert caught.value.exit_code == 4
        with Journal(path, {}) as journal:
            before = [record for record in journal.records if "network" in record]
            assert len(before) == 1
            networks = profiled(self.connect(), journal)
        # The first is the one of before; what was drawn beside it is not measured any more.
        drawn = [sample.architecture for sample in itertools.islice(small_samples(), 4)]
        assert [network.architecture for network in networks] == [drawn[0], *drawn[2:]]
        assert networks[0] == from_record(before[0]["network"])
        assert all(bool(network.kernels) == device.tells_kernels for network in networks)

    def test_a_profile_tells_the_network_and_its_kernels(self, device: Device) -> None:
        timings, whole = device.profile(tiny(), seconds=0.01)
        assert bool(timings) == device.tells_kernels
        assert len(whole.wall_samples_s) >= 5
        assert all(timing.samples_s and timing.seconds >= 0 for timing in timings)

    def test_two_clients_take_turns(self, device: Device) -> None:
        spawn = multiprocessing.get_context("spawn")
        held, done = spawn.Event(), spawn.Event()
        other = spawn.Process(target=hold, args=(device.resource, held, done))
        other.start()
        try:
            assert held.wait(30)
            with (
                pytest.raises(DeviceUnavailableError, match=rf"process {other.pid} \(.*Wait") as e,
                lease(device.resource, wait_s=0.0),
            ):
                pytest.fail("two clients at once")
            assert e.value.exit_code == 4
            done.set()
            with lease(device.resource, wait_s=30.0):
                assert os.getpid() != other.pid
        finally:
            done.set()
            other.join(30)


def failing_after(runs: int, error: BaseException) -> Callable[[], None]:
    """Return a hook that raises at the run behind so many."""
    count = itertools.count()

    def hook() -> None:
        if next(count) >= runs:
            raise error

    return hook


def small_samples():
    """Yield small networks, the same each time."""
    import numpy as np

    space = spaces.load("mobile")
    rng = np.random.default_rng(0)
    while True:
        yield Sample(space.decode(space.sample(rng)), (96, 96), 1)


class FarDeviceContract(DeviceContract):
    """Inherit it, set `far`, the far end, and connect to it. Its `hook` is called before each run;
    where that raises DeviceLostError, the far end goes away. Interruptions are its `interrupts`."""

    far: Any

    def before_each_run(
        self, monkeypatch: pytest.MonkeyPatch, device: Device, hook: Callable[[], None]
    ) -> None:
        monkeypatch.setattr(self.far, "hook", hook)

    def interruptible(self) -> contextlib.AbstractContextManager[None]:
        expected: contextlib.AbstractContextManager[None] = self.far.interrupts.expected()
        return expected

    def lose(
        self, monkeypatch: pytest.MonkeyPatch, device: Device, when: Callable[[], bool]
    ) -> None:
        def hook() -> None:
            if when():
                self.far.hook = None  # the cable is put in again
                raise DeviceLostError("the cable is pulled")

        self.before_each_run(monkeypatch, device, hook)

"""This machine as a device: what runs is what was predicted to run; what is measured is kept."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_devices import MadeUpDevice, small_samples

from hwnas.architecture import lower, spaces, zoo
from hwnas.devices import spec
from hwnas.devices.measurement import Measurement, Pace
from hwnas.devices.onnxruntime_cpu import OnnxRuntimeCpu
from hwnas.errors import DeviceUnavailableError, HwnasError, TooNoisyError, UsageError
from hwnas.latency.fitting import adding_up
from hwnas.latency.oracle import LatencyOracle
from hwnas.lowering.fusing import fuse
from hwnas.lowering.kernels import Fusion
from hwnas.lowering.onnx_reader import of_model
from hwnas.lowering.onnx_writer import to_onnx
from hwnas.lowering.weights import filler
from hwnas.profiling import profile as profiles
from hwnas.profiling.profile import Profile, match
from hwnas.profiling.session import (
    DRIFT,
    SPELL,
    Sample,
    WholeNetworks,
    collect,
    good_networks,
)
from hwnas.searchers.tables import AdditiveTerm
from hwnas.store import shelf
from hwnas.store.journal import Journal
from hwnas.workflows import profile as workflow
from hwnas.workflows.choosing import LeastSure
from hwnas.workflows.predict import load_predictor
from hwnas.workflows.profile import Plan
from hwnas.workflows.profiled import fit_profile
from hwnas.workflows.sampling import samples

CPU = dataclasses.replace(spec.load("cpu"), fusion=OnnxRuntimeCpu().fusion())


def architectures():
    for name in ("resnet", "mobile"):
        space = spaces.load(name)
        for seed in range(4):
            yield space.decode(space.sample(np.random.default_rng(seed)), f"{name}-{seed}")
    yield zoo.get("resnet50")
    yield zoo.get("mobilenetv2-1.0")


@pytest.mark.parametrize("architecture", list(architectures()), ids=lambda a: a.name)
def test_onnxruntime_executes_the_predicted_kernels(architecture) -> None:
    graph = lower(architecture, (96, 96))
    timings, measurement = OnnxRuntimeCpu().profile(
        to_onnx(graph, filler(graph)).SerializeToString(), seconds=0.01
    )
    kernels = match(architecture, (96, 96), 1, CPU.fusion, timings)
    assert sorted(map(str, (k for k, _ in kernels))) == sorted(map(str, fuse(graph, CPU.fusion)))
    assert all(seconds >= 0 for _, seconds in kernels)
    assert 0.3 < sum(s for _, s in kernels) / measurement.least_s < 1.7


@pytest.mark.parametrize("options", [{"precision": "int8"}, {"optimization": "basic"}])
@pytest.mark.parametrize("architecture", list(architectures())[1::3], ids=lambda a: a.name)
def test_other_ways_to_run_execute_their_own_kernels(architecture, options) -> None:
    runtime = OnnxRuntimeCpu(**options)
    graph = lower(architecture, (96, 96))
    timings, _ = runtime.profile(to_onnx(graph, filler(graph)).SerializeToString(), seconds=0.0)
    kernels = match(architecture, (96, 96), 1, runtime.fusion(), timings)
    expected = fuse(graph, runtime.fusion())
    assert sorted(map(str, (k for k, _ in kernels))) == sorted(map(str, expected))


@pytest.mark.parametrize("name", ["mobile", "resnet"])
@pytest.mark.parametrize(
    "fusion", [OnnxRuntimeCpu(precision="int8").fusion(), spec.load("openvino").fusion]
)
def test_a_space_and_its_architectures_agree_on_an_image(fusion: Fusion, name: str) -> None:
    """The kernel that takes the image in belongs to the stem, and to nothing behind it."""

    class Ones:
        constant_s = 0.0

        def table(self, kernel, where=None):
            shape = np.broadcast_shapes(np.shape(kernel.in_channels), np.shape(kernel.out_channels))
            return np.ones(shape)

    space = spaces.load(name)
    oracle = LatencyOracle(Ones(), fusion, (96, 96), 1)
    term = AdditiveTerm(space, oracle)
    candidate = space.sample(np.random.default_rng(0))
    total, channels = term.stem[candidate[0]], candidate[0]
    for row, genes in zip(term.rows, candidate[1:], strict=True):
        total += row(channels, genes)
        channels = genes[1]
    assert total == len(fuse(lower(space.decode(candidate), (96, 96)), fusion))


@pytest.mark.parametrize("architecture", list(architectures()), ids=lambda a: a.name)
@pytest.mark.parametrize("fold_norm", [True, False])
def test_the_onnx_file_reads_back_as_the_same_kernels(architecture, fold_norm: bool) -> None:
    graph = lower(architecture, (75, 96), batch=2)
    model = to_onnx(graph, filler(graph), fold_norm=fold_norm)
    read = of_model(model, "model.onnx")
    ours, theirs = (sorted(map(str, fuse(g, CPU.fusion))) for g in (graph, read))
    assert ours == theirs


def test_a_broken_model_is_an_error() -> None:
    with pytest.raises(HwnasError, match="does not load"):
        OnnxRuntimeCpu().measure(b"no model")


def test_contention_is_noticed() -> None:
    calm = Measurement((1.0, 1.02, 1.01), (1.0, 1.01, 1.0))
    busy = Measurement((1.5, 1.4, 1.6), (1.0, 1.01, 1.0))
    assert not calm.contended
    assert calm.latency_s == 1.01
    assert busy.contended
    assert busy.latency_s == 1.0


def test_calm_runs_are_believed() -> None:
    mixed = Measurement((1.5, 1.0, 1.9, 1.01), (1.4, 0.99, 1.8, 1.0), (False, True, False, True))
    assert not mixed.contended
    assert mixed.believed_s == (0.99, 1.0)
    assert mixed.least_s == 0.99
    never = Measurement((1.5, 1.6), (1.4, 1.3), (False, False))
    assert never.contended
    assert never.least_s == 1.3
    several = Measurement((1.0, 1.2, 1.1), (0.9, 0.9, 0.9), (True, False, True), threads=2)
    assert several.believed_s == (1.0, 1.1)  # CPU time says nothing about several threads
    assert several.latency_s == 1.1


def test_the_pace_is_relative_to_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first of each pair runs out of caches that a network has filled.
    taken = iter([2.0] * 50 + [9.0, 3.0, 4.0, 1.0, 2.0, 5.0])
    monkeypatch.setattr(Pace, "_timed", lambda self: next(taken))
    pace = Pace()
    assert [pace(), pace(), pace()] == [1.5, 1.0, 2.0]


def test_disturbed_runs_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    paces = iter([1.0, 1.0, 1.6, 1.6, 1.0, 1.0, *[1.0] * 99])
    monkeypatch.setattr(OnnxRuntimeCpu, "_preemptions", staticmethod(lambda: 0))
    runtime = OnnxRuntimeCpu(2)
    runtime._pace = lambda: next(paces)
    graph = lower(zoo.get("mobilenetv2-0.5"), (64, 64))
    model = to_onnx(graph, filler(graph)).SerializeToString()
    measured = runtime.measure(model, least_runs=3, least_s=0.0)
    assert measured.calm == (True, False, False, False, True, True)
    assert measured.threads == 2


def test_kernels_add_up_to_their_network() -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(30), rng.integers(10, 60, 30))
    true = rng.uniform(2e-5, 1e-3, len(rows))
    least = np.bincount(rows, weights=true)
    noise = rng.uniform(0.99, 1.01, 30)
    profiled = true * noise[rows] + 2e-6  # a profiler that adds two microseconds
    least[3] *= 1.5  # disturbed
    calm = np.arange(30) != 3
    found = adding_up(profiled, rows, least, calm)
    sums = np.bincount(rows, weights=found)
    assert np.abs(sums / least - 1)[calm].max() < 1e-9
    assert abs(sums[3] * 1.5 / least[3] - 1) < 0.03
    # A network that was measured in calm is believed, whatever its kernels say.
    believed = adding_up(profiled, rows, least, np.ones(30, dtype=bool))
    assert np.bincount(rows, weights=believed)[3] == pytest.approx(least[3])
    assert np.abs(found / true - 1).mean() < 0.01


class StopError(Exception):
    pass


def test_an_interrupted_profile_loses_nothing(tmp_path: Path) -> None:
    def limited(count: int):
        yield from itertools.islice(small_samples(), count)
        raise StopError

    path = tmp_path / "cpu.journal"
    with Journal(path, {"seed": 0}) as journal, pytest.raises(StopError):
        collect(MadeUpDevice(), CPU.fusion, limited(2 * SPELL + 3), journal, 1e9)
    with path.open("ab") as file:
        file.write(b'{"network": {"torn')
    device = MadeUpDevice()
    with Journal(path, {"seed": 0}) as journal:
        before = sum("network" in record for record in journal.records)
        assert before == 2 * SPELL
        with pytest.raises(StopError):
            collect(device, CPU.fusion, limited(4 * SPELL), journal, 1e9)
    assert device.calls == 2 * SPELL
    with Journal(path, {"seed": 0}) as journal:
        kept = good_networks(journal.records)
    names = [json.dumps(n["architecture"]["stages"]) for n in kept]
    expected = [
        json.dumps(json.loads(s.architecture.to_json())["stages"])
        for s in itertools.islice(small_samples(), 4 * SPELL)
    ]
    assert names == expected


def test_a_bad_spell_is_measured_again(tmp_path: Path) -> None:
    device = MadeUpDevice({3})

    def until(count: int):
        yield from itertools.islice(small_samples(), count)
        raise StopError

    with Journal(tmp_path / "j", {}) as journal:
        with pytest.raises(StopError):
            collect(device, CPU.fusion, until(4 * SPELL), journal, 1e9)
        networks = good_networks(journal.records)
    assert device.calls == 5 * SPELL
    assert len(networks) == 4 * SPELL
    assert DRIFT < 1


def test_a_profile_survives_the_disk_and_fits(tmp_path: Path) -> None:
    device = MadeUpDevice()
    records = []
    with Journal(tmp_path / "j", {}) as journal:

        def forty():
            yield from itertools.islice(small_samples(), 5 * SPELL)
            raise StopError

        with pytest.raises(StopError):
            collect(device, CPU.fusion, forty(), journal, 1e9)
        records = [profiles.from_record(r) for r in good_networks(journal.records)]
    profile = Profile("cpu", tuple(records), {"cpu": "made up", "runtime": "none"})
    profile.save(tmp_path / "cpu")
    loaded = profiles.load(tmp_path / "cpu")
    assert loaded == profile
    predictor = fit_profile(loaded, CPU)
    assert predictor.card.accuracy["held-out networks"]["rows"] >= 1
    assert predictor.card.network_quantiles.of == "networks"
    head = tmp_path / "cpu" / "profile.toml"
    head.write_text(head.read_text().replace("hwnas.profile/1", "hwnas.profile/9"))
    with pytest.raises(UsageError, match="Update hwnas"):
        profiles.load(tmp_path / "cpu")


class DisturbedDevice(MadeUpDevice):
    """Other work takes part in the first visit to each network, and in all visits to the third."""

    def __init__(self) -> None:
        super().__init__()
        self.visits: dict[bytes, int] = {}

    def profile(self, model: bytes, *, seconds: float = 0.1):
        timings, whole = super().profile(model)
        visit = self.visits[model] = self.visits.get(model, 0) + 1
        if visit == 1 or model == list(self.visits)[2]:
            slowed = [
                dataclasses.replace(t, samples_s=tuple(2 * s for s in t.samples_s)) for t in timings
            ]
            cpu_s = 2 * whole.least_s / visit
            return slowed, Measurement((2 * cpu_s,), (cpu_s,))
        return timings, whole


def test_a_disturbed_network_is_visited_again_and_the_least_counts(tmp_path: Path) -> None:
    device = DisturbedDevice()
    found, undisturbed = [], []
    for runtime, networks in ((device, found), (MadeUpDevice(), undisturbed)):
        with Journal(tmp_path / str(id(networks)), {}) as journal:
            networks += collect(
                runtime, CPU.fusion, small_samples(), journal, 1e9, networks=SPELL + 1
            )
    assert sorted(device.visits.values())[-2:] == [2, 3]
    assert [network.contended for network in found[:SPELL]] == [False, False, True, *[False] * 5]
    for one, other in zip(found[:SPELL], undisturbed, strict=False):
        assert one.architecture == other.architecture
        if not one.contended:
            assert one == other
    assert found[2].least_s == pytest.approx(2 / 3 * undisturbed[2].least_s)


def test_a_chooser_picks_each_spell_behind_the_first_from_more(tmp_path: Path) -> None:
    asked = []

    def last(pool, known, count):
        asked.append((len(pool), len(known), count))
        return list(pool[-count:])

    path = tmp_path / "j"
    for networks in (3 * SPELL, 5 * SPELL):  # the second time goes on with the first's journal
        with Journal(path, {}) as journal:
            measured = collect(
                MadeUpDevice(),
                CPU.fusion,
                small_samples(),
                journal,
                1e9,
                networks=networks,
                choose=last,
            )
    assert asked == [(3 * SPELL, n * SPELL, SPELL) for n in (2, 3, 4)]
    every = [s.architecture for s in itertools.islice(small_samples(), 11 * SPELL)]
    picked = [spell for n in (0, 1, 4, 7, 10) for spell in every[n * SPELL :][:SPELL]]
    assert [network.architecture for network in measured] == picked


def test_a_committee_disagrees_about_what_it_never_saw(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        known = collect(
            MadeUpDevice(), CPU.fusion, small_samples(), journal, 1e9, networks=2 * SPELL
        )
    like = list(itertools.islice(small_samples(), 2 * SPELL))
    strange = Sample(zoo.get("resnet50"), (224, 224), 1)
    chosen = LeastSure(CPU)([*like[:4], strange, *like[4:]], known, 1)
    assert chosen == [strange]


def test_whole_networks_and_as_many_as_asked_for(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        networks = collect(
            WholeNetworks(MadeUpDevice()),
            CPU.fusion,
            small_samples(),
            journal,
            1e9,
            networks=SPELL + 3,
        )
    assert len(networks) == SPELL + 3
    assert all(not network.kernels and network.least_s == 1.0 for network in networks)


def made_up(monkeypatch: pytest.MonkeyPatch, contended: bool) -> None:
    class Runtime(MadeUpDevice):
        def fusion(self) -> Fusion:
            return CPU.fusion

        def environment(self) -> dict[str, object]:
            return {"runtime": "made up"}

        def measure(self, model: bytes, **effort) -> Measurement:
            _, whole = self.profile(model)
            took = whole.least_s
            return Measurement((took,) * 3, (took,) * 3, (not contended,) * 3)

    monkeypatch.setattr(workflow, "connect", lambda device: Runtime())


def test_a_device_of_its_own_is_adapted_from_another(
    monkeypatch: pytest.MonkeyPatch, own_shelf: Path
) -> None:
    made_up(monkeypatch, contended=False)
    workflow.profile(Plan("cpu", networks=16))
    _, document = workflow.profile(Plan("cpu", threads=2, networks=10, source="any"))
    assert document["device"] == "cpu-2threads"
    assert document["adapted_from"] == "cpu"
    assert document["networks"] == 10
    device = spec.load("cpu-2threads")
    assert (device.threads, device.precision) == (2, "fp32")
    card = load_predictor(device).card
    assert card.provenance["adapted_from"] == "cpu"
    with pytest.raises(UsageError, match="give another --name"):
        workflow.profile(Plan("cpu", name="cpu-2threads", precision="int8"))


def test_a_second_profile_is_refused_while_the_first_one_fits(
    monkeypatch: pytest.MonkeyPatch, own_shelf: Path
) -> None:
    made_up(monkeypatch, contended=False)
    journal = own_shelf / "profiles" / "cpu.journal"
    measured: list[bytes] = []

    def keep_beside_another(*arguments: Any) -> Any:
        measured.append(journal.read_bytes())
        for resume in (False, True):
            plan = Plan("cpu", networks=16, resume=resume)
            with pytest.raises(DeviceUnavailableError, match=rf"process {os.getpid()} .*Wait") as e:
                workflow.profile(plan)
            assert e.value.exit_code == 4
            assert journal.read_bytes() == measured[0]
        raise HwnasError("it does not fit")

    with monkeypatch.context() as patch:
        patch.setattr(workflow, "keep", keep_beside_another)
        with pytest.raises(HwnasError, match="does not fit"):
            workflow.profile(Plan("cpu", networks=16))
    assert journal.read_bytes() == measured[0]
    workflow.profile(Plan("cpu", networks=16, resume=True))
    assert not journal.exists()
    assert shelf.entries("profiles")["cpu"].is_dir()


def test_contended_threads_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, contended=True)
    workflow.profile(Plan("cpu", networks=16))  # one thread: its CPU time counts
    with pytest.raises(TooNoisyError, match="2 threads need 2 processors") as caught:
        workflow.profile(Plan("cpu", threads=2, networks=10, source="cpu"))
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minutes": 0}, "--minutes is 0"),
        ({"networks": 3}, "8 at least"),
        ({"threads": 0}, "--threads is 0"),
        ({"threads": 4096}, "--threads is 4096; this machine has"),
        ({"precision": "fp8"}, "known are fp32, fp16, int8"),
        ({"optimization": "most"}, "known are all, basic"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(options, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        workflow.device_of(Plan("cpu", **options))


def test_sampled_networks_are_reproducible_and_mixed() -> None:
    a = list(itertools.islice(samples(3), 12))
    b = list(itertools.islice(samples(3), 12))
    assert a == b
    inside = [s.architecture for s in a if s.architecture is not None]
    assert {row.family for found in inside for row in found.rows} == {"bottleneck", "mobile"}
    assert [s.probe is not None for s in a] == 3 * [False, False, False, True]


def test_a_device_is_saved_and_found(own_shelf: Path) -> None:
    spec.save(dataclasses.replace(CPU, name="mine", batch=4))
    assert spec.load("mine").batch == 4
    assert "mine" in spec.names()
    with pytest.raises(UsageError, match="cannot name a device"):
        spec.save(dataclasses.replace(CPU, name="../mine"))

"""This machine as a device: what runs is what was predicted to run; what is measured is kept."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from hwnas.architecture import lower, spaces, zoo
from hwnas.devices import spec
from hwnas.devices.measurement import KernelTiming, Measurement
from hwnas.devices.onnxruntime_cpu import OnnxRuntimeCpu
from hwnas.errors import HwnasError, UsageError
from hwnas.lowering.kernels import fuse
from hwnas.lowering.onnx_reader import of_model
from hwnas.lowering.onnx_writer import to_onnx
from hwnas.lowering.weights import filler
from hwnas.profiling import profile as profiles
from hwnas.profiling.profile import Profile, match
from hwnas.profiling.session import DRIFT, SPELL, Sample, collect, good_networks
from hwnas.store.journal import Journal
from hwnas.workflows.profile import fit_profile
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


class MadeUpDevice:
    """Answers at once: every kernel takes a microsecond per thousand weights."""

    def __init__(self, slow_spells: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.spell = 0
        self.slow = slow_spells
        self.calls = 0

    def profile(self, model: bytes, *, seconds: float = 0.1):
        import onnx

        self.calls += 1
        graph = onnx.load_from_string(model).graph
        weights = {t.name: int(np.prod(t.dims)) for t in graph.initializer}
        shapes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in graph.output}
        timings = [
            KernelTiming(
                n.name, n.op_type, (1, 8, 8, 8), (weights.get(f"{n.name}.weight", 0) / 1e9,)
            )
            for n in graph.node
            if n.op_type in ("Conv", "AveragePool")
        ]
        timings += [
            KernelTiming(f"reorder_{name}", "ReorderOutput", tuple(shape), (1e-6,))
            for name, shape in shapes.items()
        ]
        total = sum(t.seconds for t in timings) + 1e-5
        return timings, Measurement((total,), (total,))

    def measure(self, model: bytes, *, least_runs=10, least_s=1.0, most_s=60.0) -> Measurement:
        self.spell += 1
        took = 2.0 if self.spell in self.slow else 1.0
        return Measurement((took,), (took,))


class StopError(Exception):
    pass


def small_samples():
    space = spaces.load("mobile")
    rng = np.random.default_rng(0)
    while True:
        yield Sample(space.decode(space.sample(rng)), (64, 64), 1)


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

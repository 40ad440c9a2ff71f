"""TensorRT on a GPU that is not there: against the recorded signatures of three releases."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import inspect
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fake_trtexec as fake_trtexec_program
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorrt_far_end as far
from device_contract import DeviceContract, tiny

from hwnas.architecture import lower, spaces, zoo
from hwnas.cli import main
from hwnas.devices.tensorrt import (
    availability,
    cuda,
    cuda_libraries,
    device,
    engine_file,
    layers,
    precision,
    trtexec,
    trtexec_files,
)
from hwnas.devices.tensorrt.builder import BatchProfile
from hwnas.devices.tensorrt.device import TensorRt
from hwnas.devices.tensorrt.kept import KEPT
from hwnas.devices.tensorrt.nvml import Clocks
from hwnas.errors import DeviceLostError, DeviceUnavailableError, HwnasError, UsageError
from hwnas.lowering import explicit_qdq
from hwnas.lowering.fusing import fuse
from hwnas.lowering.half import to_half
from hwnas.lowering.onnx_writer import to_onnx
from hwnas.lowering.weights import filler, he_normal
from hwnas.profiling.profile import match
from hwnas.workflows.profile import Plan, profile

A100 = availability.Found("NVIDIA A100-SXM4-40GB", (8, 0), 108)
V100 = availability.Found("Tesla V100-SXM2-16GB", (7, 0), 80)


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))


def attach(
    monkeypatch: pytest.MonkeyPatch,
    version: str = "11.4.0.106",
    gpu: far.Gpu | None = None,
    cuda_version: str = "13.5.0",
    by: str = "cuda-bindings",
) -> far.Gpu:
    """Put a GPU, TensorRT and CUDA where the adapter looks for them."""
    gpu = gpu or far.Gpu()
    found = availability.Found(gpu.name, gpu.capability, gpu.multiprocessors)
    monkeypatch.setattr(availability, "gpus", lambda: [found])
    monkeypatch.setitem(sys.modules, "tensorrt", far.tensorrt(version, gpu))
    monkeypatch.setitem(sys.modules, "pynvml", far.nvml(gpu))
    monkeypatch.setattr(availability, "require_cuda", lambda found: None)
    monkeypatch.setattr(cuda_libraries, "require_cuda", lambda found: None)
    monkeypatch.setattr("hwnas.devices.tensorrt.engine.WARM_UP_S", 0.0)
    monkeypatch.setitem(sys.modules, "cuda", type(sys)("cuda"))
    bindings = None
    if by == "cuda-bindings":
        bindings = type(sys)("cuda.bindings")
        bindings.runtime = far.cuda_runtime(cuda_version, gpu)
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    package = type(sys)("pycuda")
    package.driver = far.pycuda_driver(gpu)
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", package.driver)
    return gpu


def backbone(name: str = "mobilenetv2-0.5", resolution=(64, 64), batch: int = 2) -> bytes:
    graph = lower(zoo.get(name), resolution, batch=batch)
    data: bytes = to_onnx(graph, he_normal(graph, 0)).SerializeToString()
    return data


def bottlenecks():
    """Return the layers of a small network of bottleneck blocks."""
    space = spaces.load("resnet")
    return lower(space.decode(space.narrowest()), (64, 64))


class TestTensorRt(DeviceContract):
    """The contract of all devices, on the newest release."""

    connection = "cuda:0"

    @pytest.fixture(autouse=True)
    def attached(self, monkeypatch: pytest.MonkeyPatch) -> far.Gpu:
        self.gpu = attach(monkeypatch)
        return self.gpu

    def connect(self) -> TensorRt:
        return TensorRt(0, "fp32")  # nothing is converted: quicker

    def before_each_run(self, monkeypatch, device, hook) -> None:
        original = device._engine

        def hooked(*arguments):
            engine = original(*arguments)
            run = engine.run

            def run_hooked() -> None:
                try:
                    hook()
                except RuntimeError:  # the contract's own way to say that memory ran out
                    raise cuda.out_of_memory() from None
                run()

            engine.run = run_hooked
            return engine

        monkeypatch.setattr(device, "_engine", hooked)


@pytest.mark.parametrize("version", far.RELEASES)
@pytest.mark.parametrize("chosen", precision.PRECISIONS)
def test_every_release_builds_every_precision(version, chosen, monkeypatch) -> None:
    gpu = attach(monkeypatch, version, cuda_version="12.9.10")
    runtime = TensorRt(0, chosen)
    timings, whole = runtime.profile(backbone(), seconds=0.0)
    strong = version.startswith("11")
    assert runtime.environment()["strongly_typed"] == strong
    graph = lower(zoo.get("mobilenetv2-0.5"), (64, 64), batch=2)
    assert len(match(zoo.get("mobilenetv2-0.5"), (64, 64), 2, runtime.fusion(), timings)) == len(
        fuse(graph, runtime.fusion())
    )
    between = whole.least_s - sum(t.seconds for t in timings)
    # Between launches; of kernels, of the input's change of layout, and of the four outputs'.
    assert 1e-7 * len(timings) < between < 1e-7 * (len(timings) + 6)
    built = next(iter(gpu.memory_models.values()))
    kinds = {t.data_type for t in onnx.load_model_from_string(built).graph.initializer}
    halves = onnx.TensorProto.FLOAT16 in kinds
    assert halves == (strong and chosen != "fp32")  # before, the builder chooses
    assert (onnx.TensorProto.INT8 in kinds) == (chosen == "int8")


def test_flags_are_asked_for_where_a_release_has_them(monkeypatch) -> None:
    gpu = attach(monkeypatch, "10.4.0")
    plan = json.loads(TensorRt(0, "int8").build(backbone())[0])
    assert plan["flags"] == ["FP16", "INT8"]
    assert gpu.runs == 0  # made-up ranges: nothing to compare
    attach(monkeypatch, "11.4.0.106")
    assert json.loads(TensorRt(0, "int8").build(backbone())[0])["flags"] == []


@pytest.mark.parametrize("by", ["cuda-bindings", "pycuda"])
def test_times_with_transfers_and_as_a_graph(by: str, monkeypatch) -> None:
    attach(monkeypatch, by=by)
    runtime = TensorRt(0, "fp32")
    measured = runtime.measure(backbone(), least_runs=5, least_s=0.0)
    details = measured.details()
    assert details["with_transfers_s"] > measured.latency_s
    if by == "pycuda":
        assert details["cuda_graph_s"] is None
        assert runtime.environment()["cuda_library"].startswith("pycuda")
    else:
        assert details["cuda_graph_s"] < measured.latency_s
    assert not measured.contended
    assert details["clocks"]["steady"]
    assert details["clocks"]["advice"] == ""


def test_all_memory_is_given_back(monkeypatch) -> None:
    gpu = attach(monkeypatch)
    TensorRt(0, "fp32").measure(backbone(), least_runs=2, least_s=0.0)
    assert (gpu.memory, gpu.used_bytes, gpu.pinned) == ({}, 0, {})


def test_what_cannot_be_captured_is_left_out(monkeypatch) -> None:
    gpu = attach(monkeypatch)
    gpu.captures = False
    measured = TensorRt(0, "fp32").measure(backbone(), least_runs=2, least_s=0.0)
    assert measured.graph_s == ()
    assert measured.transfers_s


def test_an_engine_is_compared_with_the_float_model(monkeypatch) -> None:
    gpu = attach(monkeypatch)
    gpu.computes = True
    _, card = TensorRt(0, "fp16").build(backbone())
    assert set(card.errors) == {"C2", "C3", "C4", "C5"}
    assert 0 < max(card.errors.values()) < 0.02


def test_convolutions_in_one_kernel_are_told_apart() -> None:
    graph = bottlenecks()
    model = to_onnx(graph, filler(graph))
    nodes = {node.name: node for node in model.graph.node}
    first = next(name for name, node in nodes.items() if node.op_type == "Conv")
    others = [name for name, node in nodes.items() if node.op_type == "Conv"][1:3]
    found = layers.to_kernels(
        [
            layers.LayerTime(f"Reformatting CopyNode for Input Tensor 0 to {first}", (1.0, 2.0)),
            layers.LayerTime(first, (10.0, 20.0)),
            layers.LayerTime(" || ".join(others), (4.0, 8.0)),
            layers.LayerTime("something of TensorRT's own", (0.5, 0.5)),
        ],
        {},
        model,
    )
    assert [timing.name for timing in found] == [first, *others]
    assert found[0].samples_s == (11.0, 22.0)
    assert sum(timing.samples_s[0] for timing in found[1:]) == pytest.approx(4.5)
    shapes = [(t.out_shape, t.in_shapes[1]) for t in found[1:]]
    sizes = [np.prod(out) * np.prod(weight[1:]) for out, weight in shapes]
    assert found[1].samples_s[1] / 8.0 == pytest.approx(sizes[0] / sum(sizes))


def test_an_addition_that_runs_apart_is_its_convolutions() -> None:
    graph = bottlenecks()
    model = to_onnx(graph, filler(graph))
    add = next(node for node in model.graph.node if node.op_type == "Add")
    producers = {node.output[0]: node.name for node in model.graph.node}
    order = [node.name for node in model.graph.node]
    relu = next(node.name for node in model.graph.node if node.input[0] == add.output[0])
    names = [node.name for node in model.graph.node if node.op_type == "Conv"]
    times = [layers.LayerTime(name, (1.0,)) for name in names]
    apart = layers.LayerTime(f"PWN({add.name}, PWN({relu}))", (0.25,))
    found = {t.name: t.seconds for t in layers.to_kernels([*times, apart], {}, model)}
    owner = max((producers[name] for name in add.input), key=order.index)
    assert found[owner] == 1.25
    assert sum(found.values()) == len(names) + 0.25


def test_batch_profiles(tmp_path: Path, monkeypatch) -> None:
    attach(monkeypatch)
    runtime = TensorRt(0, "fp32")
    profiles = (BatchProfile(1, 1, 4), BatchProfile.parse("4:8:16"))
    plan, card = runtime.build(backbone(), profiles)
    assert card.profiles == ((1, 1, 4), (4, 8, 16))
    assert card.tensors[0]["shape"][0] == -1
    path = tmp_path / "a.engine"
    engine_file.save(path, plan, card)
    one, eight = (runtime.measure_engine(path, batch, least_s=0.0).least_s for batch in (1, 8))
    assert 4 < eight / one <= 8
    with pytest.raises(UsageError, match="takes 1 to 4, 4 to 16 images at a time, not 17"):
        runtime.measure_engine(path, 17)
    for text in ("0", "4:2:8", "1:2", "x"):
        with pytest.raises(UsageError, match="1:8:32"):
            BatchProfile.parse(text)
    with pytest.raises(HwnasError, match=r"open shape.*--batches"):
        open_model = precision.parse(backbone())
        from hwnas.devices.tensorrt.builder import open_batch

        open_batch(open_model)
        runtime.build(open_model.SerializeToString())


def test_an_engine_is_refused_elsewhere(tmp_path: Path, monkeypatch, capsys) -> None:
    attach(monkeypatch)
    monkeypatch.chdir(tmp_path)
    arguments = ["export", "mobilenetv2-0.5", "--format", "tensorrt", "--resolution", "64"]
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--precision", "int8", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["calibration"] == precision.MADE_UP
    path = tmp_path / "mobilenetv2-0.5-int8.engine"
    card = json.loads(Path(f"{path}.json").read_text())
    assert card["place"]["gpu"] == "NVIDIA A100-SXM4-40GB"
    assert card["place"]["tensorrt"] == "11.4.0"
    assert (card["precision"], card["strongly_typed"]) == ("int8", True)
    assert card["tensors"][0] == {
        "name": "images", "input": True, "shape": [1, 3, 64, 64], "type": "FLOAT",
    }  # fmt: skip
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--precision", "int8"])
    assert "exists already" in capsys.readouterr().err
    measure = ["measure", str(path), "--device", "cuda:0", "--seconds", "0"]
    with pytest.raises(SystemExit, match="0"):
        main(measure)
    assert "with transfers" in capsys.readouterr().out

    attach(monkeypatch, gpu=far.Gpu(name="NVIDIA L4", capability=(8, 9), multiprocessors=58))
    with pytest.raises(SystemExit, match="1"):
        main(measure)
    error = capsys.readouterr().err
    assert "gpu NVIDIA A100-SXM4-40GB, here NVIDIA L4" in error
    assert "capability 8.0, here 8.9" in error
    attach(monkeypatch, "10.16.1.11")
    with pytest.raises(HwnasError, match=r"tensorrt 11.4.0, here 10.16.1"):
        TensorRt().measure_engine(path)
    attach(monkeypatch)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(HwnasError, match="is not the engine that"):
        TensorRt().measure_engine(path)
    Path(f"{path}.json").unlink()
    with pytest.raises(UsageError, match="is missing"):
        TensorRt().measure_engine(path)


def test_the_timing_cache_is_kept(tmp_path: Path, monkeypatch) -> None:
    attach(monkeypatch)
    TensorRt(0, "fp32").build(tiny())
    (path,) = (tmp_path / "home" / "tensorrt").iterdir()
    once = path.read_bytes()
    assert once.startswith(b"11.4.0.106:")
    TensorRt(0, "fp32").build(backbone())
    assert path.read_bytes().startswith(once) and path.read_bytes() != once
    path.write_bytes(b"another release's")
    TensorRt(0, "fp32").build(tiny())
    assert path.read_bytes() == once


def test_a_sentinel_is_built_once(monkeypatch) -> None:
    attach(monkeypatch)
    runtime = TensorRt(0, "fp32")
    for _ in range(3):
        runtime.measure(tiny(), least_runs=1, least_s=0.0)
    assert len(runtime._builds) == 1
    for size in range(64, 320, 32):
        runtime.measure(tiny((size, size)), least_runs=1, least_s=0.0)
    assert len(runtime._builds) == KEPT


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("custom", "does not take the model: Odd 'odd': No importer registered for op: Odd"),
        ("empty", "does not load the model"),
    ],
)
def test_models_that_tensorrt_does_not_take(model: str, message: str, monkeypatch) -> None:
    attach(monkeypatch)
    data = b""
    if model == "custom":
        helper = onnx.helper
        value = [helper.make_tensor_value_info(n, 1, [1, 3, 8, 8]) for n in ("x", "y")]
        node = helper.make_node("Odd", ["x"], ["y"], name="odd", domain="mine")
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
        graph = helper.make_graph([node], "g", value[:1], value[1:])
        data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    with pytest.raises(HwnasError, match=message):
        TensorRt(0, "fp32").measure(data)


def test_a_gpu_that_tensorrt_loses(monkeypatch) -> None:
    gpu = attach(monkeypatch)
    runtime = TensorRt(0, "fp32")
    told = "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (unspecified launch failure)"
    gpu.refuses_to_run = told
    with pytest.raises(DeviceLostError, match="unspecified launch failure"):
        runtime.measure(tiny())
    gpu.refuses_to_run = "Error Code 3: API Usage Error (an address is missing)"
    with pytest.raises(HwnasError, match="does not run the engine: Error Code 3"):
        runtime.measure(tiny())


def test_memory_that_does_not_suffice_for_all_is_given_back(monkeypatch) -> None:
    gpu = attach(monkeypatch)
    runtime = TensorRt(0, "fp32")
    runtime.measure(tiny(), least_runs=1, least_s=0.0)
    gpu.memory_bytes = 4 * 3 * 32 * 32 + 100  # the image, and no feature map
    with pytest.raises(HwnasError, match="out of memory"):
        runtime.measure(tiny(), least_runs=1, least_s=0.0)
    assert gpu.used_bytes == 0


def test_memory_that_does_not_suffice_to_build(monkeypatch) -> None:
    attach(monkeypatch, gpu=far.Gpu(memory_bytes=100))
    with pytest.raises(HwnasError, match="out of memory"):
        TensorRt(0, "fp32").measure(tiny())


@pytest.mark.parametrize("by", ["cuda-bindings", "pycuda"])
def test_a_gpu_that_is_lost(by: str, monkeypatch) -> None:
    gpu = attach(monkeypatch, by=by)
    runtime = TensorRt(0, "fp32")

    def break_down() -> None:
        if gpu.runs == 7:
            gpu.error = "cudaErrorIllegalAddress"

    gpu.before_each_run.append(break_down)
    with pytest.raises(DeviceLostError, match=r"cudaErrorIllegalAddress.*nvidia-smi") as caught:
        runtime.measure(tiny(), least_runs=50, least_s=0.0)
    assert caught.value.exit_code == 4


# Clocks.


def test_clocks_that_change_are_told_with_advice(monkeypatch) -> None:
    gpu = attach(monkeypatch, gpu=far.Gpu(sm_mhz=[1410, 1410, 1200, 1410]))
    sys.modules["pynvml"].reasons = 0x4 | 0x1
    measured = TensorRt(0, "fp32").measure(tiny(), least_runs=30, least_s=0.0)
    assert gpu.sm_mhz == [1410]
    clocks = measured.details()["clocks"]
    assert clocks["sm_mhz"] == [1200, 1410]
    assert not clocks["steady"]
    assert clocks["slowed_by"] == ["power limit"]
    assert "'sudo nvidia-smi -i 0000:3B:00.0 -lgc 1095,1095'" in clocks["advice"]
    assert not all(measured.calm) and not measured.contended
    slow = [s for s, calm in zip(measured.wall_samples_s, measured.calm, strict=True) if not calm]
    assert len(slow) == 10  # as many runs as lie between two readings


def test_without_nvml_the_clocks_are_unknown(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    clocks = Clocks("0000:3B:00.0")
    assert clocks.read() is None
    assert clocks.limits() == dict.fromkeys(("driver", "clock", "power_mode"), "unknown")
    assert "pip install nvidia-ml-py" in clocks.document()["advice"]


# Precisions.


@pytest.mark.parametrize("name", ["mobilenetv2-0.5", "bottlenecks"])
def test_explicit_int8_is_placed_as_tensorrt_wants_it(name: str) -> None:
    graph = bottlenecks() if name == "bottlenecks" else lower(zoo.get(name), (64, 64))
    model = to_onnx(graph, he_normal(graph, 0))
    image = np.random.default_rng(1).standard_normal((1, 3, 64, 64)).astype(np.float32)
    ranges, count = explicit_qdq.calibrated_ranges(model, [image])
    quantized = explicit_qdq.to_qdq(model, ranges)
    onnx.checker.check_model(quantized, full_check=True)
    assert count == 1
    assert far.refused(quantized, {"INT8"}, False, []) == ""
    nodes = quantized.graph.node
    readers = {source: node.op_type for node in nodes for source in node.input}
    producers = {node.output[0]: node.op_type for node in nodes}
    for node in nodes:
        if node.op_type == "Conv":
            assert [producers[n] for n in node.input[:2]] == ["DequantizeLinear"] * 2
            assert node.input[2] not in producers  # the bias stays float
            if readers.get(node.output[0]) in ("Relu", "Clip"):
                assert readers[node.output[0]] != "QuantizeLinear"
        if node.op_type == "Add":  # one operand comes straight from its convolution
            assert sorted(producers[n] for n in node.input) == ["Conv", "DequantizeLinear"]

    def run(m: onnx.ModelProto) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(m.SerializeToString())
        return session.run(None, {"images": image})

    for wanted, found in zip(run(model), run(quantized), strict=True):
        assert np.linalg.norm(found - wanted) < 0.4 * np.linalg.norm(wanted)


def test_half_precision_is_a_valid_model_with_float_ends() -> None:
    model = onnx.load_model_from_string(backbone())
    half = to_half(model)
    onnx.checker.check_model(half, full_check=True)
    ends = (*half.graph.input, *half.graph.output)
    assert {t.type.tensor_type.elem_type for t in ends} == {onnx.TensorProto.FLOAT}
    weights = [t for t in half.graph.initializer if len(t.dims) == 4]
    assert {t.data_type for t in weights} == {onnx.TensorProto.FLOAT16}
    assert onnx.TensorProto.FLOAT16 not in {t.data_type for t in model.graph.initializer}


def test_calibration_is_told_and_refused_where_it_does_not_fit(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        image.fromarray(pixels).save(tmp_path / f"{i}.png")
    model = onnx.load_model_from_string(tiny())
    made, told = precision.prepare(model, "int8", False, tmp_path)
    assert told == f"largest values over 3 images of {tmp_path}"
    assert precision.prepare(made, "int8", False)[1] == "the model's own"
    assert precision.prepare(model, "int8", False)[1] == precision.MADE_UP
    with pytest.raises(UsageError, match="--precision int8"):
        precision.prepare(model, "fp16", True, tmp_path)
    with pytest.raises(UsageError, match="is quantised"):
        precision.prepare(made, "fp32", True)


# What is missing.


@pytest.mark.parametrize(
    "arguments",
    [
        ["measure", "mobilenetv2-0.5", "--device", "cuda:0"],
        ["measure", "mobilenetv2-0.5", "--device", "trtexec"],
        ["profile", "--device", "cuda:0", "--precision", "fp16"],
        ["export", "mobilenetv2-0.5", "--format", "tensorrt"],
    ],
)
def test_without_a_driver_commands_say_what_mends_it(arguments, monkeypatch, capsys) -> None:
    monkeypatch.setattr(availability, "DRIVER_LIBRARY", "libcuda-that-is-not-there.so.1")
    with pytest.raises(SystemExit, match="4"):
        main(arguments)
    error = capsys.readouterr().err
    assert "no NVIDIA driver" in error
    assert "pip install 'hwnas[tensorrt]'" in error
    assert error.count("\n") == 1


DRIVER = """
#include <string.h>
static int count = COUNT;
int cuInit(unsigned f) { return STATUS; }
int cuDeviceGetCount(int *n) { *n = count; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return 0; }
int cuDeviceGetName(char *name, int n, int d) {
    strncpy(name, "Tesla V100-SXM2-16GB", n); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) {
    *v = a == 75 ? 7 : a == 76 ? 0 : a == 16 ? 80 : -1; return 0; }
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_the_driver_is_asked_for_its_gpus(tmp_path: Path, monkeypatch) -> None:
    for name, status, count in (("two", 0, 2), ("none", 100, 0)):
        source = tmp_path / f"{name}.c"
        source.write_text(DRIVER.replace("COUNT", str(count), 1).replace("STATUS", str(status)))
        library = tmp_path / f"lib{name}.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
        monkeypatch.setattr(availability, "DRIVER_LIBRARY", str(library))
        if name == "two":
            assert availability.gpus() == [V100, V100]
            assert availability.require_gpu(1) == V100
            with pytest.raises(DeviceUnavailableError, match="no GPU 2 here: 0 is a Tesla V100"):
                availability.require_gpu(2)
        else:
            with pytest.raises(DeviceUnavailableError, match=r"shows no GPU \(CUDA error 100"):
                availability.gpus()


def test_releases_and_the_gpus_that_they_support() -> None:
    for version in ("10.4.0", "10.4.0.26"):
        availability.require_supported(version, V100)
    for version in ("10.5.0", "10.16.1.11", "11.4.0.106"):
        availability.require_supported(version, A100)
        with pytest.raises(
            DeviceUnavailableError, match=r"no longer supports the Tesla V100.*hwnas\[v100\]"
        ) as caught:
            availability.require_supported(version, V100)
        assert caught.value.exit_code == 4
    for version in ("8.6.1", "10.3.0"):
        with pytest.raises(DeviceUnavailableError, match=r"older than 10.4.*hwnas\[tensorrt\]"):
            availability.require_supported(version, A100)
    old = availability.Found("Tesla P100", (6, 0), 56)
    with pytest.raises(DeviceUnavailableError, match="hwnas does not drive"):
        availability.require_supported("10.4.0", old)


def test_packages_that_are_missing(monkeypatch) -> None:
    attach(monkeypatch)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "not installed; the NVIDIA A100" in device.missing("0")
    assert "hwnas[v100]" in str(_raised(availability.require_tensorrt, V100))
    monkeypatch.undo()
    attach(monkeypatch, by="neither")
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    assert "hwnas[tensorrt]" in str(_raised(cuda_libraries.connect, 0, A100))


def _raised(function, *arguments) -> DeviceUnavailableError:
    with pytest.raises(DeviceUnavailableError) as caught:
        function(*arguments)
    return caught.value


@pytest.mark.parametrize("error", ["cudaErrorInsufficientDriver", "cudaErrorNoDevice"])
def test_a_driver_that_is_too_old_for_cuda(error: str, monkeypatch) -> None:
    attach(monkeypatch, gpu=far.Gpu(error=error))
    with pytest.raises(DeviceUnavailableError, match=error) as caught:
        TensorRt(0, "fp32")
    assert caught.value.exit_code == 4


# Signatures.


@pytest.mark.parametrize("version", far.RELEASES)
def test_the_record_holds_what_the_adapter_sets(version: str) -> None:
    """What is set, not called: the far end checks the calls, and these by name."""
    classes = far.record("tensorrt", version)["classes"]
    assert classes["IExecutionContext"]["profiler"] == "writable"
    assert classes["EngineInspector"]["execution_context"] == "writable"
    assert classes["IBuilderConfig"]["profiling_verbosity"] == "writable"
    assert classes["IBuilderConfig"]["max_aux_streams"] == "writable"
    assert classes["IProfiler"]["report_layer_time"] == [
        [["layer_name", "str", False], ["ms", "float", False]]
    ]
    assert far.record("tensorrt", version)["functions"] == ["nptype"]


def test_the_far_end_refuses_what_a_release_does_not_have(monkeypatch) -> None:
    """The test of the tests: a wrong call must not pass."""
    trt = far.tensorrt("11.4.0.106", far.Gpu())
    assert not hasattr(trt.BuilderFlag, "FP16")
    assert hasattr(far.tensorrt("10.4.0", far.Gpu()).BuilderFlag, "FP16")

    class Log(trt.ILogger):
        def log(self, severity, msg):
            pass

    config = trt.Builder(Log()).create_builder_config()
    with pytest.raises(TypeError, match="set_timing_cache takes"):
        config.set_timing_cache(config.create_timing_cache(b""))
    with pytest.raises(TypeError, match="create_timing_cache takes"):
        config.create_timing_cache("text")
    with pytest.raises(AssertionError, match="cannot be set"):
        config.no_such_option = 1


@pytest.mark.parametrize("version", far.CUDA_RELEASES)
def test_cuda_properties_exist(version: str) -> None:
    known = far.record("cuda-bindings", version)
    for name in ("name", "major", "minor", "multiProcessorCount", "totalGlobalMem"):
        assert name in known["properties"]
    assert known["enums"]["cudaError_t"]["cudaErrorInsufficientDriver"] == 35


INSTALLED = """
import json, sys
import tensorrt_bindings as trt
from tensorrt_signatures import tensorrt_signatures
from hwnas.devices.tensorrt import builder, precision, profiler
log = builder.logger(trt)
log.log(trt.ILogger.Severity.ERROR, "an error")
log.log(trt.ILogger.Severity.WARNING, "a warning")
layers = profiler.layer_times(trt)
layers.report_layer_time("conv1", 2.0)
major = int(trt.__version__.split(".")[0])
flags = [f.name for f in precision.flags(trt, "int8", precision.strongly_typed(major))]
seen = [log.errors, [[layer.name, layer.samples_s] for layer in layers.layers()], flags]
print(json.dumps([tensorrt_signatures(trt), seen]))
"""


def test_the_installed_tensorrt_is_as_recorded(tmp_path: Path) -> None:
    """The bindings alone suffice: stub libraries hold the functions that they ask for."""
    spec = importlib.util.find_spec("tensorrt_bindings")
    if spec is None:
        pytest.skip("TensorRT's bindings are not installed: pip install tensorrt-cu12-bindings")
    benchmarks = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, benchmarks)
    try:
        from tensorrt_signatures import stub_libraries
    finally:
        sys.path.remove(benchmarks)
    major = next(
        int(name.rpartition(".")[2])
        for name in ("libnvinfer.so.10", "libnvinfer.so.11")
        if name.encode() in (Path(spec.origin).parent / "tensorrt.so").read_bytes()
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([benchmarks, *sys.path])}
    if importlib.util.find_spec("tensorrt_libs") is None:
        if shutil.which("gcc") is None:
            pytest.skip("the bindings are installed without libraries, and gcc is missing")
        stub_libraries(tmp_path, major)
        environment["LD_LIBRARY_PATH"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found, (errors, times, flags) = json.loads(done.stdout)
    assert errors == ["an error"]
    assert times == [["conv1", [0.002]]]
    assert flags == ([] if major >= 11 else ["FP16", "INT8"])
    # RELEASES are in order: the one that is installed, or the newest of its line.
    line = [v for v in far.RELEASES if v.startswith(f"{major}.")]
    version = found["version"] if found["version"] in line else line[-1]
    recorded = far.record("tensorrt", version)["classes"]
    end = far.tensorrt(version, far.Gpu())
    for name, members in recorded.items():
        for member in set(vars(getattr(end, name))) & set(members):
            known, here = members[member], found["classes"][name][member]
            same = known == here if isinstance(known, str) else all(o in here for o in known)
            assert same, (name, member)


def test_the_installed_cuda_bindings_are_as_recorded() -> None:
    runtime = pytest.importorskip(
        "cuda.bindings.runtime", reason="cuda-bindings is not installed: hwnas[tensorrt]"
    )
    major = importlib.metadata.version("cuda-bindings").partition(".")[0]
    version = next((v for v in far.CUDA_RELEASES if v.startswith(f"{major}.")), None)
    if version is None:
        pytest.skip(f"cuda-bindings {major} is not recorded")
    for name, arguments in far.record("cuda-bindings", version)["functions"].items():
        assert list(inspect.signature(getattr(runtime, name)).parameters) == arguments
    try:
        cuda_libraries.connect(0, A100)
    except DeviceUnavailableError as error:
        assert "cudaError" in str(error)  # without a driver, which is what this machine has


# trtexec.


class TestTrtexec(DeviceContract):
    """The contract, by a program that takes trtexec's options and writes its files."""

    connection = "trtexec"
    version = "101601"

    def connect(self) -> trtexec.Trtexec:
        return trtexec.Trtexec(0, "fp32")

    @pytest.fixture(autouse=True)
    def attached(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_trtexec(tmp_path, monkeypatch, self.version)

    def before_each_run(self, monkeypatch, device, hook) -> None:
        original = device._printed

        def printed(*options: str) -> str:
            if any(o.startswith("--loadEngine") for o in options):
                wanted = [o for o in options if o.startswith("--iterations")]
                for _ in range(1 + int((wanted or ["=10"])[0].partition("=")[2])):
                    try:
                        hook()
                    except RuntimeError as error:
                        raise trtexec_files.failure(f"[E] out of memory {error}") from None
            return original(*options)

        monkeypatch.setattr(device, "_printed", printed)


def fake_trtexec(
    tmp_path: Path, monkeypatch, version: str, gpu=A100, real_process: bool = False
) -> None:
    """Put a trtexec on the path; runs it in this process, which is quicker, unless told not to."""
    monkeypatch.setattr(availability, "gpus", lambda: [gpu])
    if not real_process:

        def run(command, **options):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                code = fake_trtexec_program.main([version, *command[1:]])
            return subprocess.CompletedProcess(command, code, out.getvalue())

        monkeypatch.setattr(trtexec.subprocess, "run", run)
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    path = folder / "trtexec"
    program = Path(__file__).with_name("fake_trtexec.py")
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {program} {version} "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.parametrize("version", ["100400", "101601", "110100"])
def test_trtexec_of_every_release(version: str, tmp_path: Path, monkeypatch) -> None:
    fake_trtexec(tmp_path, monkeypatch, version, real_process=version == "101601")
    runtime = trtexec.Trtexec(0, "int8")
    model = backbone(batch=1)
    timings, whole = runtime.profile(model, seconds=0.0)
    graph = lower(zoo.get("mobilenetv2-0.5"), (64, 64))
    assert len(match(zoo.get("mobilenetv2-0.5"), (64, 64), 1, runtime.fusion(), timings)) == len(
        fuse(graph, runtime.fusion())
    )
    assert sum(t.seconds for t in timings) == pytest.approx(whole.least_s, rel=0.05)
    measured = runtime.measure(model, least_runs=4, least_s=0.0)
    assert measured.details()["with_transfers_s"] > measured.latency_s
    assert measured.details()["cuda_graph_s"] < measured.latency_s
    assert runtime.environment()["runtime"].startswith(f"trtexec {version[:2]}.")


def test_trtexec_builds_engines_with_profiles(tmp_path: Path, monkeypatch) -> None:
    fake_trtexec(tmp_path, monkeypatch, "101601")
    runtime = trtexec.Trtexec(0, "fp16")
    plan, card = runtime.build(backbone(), (BatchProfile(1, 1, 4), BatchProfile(4, 8, 16)))
    path = tmp_path / "b.engine"
    engine_file.save(path, plan, card)
    asked = json.loads(plan)["options"]
    assert asked["minShapes"] == ["images:1x3x64x64", "images:4x3x64x64"]
    assert asked["optShapes"] == ["images:1x3x64x64", "images:8x3x64x64"]
    assert runtime.measure_engine(path, 8, least_s=0.0).least_s > 0
    with pytest.raises(UsageError, match="not 32"):
        runtime.measure_engine(path, 32)


def test_recorded_output_of_trtexec(tmp_path: Path) -> None:
    """Lines as TensorRT 8 to 11 print and write them."""
    banner = "&&&& RUNNING TensorRT.trtexec [TensorRT v100400] [b26] # trtexec --onnx=a.onnx"
    assert trtexec_files.version(banner) == "10.4.0"
    assert trtexec_files.version(banner.replace("v100400", "v110100")) == "11.1.0"
    with pytest.raises(HwnasError, match="does not say its version"):
        trtexec_files.version("trtexec: command of another kind")
    path = tmp_path / "profile.json"
    path.write_text(
        '[\n  { "count" : 625 }\n, { "name" : "Reformatting CopyNode for Input Tensor 0 to Conv_0 '
        '+ PWN(Clip_3)", "timeMs" : 36.6844, "averageMs" : 0.058695, "percentage" : 1.20497 }\n'
        ', { "name" : "Conv_0 + PWN(Clip_3)", "timeMs" : 41.4232, "averageMs" : 0.0662771, '
        '"medianMs" : 0.066, "percentage" : 1.36062 }\n]\n'
    )
    first, second = trtexec_files.layer_times(path)
    assert first.samples_s == (pytest.approx(58.695e-6),)
    assert second.samples_s == (pytest.approx(66e-6),)
    times = tmp_path / "times.json"
    times.write_text(
        '[\n  { "startEnqMs" : 1, "endEnqMs" : 1.1, "startH2dMs" : 1, "endH2dMs" : 1.2, '
        '"startComputeMs" : 1.2, "endComputeMs" : 2.2, "startD2hMs" : 2.2, "endD2hMs" : 2.3, '
        '"h2dMs" : 0.2, "computeMs" : 1, "d2hMs" : 0.1, "latencyMs" : 1.3 }\n]\n'
    )
    assert trtexec_files.times(times) == ([1e-3], [pytest.approx(1.3e-3)])
    for text in ("", "[]", '[{"computeMs": "x"}]', "{}", '[{"computeMs": 0, "latencyMs": 0}]'):
        times.write_text(text)
        with pytest.raises(HwnasError, match=r"times\.json"):
            trtexec_files.times(times)


@pytest.mark.parametrize(
    ("printed", "kind", "message"),
    [
        ("[11/24/2026-10:00:00] [E] Cuda failure: CUDA driver version is insufficient for CUDA "
         "runtime version", DeviceUnavailableError, "does not reach the GPU"),
        ("Cannot find any available devices (GPUs)!", DeviceUnavailableError, "nvidia-smi"),
        ("[E] Error[9]: Target GPU SM 70 is not supported by this TensorRT release.",
         DeviceUnavailableError, r"hwnas\[v100\]"),
        ("[E] Error[2]: [virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory "
         "(Requested size was 88473600 bytes.)", HwnasError, "out of memory"),
        ("[E] Cuda failure: an illegal memory access was encountered", DeviceLostError, "answer"),
        ("[E] [TRT] ModelImporter.cpp:726: failed to parse ONNX model", HwnasError,
         "does not load the model"),
        ("[E] Unknown option: --fp16 \nUsage", HwnasError, "Unknown option: --fp16"),
        ("", HwnasError, "prints nothing"),
    ],
)  # fmt: skip
def test_what_trtexec_says_when_it_fails(printed: str, kind: type, message: str) -> None:
    error = trtexec_files.failure(printed)
    assert isinstance(error, kind)
    assert not (kind is HwnasError and isinstance(error, DeviceUnavailableError))
    import re

    assert re.search(message, str(error))


def test_trtexec_refuses_a_gpu_that_its_release_dropped(tmp_path: Path, monkeypatch) -> None:
    fake_trtexec(tmp_path, monkeypatch, "101601", gpu=V100)
    with pytest.raises(DeviceUnavailableError, match=r"no longer supports the Tesla V100"):
        trtexec.Trtexec()
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(trtexec, "PLACES", ("/nowhere/trtexec",))
    assert "apt install libnvinfer-bin" in trtexec.missing("")


# From a bare GPU to a predictor.


def test_a_gpu_is_profiled_and_its_predictor_fitted(monkeypatch) -> None:
    attach(monkeypatch, "10.4.0", gpu=far.Gpu(name=V100.name, capability=(7, 0)))
    monkeypatch.setattr("hwnas.devices.tensorrt.device.CALM_RUNS", 2)
    monkeypatch.setattr("hwnas.devices.tensorrt.device.MOST_RUNS", 2)
    monkeypatch.setattr("hwnas.workflows.profile.samples", few)
    predictor, document = profile(
        Plan("cuda:0", minutes=5.0, networks=10, precision="fp16", name="mine")
    )
    assert document["environment"]["runtime"] == "tensorrt 10.4.0"
    assert document["networks"] == 10
    assert predictor.card.precision == "fp16"
    assert {"fp16"} == {document["environment"]["precision"]}


def few(seed: int):
    from hwnas.profiling.session import Sample

    space = spaces.load("mobile")
    sizes = itertools.product((16, 32, 48), repeat=2)
    for size in itertools.cycle(sizes):
        yield Sample(space.decode(space.narrowest()), size, 1)

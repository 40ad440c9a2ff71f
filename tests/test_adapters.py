"""Each adapter keeps the contract of devices; the registry and the commands find them."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from device_contract import DeviceContract, tiny

from hwnas.architecture import lower, spaces, zoo
from hwnas.cli import main
from hwnas.devices import onnxruntime_providers, openvino_cpu, registry, spec, torch_eager
from hwnas.devices.onnxruntime_providers import OnnxRuntimeProvider, Provider
from hwnas.errors import DeviceUnavailableError, UsageError
from hwnas.lowering.fusing import fuse
from hwnas.lowering.onnx_writer import to_onnx
from hwnas.lowering.weights import filler
from hwnas.profiling.profile import match
from hwnas.store import shelf
from hwnas.workflows.devices import doctor

has_openvino = pytest.mark.skipif(
    registry.check(registry.described("openvino")).missing != "", reason="needs openvino"
)


class TestCpu(DeviceContract):
    connection = "cpu"


class TestTorch(DeviceContract):
    connection = "torch"


@has_openvino
class TestOpenVino(DeviceContract):
    connection = "openvino"

    @pytest.mark.parametrize("told", [0, 1])  # in how many of the first runs it takes longer
    def test_a_kernel_whose_average_rounds_to_nothing_is_told_all_the_same(
        self, device: openvino_cpu.OpenVinoCpu, monkeypatch: pytest.MonkeyPatch, told: int
    ) -> None:
        def rounding(request: Any) -> SimpleNamespace:
            infos: list[Any] = []
            runs = 0

            def infer() -> None:
                nonlocal runs
                request.infer()
                runs += 1
                infos[:] = request.profiling_info
                for i, node in enumerate(infos):
                    if runs > told:
                        infos[i] = SimpleNamespace(
                            node_name=node.node_name,
                            node_type=node.node_type,
                            status=node.Status.NOT_RUN,
                            Status=node.Status,
                            real_time=timedelta(0),
                        )

            return SimpleNamespace(infer=infer, profiling_info=infos)

        original = device._request

        def request(model: bytes, counting: bool) -> Any:
            compiled, real = original(model, counting)
            return compiled, rounding(real) if counting else real

        every, _ = device.profile(tiny((256, 256)), seconds=0.0)
        monkeypatch.setattr(device, "_request", request)
        timings, _ = device.profile(tiny((256, 256)), seconds=0.0)
        convolutions = {t.name: t.seconds for t in timings if t.op == "conv"}
        assert set(convolutions) == {timing.name for timing in every if timing.op == "conv"}
        assert set(convolutions.values()) == {openvino_cpu.LEAST_S}


class TestProvider(DeviceContract):
    """By a provider that PyPI's build of onnxruntime has, and that leaves all to the processor."""

    connection = "onnxruntime:xnnpack"

    def connect(self) -> OnnxRuntimeProvider:
        return OnnxRuntimeProvider(
            Provider("AzureExecutionProvider", "for tests", "", "processor", fuses_add=False)
        )

    def test_the_provider_is_recorded(self) -> None:
        assert self.connect().environment()["provider"] == "AzureExecutionProvider"


def architectures():
    for name in ("resnet", "mobile"):
        space = spaces.load(name)
        for seed in range(3):
            yield space.decode(space.sample(np.random.default_rng(seed)), f"{name}-{seed}")
    yield zoo.get("resnet50")


def test_the_shipped_openvino_is_what_the_adapter_says() -> None:
    assert registry.described("openvino").fusion == openvino_cpu.FUSION


def test_the_runs_of_a_window_are_told_from_an_average_over_all() -> None:
    """OpenVINO's counters average over all runs, the slow first one included, in microseconds."""
    rng = np.random.default_rng(0)
    runs = 40e-6 + rng.uniform(0, 1e-6, 1 + 3 * openvino_cpu.WINDOW + 2)
    runs[0], runs[8] = 900e-6, 10e-3  # the warm-up, and a run that was disturbed
    told = np.floor(1e6 * np.cumsum(runs) / np.arange(1, len(runs) + 1)) / 1e6
    samples = openvino_cpu._samples(list(told))
    assert len(samples) == 3  # the last two runs belong to the third window
    assert min(samples) == pytest.approx(40.5e-6, abs=3e-6)
    assert samples[1] > 1e-3
    told = np.floor(1e6 * np.cumsum(100 * runs) / np.arange(1, len(runs) + 1)) / 1e6
    samples = openvino_cpu._samples(list(told))
    assert len(samples) == len(runs) - 1  # long enough to be told run by run
    assert min(samples) == pytest.approx(4.05e-3, rel=0.02)


@has_openvino
@pytest.mark.parametrize("architecture", list(architectures()), ids=lambda a: a.name)
def test_openvino_executes_the_predicted_kernels(architecture) -> None:
    device = registry.connect(registry.described("openvino"))
    graph = lower(architecture, (96, 96))
    timings, whole = device.profile(to_onnx(graph, filler(graph)).SerializeToString(), seconds=0.0)
    kernels = match(architecture, (96, 96), 1, device.fusion(), timings)
    expected = fuse(graph, device.fusion())
    assert sorted(map(str, (k for k, _ in kernels))) == sorted(map(str, expected))
    # Its counters tell wall time, which other work on the machine lengthens without limit.
    assert sum(s for _, s in kernels) / whole.least_s > 0.3


def test_torch_computes_what_the_model_does() -> None:
    """The same graph with the model's own weights: same layers, same sizes, same values."""
    import onnx
    import onnxruntime
    import torch

    from hwnas.lowering.onnx_reader import of_model
    from hwnas.lowering.torch_graph import GraphModule

    for name in ("resnet50", "mobilenetv2-0.5"):
        graph = lower(zoo.get(name), (75, 64))
        model = to_onnx(graph, filler(graph))
        weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
        module = GraphModule(of_model(model, name)).eval()
        own = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d)]
        with torch.inference_mode():
            for node, conv in zip(convolutions, own, strict=True):
                conv.weight.copy_(torch.from_numpy(weights[node.input[1]].copy()))
                conv.bias.copy_(torch.from_numpy(weights[node.input[2]].copy()))
            images = np.random.default_rng(0).standard_normal((1, 3, 75, 64), dtype=np.float32)
            ours = module(torch.from_numpy(images))
        session = onnxruntime.InferenceSession(model.SerializeToString())
        theirs = session.run(None, {session.get_inputs()[0].name: images})
        for mine, other in zip(ours, theirs, strict=True):
            scale = np.abs(other).max()
            np.testing.assert_allclose(mine.numpy() / scale, other / scale, atol=1e-5)


def test_the_compiler_is_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    compiled = []
    monkeypatch.setattr(
        torch, "compile", lambda module, **options: compiled.append(options) or module
    )
    device = registry.connect(registry.described("torch-compile"))
    assert device.measure(tiny(), least_runs=1, least_s=0.0).least_s > 0
    assert compiled == [{"dynamic": False}]
    assert "torch.compile" in device.environment()["runtime"]


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        ("onnxruntime:xnnpack", "this build of onnxruntime has no Xnn.*--use_xnnpack"),
        ("onnxruntime:openvino", "has no OpenVINO.*pip install onnxruntime-openvino"),
        ("onnxruntime:cuda", "has no CUDA.*pip install onnxruntime-gpu"),
        ("onnxruntime:tensorrt", "has no Tensorrt.*pip install onnxruntime-gpu tensorrt"),
        ("onnxruntime:coreml", "exists on Darwin only"),
        ("torch:cuda:0", "has no CUDA: pip install torch|torch finds no GPU"),
        ("torch-compile:cuda:0", "has no CUDA: pip install torch|torch finds no GPU"),
    ],
)
def test_what_cannot_be_reached_says_what_to_install(
    connection: str, message: str, capsys, tmp_path: Path
) -> None:
    with pytest.raises(DeviceUnavailableError, match=message):
        registry.connect(registry.described(connection))
    with pytest.raises(SystemExit) as exit_:
        main(["measure", "mobilenetv2-0.5", "--device", connection])
    assert exit_.value.code == 4
    assert connection in capsys.readouterr().err


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        ("onnxruntime:xnpack", "Did you mean 'xnnpack'"),
        ("onnxruntime", "names no execution provider"),
        ("opnvino", "Did you mean 'openvino'"),
        ("torch:gpu", "cuda:N"),
        ("cpu:1", "nothing behind it"),
        ("openvino:GPU", "nothing behind it"),
    ],
)
def test_what_is_no_connection_is_refused(connection: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        registry.connect(registry.described(connection))


def test_a_gpu_without_driver_and_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    cuda = SimpleNamespace(is_available=lambda: False, device_count=lambda: 1)
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch, "cuda", cuda)
    assert "no NVIDIA driver" in torch_eager.missing("cuda:0")
    monkeypatch.setattr(torch_eager, "nvidia_driver", lambda: "450.80")
    assert "driver 450.80 is too old" in torch_eager.missing("cuda:0")
    cuda.is_available = lambda: True
    assert torch_eager.missing("cuda:0") == ""
    assert "there are 1 GPUs" in torch_eager.missing("cuda:1")


def test_gpus_are_adapted_from_gpus() -> None:
    sets = {
        "torch:cuda:0": "gpu",
        "onnxruntime:tensorrt": "gpu",
        "onnxruntime:cuda": "gpu",
        "torch": "cpu",
        "openvino": "cpu",
        "v100-trt-fp16": "gpu",
    }
    assert {name: registry.described(name).feature_set for name in sets} == sets


def test_a_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of a GPU run after the call has returned: each run ends with a wait."""
    import torch

    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    device = torch_eager.TorchEager("cpu")
    run = device.load(tiny())
    device.place = "cuda:0"
    run()
    assert waited == ["cuda:0"]
    assert not torch_eager.TorchEager("cuda:0")._alone  # the processor's time says nothing
    assert torch_eager.TorchEager("cuda:0").resource == "cuda-0"


def test_a_provider_that_does_not_start_is_not_measured_silently() -> None:
    device = OnnxRuntimeProvider(onnxruntime_providers.PROVIDERS["cuda"])
    device._providers = lambda: ["CPUExecutionProvider"]  # what onnxruntime falls back to
    with pytest.raises(DeviceUnavailableError, match="could not start"):
        device.measure(tiny())


def test_whole_network_devices_need_another_predictor(capsys) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["profile", "--device", "torch", "--minutes", "0.01"])
    assert exit_.value.code == 2
    assert "--from DEVICE" in capsys.readouterr().err
    with pytest.raises(UsageError, match="leave --precision out"):
        registry.connect(dataclasses.replace(registry.described("torch"), precision="int8"))
    with pytest.raises(UsageError, match="no such level"):
        registry.connect(dataclasses.replace(registry.described("torch"), optimization="basic"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"name = ", "is not a TOML file"),
        (b"\xff", "it is not UTF-8 text"),
        (b'schema = "hwnas.device/9"', "the schema is 'hwnas.device/9'"),
        (b'schema = "hwnas.device/1"\nname = "x"', "missing required field"),
    ],
)
def test_one_broken_device_hides_no_other(
    content: bytes, reason: str, capsys: pytest.CaptureFixture[str], own_shelf: Path
) -> None:
    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as exit_:
            main(list(arguments))
        said = capsys.readouterr()
        assert exit_.value.code == 0, said.err
        return said.out

    path = own_shelf / "devices" / "bad.toml"
    path.parent.mkdir()
    path.write_bytes(content)
    for command in (["doctor"], ["devices", "list"]):
        text = run(*command)
        assert "bad is broken, and left out: " in text and reason in text and str(path) in text
        assert "cpu" in text
        told = json.loads(run(*command, "--json"))
        assert "cpu" in {device["name"] for device in told["devices"]}
        (broken,) = told["broken"]
        assert (broken["name"], broken["path"]) == ("bad", str(path)) and reason in broken["reason"]
    assert "ms per batch" in run("predict", "mobilenetv2-0.5", "--device", "pixel2-cpu-fp32")
    with pytest.raises(SystemExit) as exit_:
        main(["devices", "show", "bad"])
    assert exit_.value.code == 2 and reason in capsys.readouterr().err


def test_the_doctor_names_a_board_that_no_address_leads_to(own_shelf: Path) -> None:
    spec.save(dataclasses.replace(spec.load("cpu"), name="pi", connection="ssh://pi/etc"))
    reach = {each["connection"]: each for each in doctor()["connections"]}
    assert "write ssh://[USER@]HOST[:PORT]" in reach["ssh://pi/etc"]["missing"]
    assert reach["cpu"]["reachable"]


def test_the_doctor_and_the_commands_about_devices(capsys, monkeypatch, own_shelf: Path) -> None:
    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as exit_:
            main(list(arguments))
        assert exit_.value.code == 0
        return capsys.readouterr().out

    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(
        "hwnas.devices.openvino_cpu.find_spec", lambda name: None if name == "openvino" else name
    )
    told = json.loads(run("doctor", "--json"))
    reach = {c["connection"]: c for c in told["connections"]}
    assert reach["cpu"]["reachable"] and reach["torch"]["reachable"]
    assert "pip install 'hwnas[openvino]'" in reach["openvino"]["missing"]
    assert not reach["onnxruntime:xnnpack"]["reachable"]
    text = run("doctor")
    assert "hwnas profile --device cpu" in text and "pip install 'hwnas[openvino]'" in text

    assert "mine written to" in run("devices", "add", "torch", "--name", "mine", "--threads", "1")
    assert spec.load("mine").connection == "torch"
    assert "mine" in run("devices", "list")
    checked = json.loads(run("devices", "check", "mine", "--json"))
    assert checked["kernels"] == 0 and checked["latency_s"] > 0
    assert checked["environment"]["runtime"].startswith("torch")
    assert "kernels told apart" in run("devices", "check", "cpu")
    assert "onnxruntime-xnnpack" not in shelf.entries("devices")

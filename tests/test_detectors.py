"""Whole detectors: the contract that each keeps, the paper's figures, and searches for them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from test_certified import SIZE as CERTIFIED_SIZE
from test_certified import SPACES, scored
from test_lowering import moved_statistics, run_onnx
from test_onnx import executed, predicted

from hwnas import costs
from hwnas.architecture import lower, spaces, zoo
from hwnas.architecture.detectors import DETECTORS, Part, attach, parse, spelled
from hwnas.budgets.detection import WholeDetector
from hwnas.budgets.oracles import graph_oracle
from hwnas.cli import main
from hwnas.devices import spec
from hwnas.errors import UsageError
from hwnas.latency.columns import CLASSES, kind_of
from hwnas.latency.oracle import LatencyOracle
from hwnas.lowering.fusing import fuse
from hwnas.lowering.onnx_reader import of_model
from hwnas.lowering.onnx_writer import to_onnx
from hwnas.lowering.weights import filler, he_normal
from hwnas.scores.entropy import EntropyScore
from hwnas.searchers.certified import Solver
from hwnas.searchers.evaluator import Evaluator
from hwnas.workflows.predict import load_predictor

torch = pytest.importorskip("torch")

SMALL = spaces.load("resnet").decode(spaces.load("resnet").narrowest())
SIZE = (96, 130)
"""Neither side a multiple of 32: the pyramid's levels are no exact halves."""


def moved(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give biases, gains and normalisations values that a mistake would show in."""
    rng = np.random.default_rng(3)
    for key, value in weights.items():
        if key.endswith((".bias", ".gain")):
            noise = rng.standard_normal(value.shape).astype(np.float32) * np.float32(0.1)
            weights[key] = value + noise
    return moved_statistics(weights)


class DetectorContract:
    """What every detector keeps; a class a detector says what it hands out.

    `outputs` are the channels of each part's outputs by name, for three classes and width 32;
    `levels` the levels of the pyramid that its heads look at.
    """

    text: str
    levels: tuple[int, ...]
    outputs: ClassVar[dict[str, dict[str, int]]]

    def parts(self, batch: int = 1) -> tuple[Part, ...]:
        found = attach(lower(SMALL, SIZE, batch=batch), parse(self.text))
        # As few regions as show that the batch is right.
        return tuple(
            p if p.count == 1 else replace(p, graph=p.graph._replace(batch=2)) for p in found
        )

    def test_outputs(self) -> None:
        found = {part.name: part.graph for part in self.parts()}
        assert set(found) == set(self.outputs)
        for name, graph in found.items():
            model = to_onnx(graph, filler(graph))
            shapes = {
                o.name: [d.dim_value for d in o.type.tensor_type.shape.dim]
                for o in model.graph.output
            }
            onnx.checker.check_model(model, full_check=True)
            expected = {}
            for output, channels in self.outputs[name].items():
                if name != "image":
                    expected[output] = channels
                    continue
                levels = (3,) if output == "semantics" else self.levels
                levels = (2, 3, 4, 5) if output == "features" else levels
                levels = (6,) if output == "context" else levels
                for level in levels:
                    expected[f"{output}_p{level}"] = channels
                    side = [-(-s // 2**level) for s in SIZE] if output != "context" else [1, 1]
                    assert shapes[f"{output}_p{level}"][2:] == side
            assert {key: shape[1] for key, shape in shapes.items()} == expected

    @pytest.mark.parametrize("fold_norm", [True, False])
    def test_torch_and_onnx_agree(self, fold_norm: bool) -> None:
        from hwnas.lowering.detector_writer import part_module
        from hwnas.lowering.torch_backbone import load_arrays

        for part in self.parts(batch=2):
            graph = part.graph
            weights = moved(he_normal(graph, 0))
            model = to_onnx(graph, weights, fold_norm=fold_norm)
            shape = (graph.batch, graph.channels, *graph.size)
            images = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
            module = part_module(part).eval()
            load_arrays(module, weights)
            with torch.no_grad():
                expected = module(torch.from_numpy(images))
            found = run_onnx(model, images)
            assert [o.name for o in model.graph.output] == list(expected)
            for ours, theirs in zip(found, expected.values(), strict=True):
                assert ours.shape == tuple(theirs.shape)
                assert np.isfinite(ours).all()
                scale = float(theirs.abs().max())
                np.testing.assert_allclose(ours / scale, theirs.numpy() / scale, atol=1e-4)

    def test_parameters(self) -> None:
        from hwnas.lowering.detector_writer import part_module

        for part in self.parts():
            counted = costs.total_params(part.graph)
            module = part_module(part)
            assert counted == sum(p.numel() for p in module.parameters())
            weights = he_normal(part.graph, 0)
            assert counted == sum(v.size for k, v in weights.items() if "running" not in k)
            model = to_onnx(part.graph, weights, fold_norm=False)
            floats = [t for t in model.graph.initializer if t.data_type == 1 and len(t.dims) > 1]
            # Shared weights are there once in the file, too.
            assert sum(int(np.prod(t.dims)) for t in floats if "norm" not in t.name) == sum(
                p.numel() for n, p in module.named_parameters() if p.dim() > 1
            )

    def test_it_trains(self) -> None:
        from hwnas.lowering.detector_writer import part_module

        for part in self.parts(batch=2):
            module = part_module(part).train()
            outputs = module(torch.randn(part.graph.batch, part.graph.channels, *part.graph.size))
            sum(o.square().mean() for o in outputs.values()).backward()
            grads = [p.grad for p in module.parameters()]
            assert all(g is not None and bool(g.isfinite().all()) for g in grads)

    @pytest.mark.parametrize("device", ["v100-trt-fp16", "pixel2-cpu-fp32", "cpu"])
    def test_kernels_are_known(self, device: str) -> None:
        fusion = spec.load(device).fusion
        for part in self.parts():
            for kernel in fuse(part.graph, fusion):
                assert CLASSES[kind_of(kernel)] != "other", kernel
                assert kernel.batch == part.graph.batch

    def test_kernels_are_what_the_runtime_executes(self, tmp_path: Path) -> None:
        for part in self.parts():
            model = to_onnx(part.graph, moved(filler(part.graph)))
            counted = predicted(part.graph)
            assert counted == executed(model, tmp_path)
            assert counted == predicted(of_model(model, "model"))

    def test_heads_cost_what_their_layers_cost_at_each_level(self) -> None:
        graph = self.parts()[0].graph
        tied = [layer for layer in graph.layers if layer.tied is not None]
        for layer in tied:
            first = graph.layers[layer.tied]
            assert first.tied is None
            assert costs.weights(layer) == costs.weights(first)
            assert costs.params(layer) == 0 < costs.params(first)
            assert costs.weights(layer) == 0 or costs.macs(layer) > 0

    def test_spelling(self) -> None:
        detector = parse(self.text)
        assert parse(spelled(detector)) == detector
        assert spelled(parse(detector.name)) == detector.name
        assert set(detector.stages) <= {2, 3, 4, 5}


class TestRetinaNet(DetectorContract):
    text = "retinanet:width=32,classes=3"
    levels = (3, 4, 5, 6, 7)
    outputs: ClassVar = {"image": {"scores": 27, "boxes": 36}}


class TestFcos(DetectorContract):
    text = "fcos:width=32,classes=3"
    levels = (3, 4, 5, 6, 7)
    outputs: ClassVar = {"image": {"scores": 3, "boxes": 4, "centerness": 1}}


class TestGfl(DetectorContract):
    text = "gfl:width=32,classes=3"
    levels = (3, 4, 5, 6, 7)
    outputs: ClassVar = {"image": {"scores": 3, "boxes": 68}}


class TestYolof(DetectorContract):
    text = "yolof:width=32,classes=3"
    levels = (5,)
    outputs: ClassVar = {"image": {"scores": 15, "boxes": 20}}


class TestSsdLite(DetectorContract):
    text = "ssdlite:classes=3"
    levels = (4, 5, 6, 7, 8, 9)
    outputs: ClassVar = {"image": {"scores": 24, "boxes": 24}}


class TestMaskRcnn(DetectorContract):
    text = "mask-rcnn:width=32,classes=3"
    levels = (2, 3, 4, 5, 6)
    outputs: ClassVar = {
        "image": {"features": 32, "objectness": 3, "proposals": 12},
        "box": {"scores": 4, "boxes": 12},
        "mask": {"masks": 3},
    }


class TestScNet(DetectorContract):
    text = "scnet:width=32,classes=3"
    levels = (2, 3, 4, 5, 6)
    outputs: ClassVar = {
        "image": {
            "features": 32, "objectness": 3, "proposals": 12, "semantics": 32, "context": 32,
        },
        **{f"box{i}": {"scores": 4, "boxes": 4, "hidden": 1024} for i in (1, 2, 3)},
        "relay": {"relayed": 32},
        "mask": {"masks": 3},
    }  # fmt: skip


def test_every_detector_keeps_the_contract() -> None:
    classes = DetectorContract.__subclasses__()
    assert sorted(parse(c.text).name for c in classes) == sorted(DETECTORS)


def test_a_module_takes_any_size() -> None:
    from hwnas.lowering.detector_writer import to_torch

    network = to_torch(SMALL, parse("fcos:width=64,classes=3"))["image"].eval()
    with torch.no_grad():
        for height, width in ((64, 64), (75, 97), (224, 224)):
            outputs = network(torch.zeros(1, 3, height, width))
            assert outputs["scores_p3"].shape[2:] == (-(-height // 8), -(-width // 8))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("fcoss", "Did you mean 'fcos'"),
        ("fcos:widht=32", "Did you mean 'width'"),
        ("fcos:width=", "FIELD=NUMBER"),
        ("fcos:width=-8", "FIELD=NUMBER"),
        ("fcos:width=40", "multiple of 32"),
        ("fcos:width=0", "between 1"),
        ("fcos:classes=9999999", "between 1"),
        ("ssdlite:width=32", "classes, anchors"),
    ],
)
def test_bad_detectors_are_refused(text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        parse(text)


# backbone, detector, resolution, GFLOPs and million parameters of the paper, greatest difference
FIGURES = [
    ("maedet-m", "gfl", (800, 1280), 215, 34.9, 0.001),  # Table 3
    ("maedet-l", "gfl", (800, 1280), 279, None, 0.002),  # Table 2
    ("resnet50", "fcos:classes=20", (600, 1000), 120, None, 0.005),  # Table 5: VOC
    ("maedet-m", "fcos:classes=20", (600, 1000), 123, None, 0.005),
    ("resnet50", "fcos:classes=8", (1024, 2048), 411, None, 0.003),  # Cityscapes
    ("maedet-m", "fcos:classes=8", (1024, 2048), 426, None, 0.001),
    ("resnet50", "mask-rcnn", (800, 1280), 375, None, 0.002),  # at 1280x800, not 1333x800
    ("maedet-m", "mask-rcnn", (800, 1280), 379, None, 0.001),
    ("resnet50", "scnet", (800, 1280), 671, None, 0.001),
    ("maedet-m", "scnet", (800, 1280), 675, None, 0.002),
]


@pytest.mark.parametrize(("name", "text", "size", "gflops", "params", "within"), FIGURES)
def test_figures_of_the_paper(
    name: str, text: str, size: tuple[int, int], gflops: int, params: float | None, within: float
) -> None:
    architecture = zoo.get(name)
    parts = attach(lower(architecture, size), parse(text))
    total = 0
    for part in parts:
        flops = costs.mmcv_by_part(part.graph, architecture.flops_rule)
        for key, value in flops.items():
            total += COUNTED.get(key, 1) * value if text == "scnet" else value
    assert total / 1e9 == pytest.approx(gflops, rel=within)
    if params is not None:
        counted = sum(costs.total_params(part.graph) for part in parts)
        assert counted / 1e6 == pytest.approx(params, rel=0.002)


COUNTED = {"semantic": 0, "context": 0, "relay": 0, "mask": 3}
"""mmdetection's dummy pass of a cascade, which SCNet inherits: no semantic features, context or
relay, and the mask head once a stage."""


def latency(device: str, size: tuple[int, int], fusion: str = "") -> LatencyOracle:
    place = spec.load(device)
    return LatencyOracle(
        load_predictor(place), spec.load(fusion or device).fusion, size, place.batch
    )


ORACLES: dict[str, Callable[[tuple[int, int]], Any]] = {
    "flops": lambda size: graph_oracle("flops", size),
    "params": lambda size: graph_oracle("params", size),
    "layers": lambda size: graph_oracle("layers", size),
    "v100": lambda size: latency("v100-trt-fp16", size),
    "pixel2": lambda size: latency("pixel2-cpu-fp32", size),
    # A runtime with a layout of its own, whose changes depend on what is handed out.
    "cpu": lambda size: latency("pixel2-cpu-fp32", size, "cpu"),
}


@pytest.mark.parametrize("quantity", ORACLES)
@pytest.mark.parametrize("name", DETECTORS)
def test_costs_are_a_constant_and_a_sum_over_rows(name: str, quantity: str) -> None:
    if quantity == "v100" and name not in ("fcos", "mask-rcnn"):
        pytest.skip("the tables of this predictor take seconds")
    rng = np.random.default_rng(5)
    for space_name in ("resnet", "mobile"):
        space = spaces.load(space_name)
        space = space.aligned(16 if quantity == "cpu" and space_name == "mobile" else 8)
        plain = ORACLES[quantity](SIZE)
        oracle = WholeDetector(plain, parse(name))
        evaluator = Evaluator(space, EntropyScore(resolution=(64, 64)), [oracle], [np.inf])
        for _ in range(5):
            candidate = space.sample(rng)
            graph = lower(space.decode(candidate), SIZE, batch=oracle.batch)
            whole = oracle.cost(graph)
            assert evaluator.costs(candidate) == pytest.approx([whole], rel=1e-9)
            assert oracle.constant + sum(map(float, oracle.parts(graph))) == pytest.approx(whole)
            if quantity == "layers":
                assert whole == plain.cost(graph)
            elif quantity in ("flops", "params"):
                assert whole > plain.cost(graph)


def test_memory_is_the_largest_of_all_parts() -> None:
    oracle = WholeDetector(graph_oracle("memory", SIZE), parse("mask-rcnn"))
    assert not oracle.additive
    graph = lower(SMALL, SIZE)
    peaks = [costs.peak_memory_bytes(p.graph) for p in attach(graph, parse("mask-rcnn"))]
    assert oracle.cost(graph) == max(peaks) > peaks[0]


@pytest.mark.parametrize("name", ["resnet", "mobile"])
@pytest.mark.parametrize("text", ["fcos:width=32", "ssdlite", "yolof:width=32"])
def test_certified_search_proves_the_best_detector(name: str, text: str) -> None:
    detector = parse(text)
    oracles = [
        WholeDetector(graph_oracle(quantity, CERTIFIED_SIZE), detector)
        for quantity in ("flops", "params")
    ]
    free = Evaluator(SPACES[name], EntropyScore(resolution=(64, 64)), oracles, [np.inf] * 2)
    scores, spent = scored(free, name)
    rng = np.random.default_rng(11)
    for _ in range(12):
        limits = [np.quantile(spent[:, k], rng.uniform(0.05, 0.9)) for k in (0, 1)]
        fitting = (spent <= limits).all(axis=1)
        if not fitting.any():
            continue
        found = Solver(free.within(limits)).solve()
        best = scores[fitting].max()
        assert found.score == pytest.approx(best, rel=1e-12)
        assert found.bound >= best - 1e-9 * abs(best)
        graph = lower(SPACES[name].decode(found.candidate), CERTIFIED_SIZE)
        for oracle, limit in zip(oracles, limits, strict=True):
            assert oracle.cost(graph) <= limit * (1 + 1e-12)


def test_the_command_line_takes_detectors(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*args: str, code: int = 0) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main([*args, "--json"])
        captured = capsys.readouterr()
        assert ended.value.code == code, captured.err
        return json.loads(captured.out) if captured.out else {"error": captured.err}

    arch = tmp_path / "net.json"
    arch.write_text(SMALL.renamed("net").to_json())
    text = "fcos:width=32,classes=3"
    shown = run("show", str(arch), "--detector", text, "--resolution", "96")
    graph = attach(lower(SMALL, (96, 96)), parse(text))[0].graph
    assert (shown["flops"], shown["params"]) == (costs.flops(graph), costs.total_params(graph))
    assert list(shown["parts"]) == ["backbone", "neck", "head"]
    for convention in ("conv", "mmcv"):
        counted = run("show", "resnet50", "--detector", "scnet", "--flops-convention", convention)
        assert counted["flops"] == sum(part["flops"] for part in counted["parts"].values())
        plain = run("show", "resnet50", "--flops-convention", convention)
        assert counted["parts"]["backbone"] == plain["parts"]["backbone"]

    plain = run("predict", str(arch), "--device", "pixel2-cpu-fp32")
    whole = run("predict", str(arch), "--device", "pixel2-cpu-fp32", "--detector", text)
    assert whole["latency_s"] > plain["latency_s"]
    budget = ["--budget", f"latency={1.5 * whole['latency_s'] * 1e3}ms", "--space", "mobile"]
    device = ["--device", "pixel2-cpu-fp32", "--detector", text]
    found = run("search", *budget, *device, "--out", str(tmp_path / "run"))
    assert found["proven"]
    assert found["detector"] == text
    again = run("predict", str(tmp_path / "run"), *device)
    assert again["latency_s"] == pytest.approx(found["budgets"][0]["cost"])
    assert "(the whole detector)" in found["budgets"][0]["understood"]
    cheapest = run("search", "--budget", "flops=1M", *device, code=3)
    assert cheapest["costs"]["flops"] > 1e6

    timed = ["--device", "cpu", "--resolution", "64", "--seconds", "0.01"]
    one = run("measure", str(arch), *timed, "--detector", "yolof:width=32,classes=3")
    assert one["samples_s"]
    monkeypatch.setattr("hwnas.architecture.detectors.mask_rcnn.BOXES", 4)
    monkeypatch.setattr("hwnas.architecture.detectors.mask_rcnn.MASKS", 2)
    many = run("measure", str(arch), *timed, "--detector", "mask-rcnn:width=32,classes=3")
    assert many["latency_s"] == pytest.approx(sum(many["parts_s"].values()))
    assert list(many["parts_s"]) == ["image", "box", "mask"]

    for name in ("fcos", "scnet"):
        text = f"{name}:width=32,classes=3"
        path = tmp_path / f"{name}.onnx"
        out = ["--format", "onnx", "--out", str(path), "--resolution", "96", "--detector", text]
        exported = run("export", str(arch), *out)
        for part in exported["parts"]:
            model = onnx.load(part["path"])
            onnx.checker.check_model(model, full_check=True)
            assert [o.name for o in model.graph.output] == [o["name"] for o in part["outputs"]]
        assert "exists already" in run("export", str(arch), *out, code=2)["error"]
    refused = run("export", str(arch), "--format", "tinynas", "--detector", "fcos", code=2)
    assert "not written as 'tinynas'" in refused["error"]


def test_the_source_runs_without_hwnas(tmp_path: Path) -> None:
    from hwnas.lowering.detector_writer import to_source, to_torch

    detector = parse("scnet:width=32,classes=3")
    (tmp_path / "net.py").write_text(to_source(SMALL, detector))
    parts = {name: part.eval() for name, part in to_torch(SMALL, detector).items()}
    images = torch.randn(1, 3, 64, 96)
    torch.save({name: part.state_dict() for name, part in parts.items()}, tmp_path / "weights.pt")
    torch.save([images, parts["image"](images)], tmp_path / "maps.pt")
    script = (
        "import sys; sys.modules['hwnas'] = None\n"
        "import torch, net\n"
        "parts = net.detector()\n"
        "for name, state in torch.load('weights.pt', weights_only=True).items():\n"
        "    parts[name].eval().load_state_dict(state)\n"
        "images, maps = torch.load('maps.pt', weights_only=True)\n"
        "found = parts['image'](images)\n"
        "assert list(found) == list(maps)\n"
        "for name, value in maps.items(): torch.testing.assert_close(found[name], value)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)

"""What others train with: each framework's own machinery on the exported networks."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torchvision_operators

from hwnas.architecture import zoo
from hwnas.errors import DeviceUnavailableError, UsageError
from hwnas.integrations import sources
from hwnas.integrations.require import requiring
from hwnas.lowering.torch_writer import identifier, to_source, to_torch
from hwnas.workflows.export import export

torch = pytest.importorskip("torch")
SMALL = zoo.get("mobilenetv2-0.5")
CHANNELS = [16, 16, 48, 1280]
DETECTORS = ["fcos", "retinanet", "fasterrcnn"]


def need_timm() -> None:
    if find_spec("timm") is None:
        pytest.skip("timm is not installed: pip install timm")
    torchvision_operators.importorskip()


def imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import an exported file; hwnas is out of reach meanwhile."""
    monkeypatch.syspath_prepend(path.parent)
    with monkeypatch.context() as hidden:
        for name in [n for n in sys.modules if n.partition(".")[0] == "hwnas"]:
            hidden.delitem(sys.modules, name)
        hidden.setitem(sys.modules, "hwnas", None)
        return importlib.import_module(path.stem)


@pytest.mark.parametrize("format_", ["torch", "torchvision", "timm", "mmdet"])
def test_exported_files_do_not_know_hwnas(format_: str) -> None:
    made = {
        "torch": lambda: {"": to_source(SMALL)},
        "torchvision": lambda: {"": sources.torchvision_source(SMALL)},
        "timm": lambda: {"": sources.timm_source(SMALL)},
        "mmdet": lambda: sources.mmdet_sources(SMALL),
    }[format_]()
    known = {"torch", "mmdet" if format_ == "mmdet" else format_, *sys.stdlib_module_names}
    known |= {"mmengine"} if format_ == "mmdet" else set()
    for text in made.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= known
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                assert str(node.module).partition(".")[0] in known


def test_names_become_identifiers() -> None:
    assert identifier("mobilenetv2-1.0") == "mobilenetv2_1_0"
    assert identifier("4.4G!") == "n4_4G"
    assert identifier("--") == "backbone"


def test_a_missing_framework_says_what_to_install() -> None:
    with pytest.raises(DeviceUnavailableError, match=r"hwnas\[timm\]"), requiring("timm"):
        importlib.import_module("no_such_framework")
    with pytest.raises(DeviceUnavailableError, match="belong together"), requiring("timm"):
        raise RuntimeError("operator torchvision::nms does not exist")


def targets() -> list[dict[str, Any]]:
    return [
        {"boxes": torch.tensor([[10.0, 10, 60, 70]]), "labels": torch.tensor([1])},
        {
            "boxes": torch.tensor([[5.0, 5, 40, 40], [30, 20, 80, 70]]),
            "labels": torch.tensor([2, 1]),
        },
    ]


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_torchvision_detector_trains_and_detects(kind: str) -> None:
    torchvision_operators.importorskip()
    from hwnas.integrations.torchvision import detector

    torch.manual_seed(0)
    options: dict[str, Any] = {"min_size": 96, "max_size": 128}
    if kind == "fasterrcnn":  # RoIAlign in Python takes its time for each box
        few = dict.fromkeys(("rpn_post_nms_top_n_train", "rpn_post_nms_top_n_test"), 64)
        options |= {"box_batch_size_per_image": 32, **few}
    model = detector(SMALL, kind, num_classes=3, width=64, **options)
    images = [torch.rand(3, 96, 128), torch.rand(3, 90, 100)]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(4):
        losses = model(images, targets())
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < totals[0]
    model.eval()
    with torch.no_grad():
        detections = model(images)
        levels = model.backbone(torch.zeros(1, 3, 128, 128))
    assert [set(found) for found in detections] == [{"boxes", "labels", "scores"}] * 2
    strides = [4, 8, 16, 32, 64] if kind == "fasterrcnn" else [8, 16, 32, 64, 128]
    assert [128 // m.shape[-1] for m in levels.values()] == strides
    assert {m.shape[1] for m in levels.values()} == {64}


def test_the_torchvision_file_is_the_same_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchvision_operators.importorskip()
    from hwnas.integrations.torchvision import detector

    export(SMALL, "torchvision", tmp_path / "tv_net.py")
    theirs = imported(tmp_path / "tv_net.py", monkeypatch).detector("fcos", num_classes=3, width=64)
    ours = detector(SMALL, "fcos", num_classes=3, width=64)
    theirs.load_state_dict(ours.state_dict())
    weights = to_torch(SMALL).state_dict()
    assert set(weights) == set(theirs.backbone.body.state_dict())


def test_an_unknown_detector_is_named() -> None:
    from hwnas.integrations.torchvision import detector

    with pytest.raises(UsageError, match="Did you mean 'retinanet'"):
        detector(SMALL, "retina")


def test_timm_creates_registered_networks() -> None:
    need_timm()
    import timm

    import hwnas.integrations.timm as ours

    assert {f"hwnas_{identifier(name)}" for name in zoo.names()} <= set(
        timm.list_models("hwnas_*", module="timm")
    )
    model = timm.create_model("hwnas_mobilenetv2_0_5", features_only=True, out_indices=(1, -1))
    assert model.feature_info.channels() == [16, 1280]
    assert model.feature_info.reduction() == [8, 32]
    maps = model(torch.zeros(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == model.feature_info.channels()
    assert [64 // m.shape[2] for m in maps] == model.feature_info.reduction()
    shallow = timm.create_model("hwnas_mobilenetv2_0_5", features_only=True, out_indices=(0, 1))
    sizes = [sum(p.numel() for p in net.parameters()) for net in (shallow, model)]
    assert sizes[0] < sizes[1] / 10
    assert [m.shape[1] for m in shallow(torch.zeros(1, 3, 64, 64))] == [16, 16]
    name = ours.register(zoo.get("maedet-s").renamed("of-mine"))
    assert name == "hwnas_of_mine"
    assert timm.create_model(name, features_only=True).feature_info.channels()[-1] == 2048
    with pytest.raises(RuntimeError, match="No pretrained weights"):
        timm.create_model(name, pretrained=True)


def test_the_timm_model_keeps_the_contract() -> None:
    need_timm()
    import timm

    import hwnas.integrations.timm  # noqa: F401

    torch.manual_seed(0)
    model = timm.create_model("hwnas_mobilenetv2_0_5", num_classes=7, in_chans=1)
    images = torch.rand(2, 1, 64, 64)
    assert model(images).shape == (2, 7)
    model(images).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    features = model.forward_features(images)
    assert features.shape == (2, model.num_features, 2, 2)
    torch.testing.assert_close(model.forward_head(features), model(images))
    assert model.forward_head(features, pre_logits=True).shape == (2, model.num_features)
    last, some = model.forward_intermediates(images, [0, 2])
    torch.testing.assert_close(last, features)
    early = model.forward_intermediates(images, [0, 2], stop_early=True, intermediates_only=True)
    for a, b in zip(some, early, strict=True):
        torch.testing.assert_close(a, b)
    assert model.get_classifier() is model.get_submodule(model.default_cfg["classifier"])
    assert isinstance(model.get_submodule(model.default_cfg["first_conv"]), torch.nn.Conv2d)
    model.reset_classifier(0)
    assert model(images).shape == (2, model.num_features)
    groups = timm.models.group_parameters(model, model.group_matcher())
    assert sum(len(names) for names in groups.values()) == len(list(model.parameters()))
    with pytest.raises(ValueError, match="not among 0 to 3"):
        model.forward_intermediates(images, [4])


def test_feature_info_agrees_with_timms() -> None:
    need_timm()
    import timm

    import hwnas.integrations.timm  # noqa: F401

    ours = to_torch(SMALL, (1, 3)).feature_info
    theirs = timm.create_model(
        "hwnas_mobilenetv2_0_5", features_only=True, out_indices=(1, 3)
    ).feature_info
    for idx in (None, 2, [0, 3]):
        for method in ("channels", "reduction", "module_name"):
            assert getattr(ours, method)(idx) == getattr(theirs, method)(idx)
        assert ours.get_dicts(["num_chs", "index"], idx) == theirs.get_dicts(
            ["num_chs", "index"], idx
        )
    assert (ours.out_indices, len(ours)) == (theirs.out_indices, len(theirs))


def test_the_timm_file_registers_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_timm()
    import timm

    export(SMALL.renamed("filed"), "timm", tmp_path / "timm_net.py")
    imported(tmp_path / "timm_net.py", monkeypatch)
    model = timm.create_model("hwnas_filed", features_only=True)
    weights = to_torch(SMALL).state_dict()
    model.model.load_state_dict(weights)
    images = torch.rand(1, 3, 64, 64)
    ours = to_torch(SMALL).eval()
    ours.load_state_dict(weights)
    for a, b in zip(model.eval()(images), ours(images), strict=True):
        torch.testing.assert_close(a, b)


STAND_IN = {
    "mmengine/__init__.py": "",
    "mmengine/model.py": (
        "from torch import nn\n"
        "class BaseModule(nn.Module):\n"
        "    def __init__(self, init_cfg=None):\n"
        "        super().__init__()\n"
        "        self.init_cfg = init_cfg\n"
    ),
    "mmdet/__init__.py": "",
    "mmdet/registry.py": (
        "class Registry(dict):\n"
        "    def register_module(self, name, module):\n"
        "        assert name not in self\n"
        "        self[name] = module\n"
        "    def build(self, cfg):\n"
        "        cfg = dict(cfg)\n"
        "        return self[cfg.pop('type')](**cfg)\n"
        "MODELS = Registry()\n"
    ),
}

MMDET_CHECK = """
import importlib.util, json, sys, types, torch
if %(real)r and importlib.util.find_spec("mmcv._ext") is None:
    # mmcv-lite has no compiled operators, mmdetection looks them up when it is imported. A
    # one-stage detector trains without them; whoever calls one is told.
    class Operators(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            def missing(*_, **__):
                raise RuntimeError(f"the operator {name} of mmcv is not compiled")
            return missing
    sys.modules["mmcv._ext"] = Operators("mmcv._ext")
folder, images = sys.argv[1], torch.zeros(1, 3, 64, 64)

def whole_detector(cfg):
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmengine.optim import OptimWrapper
    from mmengine.structures import InstanceData
    detector = MODELS.build(cfg.model).train()
    optimizer = OptimWrapper(torch.optim.SGD(detector.parameters(), lr=1e-3))
    size = (96, 128)
    sample = DetDataSample(metainfo=dict(img_shape=size, pad_shape=size, batch_input_shape=size))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[10.0, 10, 60, 70]]), labels=torch.tensor([3])
    )
    batch = dict(inputs=[torch.full((3, *size), 7, dtype=torch.uint8)] * 2,
                 data_samples=[sample, sample.clone()])
    before = detector.backbone.c1_conv1.conv.weight.detach().clone()
    losses = detector.train_step(batch, optimizer)
    assert all(loss.isfinite() for loss in losses.values()), losses
    assert not torch.equal(before, detector.backbone.c1_conv1.conv.weight)

found = {}
for kind in ("gfl", "fcos", "retinanet"):
    path = f"{folder}/{kind}_hwnas_mobilenetv2_0_5.py"
    if %(real)r:
        from mmengine.config import Config
        cfg = Config.fromfile(path)
        backbone, neck = dict(cfg.model.backbone), dict(cfg.model.neck)
    else:
        text = open(path).read().replace("{{ fileDirname }}", folder)
        cfg = {}
        exec(compile(text, path, "exec"), cfg)
        __import__(cfg["custom_imports"]["imports"][0])
        backbone, neck = dict(cfg["model"]["backbone"]), dict(cfg["model"]["neck"])
        assert backbone.pop("_delete_") is True
        assert cfg["_base_"].startswith(f"mmdet::{kind}/{kind}_r50")
    from mmdet.registry import MODELS
    model = MODELS.build(backbone)
    if %(real)r:
        from mmengine.model import BaseModule
        assert isinstance(model, BaseModule)
        model.init_weights()
        if kind == "gfl":
            whole_detector(cfg)
    sum(m.mean() for m in model(images)).backward()
    assert all(p.grad is not None for p in model.parameters())
    found[kind] = [neck["in_channels"], [m.shape[1] for m in model(images)]]
print(json.dumps(found))
"""


@pytest.mark.parametrize("real", [False, True], ids=["stand-in", "mmdet"])
def test_mmdet_builds_the_exported_backbone(real: bool, tmp_path: Path) -> None:
    """The configs name a module and a type that exist; with mmdetection itself where it is."""
    if real and not (find_spec("mmdet") and find_spec("mmengine") and find_spec("mmcv")):
        pytest.skip(
            "mmdetection is not installed: "
            "pip install mmengine mmcv-lite==2.1.0 mmdet 'setuptools<81'"
        )
    made = export(SMALL, "mmdet", tmp_path / "net")
    assert made["sha256"] is None
    assert len(made["files"]) == 4
    for name, text in {} if real else STAND_IN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "check.py").write_text(MMDET_CHECK % {"real": real})
    result = subprocess.run(
        [sys.executable, "check.py", str(tmp_path / "net")],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found == {kind: [CHANNELS, CHANNELS] for kind in ("gfl", "fcos", "retinanet")}


def test_a_folder_is_only_replaced_if_nothing_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    export(SMALL, "mmdet", folder)
    with pytest.raises(UsageError, match="--force"):
        export(SMALL, "mmdet", folder)
    export(SMALL, "mmdet", folder, force=True)
    (folder / "checkpoint.pth").write_text("weights")
    with pytest.raises(UsageError, match=r"holds 'checkpoint.pth'"):
        export(SMALL, "mmdet", folder, force=True)
    assert (folder / "checkpoint.pth").read_text() == "weights"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="holds 'file'"):
        export(SMALL, "mmdet", tmp_path / "file", force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "net"]

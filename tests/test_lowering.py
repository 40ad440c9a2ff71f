"""The ONNX file and the torch module: the same network, whichever way it is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from hwnas.architecture import lower, spaces, zoo
from hwnas.lowering.onnx_writer import to_onnx
from hwnas.lowering.torch_writer import to_source, to_torch
from hwnas.lowering.weights import he_normal

torch = pytest.importorskip("torch")
NAMES = ["maedet-s", "maedet-single-scale", "resnet50", "mobilenetv2-1.0"]


def run_onnx(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"images": images})


def random_architecture(space: str, seed: int):
    found = spaces.load(space)
    return found.decode(found.sample(np.random.default_rng(seed)))


def moved_statistics(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give the normalisations statistics that a folding error would show in."""
    rng = np.random.default_rng(7)
    for key, value in weights.items():
        if "norm" in key:
            noise = rng.standard_normal(value.shape).astype(np.float32) * np.float32(0.1)
            weights[key] = value + (np.abs(noise) if key.endswith("var") else noise)
    return weights


@pytest.mark.parametrize("fold_norm", [True, False])
@pytest.mark.parametrize("name", [*NAMES, "resnet:1", "mobile:2"])
def test_torch_and_onnx_agree(name: str, fold_norm: bool) -> None:
    from hwnas.lowering.torch_backbone import load_arrays

    space, _, seed = name.partition(":")
    architecture = random_architecture(space, int(seed)) if seed else zoo.get(name)
    graph = lower(architecture, (75, 97), batch=2)
    weights = moved_statistics(he_normal(graph, 0))
    model = to_onnx(graph, weights, fold_norm=fold_norm)
    onnx.checker.check_model(model, full_check=True)
    images = np.random.default_rng(1).standard_normal((2, 3, 75, 97)).astype(np.float32)
    backbone = to_torch(architecture).eval()
    load_arrays(backbone, weights)
    with torch.no_grad():
        expected = backbone(torch.from_numpy(images))
    for ours, theirs in zip(run_onnx(model, images), expected, strict=True):
        assert ours.shape == tuple(theirs.shape)
        scale = float(theirs.abs().max())
        np.testing.assert_allclose(ours / scale, theirs.numpy() / scale, atol=1e-4)


def test_feature_info_is_what_the_feature_maps_are() -> None:
    backbone = to_torch(zoo.get("mobilenetv2-0.5"), out_indices=(1, 3))
    assert backbone.feature_info.channels() == [16, 1280]
    assert backbone.feature_info.reduction() == [8, 32]
    maps = backbone(torch.zeros(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == backbone.feature_info.channels()
    assert [64 // m.shape[2] for m in maps] == backbone.feature_info.reduction()
    for name, feature_map in zip(backbone.feature_info.module_name(), maps, strict=True):
        seen = []
        backbone.get_submodule(name).register_forward_hook(lambda *a, seen=seen: seen.append(a[2]))
        assert any(torch.equal(m, seen[0]) for m in backbone(torch.zeros(1, 3, 64, 64)))
        assert seen[0].shape == feature_map.shape
    for wrong in [(4,), (-5,), (), 5, 0]:
        with pytest.raises(ValueError, match="out_indices"):
            to_torch(zoo.get("mobilenetv2-0.5"), out_indices=wrong)
    for same in [(2, 3), (-2, -1), 2]:
        assert to_torch(zoo.get("mobilenetv2-0.5"), out_indices=same).out_indices == (2, 3)


def test_layers_behind_the_last_feature_map_are_not_run() -> None:
    backbone = to_torch(zoo.get("mobilenetv2-0.5"), out_indices=(1, 0))
    ran = []
    for name, module in backbone.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    assert [m.shape[2] for m in backbone(torch.zeros(1, 3, 64, 64))] == [8, 16]
    assert {name[:2] for name in ran} == {"c1", "c2", "c3"}
    # A state dict holds all layers all the same.
    backbone.load_state_dict(to_torch(zoo.get("mobilenetv2-0.5")).state_dict())


def test_the_module_trains() -> None:
    backbone = to_torch(random_architecture("resnet", 5)).train()
    loss = sum(m.square().mean() for m in backbone(torch.randn(2, 3, 64, 64)))
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in backbone.parameters())


def test_the_source_runs_without_hwnas(tmp_path: Path) -> None:
    architecture = random_architecture("mobile", 3)
    path = tmp_path / "net.py"
    path.write_text(to_source(architecture))
    torch.manual_seed(0)
    ours = to_torch(architecture).eval()
    torch.save(ours.state_dict(), tmp_path / "weights.pt")
    images = torch.randn(1, 3, 64, 64)
    torch.save([images, *ours(images)], tmp_path / "maps.pt")
    script = (
        "import sys; sys.modules['hwnas'] = None\n"
        "import torch, net\n"
        "model = net.backbone().eval()\n"
        "model.load_state_dict(torch.load('weights.pt', weights_only=True))\n"
        "images, *maps = torch.load('maps.pt', weights_only=True)\n"
        "for a, b in zip(model(images), maps, strict=True): torch.testing.assert_close(a, b)\n"
        "optimizer = torch.optim.SGD(model.train().parameters(), lr=0.1)\n"
        "sum(m.square().mean() for m in model(torch.randn(2, 3, 64, 64))).backward()\n"
        "optimizer.step()\n"
        "torch.save(model.state_dict(), 'trained.pt')\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    trained = torch.load(tmp_path / "trained.pt", weights_only=True)
    ours.load_state_dict(trained)
    fresh = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert not all(torch.equal(trained[key], fresh[key]) for key in fresh)


def test_weights_follow_the_seed() -> None:
    graph = lower(zoo.get("mobilenetv2-0.5"))
    a, b, c = (he_normal(graph, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(a["c1_conv1.conv.weight"], c["c1_conv1.conv.weight"])

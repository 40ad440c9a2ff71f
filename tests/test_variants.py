"""INT8 and FP16 variants of models: near the float model, or refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from hwnas.architecture import lower, zoo
from hwnas.cli import main
from hwnas.errors import DeviceUnavailableError, HwnasError, UsageError
from hwnas.lowering.onnx_writer import to_onnx
from hwnas.lowering.variants import MOST_ERROR, variant
from hwnas.lowering.weights import filler, he_normal


def model(seed: int = 0) -> onnx.ModelProto:
    graph = lower(zoo.get("mobilenetv2-0.5"), (64, 64))
    return to_onnx(graph, he_normal(graph, seed))


def outputs(made: onnx.ModelProto, image: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(made.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: image})


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_variant_is_smaller_and_near_its_model(precision: str) -> None:
    original = model()
    before = original.SerializeToString()
    made = variant(original, precision)
    assert original.SerializeToString() == before
    share = {"fp16": 0.55, "int8": 0.4}[precision]
    assert len(made.model.SerializeToString()) < share * len(before)
    assert list(made.errors) == ["C2", "C3", "C4", "C5"]
    assert 0 < made.error <= MOST_ERROR[precision]
    assert ("Gaussian noise" in made.calibration) == (precision == "int8")
    # Its own figure, on an image that it has not seen.
    image = np.random.default_rng(9).standard_normal((1, 3, 64, 64), dtype=np.float32)
    pairs = zip(outputs(original, image), outputs(made.model, image), strict=True)
    for error, (a, b) in zip(made.errors.values(), pairs, strict=True):
        assert b.dtype == np.float32
        found = np.linalg.norm(a.astype(float) - b) / np.linalg.norm(a.astype(float))
        assert found == pytest.approx(error, rel=0.5)
    kinds = {node.op_type for node in made.model.graph.node}
    assert ("QuantizeLinear" in kinds) == (precision == "int8")
    stored = {t.data_type for t in made.model.graph.initializer}
    assert onnx.TensorProto.FLOAT16 in stored or precision == "int8"


def test_values_beyond_half_precision_are_refused() -> None:
    large = model()
    for tensor in large.graph.initializer:
        if tensor.name.endswith("weight"):
            values = onnx.numpy_helper.to_array(tensor) * 30
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    for node in large.graph.node:  # no clip that holds them back
        if node.op_type == "Clip":
            node.op_type = "Relu"
            del node.input[1:]
    with pytest.raises(HwnasError, match=r"FP16 variant is refused: its output C\d .*not finite"):
        variant(large, "fp16")


def test_ranges_that_say_nothing_are_refused(tmp_path: Path) -> None:
    """Calibrated on black images only, and asked about others: the check is not on its own data."""
    from PIL import Image

    for number in range(20):
        shade = 0 if number < 16 else 255
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3)) * (number >= 16)
        pixels = noise.astype(np.uint8) if shade else np.full((64, 64, 3), 124, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
    with pytest.raises(HwnasError, match=r"INT8 variant is refused: .* away"):
        variant(model(), "int8", tmp_path)


def test_images_of_a_folder_calibrate(tmp_path: Path, capsys) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(24):
        pixels = rng.integers(0, 256, (48, 80, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
    source = tmp_path / "trained.onnx"
    source.write_bytes(model().SerializeToString())
    options = ["--format", "onnx", "--precision", "int8", "--calibrate", str(tmp_path)]
    with pytest.raises(SystemExit) as exit_:
        main(["export", str(source), *options, "--json"])
    assert exit_.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == str(tmp_path / "trained-int8.onnx")
    assert told["calibration"] == f"16 images of {tmp_path}"
    assert told["error"] == max(told["errors"].values())
    written = onnx.load(told["path"])
    about = {p.key: p.value for p in written.metadata_props}
    assert about["precision"] == "int8" and about["calibration"] == told["calibration"]
    with pytest.raises(SystemExit) as exit_:
        main(["export", str(source), *options])
    assert exit_.value.code == 2  # the file is there
    assert "exists already" in capsys.readouterr().err


def test_an_architecture_is_exported_in_int8(tmp_path: Path, capsys) -> None:
    out = tmp_path / "x.onnx"
    options = ["--resolution", "64", "--format", "onnx", "--precision", "int8", "--out", str(out)]
    with pytest.raises(SystemExit) as exit_:
        main(["export", "mobilenetv2-0.5", *options])
    assert exit_.value.code == 0
    said = capsys.readouterr().out
    assert "synthetic: 16 images of Gaussian noise" in said
    assert "INT8 against the float model: C2" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "onnx", "--precision", "int4"], "unknown precision 'int4'. Did you mean"),
        (["--format", "torch", "--precision", "fp16"], "goes with --format onnx, not torch"),
        (["--format", "onnx", "--calibrate", "."], "goes with --precision int8"),
    ],
)
def test_options_that_do_not_go_together(options, message: str, capsys) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["export", "mobilenetv2-0.5", *options])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_bad_images_and_no_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = lower(zoo.get("mobilenetv2-0.5"), (32, 32))
    small = to_onnx(graph, filler(graph))
    with pytest.raises(UsageError, match="holds no images"):
        variant(small, "int8", tmp_path)
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"x\.png is not an image"):
        variant(small, "int8", tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DeviceUnavailableError, match=r"hwnas\[images\]"):
        variant(small, "int8", tmp_path)

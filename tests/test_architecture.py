"""Genotypes, their files, spaces, and the graph that they lower to."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.architecture import from_json, lower, main_path, spaces, zoo
from hwnas.errors import UsageError

SPACES = ["resnet", "mobile"]


@pytest.mark.parametrize("name", zoo.names())
def test_zoo_survives_json(name: str) -> None:
    architecture = zoo.get(name)
    assert from_json(architecture.to_json()) == architecture


def test_zoo_suggests_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="Did you mean 'maedet-m'"):
        zoo.get("maedet_m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema="hwnas.architecture/9"), "Update hwnas"),
        (lambda d: d.update(stages=d["stages"][:4]), "4 stages"),
        (lambda d: d["stages"][1][0].update(kernel=4), "must be odd"),
        (lambda d: d["stages"][1][0].update(kernel="3"), r"Expected `int`.*stages\[1\]\[0\]"),
        (lambda d: d["stages"][1][0].update(out=10**9), "between 1 and 65536"),
        (lambda d: d["stages"][1][0].update(stride=1), "strides of stage C2"),
        (lambda d: d["stages"][1][0].update(family="bottlenek"), "Did you mean 'bottleneck'"),
        (lambda d: d["stages"][1][0].pop("mid"), "missing field 'mid'"),
        (lambda d: d["stages"][1][0].update(colour=1), "unknown field 'colour'"),
        (lambda d: d["stages"].__setitem__(3, []), "C4 is empty"),
        (lambda d: d.update(extra=1), "unknown field 'extra'"),
        (lambda d: d["stem"].update(activation="gelu"), "activation is 'gelu'"),
        (lambda d: d.update(stages=7), "stages|array"),
    ],
)
def test_bad_documents_are_named(change: Any, message: str) -> None:
    document = json.loads(zoo.get("maedet-m").to_json())
    change(document)
    with pytest.raises(UsageError, match=message):
        from_json(json.dumps(document))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_garbage_is_a_usage_error(data: bytes) -> None:
    with pytest.raises(UsageError):
        from_json(data)


def test_deeply_nested_json_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        from_json("[" * 100_000)


def test_odd_sizes_keep_the_shortcut_the_size_of_the_block() -> None:
    graph = lower(zoo.get("maedet-m"), (600, 1000))
    for layer in graph.layers:
        if layer.op == "add":
            sizes = {graph.layers[source].out_size for source in layer.inputs}
            assert sizes == {layer.in_size}
    assert graph.outputs()[3].out_size == (75, 125)
    assert graph.outputs()[4].out_size == (38, 63)


@pytest.mark.parametrize("resolution", [(16, 224), (224, 0), (20000, 224)])
def test_unsuitable_resolutions_are_refused(resolution: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="total stride 32"):
        lower(zoo.get("resnet50"), resolution)


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_samples_lie_in_their_space(name: str, seed: int) -> None:
    space = spaces.load(name)
    candidate = space.sample(np.random.default_rng(seed))
    assert space.problem(candidate) == ""
    architecture = space.decode(candidate)
    assert space.encode(architecture) == candidate
    assert from_json(architecture.to_json()) == architecture
    graph = lower(architecture, (64, 96), batch=2)
    assert sorted(graph.outputs()) == [2, 3, 4, 5]
    assert graph.outputs()[5].out_size == (2, 3)
    for i, layer in enumerate(graph.layers):
        assert all(source < i for source in layer.inputs)
        for source in layer.inputs:
            before = graph.layers[source] if source >= 0 else None
            assert layer.in_channels == (before.out_channels if before else 3)
            assert layer.in_size == (before.out_size if before else (64, 96))


def test_samples_cover_the_space() -> None:
    space = spaces.load("resnet")
    rng = np.random.default_rng(0)
    candidates = [space.sample(rng) for _ in range(2000)]
    assert {c[0] for c in candidates} == set(space.stem_widths)
    widths = [c[4][1] for c in candidates]
    assert min(widths) <= 48
    assert max(widths) >= 1500
    assert {c[2][3] for c in candidates} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("name", SPACES)
def test_the_narrowest_is_in_the_space(name: str) -> None:
    space = spaces.load(name)
    assert space.problem(space.narrowest()) == ""


@pytest.mark.parametrize(
    ("name", "message"), [("maedet-m", "row 2: 120 channels to 512"), ("resnet50", "strides")]
)
def test_networks_outside_the_space_say_where(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        spaces.load("resnet").encode(zoo.get(name))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('schema = "hwnas.space/1"', 'schema = "hwnas.space/2"', "expected 'hwnas.space/1'"),
        ("out = [32, 2048]", "out = [32, 2047]", "steps of 8"),
        ("pairs = [1, 5]", "pairs = [5, 1]", "not a range"),
        ("pairs = [1, 5]", "", "'pairs' or 'blocks'"),
        ("mid = [16, 512]", "", "give 'mid'"),
        ("growth = [1.0, 4.0]", "growth = [9.0, 9.5]", "no width fits"),
        ("stride = 2", "stride = 3", "strides of C2|stage C2"),
        ("kernels = [3, 5]", "kernels = []", "must not be empty"),
        ("[stem]", "[stem", "TOML|Expected|expected"),
    ],
)
def test_bad_spaces_are_named(old: str, new: str, message: str, tmp_path: Any) -> None:
    text = (spaces.files(spaces.__package__) / "resnet.toml").read_text(encoding="utf-8")
    path = tmp_path / "own.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(UsageError, match=message):
        spaces.load(str(path))


def test_the_plain_network_of_a_mobile_block_is_linear_where_the_block_is() -> None:
    path = main_path(lower(zoo.get("mobilenetv2-1.0"), (64, 64)))
    assert [activation for _, activation in path[:5]] == [None, "relu6", "relu6", None, "relu6"]


def test_the_plain_network_of_a_bottleneck_activates_every_layer() -> None:
    path = main_path(lower(zoo.get("maedet-m"), (64, 64)))
    assert [activation for _, activation in path] == [None] + ["relu"] * 90


def own_space(*changes: tuple[str, str]) -> str:
    text = (spaces.files(spaces.__package__) / "resnet.toml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def test_an_empty_stage_is_named() -> None:
    first, *rest = own_space().split("[[rows]]")
    without_c4 = "[[rows]]".join([first, *(row for row in rest if "stage = 4" not in row)])
    with pytest.raises(UsageError, match="own: stage C4 is empty"):
        spaces.parse(without_c4, "own")


def test_a_bottleneck_keeps_its_ratio() -> None:
    space = spaces.parse(
        own_space(("mid = [16, 512]", "mid = [16, 512]\nratio = [0.1, 0.5]")), "own"
    )
    assert space.problem(space.narrowest()) == ""
    rng = np.random.default_rng(0)
    for _ in range(200):
        candidate = space.sample(rng)
        assert space.problem(candidate) == ""
        assert all(0.1 * out <= inner <= 0.5 * out for _, out, inner, _ in candidate[1:])
    assert "mid" in space.problem((16, (3, 32, 32, 1), *space.narrowest()[2:]))


def test_widths_are_aligned_to_what_a_device_likes() -> None:
    space = spaces.load("resnet")
    assert space.aligned(8) == space.aligned(1) == space
    aligned = space.aligned(12)  # together with steps of 8
    assert aligned.width_step == 24
    candidate = aligned.sample(np.random.default_rng(0))
    widths = [candidate[0]] + [w for _, out, inner, _ in candidate[1:] for w in (out, inner)]
    assert all(width % 24 == 0 for width in widths)
    assert space.problem(candidate) == ""
    with pytest.raises(UsageError, match="multiple of 1000"):
        space.aligned(1000)

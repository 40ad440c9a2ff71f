"""The reference toolbox's structure texts: read to the same figures, written, never evaluated."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hwnas.architecture import Architecture, Row, Stem, lower, spaces, zoo
from hwnas.costs import flops, main_layers, mmcv_flops, total_params
from hwnas.errors import UsageError
from hwnas.integrations import tinynas

# Tables 13, 12 and 14 of https://arxiv.org/abs/2111.13336: kernel, out, bottleneck, blocks.
PUBLISHED = {
    "maedet-s": (32, [(5, 48, 32, 2), (3, 272, 120, 4), (5, 1024, 80, 10), (3, 2048, 240, 10)]),
    "maedet-m": (64, [(3, 120, 64, 2), (5, 512, 72, 10), (5, 1632, 112, 10), (5, 2048, 184, 8)]),
    "maedet-l": (80, [(3, 144, 80, 2), (5, 608, 88, 12), (5, 1912, 136, 12), (5, 2400, 220, 10)]),
}


def rows(stem: int, blocks: list[tuple[int, int, int, int]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [{"class": "ConvKXBNRELU", "in": 3, "out": stem, "s": 2, "k": 3}]
    for kernel, out, inner, depth in blocks:
        made.append(
            {
                "class": "SuperResK1KXK1", "in": made[-1]["out"], "out": out, "s": 2, "k": kernel,
                "L": depth, "btn": inner,
            }
        )  # fmt: skip
    return made


def changed(number: int, **fields: Any) -> str:
    made = rows(*PUBLISHED["maedet-s"])
    made[number] |= fields
    return repr([{k: v for k, v in row.items() if v is not ...} for row in made])


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("form", ["python", "json", "list", "indented"])
def test_published_structures_load_to_the_zoo(name: str, form: str) -> None:
    plain = rows(*PUBLISHED[name])
    document = {"space_arch": "CnnNet", "best_structures": [plain]}
    text = {
        "python": repr(document) + "   \n",
        "json": json.dumps(document, indent=2),
        "list": repr(plain),
        "indented": "\n  " + repr(document).replace("}, {", "},  # a row\n\t\t{"),
    }[form]
    found = tinynas.read(text)
    assert found.notes == ()
    ours, theirs = found.architecture, zoo.get(name)
    assert ours.renamed(name) == theirs
    assert flops(lower(ours, (800, 1280))) == flops(lower(theirs, (800, 1280)))
    assert total_params(lower(ours)) == total_params(lower(theirs))
    ours_counted, theirs_counted = (mmcv_flops(lower(a), a.flops_rule) for a in (ours, theirs))
    assert ours_counted == theirs_counted


@example(seed=9753, space="mobile")  # two rows in a stage that the text has as one
@given(seed=st.integers(0, 10_000), space=st.sampled_from(["resnet", "mobile"]))
def test_what_is_written_is_read_again(seed: int, space: str) -> None:
    found = spaces.load(space)
    architecture = found.decode(found.sample(np.random.default_rng(seed)))
    if any(row.family == "mobile" and row.inner == 1 for row in architecture.rows):
        with pytest.raises(UsageError, match="expansion 1"):
            tinynas.write(architecture)
        return
    text = tinynas.write(architecture)
    assert ast.literal_eval(text)["best_structures"][0][0]["class"] == tinynas.CONV
    again = tinynas.read(text)
    assert again.notes == ((tinynas.MOBILE_NOTE,) if space == "mobile" else ())
    for cost in (flops, main_layers, total_params):
        assert cost(lower(again.architecture)) == cost(lower(architecture))
    if space == "resnet":
        assert again.architecture == architecture.renamed("")


def test_mobile_rows_keep_their_widths() -> None:
    """`btn` holds for every block of a row; where in is not out that takes two rows here."""
    stages = [[]] + [[Row("mobile", 16 * 2**i, 4, 3, 3, 2, "relu")] for i in range(4)]
    architecture = Architecture(
        Stem(16), tuple(map(tuple, stages)), head=64, head_activation="relu"
    )
    text = tinynas.write(architecture)
    kinds = ast.literal_eval(text)["best_structures"][0]
    # The first row has as many channels coming in as going out, so one text row does for it.
    assert [(r.get("btn"), r.get("L")) for r in kinds[1:4]] == [(64, 3), (64, 1), (128, 2)]
    assert tinynas.read(text).architecture == architecture


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os').system('touch here')", "line 1, column 1: .* is code"),
        ("[{'class': 'ConvKXBNRELU',\n 'in': open('x')}]", r"line 2, column 8: 'open\('x'\)' is"),
        ("[{'class': f'{1}'}]", "is code"),
        ("[{'in': 1 + 2}]", r"'1 \+ 2' is code"),
        ("[{'in': x}]", "'x' is code"),
        ("[i for i in (1, 2)]", "is code"),
        ("[{**{}}]", "a key must be"),
        ("[{1: 2}]", "a key must be"),
        ("[{'in': 3, 'in': 4}]", "'in' is given twice"),
        ("[{'class': 'ConvKXBNRELU'", "line 1, column 2: '{' was never closed"),
        ("\n\n[{'a' 1}]", "line 3, column"),
        ("[" * 300, "nested|too many"),
        ("-" * 50_000 + "1", "nested|code|recursion"),
        ("[" + "1," * 600_000 + "]", "characters"),
        ("", "line 1"),
        ("[]", "expected a list of rows"),
        ("[1, 2]", "expected a list of rows"),
        ("{'best_structures': []}", "'best_structures' must be a list"),
        ("{'space_arch': 'Cnn3DNet', 'best_structures': [[{}]]}", "'Cnn3DNet'; only 'CnnNet'"),
        (changed(0, **{"class": "SuperResK1KXK1", "L": 1, "btn": 8}), "must be the stem"),
        (changed(0, s=1), "must be the stem"),
        (changed(0, **{"in": 4}), "'in' is 4, but the image has 3 channels"),
        (changed(2, **{"in": 64}), "'in' is 64, but the row before gives 48 channels"),
        (changed(2, **{"class": "SuperResKXKX"}), "SuperResKXKX of stride 2 has it in its second"),
        (changed(2, **{"class": "SuperResK1KXK"}), "Did you mean 'SuperResK1KXK1'"),
        (changed(2, **{"class": ...}), "needs a 'class'"),
        (changed(2, **{"class": "SuperResK1DWK1", "btn": 100}), "whole factor"),
        (changed(2, **{"class": "ConvKXBNRELU", "L": ..., "btn": ...}), "only be the first"),
        (changed(2, s=3), "stride 's' is 3; it must be 1 or 2"),
        (changed(2, s=-2), "'s' is -2; it must be a whole number"),
        (changed(2, s=1), "4 rows have stride 2; a backbone has 5"),
        (changed(2, k=4), "'k' is 4; it must be odd"),
        (changed(2, k=99), "kernel is 99"),
        (changed(2, p=0), "padding 'p' must be 1"),
        (changed(2, g=7), "groups 'g' of 7 do not divide 'in' of 48"),
        (changed(2, g=2), "grouped convolutions are not read"),
        (changed(2, btn=0), "'btn' is 0"),
        (changed(2, btn=...), "needs 'btn'"),
        (changed(2, L=True), "'L' is True"),
        (changed(2, L=2.5), "'L' is 2.5"),
        (changed(2, act="gelu"), "unknown activation 'gelu'"),
        (changed(2, bnt=3), "unknown field 'bnt'. Did you mean 'btn'"),
        (changed(2, inner_class="ResKXKX"), "'inner_class' is 'ResKXKX'; that of SuperResK1KXK1"),
        (changed(2, nbitsA=[8, 8, 8]), "mixed precision"),
        (changed(2, out=10**6), "'in' is 272"),
    ],
)  # fmt: skip
def test_bad_texts_get_one_clear_message(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        tinynas.read(text, "net.txt")
    assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(UsageError):
        tinynas.read(text)


@pytest.mark.parametrize(
    ("name", "message"),
    [("resnet50", "no max-pool"), ("mobilenetv2-1.0", "expansion 1")],
)
def test_what_the_toolbox_cannot_say_is_an_error(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tinynas.write(zoo.get(name))


def test_several_structures_are_said() -> None:
    plain = rows(*PUBLISHED["maedet-s"])
    found = tinynas.read(repr({"best_structures": [plain, plain]}), "net.txt")
    assert found.notes == ("net.txt holds 2 structures; the first is read",)


def test_nothing_of_a_network_is_left_out_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = Architecture(
        Stem(16), ((), *(((Row("bottleneck", 32, 16, 2, 3, 2, "relu6"),),) * 4))
    )
    assert "relu6" in tinynas.write(architecture)
    monkeypatch.setattr(tinynas, "_act", lambda activation: {})
    with pytest.raises(UsageError, match="cannot say all that this network is"):
        tinynas.write(architecture)


def test_blocks_of_two_convolutions() -> None:
    k1kx = rows(*PUBLISHED["maedet-s"])
    for row in k1kx[1:]:
        row["class"] = "SuperResK1KX"
    found = tinynas.read(repr(k1kx)).architecture
    assert {row.family for row in found.rows} == {"k1kx"}
    assert tinynas.read(tinynas.write(found)).architecture == found
    more = k1kx[-1] | {"class": "SuperResKXKX", "in": 2048, "s": 1}
    found = tinynas.read(repr([*k1kx, more])).architecture
    assert list(found.rows)[-1].family == "basic"
    assert tinynas.read(tinynas.write(found)).architecture == found


@pytest.mark.parametrize(
    ("stem", "row", "message"),
    [
        (Stem(16), Row("bottleneck", 32, 16, 2, 3, 2, groups=4), "cannot say all"),
        (Stem(16), Row("bottleneck", 32, 16, 2, 3, 2, se="sigmoid"), "cannot say all"),
        (Stem(16, focus=True), Row("bottleneck", 32, 16, 2, 3, 2), "cannot say all"),
        (Stem(16), Row("basic", 32, 16, 2, 3, 2), "in its second convolution"),
        (Stem(16), Row("bottleneck", 32, 16, 2, 3, 2, "hard_swish"), "activation 'hard_swish'"),
    ],
)
def test_what_only_this_toolbox_has_is_not_written(stem: Stem, row: Row, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tinynas.write(Architecture(stem, ((), *(((row,),) * 4))))

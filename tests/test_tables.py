"""Tables as people exchange them: what goes out comes back, and no row slips in unseen."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwnas.architecture import zoo
from hwnas.cli import command_line
from hwnas.devices import spec
from hwnas.errors import HwnasError, UsageError
from hwnas.latency import tables
from hwnas.latency.columns import from_kernels
from hwnas.latency.tables import proxyless, table_of, tinynas
from hwnas.latency.tables.table import REASONS, TOLERANCE
from hwnas.lowering.kernels import Fusion, Kernel
from hwnas.profiling import profile as profiles
from hwnas.profiling.profile import NetworkRecord, Profile
from hwnas.store import shelf
from hwnas.workflows import exchange
from hwnas.workflows.predict import load_predictor

HEAD = ",".join(tables.COLUMNS)
CSV = f"""{HEAD}
Regular,1,16,28,28,32,3,1,0,0.5
Depthwise,1,32,28,28,32,5,2,0,0.125
Regular,1,32,14,14,64,1,1,1,0.25
"""
TEXT = """{Regular,1,16,28,28,32,3,1,0} 0.5
{Depthwise,1,32,28,28,32,5,2,0} 0.125 ms
{Regular,1,32,14,14,64,1,1,1} 0.25
"""
YAML = """# a look-up table
Conv-input:64x64x3-output:32x32x16:
  count: 10
  mean: 1.5
expanded_conv-input:32x32x16-output:16x16x24-expand:3-kernel:5-stride:2-idskip:0:
  mean: 2.5
expanded_conv-input:16x16x24-output:16x16x24-expand:6-kernel:3-stride:1-idskip:1:
  {mean: 2.25, var: 0.1}
Conv_1-input:16x16x24-output:16x16x128:
  mean: 0.75
AvgPool-input:16x16x128-output:1x1x128: {mean: 0.125}
Logits-input:16x16x128-output:10:
  mean: 0.25
"""
DOCS = (Path(__file__).parent.parent / "docs" / "tables.md").read_text(encoding="utf-8")
GOLDEN = {"csv": CSV, "tinynas": TEXT, "proxyless": YAML}
ENDINGS = {"csv": ".csv", "tinynas": ".txt", "proxyless": ".yaml"}


def written(folder: Path, content: str | bytes, ending: str = ".csv") -> Path:
    path = folder / f"table{ending}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(table: tables.KernelTable) -> dict[tuple[Kernel, ...], float]:
    return dict(zip(table.blocks, table.seconds.tolist(), strict=True))


sizes = st.integers(1, 300)


@st.composite
def kernels(draw: Any) -> Kernel:
    op = draw(st.sampled_from(["conv"] * 4 + ["avg_pool", "max_pool", "add", "Softmax"]))
    kind = draw(st.sampled_from(["dense", "depthwise", "grouped"])) if op == "conv" else "dense"
    groups = draw(st.integers(1, 64)) if kind != "dense" else 1
    into = groups * (draw(st.integers(1, 8)) if kind == "grouped" else 1)
    into = draw(sizes) if kind == "dense" else into
    out = groups * draw(st.integers(1, 8)) if kind != "dense" else draw(sizes)
    height, width = draw(sizes), draw(sizes)
    side = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([1, 3, 5]))
    side = min(side[0], height), min(side[1], width)
    stride = draw(st.integers(1, min(3, height))), draw(st.integers(1, min(3, width)))
    out_size = -(-height // stride[0]), -(-width // stride[1])
    if draw(st.booleans()):
        out_size = max(1, out_size[0] - 1), out_size[1]
    return Kernel(
        op, draw(st.integers(1, 64)), into, (height, width), out, out_size, side, stride, groups,
        draw(st.booleans()), draw(st.booleans()),
    )  # fmt: skip


times_s = st.floats(1e-8, 100.0)
some_rows = st.dictionaries(kernels(), times_s, min_size=1, max_size=8)
in_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@in_folder
@given(rows=some_rows, packed=st.booleans())
def test_a_csv_holds_everything_of_a_kernel(
    rows: dict[Kernel, float], packed: bool, tmp_path: Path
) -> None:
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    assert tables.write(path, table_of(((k,), t) for k, t in rows.items())).left_out == {}
    table = tables.read(path)
    assert table.bad == ()
    assert table.kernels == tuple(rows)
    assert table.seconds == pytest.approx(list(rows.values()), rel=1e-8)


@in_folder
@given(rows=some_rows)
def test_tinynas_text_says_what_it_can_and_counts_the_rest(
    rows: dict[Kernel, float], tmp_path: Path
) -> None:
    expected: dict[tuple[Kernel, ...], list[float]] = {}
    for kernel, time_s in rows.items():
        told = tinynas.expressible(kernel)
        if told is not None:
            assert told == kernel._replace(activation=True)
            expected.setdefault((told,), []).append(time_s)
    table = table_of(((k,), t) for k, t in rows.items())
    path = tmp_path / "t.txt"
    if not expected:
        with pytest.raises(UsageError, match="can say none"):
            tables.write(path, table)
        return
    count, left_out = tables.write(path, table)
    assert count == len(expected)
    assert sum(left_out.values()) + sum(map(len, expected.values())) == len(rows)
    found = rows_of(tables.read(path))
    assert found == pytest.approx({k: np.median(t) for k, t in expected.items()}, rel=1e-8)


@st.composite
def block_keys(draw: Any) -> str:
    height, width, into = draw(st.integers(4, 200)), draw(st.integers(4, 200)), draw(sizes)
    kind = draw(st.sampled_from(proxyless.TYPES))
    source, out, stride = f"input:{height}x{width}x{into}", draw(sizes), draw(st.integers(1, 2))
    small = f"{-(-height // stride)}x{-(-width // stride)}"
    if kind == "AvgPool":
        return f"AvgPool-{source}-output:{into}"
    if kind == "Logits":
        return f"Logits-{source}-output:{out}"
    if kind == "Conv_1":
        return f"Conv_1-{source}-output:{height}x{width}x{out}"
    if kind == "Conv":
        return f"Conv-{source}-output:{small}x{out}"
    skip = draw(st.booleans())
    target = f"{height}x{width}x{into}" if skip else f"{small}x{out}"
    return (
        f"expanded_conv-{source}-output:{target}-expand:{draw(st.integers(1, 6))}"
        f"-kernel:{draw(st.sampled_from([3, 5, 7]))}-stride:{1 if skip else stride}"
        f"-idskip:{int(skip)}"
    )


@in_folder
@given(
    keys=st.dictionaries(block_keys(), times_s, min_size=1, max_size=6),
    fusion=st.builds(Fusion, add=st.booleans()),
    batch=st.integers(1, 32),
)
def test_blocks_come_back_from_yaml(
    keys: dict[str, float], fusion: Fusion, batch: int, tmp_path: Path
) -> None:
    rows = {proxyless.block(key, batch, fusion): time_s for key, time_s in keys.items()}
    path = tmp_path / "t.yaml"
    table = table_of(rows.items())
    assert tables.write(path, table, fusion=fusion, comment="one\ntwo").rows == len(rows)
    assert path.read_text().startswith("# one\n# two\n")
    found = tables.read(path, batch=batch, fusion=fusion)
    assert found.bad == ()
    assert rows_of(found) == pytest.approx(rows, rel=1e-8)


def test_a_block_is_what_the_mobile_family_lowers_to() -> None:
    key = "expanded_conv-input:16x16x24-output:16x16x24-expand:6-kernel:3-stride:1-idskip:1"
    expand, depthwise, project = proxyless.block(key, 2, Fusion())
    assert (expand.in_channels, expand.out_channels, expand.kernel) == (24, 144, (1, 1))
    assert (depthwise.groups, depthwise.kernel, depthwise.batch) == (144, (3, 3), 2)
    assert (project.out_channels, project.fused_add, project.activation) == (24, True, False)
    assert [k.op for k in proxyless.block(key, 2, Fusion(add=False))] == ["conv"] * 3 + ["add"]


def test_the_skeleton_has_the_blocks_that_a_proxyless_search_looks_up() -> None:
    keys = [proxyless.key_of(k, Fusion()) for k in proxyless.skeleton((224, 224), 1, Fusion())]
    for key in (
        "Conv-input:224x224x3-output:112x112x32",
        "expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0",
        "expanded_conv-input:14x14x96-output:7x7x192-expand:6-kernel:7-stride:2-idskip:0",
        "expanded_conv-input:7x7x192-output:7x7x320-expand:3-kernel:5-stride:1-idskip:0",
        "Conv_1-input:7x7x320-output:7x7x1280",
        "Logits-input:7x7x1280-output:1000",
    ):
        assert key in keys
    assert None not in keys
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("format", ["csv", "tinynas"])
def test_golden_tables_of_kernels(format: str, tmp_path: Path) -> None:
    table = tables.read(written(tmp_path, GOLDEN[format], ENDINGS[format]))
    assert table.bad == ()
    assert table.of == "kernels"
    conv = Kernel("conv", 1, 16, (28, 28), 32, (28, 28), (3, 3), activation=True)
    deep = conv._replace(
        in_channels=32, groups=32, kernel=(5, 5), stride=(2, 2), out_size=(14, 14)
    )  # fmt: skip
    point = Kernel("conv", 1, 32, (14, 14), 64, (14, 14), fused_add=True, activation=True)
    assert table.kernels == (conv, deep, point)
    assert table.seconds.tolist() == [0.5e-3, 0.125e-3, 0.25e-3]


def test_a_golden_table_of_blocks(tmp_path: Path) -> None:
    table = tables.read(written(tmp_path, YAML, ".yaml"))
    assert table.bad == ()
    assert table.of == "blocks"
    assert [len(row) for row in table.blocks] == [1, 3, 3, 1, 1, 2]
    assert table.seconds.tolist() == [1.5e-3, 2.5e-3, 2.25e-3, 0.75e-3, 0.125e-3, 0.25e-3]
    pool, classifier = table.blocks[-1]
    assert (pool.op, pool.kernel, pool.out_size) == ("avg_pool", (16, 16), (1, 1))
    assert (classifier.in_channels, classifier.out_channels) == (128, 10)


def test_optional_columns_express_other_kernels(tmp_path: Path) -> None:
    extra = "groups,out_height,out_width,kernel_width,stride_width,activation"
    text = (
        f"{HEAD},{extra}\n"
        "Grouped,1,64,28,28,64,3,1,0,0.5,4,,,,,\n"
        "Regular,1,64,28,28,64,1,1,0,0.5,,,,7,,0\n"
        "Regular,1,64,28,30,64,3,2,0,0.5,,14,13,,1,\n"
        "max_pool,1,64,28,28,64,3,2,0,0.5,,,,,,\n"
        "add,1,64,28,28,64,1,1,0,0.5,,,,,,1\n"
        "op:Softmax,1,64,28,28,64,1,1,0,0.5,,,,,,\n"
    )
    table = tables.read(written(tmp_path, text))
    assert table.bad == ()
    grouped, wide, given_out, pool, add, softmax = table.kernels
    assert grouped.groups == 4
    assert (wide.kernel, wide.activation) == ((1, 7), False)
    assert (given_out.out_size, given_out.stride) == ((14, 13), (2, 1))
    assert (pool.op, pool.out_size, pool.activation) == ("max_pool", (14, 14), False)
    assert (add.op, add.activation, softmax.op) == ("add", True, "Softmax")


BAD_CSV = [
    ("Regular,1,16,28,28,32,3,1,0,", "failed"),
    ("Regular,1,,28,28,32,3,1,0,1", "missing"),
    (",1,16,28,28,32,3,1,0,1", "missing"),
    ("Regular,1,16,28,28", "missing"),
    ("Regular,1,16,28,28,32,3,1,0,1,2,3", "malformed"),
    ("Regular,1,x,28,28,32,3,1,0,1", "malformed"),
    ("Regular,1,16.5,28,28,32,3,1,0,1", "malformed"),
    ("Regular,1,16,28,28,32,3,1,0,fast", "malformed"),
    ("Regular,1,16,28,28,32,3,1,0,nan", "not finite"),
    ("Regular,1,16,28,28,32,3,1,0,inf", "not finite"),
    ("Regular,inf,16,28,28,32,3,1,0,1", "not finite"),
    ("Regular,1,16,28,28,32,3,1,0,-0.5", "negative"),
    ("Regular,1,-16,28,28,32,3,1,0,1", "negative"),
    ("Regular,1,16,28,28,32,3,1,0,0", "zero"),
    ("Regular,1,16,28,28,32,3,0,0,1", "zero"),
    ("Regular,1,16,28,28,32,3,1,0,1e9", "out of range"),
    ("Regular,1,16,28,28,99999999,3,1,0,1", "out of range"),
    ("Regular,1,16,3,3,32,9,1,0,1", "out of range"),
    ("Regular,1,16,3,3,32,1,4,0,1", "out of range"),
    ("Regular,1,16,28,28,32,3,1,2,1", "out of range"),
    ("Depthwise,1,16,28,28,24,3,1,0,1", "out of range"),
    ("Winograd,1,16,28,28,32,3,1,0,1", "unknown type"),
]
BAD_TEXT = [
    ("{Regular,1,16,28,28,32,3,1,0} -1", "failed"),
    ("{Regular,1,16,28,28,32,3,1,0}", "failed"),
    ("{Regular,1,16,28,28,32,3,1} 1", "malformed"),
    ("Regular 1 16 28 28", "malformed"),
    ("{Regular,1,16,28,28,32,3,1,0} -2", "negative"),
    ("{Regular,1,16,28,28,32,3,1,0} nan", "not finite"),
    ("{Depthwise,1,16,28,28,24,3,1,0} 1", "out of range"),
    ("{Dense,1,16,28,28,24,3,1,0} 1", "unknown type"),
]
_MB = "expanded_conv-input:16x16x24-output:16x16x{}-expand:{}-kernel:3-stride:1-idskip:{}: {}"
BAD_YAML = [
    (_MB.format(24, 6, 1, "{var: 1.0}"), "failed"),
    (_MB.format(24, 6, 1, "2.0"), "malformed"),
    (_MB.format(24, 6, 1, "{mean: [1]}"), "malformed"),
    (_MB.format(24, 6, 1, "{mean: .nan}"), "not finite"),
    (_MB.format(24, 6, 1, "{mean: -.inf}"), "not finite"),
    (_MB.format(24, 6, 1, "{mean: -1}"), "negative"),
    (_MB.format(32, 6, 1, "{mean: 1}"), "out of range"),
    (_MB.format(24, 0, 1, "{mean: 1}"), "zero"),
    ("Conv_1-input:8x8x3-output:4x4x8: {mean: 1}", "out of range"),
    ("Conv_1-input:8x8-output:8x8x8: {mean: 1}", "malformed"),
    ("Conv_1-input:8x8x3: {mean: 1}", "malformed"),
    ("Stem-input:8x8x3-output:8x8x8: {mean: 1}", "unknown type"),
    (_MB.format(24, 6, 1, "{mean: 1}").replace("-idskip", "-se:1-idskip"), "unknown type"),
    ("? [1, 2]\n: {mean: 1}", "malformed"),
]


@pytest.mark.parametrize(
    ("format", "row", "reason"),
    [(f, *case) for f, cases in (("csv", BAD_CSV), ("tinynas", BAD_TEXT), ("proxyless", BAD_YAML))
     for case in cases],
)  # fmt: skip
def test_a_bad_row_is_left_out_and_named(
    format: str, row: str, reason: str, tmp_path: Path
) -> None:
    good = GOLDEN[format]
    table = tables.read(written(tmp_path, f"{good}{row}\n", ENDINGS[format]))
    assert table.counts() == {reason: 1}
    assert table.bad[0].line == good.count("\n") + 1
    assert str(table.bad[0]).startswith(f"line {good.count(chr(10)) + 1}: ")
    assert rows_of(table) == rows_of(tables.read(written(tmp_path, good, ENDINGS[format])))


@pytest.mark.parametrize(
    ("format", "at", "count"), [("csv", 1, 3), ("tinynas", 2, 2), ("proxyless", 3, 4)]
)
def test_the_examples_of_the_docs_are_tables(
    format: str, at: int, count: int, tmp_path: Path
) -> None:
    example = DOCS.split("\n```")[2 * at - 1].partition("\n")[2]
    table = tables.read(written(tmp_path, example, ENDINGS[format]))
    assert (len(table.seconds), table.bad) == (count, ())
    assert all(f"`{reason}`" in DOCS for reason in REASONS)


def test_repeats_duplicates_and_contradictions(tmp_path: Path) -> None:
    def row(channels: int, time_ms: float) -> str:
        return f"Regular,1,{channels},28,28,32,3,1,0,{time_ms}\n"

    text = f"{HEAD}\n" + "".join(
        [
            row(8, 1.0), row(8, 1.1), row(8, 1.15),  # repeated within the tolerance
            row(16, 2.0), row(16, 2.0), row(16, 2.0),  # the same row three times
            row(24, 1.0), row(24, 1.0 + 1.1 * TOLERANCE), row(24, 1.0),  # contradictory
            row(32, 3.0),
        ]
    )  # fmt: skip
    table = tables.read(written(tmp_path, text))
    assert [kernel.in_channels for kernel in table.kernels] == [8, 16, 32]
    assert table.seconds == pytest.approx([1.1e-3, 2.0e-3, 3.0e-3])
    assert table.merged == 2
    assert [(row.line, row.reason) for row in table.bad] == [
        (6, "duplicated"), (7, "duplicated"),
        (8, "contradictory"), (9, "contradictory"), (10, "duplicated"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "ending", "message"),
    [
        ("", ".txt", "no line such as"),
        ("", ".yaml", "mapping"),
        ("[1, 2]", ".yaml", "mapping"),
        ("a: b: c", ".yaml", "not a YAML file"),
        ("a: !!python/object/apply:os.getcwd []", ".yaml", "no usable row"),
        ("[" * 5000, ".yaml", "not a YAML file"),
        ("a: 1\n---\nb: 2\n", ".yaml", "not a YAML file"),
        (CSV, ".foo", "names no format"),
        (b"\x1f\x8b\x08\x00broken", ".csv.gz", "not a table|cannot read"),
    ],
)
def test_a_file_that_is_no_table_is_refused(
    content: str | bytes, ending: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        tables.read(written(tmp_path, content, ending))


def test_formats_are_told_by_ending_or_by_name(tmp_path: Path) -> None:
    packed = written(tmp_path, gzip.compress(TEXT.encode()), ".out.gz")
    named = written(tmp_path, TEXT, ".fp16")
    assert rows_of(tables.read(packed)) == rows_of(tables.read(named, "tinynas"))
    with pytest.raises(UsageError, match="Did you mean 'tinynas'"):
        tables.read(named, "tinyna")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(format=st.sampled_from(sorted(GOLDEN)), data=st.data())
def test_no_bytes_bring_the_readers_down(format: str, data: Any, tmp_path: Path) -> None:
    golden = GOLDEN[format].encode()
    if data.draw(st.booleans()):
        content = data.draw(st.binary(max_size=300))
    else:
        content = golden
        pieces = [b"-", b":", b",", b"{", b"}", b"\n", b"0", b"9" * 30, b"nan", b"&a *a", b'"']
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.integers(0, len(content)))
            until = at + data.draw(st.integers(0, 8))
            piece = data.draw(st.sampled_from(pieces) | st.binary(max_size=4))
            content = content[:at] + piece + content[until:]
    path = written(tmp_path, content, ENDINGS[format])
    try:
        table = tables.read(path)
    except UsageError:
        return
    assert len(table.seconds) > 0
    assert np.isfinite(table.seconds).all() and (table.seconds > 0).all()
    assert {row.reason for row in table.bad} <= set(REASONS)
    columns = from_kernels(table.kernels)
    assert (columns.macs >= 1).all() and np.isfinite(columns.macs).all()


# The commands.


def synthetic_csv(count: int = 300, bad: str = "") -> str:
    """A device that does 50 G multiply-adds a second and needs 5 us a launch."""
    rng = np.random.default_rng(0)
    found: dict[Kernel, float] = {}
    while len(found) < count:
        into, out = (int(8 * rng.integers(1, 65)) for _ in range(2))
        size, side = int(rng.choice([7, 14, 28, 56])), int(rng.choice([1, 3, 5]))
        kernel = Kernel("conv", 4, into, (size, size), out, (size, size), (side, side))
        macs = float(from_kernels([kernel]).macs[0])
        found[kernel] = macs / 50e9 + 5e-6
    lines = [
        f"Regular,4,{k.in_channels},{k.in_size[0]},{k.in_size[1]},{k.out_channels},"
        f"{k.kernel[0]},1,0,{1e3 * t:.6g}\n"
        for k, t in found.items()
    ]
    return f"{HEAD}\n{''.join(lines)}{bad}"


def run(*arguments: str) -> tuple[Any, str]:
    """Return the document of a command, and what it said on standard error."""
    result = CliRunner().invoke(command_line, [*arguments, "--json"], catch_exceptions=False)
    return json.loads(result.stdout), result.stderr


def shelf_hash(home: Path) -> dict[str, str]:
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file()
    }


BAD = "Regular,4,8,7,7,8,1,1,0,\nRegular,4,8,7,7,8,1,1,0,-3\nOdd,4,8,7,7,8,1,1,0,3\n"


def test_a_table_becomes_a_device_that_commands_take(tmp_path: Path) -> None:
    path = written(tmp_path, synthetic_csv(bad=BAD))
    document, said = run(
        "profile", "--import", str(path), "--name", "mine", "--kind", "cpu", "--precision", "fp32"
    )
    assert document["schema"] == "hwnas.profile-import/1"
    assert (document["rows"], document["failed_rows"], document["failed_lines"]) == (300, 1, [302])
    assert document["bad_row_counts"] == {"failed": 1, "negative": 1, "unknown type": 1}
    assert "line 303: latency_ms is -3 (negative)" in said
    assert "line 304: type is 'Odd'" in said
    assert "line 302" in said
    assert document["accuracy"]["mape"] < 0.1
    assert (document["batch"], document["resolution"]) == (4, [224, 224])
    device = spec.load("mine")
    assert device.connection == ""
    prediction, _ = run("predict", "resnet50", "--device", "mine")
    graph_macs = 4.087e9 * 4  # the ResNet-50 of the zoo, a batch of four
    assert prediction["latency_s"] == pytest.approx(graph_macs / 50e9, rel=0.15)
    evaluated, said = run("evaluate", "--kernels", str(path), "--device", "mine")
    assert (evaluated["rows"], len(evaluated["bad_rows"])) == (300, 2)
    assert "left out 3 bad rows" in said
    assert load_predictor(device).card.provenance["rows_left_out"]["negative"] == 1
    exported, _ = run("profile", "--export", str(tmp_path / "out.csv"), "--device", "mine")
    assert (exported["rows"], exported["source"], exported["left_out"]) == (300, "measured", {})
    back, original = tables.read(tmp_path / "out.csv"), tables.read(path)
    assert rows_of(back) == pytest.approx(rows_of(original), rel=1e-8)


def test_blocks_are_fitted_by_their_sums(tmp_path: Path) -> None:
    rows = proxyless.skeleton((160, 160), 1, Fusion())
    peaks = {"dense": 4e9, "pointwise": 8e9, "depthwise": 2e9}

    def seconds(kernels: tuple[Kernel, ...]) -> float:
        total = 0.0
        for kernel in kernels:
            kind = "pointwise" if kernel.kernel == (1, 1) else "dense"
            kind = "depthwise" if kernel.groups != 1 else kind
            total += float(from_kernels([kernel]).macs[0]) / peaks[kind] + 2e-5
        return total

    path = tmp_path / "phone.yaml"
    tables.write(path, table_of((kernels, seconds(kernels)) for kernels in rows))
    document, _ = run("profile", "--import", str(path), "--kind", "cpu", "--precision", "fp32")
    assert (document["device"], document["of"], document["rows"]) == ("phone", "blocks", len(rows))
    card = load_predictor(spec.load("phone")).card
    assert set(card.accuracy) == {"held-out blocks"}
    assert card.kernel_quantiles["all"].of == card.network_quantiles.of == "blocks"
    assert "no kernel was measured by itself" in card.provenance["fitted_to"]
    assert card.provenance["classifiers_left_out"] == "1"
    assert document["accuracy"]["median_ape"] < 0.05
    found = card.roofline.macs_per_s
    assert found["pointwise"] == pytest.approx(8e9, rel=0.25)
    assert found["depthwise"] == pytest.approx(2e9, rel=0.25)
    # The kernels of a block were never measured: the truth is met as far as the roofline is true.
    kernels = [kernel for row in rows[:-1] for kernel in row]
    alone = load_predictor(spec.load("phone")).seconds(from_kernels(kernels))
    truth = np.array([seconds((kernel,)) for kernel in kernels])
    assert np.median(np.abs(alone / truth - 1)) < 0.15
    exported, _ = run("profile", "--export", str(tmp_path / "o.yaml"), "--device", "phone")
    assert (exported["source"], exported["rows"]) == ("measured", len(rows))
    back = rows_of(tables.read(tmp_path / "o.yaml"))
    assert back == pytest.approx(rows_of(tables.read(path)), rel=1e-8)
    with pytest.raises(UsageError, match="times of blocks"):
        exchange.export_table(tmp_path / "o.csv", spec.load("phone"))
    evaluated, _ = run("evaluate", "--kernels", str(path), "--device", "phone")
    assert (evaluated["of"], evaluated["rows"]) == ("blocks", len(rows))


def test_predicted_blocks_say_that_they_are(tmp_path: Path) -> None:
    path = tmp_path / "v100.yaml"
    document, _ = run(
        "profile", "--export", str(path), "--device", "v100-trt-fp16",
        "--resolution", "224", "--batch", "8",
    )  # fmt: skip
    assert document["source"] == "predicted"
    assert path.read_text().startswith("# PREDICTED, not measured")
    device = spec.load("v100-trt-fp16")
    predictor = load_predictor(device)
    table = tables.read(path, batch=8, fusion=device.fusion)
    for kernels, time_s in zip(table.blocks, table.seconds, strict=True):
        expected = predictor.shares(from_kernels(kernels)).sum()
        assert time_s == pytest.approx(expected, rel=1e-6)


def test_a_profile_of_networks_is_written_with_medians(tmp_path: Path, own_shelf: Path) -> None:
    conv = Kernel("conv", 1, 8, (14, 14), 8, (14, 14), (3, 3), activation=True)
    change = Kernel("reorder_output", 1, 8, (14, 14), 8, (14, 14), unless_multiple=16)
    pool = Kernel("max_pool", 1, 8, (14, 14), 8, (7, 7), (3, 3), (2, 2))

    def record(time_s: float) -> NetworkRecord:
        kernels = ((conv, time_s), (change, 1e-3), (pool, 2e-3))
        total = sum(t for _, t in kernels)
        return NetworkRecord(
            zoo.get("mobilenetv2-0.5"), (224, 224), 1, total, total, False, kernels
        )  # fmt: skip

    profile = Profile("cpu", tuple(record(t) for t in (1e-3, 3e-3, 1.5e-3)), {"source": "made up"})
    profile.save(own_shelf / "profiles" / "cpu")
    device = spec.load("cpu")
    document = exchange.export_table(tmp_path / "cpu.csv", device)
    assert (document["rows"], document["merged_rows"]) == (3, 6)
    found = rows_of(tables.read(tmp_path / "cpu.csv"))
    bare = change._replace(unless_multiple=0)
    assert found == pytest.approx({(conv,): 1.5e-3, (bare,): 1e-3, (pool,): 2e-3}, rel=1e-3)
    document = exchange.export_table(tmp_path / "cpu.txt", device)
    assert document["left_out"] == {"reorder_output": 1, "max_pool": 1}
    with pytest.raises(UsageError, match="--force"):
        exchange.export_table(tmp_path / "cpu.txt", device)
    loaded = profiles.load(own_shelf / "profiles" / "cpu")
    assert loaded == profile


def test_a_profile_of_rows_survives_the_disk(tmp_path: Path) -> None:
    rows = tuple((k, 1e-3 * i) for i, k in enumerate(proxyless.skeleton((64, 64), 1, Fusion()), 1))
    profile = Profile("mine", (), {"source": "made up"}, rows)
    profile.save(tmp_path / "mine")
    assert profiles.load(tmp_path / "mine") == profile
    (tmp_path / "mine" / "rows.jsonl.gz").write_bytes(gzip.compress(b"[1]\n"))
    with pytest.raises(UsageError, match=r"rows\.jsonl\.gz"):
        profiles.load(tmp_path / "mine")


def failing(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise HwnasError("the disk is full.")

    if what == "device":
        monkeypatch.setattr(spec, "save", fail)
    elif what == "predictor":
        monkeypatch.setattr("hwnas.latency.predictor.Predictor.write", fail)
    else:
        monkeypatch.setattr(exchange, "fit", fail)


@pytest.mark.parametrize("what", ["fit", "predictor", "device"])
def test_a_failure_leaves_the_shelf_as_it_was(
    what: str, tmp_path: Path, own_shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, synthetic_csv(60))
    exchange.import_table(path, name="mine", kind="cpu", precision="fp32")
    before = shelf_hash(own_shelf)
    assert len(before) == 6
    failing(monkeypatch, what)
    changed = written(tmp_path, synthetic_csv(80), ".changed.csv")
    for name in ("mine", "other"):
        with pytest.raises(HwnasError, match="disk is full"):
            exchange.import_table(changed, name=name, kind="cpu", precision="fp32", force=True)
    assert shelf_hash(own_shelf) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "a"], "--kind cpu|gpu"),
        (["--name", "a", "--kind", "cpu"], "--precision fp32|fp16|int8"),
        (["--name", "a", "--kind", "npu", "--precision", "fp32"], "known are cpu, gpu"),
        (["--name", "a", "--kind", "cpu", "--precision", "fp61"], "Did you mean 'fp16'"),
        (["--name", "a", "--like", "v100-trt-fp61"], "Did you mean 'v100-trt-fp16'"),
        (["--name", "a b", "--like", "cpu"], "cannot name a device"),
        (["--name", "cpu", "--like", "cpu"], "--force"),
        (["--name", "a", "--like", "cpu", "--bad-rows", "stop"], "line 63: latency_ms is -3"),
        (["--name", "a", "--like", "cpu", "--device", "cpu"], "no connection"),
        (["--name", "a", "--like", "cpu", "--minutes", "3"], "--minutes goes with"),
    ],
)
def test_what_an_import_needs_is_said(
    arguments: list[str], message: str, tmp_path: Path, own_shelf: Path
) -> None:
    path = written(tmp_path, synthetic_csv(60, bad=BAD))
    with pytest.raises(Exception) as caught:
        CliRunner().invoke(
            command_line, ["profile", "--import", str(path), *arguments],
            standalone_mode=False, catch_exceptions=False,
        )  # fmt: skip
    assert caught.value.exit_code == 2  # type: ignore[attr-defined]
    assert message in str(caught.value)
    assert shelf_hash(own_shelf) == {}


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, synthetic_csv(exchange.LEAST_ROWS - 1, bad=BAD))
    with pytest.raises(UsageError, match="19 usable rows") as caught:
        exchange.import_table(path, name="few", like="cpu")
    assert "3 bad rows" in str(caught.value)
    exchange.import_table(
        written(tmp_path, synthetic_csv(exchange.LEAST_ROWS)), name="enough", like="cpu"
    )


def test_a_device_like_another_takes_what_is_not_said(tmp_path: Path) -> None:
    path = written(tmp_path, synthetic_csv(60))
    _, document = exchange.import_table(
        path, name="mine", like="v100-trt-fp16", resolution=(96, 64)
    )
    assert (document["kind"], document["precision"]) == ("gpu", "fp16")
    device = spec.load("mine")
    assert (device.runtime, device.batch, device.resolution) == ("tensorrt", 4, (96, 64))
    assert device.fusion == spec.load("v100-trt-fp16").fusion


@pytest.mark.parametrize("name", spec.names())
def test_any_device_can_be_the_example(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, synthetic_csv(60))
    _, document = exchange.import_table(path, name="mine", like=name)
    assert document["kind"] == ("gpu" if name.startswith("v100") else "cpu")
    assert document["precision"] == spec.load(name).precision
    assert load_predictor(spec.load("mine")).card.device == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--export", "x.csv", "--device", "v100-trt-fp16"], "no profile"),
        (["--export", "x.csv", "--device", "pixel2-cpu-fp32"], "no profile"),
        (["--export", "x.yaml", "--device", "cpu"], "no predictor yet"),
        (["--export", "x.csv", "--device", "nothing"], "no device 'nothing'"),
        (["--export", "x.parquet", "--device", "cpu"], "names no format"),
        (["--export", "x.csv", "--device", "cpu", "--batch", "2"], "predicted blocks only"),
        (["--export", "x.csv", "--device", "cpu", "--like", "cpu"], "--like goes with"),
        (["--export", "x.csv", "--import", "y.csv"], "not both"),
        (["--device", "cpu", "--bad-rows", "stop"], "--bad-rows goes with"),
        (["--device", "cpu", "--kind", "gpu"], "--kind goes with"),
        ([], "say what to measure"),
    ],
)
def test_what_an_export_cannot_do_is_said(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception) as caught:
        CliRunner().invoke(
            command_line, ["profile", *arguments], standalone_mode=False, catch_exceptions=False
        )
    assert caught.value.exit_code in (1, 2)  # type: ignore[attr-defined]
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert "nothing" not in shelf.entries("devices")

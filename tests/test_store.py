"""Amounts, atomic files, journals, shelves, and the direction of imports."""

from __future__ import annotations

import ast
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwnas
from hwnas import budgets
from hwnas.errors import HwnasError, UsageError
from hwnas.store import shelf
from hwnas.store.files import new_folder, read_json, read_toml, write_atomic
from hwnas.store.journal import Journal
from hwnas.units import format_amount, parse_amount, parse_resolution


@pytest.mark.parametrize(
    ("text", "quantity", "value"),
    [
        ("20ms", "latency", 0.02),
        ("1.5 s", "latency", 1.5),
        ("840us", "latency", 840e-6),
        ("4.4G", "flops", 4.4e9),
        ("26M", "params", 26e6),
        ("64MB", "memory", 64e6),
        ("64MiB", "memory", 64 * 2**20),
        ("91", "layers", 91),
    ],
)
def test_amounts(text: str, quantity: str, value: float) -> None:
    assert parse_amount(text, quantity) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "quantity"),
    [
        ("20", "latency"), ("4.4", "flops"), ("ms", "latency"), ("-1ms", "latency"),
        ("0ms", "latency"), ("1e999s", "latency"), ("nanms", "latency"), ("5m", "latency"),
        ("91.5", "layers"), ("91M", "layers"), ("", "params"), ("1MB", "flops"), ("1_0M", "params"),
    ],
)  # fmt: skip
def test_amounts_that_are_refused(text: str, quantity: str) -> None:
    with pytest.raises(UsageError, match=f"write {quantity}="):
        parse_amount(text, quantity)


@given(st.floats(1e-6, 1e3), st.sampled_from(["latency"]))
def test_printed_amounts_read_back(value: float, quantity: str) -> None:
    again = parse_amount(format_amount(value, quantity), quantity)
    assert again == pytest.approx(value, rel=1e-3)


def test_resolutions_are_height_by_width() -> None:
    assert parse_resolution("224") == (224, 224)
    assert parse_resolution("800x1280") == (800, 1280)
    for text in ("", "0", "224x", "x224", "-5", "1x2x3", "224.5"):
        with pytest.raises(UsageError, match="not a resolution"):
            parse_resolution(text)


@given(st.text(max_size=40))
def test_any_text_is_a_budget_or_a_usage_error(text: str) -> None:
    try:
        budget = budgets.parse(text, "cpu")
    except UsageError:
        return
    assert budget.limit > 0


def test_the_tightest_budget_counts() -> None:
    texts = ["flops=4G", "latency=20ms", "flops=3G", "latency=10ms@other"]
    kept = budgets.tightest([budgets.parse(text, "cpu") for text in texts])
    assert [(b.key, b.limit) for b in kept] == [
        ("flops", 3e9),
        ("latency@cpu", 0.02),
        ("latency@other", 0.01),
    ]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HwnasError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a") as beside:
        (beside / "x").write_text("1")
        assert not (tmp_path / "a").exists()
    with pytest.raises(RuntimeError), new_folder(tmp_path / "a") as beside:
        (beside / "x").write_text("2")
        raise RuntimeError
    assert (tmp_path / "a" / "x").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_unwritable_places_are_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HwnasError, match="cannot write"):
        write_atomic(tmp_path / "file" / "below", "x")
    with pytest.raises(UsageError, match="cannot read"):
        read_json(tmp_path / "nothing")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(UsageError, match="JSON object"):
        read_json(tmp_path / "list.json")
    (tmp_path / "bad.toml").write_bytes(b"\xff = 1")
    with pytest.raises(UsageError, match="UTF-8"):
        read_toml(tmp_path / "bad.toml")


def test_a_torn_line_is_dropped_and_corruption_is_not(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, {"a": 1}) as journal:
        journal.append({"n": 1})
    with path.open("ab") as file:
        file.write(b'{"n": 2')
    with Journal(path, {"a": 1}) as journal:
        assert journal.records == [{"n": 1}]
        journal.append({"n": 3})
    with Journal(path, {"a": 1}) as journal:
        assert journal.records == [{"n": 1}, {"n": 3}]
    with pytest.raises(UsageError, match="another run"):
        Journal(path, {"a": 2})
    path.write_bytes(b"garbage\n")
    with pytest.raises(UsageError, match="line 1"):
        Journal(path, {"a": 1})


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, {}) as journal:
        with pytest.raises(HwnasError, match="another process writes"):
            Journal(path, {})
        journal.append({"n": 1})
    with Journal(path, {}) as journal:
        assert journal.records == [{"n": 1}]


def test_the_users_shelf_comes_first(own_shelf: Path) -> None:
    shipped = shelf.find("devices", "cpu")
    own = own_shelf / "devices" / "cpu.toml"
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert shelf.find("devices", "cpu") == own != shipped
    with pytest.raises(UsageError, match="Did you mean 'cpu'"):
        shelf.find("devices", "cpuu")


LAYERS = [
    {"cli", "__main__"},
    {"workflows"},
    {"report", "export", "integrations"},
    {"searchers"},
    {"latency"},
    {"profiling"},
    {"devices"},
    {"scores"},
    {"lowering"},
    {"costs", "budgets"},
    {"architecture"},
    {"store"},
    {"parallel"},
    {"units", "errors", "__init__"},
]


def test_imports_only_go_down() -> None:
    root = Path(hwnas.__file__).parent
    level = {name: i for i, names in enumerate(LAYERS) for name in names}
    checked = 0
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        own = level[parts[0]]
        package = parts if path.name == "__init__.py" else (*parts, "")
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = (
                [p for p in package if p != "__init__"][: -node.level]
                if parts[0] != "__init__"
                else []
            )
            target = [*base, *(node.module or "").split(".")]
            names = [target[0]] if target[0] else [alias.name for alias in node.names]
            for name in names:
                if name in level:
                    checked += 1
                    assert level[name] >= own, f"{path} imports {name}"
    assert checked > 100

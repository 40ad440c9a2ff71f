"""The family and the space that docs/spaces.md builds: installed, put to the contract, searched."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from family_contract import FamilyContract

from hwnas.architecture import families, spaces
from hwnas.architecture.families import FAMILIES, family
from hwnas.cli import main
from hwnas.errors import UsageError

PAGE = (Path(__file__).parents[1] / "docs" / "spaces.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
SPACE, PROJECT = (text for kind, text in BLOCKS if kind == "toml")
CODE, CLASS = (text for kind, text in BLOCKS if kind == "python")


def install(folder: Path, entry: str, **modules: str) -> None:
    """Put a package into a folder as pip would: its modules, and what it declares."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    info = folder / "own_blocks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-blocks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{families.catalog.ENTRY_POINTS}]\n{entry}\n")


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package of docs/spaces.md, where Python finds it."""
    folder = tmp_path_factory.mktemp("site")
    entry = PROJECT.partition('[project.entry-points."hwnas.families"]')[2].strip()
    install(folder, entry.replace('"', ""), sandglass=CODE)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("sandglass", None)
    FAMILIES.pop("sandglass", None)


class TestSandglass(FamilyContract):
    name = "sandglass"


class TestSandglassWithGate(FamilyContract):
    name = "sandglass"
    options = 'activation = "silu"\nse = "sigmoid"'


def test_the_page_says_how_to_put_it_to_the_contract() -> None:
    assert len(CODE.splitlines()) <= 30
    assert 'class TestSandglass(FamilyContract):\n    name = "sandglass"' in CLASS


def test_a_space_of_it_is_searched_and_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (spaces.files(spaces.__package__) / "resnet.toml").read_text(encoding="utf-8")
    text = text.replace('"bottleneck"', '["bottleneck", "sandglass"]').replace("pairs", "blocks")
    Path("own.toml").write_text(text)
    for command in (
        "search --space own.toml --budget flops=300M --resolution 224 --out run --json",
        "predict run --device pixel2-cpu-fp32",
        "export run --format onnx",
    ):
        with pytest.raises(SystemExit) as exit_:
            main(command.split())
        printed = capsys.readouterr()
        assert exit_.value.code in (None, 0), printed.err
        if "--json" in command:
            found = json.loads(printed.out)
    assert found["proven"]
    architecture = json.loads(Path("run/architecture.json").read_text())
    rows = [row for stage in architecture["stages"] for row in stage]
    assert "sandglass" in {row["family"] for row in rows}


def test_the_space_of_the_page_is_one(tmp_path: Path) -> None:
    path = tmp_path / "my-space.toml"
    path.write_text(SPACE)
    space = spaces.load(str(path))
    assert space.stem.focus
    assert space.rows[0].families == ("bottleneck", "k1kx")
    assert [row.groups for row in space.rows] == [1, 2, 1, 1]
    assert space.rows[2].se == "hard_sigmoid"
    assert space.rows[2].kernels == (3, 5, 7)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("import nothing_of_that_name", "cannot be loaded: ModuleNotFoundError"),
        ("Broken = 3", "no subclass of hwnas.architecture.families.Family"),
        ("class Broken:\n    name = 'broken'", "no subclass"),
        (
            "from hwnas.architecture.families import Family\nclass Broken(Family):\n    name = 'b'",
            "cannot be loaded: TypeError",
        ),
        (
            "from hwnas.architecture.families import Family\nclass Broken(Family):\n"
            "    name = 'broken'\n    inner = 'width'\n    def block(self, b, x, options): ...",
            "must be mid or expansion",
        ),
    ],
)
def test_a_broken_package_is_named(
    module: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "broken = broken_blocks:Broken", broken_blocks=module)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("broken_blocks", None)
    with pytest.raises(UsageError, match=f"own-blocks .*{message}"):
        family("broken")


def test_an_unknown_family_names_those_of_packages() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'sandglass'.*Known: basic, bottleneck"):
        family("sandglas")

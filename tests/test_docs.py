"""The documentation's links lead somewhere, and each kind of device has its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hwnas.devices.registry import KINDS

HERE = Path(__file__).parents[1]
PAGES = [HERE / "README.md", *sorted((HERE / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_each_kind_of_device_has_a_page_from_the_bare_device_to_the_first_search() -> None:
    overview = (HERE / "docs" / "devices.md").read_text(encoding="utf-8")
    pages = {
        name: (HERE / "docs" / name).read_text(encoding="utf-8")
        for name in re.findall(r"\]\((\w+\.md)\)", overview)
    }
    for kind in KINDS:
        where = [
            name
            for name, text in pages.items()
            if re.search(rf"(`|--device ){re.escape(kind)}\b", text)
            and -1 < text.find("hwnas profile --device ") < text.rfind("hwnas search --device ")
        ]
        assert where, f"no page linked from docs/devices.md tells of '{kind}'"

"""The diagrams, pages and tables that are made from the code are those of now."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from support.doc_pages import DOCS

TOOLS = DOCS / "tools"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(TOOLS)
    import diagrams

    return diagrams


@pytest.mark.parametrize("name", ["where.svg", "house.svg", "request.svg"])
def test_a_diagram_is_an_image_that_scales(tools: ModuleType, name: str) -> None:
    drawn = tools.DIAGRAMS[name]()
    root = ElementTree.fromstring(drawn)
    assert root.get("viewBox")
    assert not re.search(r"#[0-9a-f]{6}\"", drawn), "colours are variables, so that they follow light and dark"


def test_the_arrows_of_the_house_imply_all_imports_and_nothing_else(tools: ModuleType) -> None:
    arrows = tools.house_arrows()

    def reached(box: object) -> set[object]:
        targets = {target for source, target in arrows if source == box}
        return targets | {lower for target in targets for lower in reached(target)}

    allowed = tools.may_import()
    direct = {(tools.home_of(unit), tools.home_of(low)) for unit, lower in allowed.items() for low in lower}
    for source, target in direct:
        assert source == target or target in reached(source)
    assert set(arrows) <= direct


def test_what_is_made_from_the_code_is_up_to_date() -> None:
    check = subprocess.run([sys.executable, str(TOOLS / "generate.py"), "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


def test_the_tools_are_no_pages(site: Path) -> None:
    assert not list(site.rglob("*.py"))
    assert str(TOOLS) not in sys.path

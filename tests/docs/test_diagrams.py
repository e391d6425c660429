"""The diagrams and the generated tables are those that the code of now makes."""

from __future__ import annotations

import re
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
def test_a_diagram_is_what_its_script_draws(tools: ModuleType, name: str) -> None:
    drawn = tools.DIAGRAMS[name]()
    assert (DOCS / "images" / name).read_text(encoding="utf-8") == drawn, "run python docs/tools/diagrams.py"
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


def test_the_table_of_models_is_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOOLS)
    import catalogue_table

    page = catalogue_table.PAGE.read_text(encoding="utf-8")
    assert catalogue_table.with_table(page) == page, "run python docs/tools/catalogue_table.py"
    assert page.count("\n| `") > 20


def test_the_tools_are_no_pages(site: Path) -> None:
    assert not list(site.rglob("*.py"))
    assert str(TOOLS) not in sys.path

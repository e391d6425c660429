"""The versions that the pages of the adapters name are those that the adapters ask for, and the oldest is tested."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")

ROOT = Path(__file__).parents[2]
ADAPTERS = {
    "docs/how-to/langchain.md": "integrations/langchain-rag-rerank",
    "docs/how-to/llama-index.md": "integrations/llama-index-postprocessor-rag-rerank",
}


def read_bounds(adapter: str) -> dict[str, SpecifierSet]:
    """Return what an adapter asks of Python and of its host."""
    project = tomllib.loads((ROOT / adapter / "pyproject.toml").read_text())["project"]
    requirements = [Requirement(text) for text in project["dependencies"]]
    hosts = {f"`{item.name}`": item.specifier for item in requirements if item.name.endswith("-core")}
    return {"Python": SpecifierSet(project["requires-python"]), **hosts}


@pytest.mark.parametrize("page", ADAPTERS)
def test_the_table_has_the_bounds_of_the_package(page: str) -> None:
    section = (ROOT / page).read_text().partition("\n## Supported versions\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| `(.+?)` \|$", section, re.MULTILINE)
    bounds = read_bounds(ADAPTERS[page])
    assert len(bounds) == 2
    assert {name: SpecifierSet(versions) for name, versions in rows} == bounds


@pytest.mark.parametrize("adapter", ADAPTERS.values())
def test_the_oldest_host_is_the_one_that_ci_says_it_tests(adapter: str) -> None:
    said = dict(re.findall(r"(\S+-core) (\d+\.\d+\.\d+)", (ROOT / ".ci/versions").read_text().partition("\nset ")[0]))
    (host,) = read_bounds(adapter).keys() - {"Python"}
    (lowest,) = [item.version for item in read_bounds(adapter)[host] if item.operator == ">="]
    assert [*map(int, said[host.strip("`")].split("."))] == [*map(int, lowest.split(".")), 0, 0][:3]

"""Every link in the texts of the repository leads somewhere, also as a package index prints them."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.built_site import ADDRESS, read_page, resolve
from support.doc_pages import DOCS, ROOT, slug

FILES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "benchmarks/README.md")),
    *sorted(ROOT.glob("integrations/*/README.md")),
    *sorted(ROOT.glob("cookbook/**/*.md")),
    *sorted(ROOT.glob("cookbook/*.ipynb")),
    *sorted(ROOT.glob("rag_rerank/**/README.md")),
    *sorted(DOCS.rglob("*.md")),
]
INDEXED = [ROOT, *sorted(ROOT.glob("integrations/*/"))]
"""Projects whose README is printed on a package index."""

LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^()\s<>]+(?:\([^()\s]*\))?)>?(?:\s+\"[^\"]*\")?\s*\)")
LOCAL = re.compile(r"localhost|127\.0\.0\.1|0\.0\.0\.0|\.local$|\.internal$|^10\.|^192\.168\.")


def text_of(file: Path) -> str:
    """Return the text of a file without its code; of a notebook that of its text cells."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    text = re.sub(r"^( *)(```+).*?^\1\2 *$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", lambda match: "code" if "\n\n" not in match[0] else match[0], text)


@cache
def anchors(file: Path) -> set[str]:
    """Return the anchors of a Markdown file."""
    text = re.sub(r"^( *)(```+).*?^\1\2 *$", "", file.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    counts: Counter[str] = Counter()
    names = set(re.findall(r"(?:id|name)=\"([^\"]+)\"|\{ ?#([\w.-]+)", text))
    found = {name for pair in names for name in pair if name}
    for heading in re.findall(r"^#{1,6} +(.+?)(?: *\{[^}]*\})?$", text, re.MULTILINE):
        name = slug(heading)
        found.add(name if not counts[name] else f"{name}_{counts[name]}")
        counts[name] += 1
    return found | set(re.findall(r"^::: ([\w.]+)", text, re.MULTILINE))


def links(file: Path) -> list[str]:
    return LINK.findall(text_of(file))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_files_and_headings(file: Path) -> None:
    dead = []
    for target in links(file):
        if urlsplit(target).scheme:
            continue
        path, _, anchor = target.partition("#")
        goal = (file.parent / path).resolve() if path else file
        alive = goal.exists() and goal.is_relative_to(ROOT)
        if alive and anchor and goal.suffix == ".md":
            names = anchors(goal)
            alive = anchor in names or any(anchor.startswith(f"{name}.") for name in names if "." in name)
        if not alive:
            dead.append(target)
    assert not dead


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_external_links_are_well_formed_and_lead_to_public_hosts(file: Path) -> None:
    for target in links(file):
        parts = urlsplit(target)
        if not parts.scheme:
            continue
        assert parts.scheme == "https", target
        assert parts.hostname and "." in parts.hostname, target
        assert not LOCAL.search(parts.hostname), target
        assert not re.search(r"[\s<>\"{}|\\^`]", target), target


def test_the_texts_link_enough_to_be_a_web() -> None:
    count: Counter[str] = Counter()
    for file in FILES:
        count.update("external" if urlsplit(target).scheme else "relative" for target in links(file))
    print(dict(count), "in", len(FILES), "files")
    assert count["relative"] > 140


def long_description(project: Path) -> str:
    """Return the README of a project as its metadata has it."""
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    hooks = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8")).get("tool", {}).get("hatch", {})
    hook = hooks.get("metadata", {}).get("hooks", {}).get("fancy-pypi-readme", {})
    text = (project / "README.md").read_text(encoding="utf-8")
    for substitution in hook.get("substitutions", ()):
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    return text


@pytest.mark.parametrize("project", INDEXED, ids=lambda project: project.name if project != ROOT else "rag-rerank")
def test_links_on_a_package_index_are_absolute_and_lead_to_pages_of_the_site(project: Path, site: Path) -> None:
    text = re.sub(r"^( *)(```+).*?^\1\2 *$", "", long_description(project), flags=re.DOTALL | re.MULTILINE)
    targets = LINK.findall(text)
    assert [target for target in targets if not urlsplit(target).scheme] == []
    own = [target for target in targets if target.startswith(ADDRESS)]
    assert own
    for target in own:
        goal = resolve(site, site / "index.html", target)
        assert goal is not None and goal[0].is_file(), target
        assert not goal[1] or goal[1] in read_page(goal[0]).anchors, target


def test_the_wheel_is_described_by_the_same_text() -> None:
    builder = pytest.importorskip("hatchling.builders.wheel", reason="needs hatchling")
    pytest.importorskip("hatch_fancy_pypi_readme", reason="needs hatch-fancy-pypi-readme")
    metadata = builder.WheelBuilder(str(ROOT)).metadata
    assert metadata.core.readme.strip() == long_description(ROOT).strip()

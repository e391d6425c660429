"""The built site: it has no dead link, loads nothing from elsewhere, and leads a newcomer to each task."""

from __future__ import annotations

import importlib
import json
import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.built_site import ADDRESS, read_page, resolve
from support.doc_pages import DOCS, ROOT, Block, read_blocks, slug

TASKS = {
    "rerank my own list": "tutorial.md#3-the-same-in-python",
    "use it in LlamaIndex": "how-to/llama-index.md",
    "use it in LangChain": "how-to/langchain.md",
    "use it in Haystack": "how-to/haystack.md",
    "swap to Voyage": "how-to/providers.md",
    "use a local model from the hub": "how-to/choose-a-model.md#use-any-model-of-the-hub-or-a-folder",
    "use a TEI server": "how-to/servers.md#tei",
    "fit a budget of 3,000 tokens": "how-to/budget.md",
    "fall back to another model": "how-to/fallback.md#if-a-provider-fails-use-another",
    "answer within a deadline": "how-to/fallback.md#keep-a-time-limit",
    "see why a chunk was dropped": "how-to/records.md",
    "watch it in OpenTelemetry": "how-to/telemetry.md",
    "know whether it helps on my queries": "how-to/evaluate.md",
    "set a threshold": "how-to/thresholds.md",
    "rerank long documents": "how-to/long-documents.md",
    "deploy it offline": "how-to/deploy.md",
}
"""How a row of the front page's table begins -> the page, and perhaps its heading, that it leads to."""

CLICKS = 3

PUBLIC = (
    *("rag_rerank", "rag_rerank.agreement", "rag_rerank.context", "rag_rerank.evaluation", "rag_rerank.export"),
    *("rag_rerank.evaluation.probes", "rag_rerank.records", "rag_rerank.telemetry", "rag_rerank.testing"),
    *("langchain_rag_rerank", "llama_index.postprocessor.rag_rerank"),
    "haystack_integrations.components.rankers.rag_rerank",
)
"""Modules whose ``__all__`` is public."""


def html_files(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def html_of(site: Path, page: str) -> Path:
    """Return the file of a page of ``docs/``."""
    folder = site / re.sub(r"(^|/)(index|README)$", "", page.removesuffix(".md"))
    return folder / "index.html"


def clicks(site: Path) -> dict[tuple[Path, str], int]:
    """Return how many clicks each page and anchor is away from the front page.

    Counted are links in the content of a page, and the first level of the navigation.
    """
    start = (site / "index.html", "")
    distances = {start: 0}
    opened: set[Path] = set()
    queue = [start]
    for place in queue:
        if place[0] in opened or place[0].suffix != ".html":
            continue
        opened.add(place[0])
        page = read_page(place[0])
        for target in (*page.content, *page.tabs):
            goal = resolve(site, place[0], target)
            if goal is not None and goal not in distances:
                distances[goal] = distances[place] + 1
                queue.append(goal)
    return distances


def section_blocks(page: Path, anchor: str) -> list[Block]:
    """Return the blocks below a heading of a page; all of them without an anchor."""
    blocks = read_blocks(page)
    if not anchor:
        return blocks
    lines = page.read_text(encoding="utf-8").splitlines()
    headings = [(number, line) for number, line in enumerate(lines, start=1) if re.match(r"#{1,3} ", line)]
    ends = [*(number for number, _ in headings[1:]), len(lines) + 1]
    ((start, end),) = [
        (number, end) for (number, line), end in zip(headings, ends, strict=True) if slug(line.lstrip("# ")) == anchor
    ]
    return [block for block in blocks if start < block.line < end]


def test_every_link_inside_the_site_leads_to_a_file_and_an_anchor(site: Path) -> None:
    dead, count = [], Counter[str]()
    for file in html_files(site):
        if file.name == "404.html":
            continue
        page = read_page(file)
        for target in (*page.links, *page.loads):
            goal = resolve(site, file, target)
            if goal is None:
                count["external"] += 1
                continue
            goal_file, anchor = goal
            count["anchors" if anchor else "files"] += 1
            alive = goal_file.is_file() and (
                not anchor or goal_file.suffix != ".html" or anchor in read_page(goal_file).anchors
            )
            if not alive and not anchor.startswith("__"):
                dead.append(f"{file.relative_to(site)}: {target}")
    assert not dead, "\n".join(dead)
    assert count["files"] > 500 and count["anchors"] > 200, count
    print(dict(count))


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for file in html_files(site):
        foreign = [
            target for target in read_page(file).loads if urlsplit(target).netloc and not target.startswith(ADDRESS)
        ]
        assert not foreign, f"{file.relative_to(site)}: {foreign}"
    for file in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_at_most_three_clicks_away_and_its_page_has_code_that_runs(site: Path, task: str) -> None:
    page, _, anchor = TASKS[task].partition("#")
    goal = html_of(site, page)
    distances = [number for place, number in clicks(site).items() if place == (goal, anchor)]
    assert distances and distances[0] <= CLICKS
    blocks = section_blocks(DOCS / page, anchor)
    assert any(block.language in ("python", "bash", "yaml") and not block.not_run for block in blocks)


def test_the_front_page_has_a_row_for_each_task_that_leads_to_its_page_and_anchor(site: Path) -> None:
    front = (DOCS / "index.md").read_text(encoding="utf-8")
    table = front.split("| I want to ... | page |")[1].split("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    for task, page in TASKS.items():
        targets = [
            target for words, links in rows if words.startswith(task) for target in re.findall(r"\]\((.*?)\)", links)
        ]
        assert targets, f"no row begins with {task!r}"
        assert targets[0] == page


def test_every_page_has_a_place_in_the_navigation(site: Path) -> None:
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads the tags of MkDocs as nothing."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)  # noqa: S506
    assert set(re.findall(r"[\w./-]+\.md", str(config["nav"]))) >= {
        page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")
    }


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_in_the_api_reference(site: Path, module: str) -> None:
    anchors = {anchor for file in (site / "reference" / "python").rglob("*.html") for anchor in read_page(file).anchors}
    places = {anchor.rpartition(".")[2] for anchor in anchors if anchor.startswith(module.split(".")[0] + ".")}
    public = importlib.import_module(module).__all__
    assert public
    assert set(public) - places == set()


def test_llms_txt_names_every_page_with_a_description(site: Path) -> None:
    text = (site / "llms.txt").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0].startswith("# ") and lines[1] == "" and lines[2].startswith("> ")
    assert [line for line in lines if line.startswith("# ")] == [lines[0]]
    sections = [line for line in lines if line.startswith("## ")]
    assert len(sections) == len(set(sections)) >= 6
    links = re.findall(r"^- \[([^\]]+)\]\((\S+?)\)(: .+)?$", text, flags=re.MULTILINE)
    others = [line for line in lines[3:] if line and not line.startswith(("## ", "- ["))]
    assert not others
    pages = {url for _, url, _ in links}
    for page in DOCS.rglob("*.md"):
        copy = html_of(site, page.relative_to(DOCS).as_posix()).with_name("index.md")
        assert ADDRESS + copy.relative_to(site).as_posix() in pages
        assert copy.read_text(encoding="utf-8").strip() in (site / "llms-full.txt").read_text(encoding="utf-8")
    described = [title for title, _, description in links if description]
    assert len(described) == len(links), sorted({title for title, _, _ in links} - set(described))


def test_a_notebook_shows_its_saved_outputs(site: Path) -> None:
    for notebook in ROOT.glob("cookbook/*.ipynb"):
        page = site / "cookbook" / notebook.stem / "index.html"
        assert page.is_file(), f"{notebook.name} has no page"
        outputs = [out for cell in json.loads(notebook.read_text("utf-8"))["cells"] for out in cell.get("outputs", ())]
        kinds = [set(output.get("data", ())) for output in outputs]
        shown = page.read_text(encoding="utf-8")
        images = sum(bool(kind & {"image/png", "image/svg+xml", "image/jpeg"}) for kind in kinds)
        tables = sum("text/html" in kind and not any(name.startswith("image/") for name in kind) for kind in kinds)
        assert len(re.findall(rf'<img alt="[^"]{{9,}}" src="\.\./{notebook.stem}-\d+\.\w+"', shown)) == images
        assert shown.count('<div class="output">') == tables
        assert shown.count("<pre>") >= len(outputs) - images - tables

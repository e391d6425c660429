"""The documentation site, built once for all tests, and its pages as links and anchors."""

from __future__ import annotations

import os
import posixpath
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from filelock import FileLock
from support.doc_pages import ROOT

ADDRESS = "https://rag-rerank.readthedocs.io/en/stable/"
"""Where the site is published."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built with warnings as errors; workers of one run share it.

    It is that of ``DOC_SITE`` if this is set, by one who has just run ``make docs``.
    """
    if "DOC_SITE" in os.environ:
        return Path(os.environ["DOC_SITE"])
    pytest.importorskip("mkdocs", reason="needs the dependency group docs")
    pytest.importorskip("material", reason="needs the dependency group docs")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, log = shared / "site", shared / "site.log"
    with FileLock(shared / "site.lock"):
        if not log.exists():
            paths = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
            process = subprocess.run(
                [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
                cwd=ROOT,
                env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": paths},
                capture_output=True,
                text=True,
            )
            log.write_text(f"{process.returncode}\n{process.stdout}{process.stderr}", encoding="utf-8")
    code, _, messages = log.read_text(encoding="utf-8").partition("\n")
    assert code == "0", messages
    return folder


@dataclass
class SitePage:
    """What a page of the site links to, and what in it can be linked to.

    Args:
        links: Targets of all links.
        loads: Targets of everything that a browser fetches to show the page.
        content: Targets of the links in the content.
        tabs: Targets of the links in the first level of the navigation.
        anchors: Ids of its elements.
    """

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    tabs: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = SitePage()
        self.in_article = self.in_tabs = False

    def handle_starttag(self, tag: str, pairs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in pairs}
        self.page.anchors.update(values[name] for name in ("id", "name") if values.get(name))
        if tag == "article":
            self.in_article = True
        elif tag == "nav":
            self.in_tabs = "md-tabs" in values.get("class", "").split()
        if tag == "a" and values.get("href"):
            self.page.links.append(values["href"])
            if self.in_article and "headerlink" not in values.get("class", ""):
                self.page.content.append(values["href"])
            if self.in_tabs:
                self.page.tabs.append(values["href"])
        elif tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.page.loads.append(values.get("href", ""))
        elif values.get("src"):
            self.page.loads.append(values["src"])

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self.in_article = False
        elif tag == "nav":
            self.in_tabs = False


@cache
def read_page(file: Path) -> SitePage:
    """Return the links and anchors of an HTML file."""
    reader = _Reader()
    reader.feed(file.read_text(encoding="utf-8"))
    return reader.page


def resolve(site: Path, page: Path, target: str) -> tuple[Path, str] | None:
    """Return the file and the anchor of a link inside the site; ``None`` for a link that leaves it."""
    if target.startswith(ADDRESS):
        parts, place = urlsplit(target.removeprefix(ADDRESS)), ""
    else:
        parts, place = urlsplit(target), page.parent.relative_to(site).as_posix()
        if parts.scheme or parts.netloc:
            return None
    path = unquote(parts.path)
    if not path and not target.startswith(ADDRESS):
        return page, unquote(parts.fragment)
    file = site / posixpath.normpath(posixpath.join(place, path.lstrip("/") if path.startswith("/") else path))
    return (file / "index.html" if file.is_dir() else file), unquote(parts.fragment)

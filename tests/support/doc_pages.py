"""The pages of the documentation, and their code blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SAMPLES = DOCS / "samples"
"""Files that the blocks of every page find in their working folder."""

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

REASONS = {
    "installs packages",
    "needs a clone",
    "needs a GPU",
    "needs the other library",
    "needs the internet",
    "takes minutes",
    "an excerpt",
}
"""Why a block may stay unrun: ``<!-- not run: REASON -->`` on the line before it."""

_FENCE = re.compile(
    r"(?P<before>^[^\n]*\n)?^(?P<indent> *)(?P<ticks>```+)(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)(?P=ticks) *$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its title (a file name), its text, and why it is not run, if it is not."""

    page: Path
    line: int
    language: str
    title: str
    code: str
    not_run: str


def page_name(page: Path) -> str:
    """Return a page's path below the root, for messages."""
    return page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name


def slug(heading: str) -> str:
    """Return the anchor of a heading, as the site and code hosts make it."""
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def read_blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page, in order."""
    text = "\n" + page.read_text(encoding="utf-8")
    blocks = []
    for match in re.finditer(_FENCE, text):
        indent, info = match["indent"], match["info"].strip()
        reason = re.search(r"<!-- not run: (.*?) -->", match["before"] or "")
        title = re.search(r'title="([^"]+)"', info)
        code = "".join(line.removeprefix(indent) for line in match["code"].splitlines(keepends=True))
        language = re.match(r"[\w-]*", info)
        assert language is not None
        line = text.count("\n", 0, match.start("ticks"))
        blocks.append(Block(page, line, language[0], title[1] if title else "", code, reason[1] if reason else ""))
    return blocks

"""A MkDocs hook: ``llms.txt``, ``llms-full.txt``, and each page as Markdown beside its HTML.

``llms.txt`` follows llmstxt.org: a heading, a quotation that says what the project is, and one section for each section
of the navigation, with a link and one line for each page: its ``description``, or else the first sentence of its text.
"""

from __future__ import annotations

import inspect
import posixpath
import pydoc
import re
import textwrap
from pathlib import Path
from typing import Any

OPTIONAL = ("Contribute",)
"""Sections that a reader with little room may leave out."""

_pages: dict[str, tuple[str, str]] = {}
"""Page -> its description and its Markdown, in the build that runs."""

_DIRECTIVE = re.compile(r"^::: ([\w.]+)\n(?:    .*\n|\n(?=    ))*", re.MULTILINE)


def on_pre_build(config: Any) -> None:
    """Forget the pages of an earlier build."""
    _pages.clear()


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Keep a page for the end of the build."""
    full = _DIRECTIVE.sub(lambda match: documentation(match[1]), markdown + "\n")
    full = re.sub(r"<!--.*?-->\n?", "", full, flags=re.DOTALL)
    _pages[page.file.src_uri] = (page.meta.get("description") or first_paragraph(markdown), full.strip() + "\n")
    return markdown


def first_paragraph(markdown: str) -> str:
    """Return the first sentence of the first paragraph, as plain text; empty without one."""
    text = re.sub(r"<!--.*?-->|^( *)```.*?^\1```", "", markdown, flags=re.DOTALL | re.MULTILINE)
    for block in re.split(r"\n\s*\n", text):
        block = block.strip()
        if not block or re.match(r"[#|<:!>-]|\d+\. |\* ", block):
            continue
        plain = re.sub(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\([^)]*\)", r"\1", " ".join(block.split()))
        sentence = re.match(r".*?[.!?:](?= [A-Z`*]|$)", plain.replace("**", ""))
        return sentence[0] if sentence else plain.replace("**", "")
    return ""


def documentation(name: str) -> str:
    """Return a name of the API as Markdown: its signature and its docstring, and those of its public methods."""
    thing: Any = pydoc.locate(name)
    if thing is None:
        raise ValueError(f"llms-full.txt: nothing is named {name}")
    parts = [described(name, thing)]
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, (property, classmethod))):
                parts.append(described(f"{name}.{member}", getattr(thing, member), heading="####"))
    return "\n".join(parts)


def described(name: str, thing: Any, heading: str = "###") -> str:
    """Return heading, signature and docstring of one thing."""
    try:
        signature = str(inspect.signature(thing)) if callable(thing) else ""
    except (TypeError, ValueError):
        signature = ""
    docstring = (
        textwrap.indent(inspect.getdoc(thing) or "", "    ")
        if callable(thing) or inspect.isdatadescriptor(thing)
        else ""
    )
    short = re.sub(r"\s+", " ", signature)
    return f"{heading} `{name}{short}`\n\n{docstring}\n"


def on_post_build(config: Any) -> None:
    """Write the files."""
    site = Path(config.site_dir)
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    full = list(lines)
    for title, pages in sections(config.nav):
        lines += [f"## {title}", ""]
        for src in pages:
            description, markdown = _pages[src]
            folder = re.sub(r"(^|/)(index|README)$", "", posixpath.splitext(src)[0])
            copy = site / folder / "index.md"
            copy.write_text(markdown, encoding="utf-8")
            url = posixpath.join(config.site_url, folder, "index.md")
            heading = re.search(r"^# (.+)$", markdown, re.MULTILINE)
            name = heading[1] if heading else folder
            lines.append(f"- [{name.replace('`', '')}]({url})" + (f": {description}" if description else ""))
            full += [f"<!-- {url} -->", "", markdown]
        lines.append("")
    (site / "llms.txt").write_text("\n".join(lines), encoding="utf-8")
    (site / "llms-full.txt").write_text("\n".join(full), encoding="utf-8")


def sections(nav: list[Any]) -> list[tuple[str, list[str]]]:
    """Return title -> pages of each section of the navigation; the pages at its top are the first section."""
    top: list[str] = []
    rest: list[tuple[str, list[str]]] = []
    for entry in nav:
        title, content = next(iter(entry.items())) if isinstance(entry, dict) else ("", entry)
        if isinstance(content, str):
            top.append(content)
        else:
            rest.append(("Optional" if title in OPTIONAL else title, list(leaves(content))))
    return [("Start", top), *sorted(rest, key=lambda section: section[0] == "Optional")]


def leaves(entries: list[Any]) -> list[str]:
    """Return the pages of a section, those of its parts included."""
    pages: list[str] = []
    for entry in entries:
        content = next(iter(entry.values())) if isinstance(entry, dict) else entry
        pages += [content] if isinstance(content, str) else leaves(content)
    return pages

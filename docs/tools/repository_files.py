"""A MkDocs hook: files of the repository outside ``docs/`` become pages of the site, and links to them lead there.

Pages link to ``../CONTRIBUTING.md`` or ``../cookbook/01_first_rerank.ipynb``, so that the links work in the repository.
On the site these links lead to the pages that `PAGES` and the notebooks become. Notebooks show their saved outputs;
nothing is executed.
"""

from __future__ import annotations

import base64
import html
import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]

PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "cookbook/README.md": "cookbook/index.md",
    "cookbook/data/README.md": "cookbook/data.md",
    "integrations/haystack-rag-rerank/README.md": "reference/haystack-adapter.md",
    "integrations/langchain-rag-rerank/README.md": "reference/langchain-adapter.md",
    "integrations/llama-index-postprocessor-rag-rerank/README.md": "reference/llama-index-adapter.md",
}
"""File of the repository -> its page."""

TEXTS = {"LICENSE": "LICENSE.txt", "NOTICE": "NOTICE.txt", "benchmarks/speed.svg": "images/speed.svg"}
"""File of the repository -> its copy on the site."""

ALIASES = {"README.md": "index.md", "cookbook": "cookbook/index.md"}
"""What has a page that says the same."""

_LINK = re.compile(r"(?P<start>!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()(?P<target>[^()\s]+)(?P<end>(?:\s+\"[^\"]*\")?\))")
_CODE = re.compile(r"^( *)(```+).*?^\1\2 *$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_FENCE_CONVERTED = re.compile(r"^(```+)python notest$", re.MULTILINE)


def notebooks() -> dict[str, str]:
    """Return file -> page of the notebooks, in order."""
    files = sorted(path.relative_to(ROOT) for path in ROOT.glob("cookbook/*.ipynb"))
    return {file.as_posix(): file.with_suffix(".md").as_posix() for file in files}


def site_files() -> dict[str, str]:
    """Return file of the repository -> file of the site, for all outside ``docs/``."""
    return {**PAGES, **TEXTS, **notebooks()}


def resolve(link: str, source: str) -> str | None:
    """Return the file of the site that a link to a file of the repository leads to; ``None`` for any other link.

    Args:
        link: The link's target without its anchor.
        source: The file of the repository that the link stands in, such as ``docs/design.md``.
    """
    place = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if place.startswith("docs/"):
        return place.removeprefix("docs/")
    return {**site_files(), **ALIASES}.get(place)


def convert_links(markdown: str, source: str, page: str) -> str:
    """Return a page with its links to files of the repository turned into links between pages.

    Args:
        markdown: The text of the page.
        source: Its file in the repository.
        page: Its file on the site.
    """

    def convert(match: re.Match[str]) -> str:
        target, hash_sign, anchor = match["target"].partition("#")
        if not target or re.match(r"[a-z]+:|/", target):
            return match[0]
        goal = resolve(target, source)
        if goal is None:  # a file that the site does not have: its name stays
            exists = (ROOT / source).parent.joinpath(target).exists()
            return match["start"].removesuffix("](").lstrip("![") if exists else match[0]
        relative = posixpath.relpath(goal, posixpath.dirname(page) or ".")
        return f"{match['start']}{relative}{hash_sign}{anchor}{match['end']}"

    return outside_code(markdown, lambda text: _LINK.sub(convert, text))


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Return Markdown with everything but its code changed; code inside the text of a link counts as text."""
    code: list[str] = []

    def set_aside(match: re.Match[str]) -> str:
        code.append(match[0])
        return f"\x02{len(code) - 1}\x03"

    changed = change(_CODE.sub(set_aside, markdown))
    return re.sub("\x02(\\d+)\x03", lambda match: code[int(match[1])], changed)


def notebook_page(notebook: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and the images in it by file name.

    Args:
        notebook: Its JSON.
        name: Its file name, without the suffix.
    """
    parts: list[str] = []
    images: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).rstrip()
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source:
            parts.append(fenced(source, "python"))
            parts.extend(
                shown_output(output, f"{name}-{len(images) + 1}", images) for output in cell.get("outputs", ())
            )
    parts.append(f"This page is the notebook `cookbook/{name}.ipynb` with its saved outputs. It runs offline.")
    return "\n\n".join(part for part in parts if part) + "\n", images


def shown_output(output: dict[str, Any], name: str, images: dict[str, bytes]) -> str:
    """Return one output of a cell as Markdown: a picture, else HTML, else text."""
    if output["output_type"] == "stream":
        return fenced("".join(output["text"]), "text")
    data = {kind: value if isinstance(value, str) else "".join(value) for kind, value in output.get("data", {}).items()}
    for kind, suffix in (("image/svg+xml", "svg"), ("image/png", "png"), ("image/jpeg", "jpg")):
        if kind in data:
            image = data[kind].encode() if suffix == "svg" else base64.b64decode(data[kind])
            images[f"{name}.{suffix}"] = image
            words = " ".join(data.get("text/plain", "output of the cell").split()).translate({91: "(", 93: ")"})
            return f"![{html.escape(words)}]({name}.{suffix})"
    if "text/html" in data:
        lines = (line.strip() for line in data["text/html"].splitlines())
        return '<div class="output">' + " ".join(line for line in lines if line) + "</div>"
    return fenced(data["text/plain"], "text") if "text/plain" in data else ""


def fenced(code: str, language: str) -> str:
    """Return a code block whose fence is longer than any inside."""
    ticks = "`" * max(3, *(len(run) + 1 for run in re.findall(r"^`+", code, re.MULTILINE)), 3)
    return f"{ticks}{language}\n{code.rstrip()}\n{ticks}"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and files that are outside ``docs/``."""
    for file, page in {**PAGES, **TEXTS}.items():
        if page in files.src_uris:
            continue
        files.append(File.generated(config, page, abs_src_path=str(ROOT / file)))
    for file, page in notebooks().items():
        content, images = notebook_page(json.loads((ROOT / file).read_text(encoding="utf-8")), Path(file).stem)
        files.append(File.generated(config, page, content=content))
        for name, image in images.items():
            files.append(File.generated(config, f"cookbook/{name}", content=image))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links to files of the repository into links between pages."""
    names = {page_name: file for file, page_name in site_files().items()}
    src = page.file.src_uri
    markdown = _FENCE_CONVERTED.sub(r"\1python", markdown)
    return convert_links(markdown, names.get(src, f"docs/{src}"), src)

"""A MkDocs hook: diagrams (SVG files of ``docs/images``) stand inside the pages, so that they follow light and dark."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parents[1] / "images"
_IMAGE = re.compile(r'<img alt="(?P<alt>[^"]*)" src="(?:[^"]*/)?images/(?P<name>[\w-]+\.svg)" */?>')


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """Replace images of diagrams by the diagrams."""
    return _IMAGE.sub(inline, content)


def inline(match: re.Match[str]) -> str:
    """Return the SVG of an image, labelled with the image's text; other images as they are."""
    file = IMAGES / match["name"]
    if not file.exists():
        return match[0]
    svg = file.read_text(encoding="utf-8")
    label = html.escape(html.unescape(match["alt"]), quote=True)
    return svg[svg.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)

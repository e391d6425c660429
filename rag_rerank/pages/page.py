"""Makes the two pages: a shell, one style sheet, own scripts, and the data as JSON, which scripts only write as text.

A page loads nothing: its policy allows the style and the scripts by their hash, and nothing else.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import deque
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.resources import files
from math import isfinite
from string import Template
from typing import Any

from rag_rerank.pages.overview import overview

__all__ = ["BYTES", "CALLS", "evaluation_page", "trace_page"]

CALLS = 1000
"""Calls that a page holds at most."""

BYTES = 20_000_000
"""Bytes of JSON that the calls of a page take at most; one call is held whatever it takes."""


def trace_page(records: Iterable[Mapping[str, Any]], *, calls: int = CALLS, size: int = BYTES) -> str:
    """Return a page on which a person sees what every call did, and drills into one query and candidate.

    The overview counts all records. The page holds the last ones, as many as the bounds allow, and says how many it
    left out.

    Args:
        records: ``Record.to_dict()`` of each call; read once, and not kept.
        calls: Calls that the page holds at most.
        size: Bytes of JSON that they take at most; the last call is held whatever it takes.
    """
    plain = _Plain()
    held: deque[str] = deque()
    taken = 0

    def passing() -> Iterable[Mapping[str, Any]]:
        nonlocal taken
        for record in records:
            row = plain(record)
            yield row
            held.append(_json(row))
            taken += len(held[-1])
            while len(held) > max(1, calls) or (taken > size and len(held) > 1):
                taken -= len(held.popleft())

    facts = _json(overview(passing()))
    data = f'{{"overview":{facts},"mended":{plain.mended},"calls":[{",".join(held)}]}}'
    return _page("Trace report", data, "trace.js")


def evaluation_page(evaluation: Mapping[str, Any]) -> str:
    """Return a page that tells what an evaluation found: verdict, figures, plots, and every query.

    Args:
        evaluation: ``Evaluation.to_dict()``.
    """
    plain = _Plain()
    found = _json(plain(evaluation))
    return _page("Evaluation of reranking", f'{{"evaluation":{found},"mended":{plain.mended}}}', "evaluation.js")


class _Plain:
    """Makes values that JSON can hold; counts the numbers that are not finite, which become ``None``."""

    def __init__(self) -> None:
        self.mended = 0

    def __call__(self, value: Any) -> Any:
        if isinstance(value, float) and not isfinite(value):
            self.mended += 1
            return None
        if isinstance(value, Mapping):
            return {str(key): self(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self(inner) for inner in value]
        return value if value is None or isinstance(value, (str, int, float)) else f"<{type(value).__name__}>"


def _json(value: Any) -> str:
    """Return JSON in ASCII that no HTML parser can take for a tag."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _page(title: str, data: str, script: str) -> str:
    style, shared, own = map(_part, ("style.css", "charts.js", script))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(shared)} {_hash(own)}; "
        "base-uri 'none'; form-action 'none'"
    )
    shell = Template(_part("shell.html"))
    return shell.substitute(title=title, policy=policy, style=style, data=data, shared=shared, own=own)


def _part(name: str) -> str:
    return files("rag_rerank.pages").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

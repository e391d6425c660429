"""Build the two HTML pages from a shell, a style sheet, scripts, and the data as JSON, which is only shown as text.

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
"""Calls in a page at most."""

BYTES = 20_000_000
"""Bytes of JSON of a page's calls at most; a single call may be larger."""


def trace_page(records: Iterable[Mapping[str, Any]], *, calls: int = CALLS, size: int = BYTES) -> str:
    """Return a page that shows what every call did, down to one query and candidate.

    The overview counts all records. The page holds the last calls, as many as the limits allow, and says how many it
    left out.

    Args:
        records: ``Record.to_dict()`` of each call; read once, one at a time.
        calls: Calls in the page at most.
        size: Bytes of their JSON at most; the last call is in the page whatever its size.
    """
    plain = _Plain()
    last_calls: deque[str] = deque()
    total = 0

    def rows() -> Iterable[Mapping[str, Any]]:
        nonlocal total
        for record in records:
            row = plain(record)
            yield row
            last_calls.append(_json(row))
            total += len(last_calls[-1])
            while len(last_calls) > max(1, calls) or (total > size and len(last_calls) > 1):
                total -= len(last_calls.popleft())

    facts = _json(overview(rows()))
    data = f'{{"overview":{facts},"not_finite":{plain.not_finite},"calls":[{",".join(last_calls)}]}}'
    return _page("Trace report", data, "trace.js")


def evaluation_page(evaluation: Mapping[str, Any]) -> str:
    """Return a page that shows an evaluation: verdict, figures, plots, and every query.

    Args:
        evaluation: ``Evaluation.to_dict()``.
    """
    plain = _Plain()
    data = _json(plain(evaluation))
    return _page("Evaluation of reranking", f'{{"evaluation":{data},"not_finite":{plain.not_finite}}}', "evaluation.js")


class _Plain:
    """Turns values into what JSON can hold; counts the numbers that are not finite, which become ``None``."""

    def __init__(self) -> None:
        self.not_finite = 0

    def __call__(self, value: Any) -> Any:
        if isinstance(value, float) and not isfinite(value):
            self.not_finite += 1
            return None
        if isinstance(value, Mapping):
            return {str(key): self(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self(inner) for inner in value]
        return value if value is None or isinstance(value, (str, int, float)) else f"<{type(value).__name__}>"


def _json(value: Any) -> str:
    """Return JSON in ASCII without a character that could begin an HTML tag."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _page(title: str, data: str, script: str) -> str:
    style, shared_script, page_script = map(_part, ("style.css", "charts.js", script))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(shared_script)} {_hash(page_script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    shell = Template(_part("shell.html"))
    return shell.substitute(
        title=title, policy=policy, style=style, data=data, shared_script=shared_script, page_script=page_script
    )


def _part(name: str) -> str:
    return files("rag_rerank.pages").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

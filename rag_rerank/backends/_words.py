"""What a provider says beside scores: its message, as far as it may be shown, and how long it asks to wait."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime

__all__ = ["message", "seconds_to_wait", "shown"]

_LONGEST = 200
_RUN = 16  # so many characters in a row that were sent are an echo, not chance
_KEY_LIKE = re.compile(r"bearer\s+\S+|[a-z0-9_]{24,}", re.IGNORECASE)
_WORDS_AT = ("message", "detail", "error", "msg")


def message(body: object, depth: int = 3) -> str:
    """Find the provider's own words: ``message``, ``detail`` or ``error``, also in FastAPI's list of details."""
    if isinstance(body, str):
        return "" if body.lstrip().startswith("<") else body
    if isinstance(body, Mapping) and depth:
        return next((message(body[key], depth - 1) for key in _WORDS_AT if body.get(key)), "")
    if isinstance(body, (list, tuple)) and depth:
        return "; ".join(filter(None, (message(part, depth - 1) for part in body)))
    return ""


def shown(words: str, key: str, sent: Sequence[str]) -> str:
    """Return a provider's words as errors and traces may show them.

    They are put on one line of at most 200 characters. The key and whatever looks like one are masked. Words that
    repeat a query or a text, or 16 characters of one, are left out altogether.

    Args:
        words: What the provider said.
        key: The key that was sent, or nothing.
        sent: The query and the texts that were sent.
    """
    line = " ".join(words.split())
    if key:
        line = line.replace(key, "***")
    line = _KEY_LIKE.sub("***", line)[:_LONGEST]
    return "its message repeats the request and is left out" if _echoes(line, sent) else line


def _echoes(line: str, sent: Sequence[str]) -> bool:
    texts = [" ".join(text.split()) for text in sent]
    if any(4 <= len(text) < _RUN and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", line) for text in texts):
        return True
    everything = "\0".join(texts)
    return any(line[i : i + _RUN] in everything for i in range(len(line) - _RUN + 1))


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """Read ``retry-after-ms`` or ``Retry-After`` (seconds, or a date: RFC 9110, 10.2.3); ``None`` without either.

    A date is taken against the answer's own ``Date``, where it has one, so that clocks need not agree.
    """
    said = {name.lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(said[name]) / unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        until = parsedate_to_datetime(said["retry-after"]).timestamp()
        now = parsedate_to_datetime(said["date"]).timestamp() if "date" in said else time.time()
    except (KeyError, ValueError, OverflowError):
        return None
    return max(0.0, until - now)

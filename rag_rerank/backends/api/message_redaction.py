"""The message of a provider as errors and traces may show it: short, and without keys and without what was sent."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

__all__ = ["find_message", "mask_key", "mask_key_shapes", "mask_random_runs", "redacted_message"]

_MOST_CHARACTERS = 200
_ECHO = 16  # a run of this many characters of the request is an echo, not chance
_SHORT_KEY = 8  # characters
_MESSAGE_FIELDS = ("message", "detail", "error", "msg", "errors")

_AFTER_A_LABEL = re.compile(
    r"\b(?:(?:bearer|basic)\s+|(?:api[ _-]?key|apikey|key|token|secret|password|authorization)"
    r"(?:\s+(?:is|was)\b)?(?:\s+provided)?\s*['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic)\s+)?)([^\s'\",;<>()\]}]+)",
    re.IGNORECASE,
)
"""What follows ``Bearer``, ``api_key=``, ``API key provided:`` and the like."""

_SHAPE_OF_A_KEY = re.compile(
    r"\b(?:(?:sk|pk|rk|pa|al)-[A-Za-z0-9_\-]{16,}|(?:hf|jina|mxb|gh[a-z]|github_pat|gsk|tgp|fw|r8)_[A-Za-z0-9_\-]{8,}"
    r"|(?:nvapi|glpat|xox[a-z])-[A-Za-z0-9_\-]{8,}|(?:AKIA|ASIA|AIza|ya29|eyJ)[A-Za-z0-9_\-./+=]{12,})"
)
"""Beginnings that providers give their keys, and what follows."""

_RUN = re.compile(r"[A-Za-z0-9+/=_\-]{16,}")
_PIECE = re.compile(r"[A-Za-z0-9]+")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_NO_WORD = re.compile(r"[^aeiouy]{5}|^[^aeiouy]+$", re.IGNORECASE)
_SHORT_WORDS = frozenset(
    [
        "an",
        "and",
        "any",
        "api",
        "at",
        "auth",
        "bad",
        "base",
        "batch",
        "bert",
        "by",
        "call",
        "chat",
        "code",
        "cpu",
        "data",
        "does",
        "doc",
        "docs",
        "file",
        "for",
        "from",
        "get",
        "gpu",
        "has",
        "hub",
        "id",
        "in",
        "is",
        "key",
        "kv",
        "list",
        "llm",
        "load",
        "long",
        "max",
        "min",
        "mini",
        "must",
        "name",
        "new",
        "no",
        "node",
        "non",
        "none",
        "not",
        "null",
        "of",
        "on",
        "op",
        "or",
        "out",
        "per",
        "post",
        "rank",
        "rate",
        "request",
        "root",
        "run",
        "set",
        "size",
        "text",
        "than",
        "that",
        "the",
        "this",
        "to",
        "too",
        "top",
        "type",
        "url",
        "use",
        "user",
        "val",
        "was",
        "with",
    ]
)
_RANDOM = 12  # so many characters in pieces that hold no words make a key
_NEUTRAL = 6  # a shorter piece says nothing: m3, GGUF, 2025
_LONGEST_WORD = 18  # letters of the longest words in names
_MOST_NUMBERS = 2  # in a piece of a name: Qwen3, MiniLM6v2


def find_message(body: object, depth: int = 3) -> str:
    """Return the provider's own message: ``message``, ``detail`` or ``error``, also in FastAPI's list of details."""
    if isinstance(body, str):
        return "" if body.lstrip().startswith("<") else body
    if isinstance(body, Mapping) and depth:
        return next((find_message(body[key], depth - 1) for key in _MESSAGE_FIELDS if body.get(key)), "")
    if isinstance(body, (list, tuple)) and depth:
        return "; ".join(filter(None, (find_message(part, depth - 1) for part in body)))
    return ""


def redacted_message(text: str, key: str, inputs: Sequence[str]) -> str:
    """Return a provider's message as errors and traces may show it.

    It becomes one line of at most 200 characters. The key is masked, in any case of its letters and as URLs and JSON
    write it, and so is whatever looks like a key; names of errors, models and options are not. A message that repeats
    a query or a text, or 16 characters of one, is left out.

    Args:
        text: The provider's message.
        key: The key that was sent, or nothing.
        inputs: The query and the texts that were sent.
    """
    line = " ".join(text.split())
    line = mask_key(line, key) if key else line
    line = _AFTER_A_LABEL.sub(_mask_value, line)
    line = mask_random_runs(mask_key_shapes(line))[:_MOST_CHARACTERS]
    return "its message repeats the request and is left out" if _echoes(line, inputs) else line


def mask_key(text: str, key: str) -> str:
    """Return a text with a key masked, in any case of its letters and as URLs and JSON write it."""
    return _key_pattern(key).sub("***", text)


def mask_key_shapes(text: str) -> str:
    """Return a text in which whatever begins as the keys of known providers do is masked."""
    return _SHAPE_OF_A_KEY.sub("***", text)


def mask_random_runs(text: str) -> str:
    """Return a text in which 16 or more letters and digits that hold no words are masked, as keys and hashes are."""
    return _RUN.sub(lambda match: "***" if _is_key(match[0]) else match[0], text)


def _mask_value(match: re.Match[str]) -> str:
    """Mask what follows a label; "invalid token: token is blocked" and "at token: 512" name no secret."""
    is_prose = match[0].lower().startswith(("key", "token", "secret")) and ": " in match[0]
    if is_prose and re.fullmatch(r"[a-z]{1,12}|[0-9]{1,6}", match[1]):
        return match[0]
    return match[0].removesuffix(match[1]) + "***"


def _key_pattern(key: str) -> re.Pattern[str]:
    """Return a pattern of the key in every spelling; a short one is masked as a word, since ``K`` is in ``tokens``."""
    spellings = {key, quote(key, safe=""), quote(key), json.dumps(key)[1:-1], repr(key)[1:-1]}
    anywhere = "|".join(re.escape(form) for form in sorted(spellings, key=len, reverse=True))
    if len(key) < _SHORT_KEY:
        return re.compile(rf"(?<![A-Za-z0-9])(?:{anywhere})(?![A-Za-z0-9])")
    return re.compile(anywhere, re.IGNORECASE)


def _is_key(run: str) -> bool:
    """Whether a run of letters and digits is random, and not made of words as names are.

    ``ContextWindowExceededError`` and ``jina-reranker-v2-base-multilingual`` consist of words of several letters, with
    few numbers; in random characters the case changes, or a digit comes, after every second or third.
    """
    return sum(len(piece) for piece in _PIECE.findall(run) if _is_random(piece)) >= _RANDOM


def _is_random(piece: str) -> bool:
    words: list[str] = _WORD.findall(piece)
    if len(piece) < _NEUTRAL:
        return len(words) > 2  # aB3
    numbers: int = sum(word.isdecimal() for word in words)
    if max(map(len, words)) > _LONGEST_WORD or numbers > _MOST_NUMBERS:
        return True
    in_words: int = sum(
        len(word) for word in words if word.lower() in _SHORT_WORDS or (len(word) >= 5 and not _NO_WORD.search(word))
    )
    return in_words < 0.7 * (len(piece) - numbers) and numbers < len(words)


def _echoes(line: str, inputs: Sequence[str]) -> bool:
    texts = [" ".join(text.split()) for text in inputs]
    if any(4 <= len(text) < _ECHO and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", line) for text in texts):
        return True
    everything = "\0".join(texts)
    return any(line[i : i + _ECHO] in everything for i in range(len(line) - _ECHO + 1))

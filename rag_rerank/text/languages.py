"""The language of a text in Latin script, as far as its function words tell it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import name, normalize

__all__ = [
    "LatinWords",
    "foreign_language",
    "function_words",
    "has_function_words",
    "latin_words",
    "parse_languages",
    "share_in_scripts",
]

_WORD = re.compile("[a-z\u00df-\u024f\u1e00-\u1eff]+")

_LEAST_WORDS = 2
"""Different function words of a language that are needed: one is a name or a loan (die, la, no)."""

_LEAST_SHARE = 0.15
"""Function words of a language, less those of the model's languages, as a share of all words; prose in English has 0.4
of its own. docs/explanation/languages.md has the false alarms and the misses."""


class LatinWords(NamedTuple):
    """The words of a text in Latin script, lower case, and their share of all its letters."""

    words: tuple[str, ...]
    share: float


def latin_words(text: str) -> LatinWords:
    """Return the words in Latin script; digits and underscores divide words, so that names in code do."""
    text = normalize("NFC", text)
    words = tuple(_WORD.findall(text.lower()))
    letters = sum(map(str.isalpha, text))
    return LatinWords(words, min(1.0, sum(map(len, words)) / letters) if letters else 0.0)


def foreign_language(words: Collection[str], languages: Iterable[str]) -> str | None:
    """Return the language whose function words show that a text is in none of some languages, else ``None``.

    Function words are the most frequent words of a language, and hardly occur in another: few words of a sentence are
    enough, and names, code or mistyped words do not count. Words that are function words on both sides do not count
    either.

    Args:
        words: The words of the text, from `latin_words`.
        languages: Codes of languages; `has_function_words` must hold.
    """
    own, counts = function_words(tuple(languages)), Counter(words)
    foreign_words: dict[str, list[str]] = {}
    for word in counts:
        if word not in own:
            for language in _languages_of().get(word, ()):
                foreign_words.setdefault(language, []).append(word)
    best, most = None, 0
    for language, hits in foreign_words.items():
        if sum(len(word) > 1 for word in hits) >= _LEAST_WORDS:  # letters alone stand for quantities, too
            shared = _tables()[language]
            own_count = sum(count for word, count in counts.items() if word in own and word not in shared)
            excess = sum(counts[word] for word in hits) - own_count
            if excess > most:
                best, most = language, excess
    return best if most >= max(_LEAST_WORDS, _LEAST_SHARE * len(words)) else None


@cache
def function_words(languages: tuple[str, ...]) -> frozenset[str]:
    """Return the function words of all these languages together."""
    return frozenset().union(*(_tables().get(language, frozenset()) for language in languages))


def has_function_words(languages: Iterable[str]) -> bool:
    """Whether the function words of all these languages are known, or they are written in another script."""
    others = {language for group in _data()["scripts"].values() for language in group.split()}
    return all(language in _tables() or language in others for language in languages)


def share_in_scripts(text: str, languages: Iterable[str]) -> float:
    """Return the share of a text's letters that are in the scripts of some languages; 0.0 for languages not known."""
    scripts = {script for script, group in _data()["scripts"].items() if not set(group.split()).isdisjoint(languages)}
    if not set(_tables()).isdisjoint(languages):
        scripts.add("LATIN")
    letters = [char for char in text if char.isalpha()]
    inside = sum(name(char, "").partition(" ")[0] in scripts for char in letters)
    return inside / len(letters) if letters else 0.0


def parse_languages(value: object) -> tuple[str, ...]:
    """Return the codes in a list, or in a text such as ``"zh, en"``; other values have none."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else ()
    return tuple(part.strip() for part in parts if isinstance(part, str) and part.strip())


@cache
def _data() -> Mapping[str, Any]:
    data: dict[str, Any] = json.loads(Path(__file__).with_name("function_words.json").read_text(encoding="utf-8"))
    return data


@cache
def _tables() -> Mapping[str, frozenset[str]]:
    return {language: frozenset(words.split()) for language, words in _data()["latin"].items()}


@cache
def _languages_of() -> Mapping[str, tuple[str, ...]]:
    """Return the languages of each function word."""
    languages: dict[str, tuple[str, ...]] = {}
    for language, words in _tables().items():
        for word in words:
            languages[word] = (*languages.get(word, ()), language)
    return languages

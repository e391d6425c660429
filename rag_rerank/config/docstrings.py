"""What docstrings say of a class and of its config keys, as Markdown: for the JSON Schema and for the reference.

A docstring is written in Google's style. The first paragraph says what the class is for. ``Args:`` describes each key;
a key that its class does not describe has the description of a base class. A list of words in such a description says
what each of them means::

    on_late: What to do when the time is up.

        - ``"error"``: Raise `DeadlineExceeded`.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Description", "describe", "first_sentence", "meanings_of", "to_markdown"]

_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Examples?):\n", re.MULTILINE)
_KEY = re.compile(r"^(\w+): ", re.MULTILINE)
_MEANING = re.compile(r'^- ``?"?([^`"]+)"?``?: (.*?)(?=^- |\Z)', re.MULTILINE | re.DOTALL)


class Description(NamedTuple):
    """What the docstring of a class says, as Markdown.

    Args:
        text: What the class is for: all before the first section.
        keys: Name of a key -> what it does.
    """

    text: str
    keys: dict[str, str]

    @property
    def summary(self) -> str:
        """The first paragraph."""
        return self.text.partition("\n\n")[0]


def describe(kind: type[Any]) -> Description:
    """Return what the docstrings of a class and its bases say; empty texts where they say nothing."""
    keys: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        keys |= dict(_keys(_sections(base).get("Args", "")))
    return Description(to_markdown(_sections(kind).get("", "")), keys)


def _sections(kind: type[Any]) -> dict[str, str]:
    """Return the sections of a class's own docstring by title; what is before the first has none."""
    text = inspect.cleandoc(kind.__dict__.get("__doc__") or "")
    if text.startswith(f"{kind.__name__}("):  # what dataclass writes where there is none
        return {}
    before, *parts = _SECTION.split(f"{text}\n")
    return {"": before.strip(), **dict(zip(parts[::2], parts[1::2], strict=True))}


def _keys(section: str) -> Iterator[tuple[str, str]]:
    _, *parts = _KEY.split(inspect.cleandoc(f"\n{section}"))
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        yield name, to_markdown(inspect.cleandoc(text))


def to_markdown(text: str) -> str:
    """Return a text of a docstring as Markdown: one line a paragraph, one kind of quotes, fences around examples."""
    text = re.sub(r"^(.*):{2}\n\n((?: {4}.*\n?|\n)+)", _fence, text, flags=re.MULTILINE)
    blocks = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    return "".join(block if block.startswith("```") else _one_line_a_paragraph(block) for block in blocks).strip()


def _fence(match: re.Match[str]) -> str:
    return f"{match[1]}:\n\n```\n{textwrap.dedent(match[2]).strip()}\n```\n\n"


def _one_line_a_paragraph(text: str) -> str:
    text = re.sub(r"``(.+?)``", r"`\1`", text, flags=re.DOTALL)
    text = re.sub(r'`"([\w-]+)"`', r"`\1`", text)  # YAML needs no quotes
    return re.sub(r"(?<=\S)[ ]*\n[ ]*(?=[^\s-]|-\S)", " ", text)


def meanings_of(text: str) -> dict[str, str]:
    """Return the words that a description lists, each with what it means."""
    return {word: " ".join(meaning.split()) for word, meaning in _MEANING.findall(text)}


def first_sentence(text: str) -> str:
    """Return the first sentence of a description."""
    paragraph = text.partition("\n\n")[0]
    match = re.match(r"(.+?[.!?])(?= [A-Z`\"]|$)", paragraph, re.DOTALL)
    return match[1] if match else paragraph

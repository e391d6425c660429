"""Templates: which metadata the reranker reads together with a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from rag_rerank.errors import ConfigError
from rag_rerank.text.dates import find_value
from rag_rerank.text.unicode import is_blank

__all__ = ["TextTemplate"]

Line = tuple[tuple[str, ...], tuple[str, ...]]
"""The fields of one line, and the literal texts before, between and after them; one text alone is a line as it is."""


@dataclass(frozen=True, slots=True)
class TextTemplate:
    r"""The text that a reranker reads of a document: metadata and content, in the order of a template.

    A field is a metadata key, or the name of the content. A key with dots is first looked up as it is, then as a path
    into nested metadata. A field that is absent, ``None``, NaN or blank is left out, together with the text around it
    in its line, up to the next field; a line of which nothing is left is left out, too. A list is joined by commas.

    >>> template = TextTemplate.parse("Title: {title}\n{page_content}", content="page_content")
    >>> template.render({"title": "K2"}, "It is high.")
    ('Title: K2\nIt is high.', 10)
    >>> template.render({}, "It is high.")
    ('It is high.', 0)
    """

    lines: tuple[Line, ...]
    content: str

    @classmethod
    def parse(cls, template: str | Sequence[str], *, content: str) -> TextTemplate:
        r"""Make a template.

        Args:
            template: A text with fields in braces (``"{title}\n{page_content}"``; ``{{`` is a brace), or the metadata
                keys to read, a line each, before the content or with its name among them.
            content: The name of the content.

        Raises:
            ConfigError: It has no fields, or a brace or a field that is no key.
        """
        if isinstance(template, str):
            lines = tuple(_parse_line(line) for line in template.split("\n"))
            if not any(fields for fields, _ in lines):
                raise ConfigError(
                    f'the template {template!r:.60} has no field; write "{{title}}\\n{{{content}}}", or a list of '
                    'metadata keys: ["title"]'
                )
            return cls(lines, content)
        keys = tuple(template) if isinstance(template, Sequence) else ()
        if not keys or not all(isinstance(key, str) and key for key in keys):
            raise ConfigError(f"expected a template or a list of metadata keys, got {template!r:.60}")
        return cls(tuple(((key,), ("", "")) for key in (*keys, *([] if content in keys else [content]))), content)

    @property
    def keys(self) -> tuple[str, ...]:
        """The metadata keys that it reads, each once."""
        return tuple(dict.fromkeys(key for keys, _ in self.lines for key in keys if key != self.content))

    @property
    def reads_content(self) -> bool:
        """Whether the content is among the fields."""
        return any(self.content in fields for fields, _ in self.lines)

    def find_missing(self, metadata: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the keys of which the metadata say nothing."""
        return tuple(key for key in self.keys if not _value_text(metadata, key))

    def render(self, metadata: Mapping[str, Any], content: str) -> tuple[str, int | None]:
        """Return the text of a document, and the character in it at which the content begins.

        The text is empty if the template reads the content and that is blank: metadata alone would bring a document
        to the top in which there is nothing to read. The character is ``None`` if the template leaves the content out.
        """
        if self.reads_content and is_blank(content):
            return "", None
        out, start = "", None
        for fields, literals in self.lines:
            values = [content if field == self.content else _value_text(metadata, field) for field in fields]
            if fields and not any(values):
                continue
            out += "\n" if out else ""
            beginning = len(out)
            out += literals[0] if all(values[:1]) else ""
            for i, value in enumerate(values):
                if value and len(out) > beginning and i and not values[i - 1]:
                    out += " "
                if value and fields[i] == self.content and start is None:
                    start = len(out)
                out += value
                if value and all(values[i + 1 : i + 2]):
                    out += literals[i + 1]
        return out, start


def _parse_line(line: str) -> Line:
    literals, fields = [""], []
    try:
        parts = list(Formatter().parse(line))
    except ValueError as error:
        raise ConfigError(f"ill-formed template line {line!r:.60}: {error}; write {{{{ for a brace") from error
    for literal, field, form, conversion in parts:
        literals[-1] += literal
        if field is None:
            continue
        key = field.strip()
        if not key or key.isdigit() or form or conversion or set(key) & set("{}[]"):
            source = field + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise ConfigError(f"the field {{{source}}} of the template is no metadata key; write {{title}}")
        fields.append(key)
        literals.append("")
    return tuple(fields), tuple(literals)


def _value_text(metadata: Mapping[str, Any], key: str) -> str:
    value = find_value(metadata, key)
    if hasattr(value, "tolist"):  # numpy's arrays and numbers, which data frames leave in metadata
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return ", ".join(filter(None, map(_scalar_text, value)))
    return _scalar_text(value)


def _scalar_text(value: object) -> str:
    """Return a value as text; an empty one for what says nothing: ``None``, NaN, pandas' NA and NaT, blank texts."""
    try:
        absent = value is None or bool(value != value)
    except TypeError:  # pandas' NA is neither equal nor different
        absent = True
    text = "" if absent else str(value)
    return "" if is_blank(text) else text

"""Detect blank texts, and repair texts that are not valid Unicode, which tokenizers and HTTP clients refuse."""

from __future__ import annotations

from unicodedata import category

__all__ = ["is_blank", "valid_unicode"]


def is_blank(text: str) -> bool:
    """Whether a text has only spaces, control and format characters (zero-width space, BOM ...), or none at all."""
    return not text[:1].isalnum() and all(char.isspace() or category(char) in ("Cc", "Cf") for char in text)


def valid_unicode(text: str) -> str:
    """Return valid Unicode: surrogate pairs are joined, lone surrogates become U+FFFD; valid text stays as it is."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text

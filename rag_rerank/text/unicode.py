"""Unicode: texts with nothing to read, and texts that no tokenizer or HTTP client accepts."""

from __future__ import annotations

from unicodedata import category

__all__ = ["is_blank", "valid_unicode"]


def is_blank(text: str) -> bool:
    """Whether a text has nothing to read: only spaces, control and format characters (zero-width space, BOM ...)."""
    return not text[:1].isalnum() and all(char.isspace() or category(char) in ("Cc", "Cf") for char in text)


def valid_unicode(text: str) -> str:
    """Return valid Unicode: surrogate pairs joined, lone surrogates as U+FFFD. Valid text is returned as it is."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text

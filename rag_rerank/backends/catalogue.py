"""Known models as data."""

from __future__ import annotations


def aliases() -> dict[str, str]:
    """Return alias -> short form."""
    return {}

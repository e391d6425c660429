"""Dates in metadata, in the forms that hosts write them."""

from __future__ import annotations

from datetime import date, datetime, timezone

from rag_rerank._checks import plain

__all__ = ["parse_date"]


def parse_date(value: object) -> datetime | None:
    """Return a moment in UTC; ``None`` for what is no date.

    Args:
        value: A date or a datetime, a text in ISO 8601 (``2026-11-30``, ``2026-11-30T08:00:00Z``), or the seconds since
            1970. Without a time zone it is UTC; a date is its first moment.
    """
    own = plain(value)
    try:
        if isinstance(own, datetime):
            moment = own
        elif isinstance(own, date):
            moment = datetime(own.year, own.month, own.day)
        elif isinstance(own, str):
            text = own.strip()
            moment = datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in ("Z", "z") else text)
        elif isinstance(own, (int, float)) and not isinstance(own, bool):
            moment = datetime.fromtimestamp(own, timezone.utc)
        else:
            return None
        return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None

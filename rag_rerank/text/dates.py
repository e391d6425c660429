"""Dates as metadata has them: texts, numbers and dates -> one moment in UTC."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["find_value", "read_date", "to_days"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_ISO = re.compile(
    r"(?P<year>\d{4})(?:(?P<mark>[-/.])(?P<month>\d{1,2})(?:(?P=mark)(?P<day>\d{1,2})(?P<time>\D.*)?)?)?",
    re.ASCII | re.DOTALL,
)
_COMPACT = re.compile(r"(?:D:)?(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)(?P<time>.*)", re.ASCII | re.DOTALL)
_TIME = re.compile(
    r"[T\s,]*(?P<hour>\d{1,2})(?::?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?)?\s*"
    r"(?:(?P<utc>Z|UTC|GMT)(?:00'?00'?)?|(?P<sign>[+-])(?P<zone_hours>\d\d)[:']?(?P<zone_minutes>\d\d)?'?)?",
    re.ASCII | re.IGNORECASE,
)
"""ISO 8601; ``_COMPACT`` is its basic form, and with ``D:`` and apostrophes that of PDF files (ISO 32000-1, 7.9.4)."""

_UNITS = ((1e11, 1e0), (1e14, 1e3), (1e17, 1e6), (math.inf, 1e9))
"""The end of a range of numbers, and how many of them make a second: s, ms, µs, ns since 1970. Where two ranges meet,
one unit says the year 5138, and the next 1973."""


def read_date(value: object) -> datetime | None:
    """Return the moment that a value of metadata means, in UTC; ``None`` if it means none.

    - A ``datetime`` or ``date``, also of numpy and pandas. Without a zone it is in UTC; a date is its first moment.
    - A text in ISO 8601 (``2024-01-31T10:00:00.5Z``, ``2024-01-31``, ``20240131``, ``2024-01``, ``2024``; also with
      ``/`` or ``.`` after the year), of mails (RFC 2822), or of PDF files (``D:20240131100000+01'00'``).
      A year or a month is its first moment.
    - A number, also as a text: of 4 digits a year, of 8 or 14 digits a date as written above, if it is one; else the
      seconds since 1970, or the milli-, micro- or nanoseconds, by its size.

    A date that begins with the day or the month (``01/02/2024``) is not read, because it has two meanings.

    >>> read_date("2024-01-31T10:00:00+02:00")
    datetime.datetime(2024, 1, 31, 8, 0, tzinfo=datetime.timezone.utc)
    >>> read_date(1706695200000) == read_date(1706695200)
    True
    """
    if not isinstance(value, datetime) and hasattr(value, "tolist"):  # numpy's numbers and moments
        value = value.tolist()
    try:
        if isinstance(value, bool) or value is None or value != value:  # NaN and pandas' NaT differ from themselves
            return None
        if isinstance(value, datetime):
            return _in_utc(value)
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
        if isinstance(value, (int, float)):
            return _read_number(value)
        return _read_text(value.strip()) if isinstance(value, str) else None
    except (ValueError, OverflowError, TypeError):  # no such day, year 0, infinity; pandas' NA has no truth value
        return None


def to_days(span: timedelta) -> float:
    """Return a span of time in days."""
    return span.total_seconds() / 86_400


def find_value(metadata: Mapping[str, Any], key: str) -> Any:
    """Return the value of a metadata key; one with dots is looked up as it is, then as a path into nested metadata."""
    value: Any = metadata.get(key)
    if value is None and "." in key:
        value = metadata
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _read_number(number: float) -> datetime | None:
    if number == int(number) and len(digits := str(int(number))) in (4, 8, 14) and digits.isdigit():
        try:
            return _read_parts(digits)
        except ValueError:
            pass  # no date as written: it counts seconds
    parts = next(parts for end, parts in _UNITS if abs(number) < end)
    return _EPOCH + timedelta(seconds=number / parts)


def _read_text(text: str) -> datetime | None:
    if re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII) and not _ISO.fullmatch(text):
        return _read_number(float(text) if "." in text else int(text))
    moment = _read_parts(text)
    return moment or _in_utc(parsedate_to_datetime(text))


def _read_parts(text: str) -> datetime | None:
    day = _ISO.fullmatch(text) or _COMPACT.fullmatch(text)
    if day is None:
        return None
    moment = datetime(int(day["year"]), int(day["month"] or 1), int(day["day"] or 1), tzinfo=timezone.utc)
    if not (day["time"] or "").strip():
        return moment
    time = _TIME.fullmatch(day["time"].strip())
    if time is None:
        return None
    moment = moment.replace(
        hour=int(time["hour"]),
        minute=int(time["minute"] or 0),
        second=int(time["second"] or 0),
        microsecond=int((time["fraction"] or "0")[:6].ljust(6, "0")),
    )
    if not time["sign"]:
        return moment
    zone = timedelta(hours=int(time["zone_hours"]), minutes=int(time["zone_minutes"] or 0))
    return moment - zone if time["sign"] == "+" else moment + zone


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)

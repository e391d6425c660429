"""Values of a field as words: few values as they are, many numbers and dates in quarters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from sys import float_info
from typing import Any

__all__ = ["MOST", "banded"]

MOST = 12
"""A field with more different values is cut into quarters, or left out if its values cannot be."""

_FEW = 6
"""Up to so many different numbers stand as they are."""


def banded(values: Mapping[str, Any]) -> dict[str, str] | str:
    """Return each value in words, or why the field cannot be used.

    Numbers and dates with many values are cut into quarters of the queries, named by the smallest and the largest value
    in them; equal values never come apart. ``None`` is no value.
    """
    known = {query: value for query, value in values.items() if value is not None}
    numbers, write = _measured(known)
    if numbers and len(set(numbers.values())) > _FEW:
        return _quarters(numbers, write)
    if not all(isinstance(value, (str, int, float, date)) for value in known.values()):
        return "its values are no words, numbers or dates"
    words = {query: write(number) for query, number in numbers.items()} or {
        query: str(value) if value != "" else "(empty)" for query, value in known.items()
    }
    different = len(set(words.values()))
    if different < 2:
        return "it has one value" if different else "it has no value"
    return words if different <= MOST else f"it has {different} different values"


def _measured(values: Mapping[str, Any]) -> tuple[dict[str, float], Callable[[float], str]]:
    """Return the values as numbers and how to write one; nothing where they are not all numbers, or all dates."""
    if all(map(_is_number, values.values())):
        return {query: value + 0.0 for query, value in values.items()}, lambda number: f"{number:.10g}"
    days = {query: _day(value) for query, value in values.items()}
    if all(day is not None for day in days.values()):
        return {query: float(day or 0) for query, day in days.items()}, lambda day: str(date.fromordinal(int(day)))
    return {}, str


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= float_info.max


def _day(value: Any) -> int | None:
    """Return the day of a date, a time, or an ISO 8601 string that begins with a date."""
    if isinstance(value, (date, datetime)):
        return value.toordinal()
    if not isinstance(value, str) or len(value) < 10 or value[10:11] not in ("", "T", " "):
        return None
    try:
        return date.fromisoformat(value[:10]).toordinal()
    except ValueError:
        return None


def _quarters(numbers: Mapping[str, float], write: Callable[[float], str]) -> dict[str, str] | str:
    ordered = sorted(numbers.values())
    cuts = sorted({ordered[(len(ordered) * quarter - 1) // 4] for quarter in (1, 2, 3)} - {ordered[-1]})
    bands: dict[int, list[float]] = {}
    places = {query: sum(cut < number for cut in cuts) for query, number in numbers.items()}
    for query, place in places.items():
        bands.setdefault(place, []).append(numbers[query])
    if len(bands) < 2:
        return "nearly all its values are the same"
    names = {place: _range(write(min(band)), write(max(band))) for place, band in bands.items()}
    return {query: names[place] for query, place in places.items()}


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"

"""Slice the queries by a field of their own or of their relevant documents, and compute the gain in each slice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from sys import float_info
from typing import Any

from rag_rerank.evaluation.data.judged import Judged, JudgedQuery, Problem
from rag_rerank.evaluation.report import FIRST_STAGE, Comparison, Slice
from rag_rerank.evaluation.statistics import SAMPLES, SEED, adjusted_p, compare
from rag_rerank.text.words import count_words
from rag_rerank.types import Candidate

__all__ = ["FEWEST", "FIRST_RANK", "Fields", "bin_values", "fields", "slices"]

FEWEST = 10
"""Slices of fewer queries are shown but not tested: hardly anything could be significant there."""

FIRST_RANK = "first relevant rank"
"""Field: rank of the first relevant document in the first stage."""

_RANKS = ((1, "1"), (3, "2 to 3"), (10, "4 to 10"), (30, "11 to 30"), (100, "31 to 100"))

_MOST = 12
"""A field with more different values is cut into quarters, or left out if its values have no order."""

_FEW = 6
"""Up to this many different numbers are slices of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """The fields that slices are made of.

    Args:
        values: Field -> query id -> value, in words; a query without a value is missing there.
        problems: Fields that were left out, and why.
    """

    values: Mapping[str, Mapping[str, str]]
    problems: tuple[Problem, ...]

    def of(self, query: str) -> dict[str, str]:
        """Return field -> value of one query."""
        return {field: by[query] for field, by in self.values.items() if query in by}


def fields(judged: Judged) -> Fields:
    """Return the fields that the queries can be sliced by.

    - every field of the queries' metadata, and as ``document NAME`` those of the best relevant candidate (highest
      grade, then first in the first stage): few values as they are, many numbers and ISO dates in quarters;
    - ``query length`` and ``text length`` (of that candidate) in words, in quarters; `FIRST_RANK`, in fixed ranges.

    A field is left out and reported if it has one value, too many, or values that are not words, numbers or dates.
    """
    best = {query.id: _best(query, judged.relevant) for query in judged.queries}
    raw: dict[str, dict[str, Any]] = {"query length": {}, FIRST_RANK: {}, "text length": {}}
    for query in judged.queries:
        rank, candidate = best[query.id]
        raw["query length"][query.id] = count_words(query.text)
        raw[FIRST_RANK][query.id] = _rank_range(rank)
        for name, value in query.metadata.items():
            raw.setdefault(str(name), {})[query.id] = value
        if candidate is not None:
            raw["text length"][query.id] = count_words(candidate.text)
            for name, value in candidate.metadata.items():
                raw.setdefault(f"document {name}", {})[query.id] = value
    values, unusable = {}, []
    for name, by_query in raw.items():
        bins = bin_values(by_query)
        if isinstance(bins, str):
            unusable.append(f"{name}: {bins}")
        else:
            values[name] = bins
    kind = "fields that could not be used for slices"
    problems = (Problem(kind=kind, count=len(unusable), examples=tuple(unusable)),) if unusable else ()
    return Fields(values=values, problems=problems)


def slices(
    fields: Fields,
    values: Mapping[str, Mapping[str, Mapping[str, float]]],
    tested_measures: Sequence[str],
    *,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> tuple[Slice, ...]:
    """Return each slice with the mean of every measure, and each reranker's comparison with the first stage.

    p-values are corrected for all slices and systems together, separately for each of the tested measures.

    Args:
        fields: The fields that the queries are sliced by.
        values: System -> measure -> query id -> value, with the first stage among the systems.
        tested_measures: Measures to compare in; the verdict is based on the first one.
        samples: Bootstrap and randomisation samples.
        seed: Their seed.
    """
    parts: dict[tuple[str, str], list[str]] = {}
    for field, value_by_query in fields.values.items():
        for value in _in_reading_order(value_by_query):
            parts[field, value] = [query for query in value_by_query if value_by_query[query] == value]
    tests: dict[tuple[str, str], list[Comparison]] = {part: [] for part in parts}
    for measure in dict.fromkeys(tested_measures):
        family = [
            (
                part,
                compare(
                    system,
                    FIRST_STAGE,
                    measure,
                    _only(values[system][measure], queries),
                    _only(values[FIRST_STAGE][measure], queries),
                    samples=samples,
                    seed=seed,
                ),
            )
            for part, queries in parts.items()
            if len(queries) >= FEWEST
            for system in values
            if system != FIRST_STAGE
        ]
        for (part, _), comparison in zip(family, adjusted_p([comparison for _, comparison in family]), strict=True):
            tests[part].append(comparison)
    return tuple(
        Slice(
            field=field,
            value=value,
            queries=len(queries),
            measures={
                system: {measure: sum(_only(by, queries).values()) / len(queries) for measure, by in measures.items()}
                for system, measures in values.items()
            },
            comparisons=tuple(tests[field, value]),
        )
        for (field, value), queries in parts.items()
    )


def _best(query: JudgedQuery, relevant: int) -> tuple[int | None, Candidate | None]:
    """Return the rank of the first relevant candidate, and the best one: highest grade, then first."""
    grades = [query.grades.get(candidate.id, relevant - 1) for candidate in query.candidates]
    positions = [i for i, grade in enumerate(grades) if grade >= relevant]
    if not positions:
        return None, None
    return positions[0] + 1, query.candidates[max(positions, key=grades.__getitem__)]


def _rank_range(rank: int | None) -> str:
    if rank is None:
        return "none"
    return next((words for last, words in _RANKS if rank <= last), "over 100")


def _only(values: Mapping[str, float], queries: Sequence[str]) -> dict[str, float]:
    return {query: values[query] for query in queries}


def _in_reading_order(value_by_query: Mapping[str, str]) -> list[str]:
    """Return the different values: numbers and ranges by size, other words alphabetically."""

    def key(word: str) -> tuple[float, str]:
        try:
            return float(word.split()[0]), word
        except (ValueError, IndexError):
            return float("inf"), word

    return sorted(set(value_by_query.values()), key=key)


def bin_values(values: Mapping[str, Any]) -> dict[str, str] | str:
    """Return each value in words, or why the field cannot be used.

    Numbers and dates with many values are cut into quarters of the queries, named by their smallest and largest value;
    equal values are never separated. ``None`` is no value.
    """
    present = {query: value for query, value in values.items() if value is not None}
    numbers, write = _as_numbers(present)
    if numbers and len(set(numbers.values())) > _FEW:
        return _quarters(numbers, write)
    if not all(isinstance(value, (str, int, float, date)) for value in present.values()):
        return "its values are not words, numbers or dates"
    words = {query: write(number) for query, number in numbers.items()} or {
        query: str(value) if value != "" else "(empty)" for query, value in present.items()
    }
    different = len(set(words.values()))
    if different < 2:
        return "it has one value" if different else "it has no value"
    return words if different <= _MOST else f"it has {different} different values"


def _as_numbers(values: Mapping[str, Any]) -> tuple[dict[str, float], Callable[[float], str]]:
    """Return the values as numbers and how to write one; nothing unless they are all numbers, or all dates."""
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
    bins = {query: sum(cut < number for cut in cuts) for query, number in numbers.items()}
    members: dict[int, list[float]] = {}
    for query, i in bins.items():
        members.setdefault(i, []).append(numbers[query])
    if len(members) < 2:
        return "nearly all its values are the same"
    names = {i: _range(write(min(inside)), write(max(inside))) for i, inside in members.items()}
    return {query: names[i] for query, i in bins.items()}


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"

"""The features of learning to rank: their names, their meaning, and how they are computed for one query."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from rag_rerank._checks import plain
from rag_rerank.errors import ConfigError, did_you_mean
from rag_rerank.text.bm25 import bm25_scores
from rag_rerank.text.dates import parse_date
from rag_rerank.text.unicode import is_blank, valid_unicode
from rag_rerank.text.words import count_words, terms
from rag_rerank.types import Candidate

__all__ = ["DIRECTIONS", "VERSION", "FeatureTable", "Features"]

VERSION = 1
"""Version of the features; it grows when some candidate gets another value under the same name."""

MISSING = math.nan
"""What is not known; LightGBM keeps a branch for it."""

_DAY = 86_400.0

DIRECTIONS: Mapping[str, int] = {
    "first_stage_rank": -1,
    "first_stage_score": 1,
    "first_stage_gap": 1,
    "bm25": 1,
    "bm25_gap": 1,
    "match_share": 1,
    "age_days": -1,
    "*.score": 1,
    "*.gap": 1,
    "*.rank": -1,
}
"""The monotone constraint of each feature that has one by default: 1 where a larger value is never worse, -1 where a
smaller one is never worse. ``*`` stands for the label of a reranker inside."""

_OF_EVERY_CANDIDATE = (
    *("first_stage_rank", "first_stage_score", "first_stage_gap", "bm25", "bm25_gap"),
    *("words", "match_share", "first_match"),
)


class FeatureTable(NamedTuple):
    """The features of one query's candidates.

    Args:
        where: Positions of the candidates that have a row: all but those with a blank text.
        rows: One row for each of them, with one value for each name; NaN where a value is missing.
        notes: What could not be read, one sentence each.
    """

    where: list[int]
    rows: list[list[float]]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Features:
    """The features of a model, in its order. Which ones there are depends on what the user names.

    - ``first_stage_rank``: The place among the candidates of the call, 1 for the first.
    - ``first_stage_score``: ``candidate.score``.
    - ``first_stage_gap``: That score less the highest one of the call: 0 for the best, else below 0.
    - ``bm25``: BM25 of the text, with document frequencies over the candidates of the call.
    - ``bm25_gap``: That score less the highest one of the call.
    - ``words``: The number of words in the text.
    - ``match_share``: The share of the different words of the query that are in the text, from 0 to 1.
    - ``first_match``: The words before the first word of the query that at most half of the texts have.
    - ``age_days``: Days from the date in the metadata to now; negative for a date to come.
    - ``source``: The source in the metadata, as a category.
    - ``metadata.COLUMN``: A number in the metadata.
    - ``LABEL.score``: The raw score of a reranker inside.
    - ``LABEL.gap``: That score less the highest one of the call.
    - ``LABEL.rank``: Its rank: 1 and the number of candidates with a higher score.

    A value that is not there is missing (NaN), never 0: a candidate without a score, a text without a word of the
    query, a field that is absent or cannot be read, a source that the training did not see.

    Args:
        rerankers: Labels of the rerankers inside.
        date: The field of the metadata with the date of a text, for ``age_days``.
        source: The field of the metadata with its source.
        sources: The sources that the training saw.
        columns: Fields of the metadata with numbers.
        without: Names that are left out.

    Raises:
        ConfigError: A name is unknown or occurs twice, or no feature is left.
    """

    rerankers: tuple[str, ...] = ()
    date: str | None = None
    source: str | None = None
    sources: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = self._all_names
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise ConfigError(f"two features are called {repeated[0]!r}; give one of the rerankers another name")
        for name in self.without:
            if name not in names:
                raise ConfigError(f"there is no feature {name!r}{did_you_mean(name, names)}", path="without")
        if not self.names:
            raise ConfigError("no feature is left", path="without")

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of a row."""
        return tuple(name for name in self._all_names if name not in self.without)

    @property
    def _all_names(self) -> tuple[str, ...]:
        return (
            *_OF_EVERY_CANDIDATE,
            *(("age_days",) if self.date is not None else ()),
            *(("source",) if self.source is not None else ()),
            *(f"metadata.{column}" for column in self.columns),
            *(f"{label}.{fact}" for label in self.rerankers for fact in _FACTS),
        )

    def directions(self, changes: Mapping[str, int]) -> dict[str, int]:
        """Return the monotone constraint of each feature: -1, 0 or 1.

        Args:
            changes: Constraints that replace those of `DIRECTIONS`.

        Raises:
            ConfigError: A name is unknown, a value is none of the three, or ``source`` is constrained.
        """
        for name, direction in changes.items():
            if name not in self.names:
                hint = did_you_mean(name, self.names)
                raise ConfigError(f"there is no feature {name!r}{hint}", path="monotone")
            if plain(direction) not in (-1, 0, 1) or isinstance(direction, bool):
                raise ConfigError(f"{name!r} must be -1, 0 or 1, got {direction!r:.60}", path="monotone")
            if name == "source" and direction:
                raise ConfigError("'source' is a category, which has no direction", path="monotone")
        of_rerankers = {f"{label}.{fact}": DIRECTIONS[f"*.{fact}"] for label in self.rerankers for fact in _FACTS}
        defaults = {**DIRECTIONS, **of_rerankers}
        return {name: int(changes.get(name, defaults.get(name, 0))) for name in self.names}

    def table(
        self,
        query: str,
        candidates: Sequence[Candidate],
        answers: Sequence[Mapping[str, float] | None],
        now: datetime,
    ) -> FeatureTable:
        """Return the features of the candidates.

        Args:
            query: The query.
            candidates: All candidates of the call, in incoming order.
            answers: Raw score by candidate id of each reranker inside; ``None`` for one that gave no scores.
            now: The moment that ages are counted to, with a time zone.
        """
        where = [i for i, candidate in enumerate(candidates) if not is_blank(candidate.text)]
        texts_read = [candidates[i] for i in where]
        unreadable: Counter[str] = Counter()
        columns: dict[str, list[float]] = {
            "first_stage_rank": [float(i + 1) for i in where],
            "first_stage_score": [MISSING if c.score is None else c.score for c in texts_read],
            **_text_columns(valid_unicode(query), [valid_unicode(c.text) for c in texts_read]),
        }
        columns["first_stage_gap"] = _gaps(columns["first_stage_score"])
        columns["bm25_gap"] = _gaps(columns["bm25"])
        if self.date is not None:
            columns["age_days"] = [_age(c, self.date, now, unreadable) for c in texts_read]
        if self.source is not None:
            codes = {name: float(code) for code, name in enumerate(self.sources)}
            columns["source"] = [codes.get(source_of(c, self.source) or "", MISSING) for c in texts_read]
        for column in self.columns:
            columns[f"metadata.{column}"] = [_number(c, column, unreadable) for c in texts_read]
        for label, scores in zip(self.rerankers, answers, strict=True):
            columns[f"{label}.score"] = [MISSING if scores is None else scores.get(c.id, MISSING) for c in texts_read]
            columns[f"{label}.gap"] = _gaps(columns[f"{label}.score"])
            columns[f"{label}.rank"] = _ranks(columns[f"{label}.score"])
        rows = [list(row) for row in zip(*(columns[name] for name in self.names), strict=True)]
        of_all = f"of {len(texts_read)} candidates cannot be read"
        notes = tuple(f"{what} of {count} {of_all}" for what, count in unreadable.items())
        return FeatureTable(where, rows, notes)


_FACTS = ("score", "gap", "rank")
"""What is read of the answer of a reranker inside."""


def source_of(candidate: Candidate, field: str) -> str | None:
    """Return the source of a candidate as a text; ``None`` without one."""
    value = plain(candidate.metadata.get(field))
    return str(value) if isinstance(value, (str, int, float)) else None


def _text_columns(query: str, texts: Sequence[str]) -> dict[str, list[float]]:
    query_terms = terms(query)
    query_words = set(query_terms)
    documents = [terms(text, query_words) for text in texts]
    shared = [query_words.intersection(document) for document in documents]
    frequency = Counter(word for words in shared for word in words)
    telling = {word for word in query_words if 2 * frequency[word] <= len(texts)}
    return {
        "bm25": bm25_scores(query_terms, documents) if documents else [],
        "words": [float(count_words(text)) for text in texts],
        "match_share": [len(words) / len(query_words) if query_words else MISSING for words in shared],
        "first_match": [
            next((float(i) for i, word in enumerate(document) if word in telling), MISSING) for document in documents
        ],
    }


def _gaps(scores: Sequence[float]) -> list[float]:
    """Return each score less the highest one; what is missing stays missing."""
    best = max((score for score in scores if not math.isnan(score)), default=0.0)
    return [score - best for score in scores]


def _ranks(scores: Sequence[float]) -> list[float]:
    """Return 1 and the number of higher scores for each score; equal scores have equal ranks."""
    best_first = sorted((score for score in scores if not math.isnan(score)), reverse=True)
    first: dict[float, int] = {}
    for rank, score in enumerate(best_first, start=1):
        first.setdefault(score, rank)
    return [MISSING if math.isnan(score) else float(first[score]) for score in scores]


def _age(candidate: Candidate, field: str, now: datetime, unreadable: Counter[str]) -> float:
    value = candidate.metadata.get(field)
    if value is None or value == "":
        return MISSING
    moment = parse_date(value)
    if moment is None:
        unreadable[f"the date {field!r}"] += 1
        return MISSING
    return (now - moment).total_seconds() / _DAY


def _number(candidate: Candidate, field: str, unreadable: Counter[str]) -> float:
    value: Any = plain(candidate.metadata.get(field))
    if value is None or value == "":
        return MISSING
    try:
        number = float(value) if isinstance(value, (str, int, float)) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        unreadable[f"the number {field!r}"] += 1
        return MISSING
    return number

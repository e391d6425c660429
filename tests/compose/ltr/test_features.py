"""The features: each by hand, what is missing is missing, and what cannot be read is told."""

import math
from datetime import date, datetime, timezone
from typing import Any

import pytest

from rag_rerank import Candidate, ConfigError
from rag_rerank.compose import Features
from rag_rerank.text.dates import parse_date

NOW = datetime(2026, 12, 1, tzinfo=timezone.utc)


def columns(features: Features, candidates: list[Candidate], answers: Any = (), query: str = "warm dragon") -> Any:
    table = features.table(query, candidates, list(answers), NOW)
    return table, {name: [row[i] for row in table.rows] for i, name in enumerate(features.names)}


def same(values: list[float], expected: list[float | None]) -> bool:
    return len(values) == len(expected) and all(
        math.isnan(value) if wanted is None else math.isclose(value, wanted)
        for value, wanted in zip(values, expected, strict=True)
    )


def test_features_of_rank_score_and_text_by_hand() -> None:
    texts = ["a warm place", "", "the dragon, a dragon", "cold", "warm and dry and more"]
    scores = [3.0, None, 1.0, None, 2.5]
    candidates = [Candidate(str(i), t, score=s) for i, (t, s) in enumerate(zip(texts, scores, strict=True))]
    table, by_name = columns(Features(), candidates)
    assert table.where == [0, 2, 3, 4]  # a blank text has no row, and keeps its place
    assert same(by_name["first_stage_rank"], [1, 3, 4, 5])
    assert same(by_name["first_stage_score"], [3.0, 1.0, None, 2.5])
    assert same(by_name["first_stage_gap"], [0.0, -2.0, None, -0.5])
    assert same(by_name["words"], [3, 4, 1, 5])
    assert same(by_name["match_share"], [0.5, 0.5, 0.0, 0.5])
    assert same(by_name["first_match"], [1, 1, None, 0])
    assert by_name["bm25"][2] == 0.0 and max(by_name["bm25_gap"]) == 0.0
    # Lucene's BM25: idf = ln(1 + (N - df + 0.5) / (df + 0.5)), k1 = 0.9, b = 0.4
    mean = (3 + 4 + 1 + 5) / 4
    idf = math.log(1 + (4 - 1 + 0.5) / (1 + 0.5))
    assert math.isclose(by_name["bm25"][1], idf * 2 / (2 + 0.9 * (1 - 0.4 + 0.4 * 4 / mean)), rel_tol=1e-5)


def test_a_word_that_most_texts_have_is_no_first_match() -> None:
    texts = ["dragon one", "dragon warm", "dragon two"]
    _, by_name = columns(Features(), [Candidate(str(i), t) for i, t in enumerate(texts)])
    assert same(by_name["first_match"], [None, 1, None])


def test_a_query_without_words_leaves_the_share_missing() -> None:
    _, by_name = columns(Features(), [Candidate("a", "text")], query="?!")
    assert same(by_name["match_share"], [None]) and same(by_name["bm25"], [0.0])


def test_features_of_metadata() -> None:
    features = Features(date="day", source="site", sources=("news", "wiki"), columns=("clicks",))
    rows: list[dict[str, Any]] = [
        {"day": "2026-11-30", "site": "wiki", "clicks": 3},
        {"day": "2026-12-01T12:00:00Z", "site": "blog", "clicks": "4.5"},
        {"day": "soon", "site": None, "clicks": "many"},
        {"day": None, "clicks": float("nan")},
        {"clicks": True, "site": "news"},
    ]
    table, by_name = columns(features, [Candidate(str(i), "text", metadata=m) for i, m in enumerate(rows)])
    assert same(by_name["age_days"], [1.0, -0.5, None, None, None])
    assert same(by_name["source"], [1.0, None, None, None, 0.0])
    assert same(by_name["metadata.clicks"], [3.0, 4.5, None, None, 1.0])
    assert table.notes == (
        "the date 'day' of 1 of 5 candidates cannot be read",
        "the number 'clicks' of 2 of 5 candidates cannot be read",
    )


def test_features_of_rerankers_and_of_one_that_failed() -> None:
    features = Features(rerankers=("a", "b"))
    candidates = [Candidate(i, "text") for i in "wxyz"]
    _, by_name = columns(features, candidates, [{"w": 1.0, "x": 2.0, "z": 2.0}, None])
    assert same(by_name["a.score"], [1.0, 2.0, None, 2.0])
    assert same(by_name["a.gap"], [-1.0, 0.0, None, 0.0])
    assert same(by_name["a.rank"], [3, 1, None, 1])  # equal scores have equal ranks
    assert all(same(by_name[f"b.{fact}"], [None] * 4) for fact in ("score", "gap", "rank"))


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-11-30", datetime(2026, 11, 30)),
        ("2026-11-30T08:00:00+02:00", datetime(2026, 11, 30, 6)),
        (date(2026, 1, 2), datetime(2026, 1, 2)),
        (datetime(2026, 1, 2, 3), datetime(2026, 1, 2, 3)),
        (86_400, datetime(1970, 1, 2)),
        ("yesterday", None),
        (True, None),
        (1e30, None),
        ([], None),
    ],
    ids=str,
)
def test_dates(value: object, moment: datetime | None) -> None:
    assert parse_date(value) == (None if moment is None else moment.replace(tzinfo=timezone.utc))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"without": ("bm52",)}, "without: there is no feature 'bm52'; did you mean 'bm25'"),
        ({"rerankers": ("a", "a")}, "two features are called 'a.score'"),
        ({"without": Features().names}, "without: no feature is left"),
    ],
    ids=("unknown", "twice", "none"),
)
def test_wrong_features_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Features(**options)


def test_directions() -> None:
    features = Features(rerankers=("a",), date="day", source="site")
    directions = features.directions({"words": 1, "age_days": 0})
    assert list(directions) == list(features.names)
    assert directions["age_days"] == 0 and directions["words"] == 1 and directions["source"] == 0
    assert directions["first_stage_rank"] == directions["a.rank"] == -1
    assert directions["a.score"] == directions["a.gap"] == directions["bm25"] == 1
    for changes, message in (
        ({"freshness": -1}, "monotone: there is no feature 'freshness'"),
        ({"words": 2}, "monotone: 'words' must be -1, 0 or 1, got 2"),
        ({"source": 1}, "monotone: 'source' is a category"),
    ):
        with pytest.raises(ConfigError, match=message):
            features.directions(changes)

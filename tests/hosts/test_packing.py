"""A hit whose text for the LLM is a part of what was scored keeps its place, its score and its window."""

from __future__ import annotations

import pytest

from rag_rerank import Candidate, Coverage, Hit
from rag_rerank.hosts import with_text

HEADING, CONTENT = "A heading\n", "0123456789"
HIT = Hit(1, 0.5, 0.0, Candidate("a", HEADING + CONTENT, 0.1, {"k": 1}), Coverage(total=9, seen=4), None, (12, 15))


def test_the_same_text_changes_nothing() -> None:
    assert with_text(HIT, HIT.text, 0) == HIT


def test_another_text_has_no_coverage_because_its_tokens_were_not_counted() -> None:
    hit = with_text(HIT, CONTENT, len(HEADING), {"k": 2})
    assert (hit.text, hit.candidate.metadata, hit.coverage) == (CONTENT, {"k": 2}, None)
    assert (hit.id, hit.rank, hit.score, hit.raw_score, hit.candidate.score) == ("a", 1, 0.5, 0.0, 0.1)
    assert HIT.text == HEADING + CONTENT


@pytest.mark.parametrize(
    ("window", "start", "expected"),
    [
        ((12, 15), 10, (2, 5)),
        ((4, 15), 10, (0, 5)),  # it began in the heading
        ((15, 30), 10, (5, 10)),
        ((0, 8), 10, None),  # it lies in the heading
        ((25, 30), 10, None),
        ((12, 15), None, None),
        (None, 10, None),
    ],
)
def test_the_window_moves_with_the_text(
    window: tuple[int, int] | None, start: int | None, expected: tuple[int, int] | None
) -> None:
    hit = Hit(1, 0.5, 0.0, HIT.candidate, None, None, window)
    assert with_text(hit, CONTENT, start).window == expected
    if window == (12, 15) and expected:
        assert CONTENT[slice(*expected)] == HIT.text[slice(*window)]

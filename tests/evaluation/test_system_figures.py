"""Each kind of failure is distinguished, and named only where it is certain."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_rerank import Candidate
from rag_rerank.evaluation.data.judged import JudgedQuery
from rag_rerank.evaluation.system_figures import failure
from rag_rerank.trace import Coverage

IDS = ("a", "b", "c", "d")


def failure_of(order: str, grades: dict[str, int], *, top_k: int = 2, relevant: int = 1, **options: Any) -> str | None:
    query = JudgedQuery(id="q", text="q", candidates=tuple(Candidate(id, id) for id in IDS), grades=grades)
    options = {"scores": {}, "coverage": {}, **options}
    return failure(query, list(order), relevant=relevant, top_k=top_k, **options)


SCORES = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}


def test_a_relevant_hit_at_the_top_is_no_failure_and_neither_is_a_query_without_anything_relevant() -> None:
    assert failure_of("abcd", {"b": 1}) is None
    assert failure_of("abcd", {"a": 0, "b": -1}) is None
    assert failure_of("abcd", {"a": 1}, relevant=2) is None


def test_what_is_not_among_the_candidates_is_a_failure_of_the_candidates() -> None:
    assert failure_of("abcd", {"x": 1, "a": 0}, scores=SCORES) == "candidates"
    assert failure_of("abcd", {"x": 2, "a": 1}, relevant=2) == "candidates"


def test_a_text_that_was_read_as_a_whole_and_stands_low_is_a_failure_of_the_scoring() -> None:
    whole = {id: Coverage(total=10, seen=10) for id in IDS}
    assert failure_of("abcd", {"c": 1}, scores=SCORES, coverage=whole) == "scoring"
    assert failure_of("abcd", {"c": 1}) == "scoring"
    assert failure_of("abcd", {"c": 1}, scores={**SCORES, "c": None}, coverage={"c": None}) == "scoring"


def test_the_highest_relevant_text_that_was_cut_is_a_failure_of_truncation() -> None:
    cut = {"c": Coverage(total=10, seen=9)}
    assert failure_of("abcd", {"c": 1}, scores=SCORES, coverage=cut) == "truncation"
    assert failure_of("abcd", {"d": 1}, scores=SCORES, coverage=cut) == "scoring"
    assert failure_of("abcd", {"c": 1, "d": 3}, scores=SCORES, coverage={"d": Coverage(10, 1)}) == "scoring"


def test_a_score_that_was_enough_for_another_is_a_tie() -> None:
    assert failure_of("abcd", {"c": 1}, scores={**SCORES, "c": 3.0}) == "tie"
    assert failure_of("abcd", {"d": 1}, scores={**SCORES, "d": 2.0}) == "scoring"
    assert failure_of("abcd", {"c": 1}, scores={"a": None, "b": None, "c": None}) == "scoring"


@given(
    st.permutations(IDS),
    st.dictionaries(st.sampled_from([*IDS, "x"]), st.integers(-1, 3)),
    st.dictionaries(st.sampled_from(IDS), st.sampled_from([None, 1.0, 2.0])),
)
def test_a_failure_that_is_gone_stays_gone_when_more_hits_are_kept(
    order: list[str], grades: dict[str, int], scores: dict[str, float | None]
) -> None:
    failures = [failure_of("".join(order), grades, top_k=k, scores=scores) for k in (1, 2, 3, 4)]
    assert all(later is None for one, later in itertools.pairwise(failures) if one is None)
    assert failures[-1] in (None, "candidates")


def test_the_query_is_left_as_it_was() -> None:
    grades = {"c": 1}
    failure_of("abcd", grades)
    assert grades == {"c": 1}
    with pytest.raises(TypeError):
        failure(None, [], 1, 2)  # type: ignore[misc,arg-type]

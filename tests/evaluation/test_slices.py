"""Slices: their fields, their names, and the tests in them."""

import itertools
from datetime import date
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_rerank import Candidate
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.evaluation.report import FIRST_STAGE
from rag_rerank.evaluation.slices import FEWEST, FIRST_RANK, bin_values, fields, slices
from rag_rerank.evaluation.statistics import holm


def query(i: int, place: int | None = 0, text: str = "who is it", **metadata: Any) -> JudgedQuery:
    """Return a query with its relevant document at a position; its candidates have a source and a title."""
    candidates = tuple(
        Candidate(f"d{j}", "word " * (j + 1), metadata={"source": "wiki" if j % 2 else "web", "title": f"t{i}-{j}"})
        for j in range(40)
    )
    grades = {"other": 1} if place is None else {f"d{place}": 1}
    return JudgedQuery(id=f"q{i}", text=text, candidates=candidates, grades=grades, metadata=metadata)


def judged(*queries: JudgedQuery) -> Judged:
    return Judged(name="by hand", queries=queries)


def test_queries_are_cut_by_their_metadata_by_that_of_the_relevant_document_and_by_computed_fields() -> None:
    usable = fields(
        judged(*(query(i, (None, 0, 1, 5, 12, 35)[i % 6], kind="how" if i % 2 else "who") for i in range(24)))
    )
    assert usable.of("q0") == {"kind": "who", FIRST_RANK: "none"}
    assert usable.of("q2") == {"kind": "who", FIRST_RANK: "2 to 3", "document source": "wiki", "text length": "2"}
    assert usable.of("q5")[FIRST_RANK] == "31 to 100"
    assert {by["q3"] for name, by in usable.values.items() if name == FIRST_RANK} == {"4 to 10"}


def test_the_relevant_document_is_the_one_of_the_highest_grade_and_of_those_the_first() -> None:
    one = JudgedQuery(
        id="q", text="q", candidates=query(0).candidates, grades={"d0": 1, "d3": 2, "d5": 2, "d7": 0, "x": 3}
    )
    other = query(1, 0)
    usable = fields(judged(one, other))
    assert usable.of("q")["document source"] == "wiki" and usable.of("q")["text length"] == "4"
    assert usable.of("q1")["document source"] == "web"


def test_fields_of_no_use_are_left_out_and_told_with_the_reason() -> None:
    rows = (query(i, 0, serial=f"n{i}", same="x", tags=["a"], nothing=None) for i in range(20))
    usable = fields(judged(*rows))
    assert usable.values == {}
    (problem,) = usable.problems
    assert problem.count == len(problem.examples) == 9
    assert "serial: it has 20 different values" in problem.examples
    assert "same: it has one value" in problem.examples
    assert "tags: its values are not words, numbers or dates" in problem.examples
    assert "nothing: it has no value" in problem.examples
    assert "document title: it has 20 different values" in problem.examples


def test_many_numbers_and_dates_are_cut_into_quarters_and_named_by_their_ends() -> None:
    assert set(bin_values({str(i): i for i in range(1, 101)}).values()) == {
        "1 to 25",
        "26 to 50",
        "51 to 75",
        "76 to 100",
    }
    days = {str(i): f"202{i % 8}-03-0{i % 9 + 1}" for i in range(80)}
    bins = bin_values(days)
    assert isinstance(bins, dict) and all(" to 202" in name for name in bins.values()) and len(set(bins.values())) == 4
    assert bin_values({k: date.fromisoformat(v) for k, v in days.items()}) == bins
    assert bin_values({k: f"{v}T10:00:00Z" for k, v in days.items()}) == bins


def test_few_numbers_words_and_truths_stand_as_they_are() -> None:
    assert bin_values({"a": 1, "b": 2, "c": None}) == {"a": "1", "b": "2"}
    assert bin_values({"a": 1, "b": 1.0, "c": 0, "d": -0.0}) == {"a": "1", "b": "1", "c": "0", "d": "0"}
    assert bin_values({"a": 10**400, "b": 1}) == {"a": str(10**400), "b": "1"}  # beyond what a float can hold
    assert bin_values({"a": True, "b": False}) == {"a": "True", "b": "False"}
    assert bin_values({"a": "", "b": "de"}) == {"a": "(empty)", "b": "de"}


@example({0: 0, 1: 0.0, 2: -0.0, 3: 1})
@given(st.dictionaries(st.integers(), st.integers(-50, 50) | st.floats(-1e6, 1e6), min_size=1))
def test_equal_numbers_never_come_apart_and_quarters_do_not_overlap(values: dict[Any, float]) -> None:
    bins = bin_values(values)
    if isinstance(bins, str):
        return
    assert bins.keys() == values.keys()
    spans: dict[str, list[float]] = {}
    for key, name in bins.items():
        spans.setdefault(name, []).append(values[key])
    ends = sorted((min(span), max(span)) for span in spans.values())
    assert all(high < low for (_, high), (low, _) in itertools.pairwise(ends))


def values(before: dict[str, float], after: dict[str, float]) -> dict[str, Any]:
    return {FIRST_STAGE: {"nDCG@10": before, "nDCG@3": before}, "x": {"nDCG@10": after, "nDCG@3": before}}


def test_each_slice_has_its_means_and_its_tests_corrected_over_all_slices() -> None:
    rows = [query(i, 0, language=("de", "en", "fr")[0 if i < 5 else 1 + i % 2]) for i in range(45)]
    before = {row.id: 0.5 for row in rows}
    after = {row.id: 1.0 if row.metadata["language"] == "en" else 0.4 for row in rows}
    usable = fields(judged(*rows))
    cut = slices(usable, values(before, after), ("nDCG@10", "nDCG@3"), samples=1_000)
    by = {one.value: one for one in cut if one.field == "language"}
    assert [one.value for one in cut if one.field == "language"] == ["de", "en", "fr"]
    assert (by["de"].queries, by["en"].queries, by["fr"].queries) == (5, 20, 20)
    assert by["de"].queries < FEWEST and by["de"].comparisons == ()
    assert by["de"].measures["x"]["nDCG@10"] == pytest.approx(0.4)
    first, top = by["en"].comparisons
    assert (first.system, first.baseline, first.measure, top.measure) == ("x", FIRST_STAGE, "nDCG@10", "nDCG@3")
    assert first.difference.mean == pytest.approx(0.5) and (top.p, top.p_adjusted) == (1.0, 1.0)
    tested = [one for part in cut for one in part.comparisons if one.measure == "nDCG@10"]
    assert tuple(one.p_adjusted for one in tested) == holm([one.p for one in tested])
    assert first.p_adjusted > first.p


def test_slices_stand_in_the_order_of_their_numbers() -> None:
    rows = [query(i, 0, text="w " * (i + 1)) for i in range(100)]
    flat = dict.fromkeys((row.id for row in rows), 0.5)
    cut = slices(fields(judged(*rows)), values(flat, flat), ("nDCG@10",), samples=100)
    assert [s.value for s in cut if s.field == "query length"] == ["1 to 25", "26 to 50", "51 to 75", "76 to 100"]


def test_no_fields_give_no_slices() -> None:
    usable = fields(judged(query(0)))
    assert slices(usable, values({"q0": 1.0}, {"q0": 1.0}), ("nDCG@10",)) == ()

"""What is written can be read back, and a fingerprint changes only with what decides a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_rerank import Candidate, build
from rag_rerank.errors import InputError
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery, Problems, fingerprint
from rag_rerank.evaluation.data.read import read
from rag_rerank.evaluation.data.trec import read_qrels, read_run
from rag_rerank.evaluation.data.write import write_jsonl, write_qrels, write_run

again = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)

WORDS = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=8).filter(lambda w: not w.isspace())
NAMES = st.text(min_size=1, max_size=8)
TEXTS = st.text(max_size=20)
PLAIN = st.dictionaries(NAMES, st.none() | st.booleans() | st.integers() | st.text(max_size=5), max_size=3)
SCORES = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def judged_queries(draw: st.DrawFn, id: str) -> JudgedQuery:
    others = NAMES.filter(lambda name: name != id)  # a candidate with the query's id is the query itself, and left out
    ids = draw(st.lists(others, min_size=1, max_size=4, unique=True))
    candidates = tuple(Candidate(d, draw(TEXTS), draw(st.none() | SCORES), draw(PLAIN)) for d in ids)
    grades = {**draw(st.dictionaries(NAMES, st.integers(-2, 3), max_size=4)), draw(st.sampled_from(ids)): 1}
    text = "q" + draw(TEXTS)
    return JudgedQuery(id=id, text=text, candidates=candidates, grades=grades, metadata=draw(PLAIN))


QUERIES = st.lists(NAMES, min_size=1, max_size=4, unique=True).flatmap(
    lambda ids: st.tuples(*(judged_queries(id) for id in ids))
)


@again
@given(queries=QUERIES, packed=st.booleans())
def test_judged_queries_written_as_json_lines_come_back_whole(
    tmp_path: Path, queries: tuple[JudgedQuery, ...], packed: bool
) -> None:
    file = tmp_path / ("judged.jsonl.gz" if packed else "judged.jsonl")
    write_jsonl(file, Judged(name="any", queries=queries))
    judged = read(file)
    assert judged.queries == queries
    assert judged.name == "judged"
    assert judged.fingerprint == fingerprint(queries, 1)


@again
@given(grades=st.dictionaries(WORDS, st.dictionaries(WORDS, st.integers(-5, 99), min_size=1), min_size=1))
def test_judgments_written_as_trec_come_back(tmp_path: Path, grades: Mapping[str, Mapping[str, int]]) -> None:
    problems = Problems()
    write_qrels(tmp_path / "x.qrels.gz", grades)
    judgments = read_qrels(tmp_path / "x.qrels.gz", problems)
    assert {query: judgments.grades(query) for query in judgments.rows} == grades


@again
@given(
    runs=st.dictionaries(
        WORDS, st.lists(st.tuples(WORDS, SCORES), min_size=1, unique_by=lambda hit: hit[0]), min_size=1
    )
)
def test_a_run_comes_back_in_its_order_and_with_its_scores_where_they_fall(
    tmp_path: Path, runs: Mapping[str, Sequence[tuple[str, float]]]
) -> None:
    problems = Problems()
    write_run(tmp_path / "x.trec", runs)
    back = read_run(tmp_path / "x.trec", problems)
    for query, hits in runs.items():
        best = back.best(query, 1000)
        assert [document for document, _, _ in best] == [document for document, _ in hits]
        if all(one > other for (_, one), (_, other) in pairwise(hits)):
            assert [score for _, score, _ in best] == [score for _, score in hits]
    assert problems.as_tuple() == ()


def test_a_ranking_with_ties_and_hits_without_a_score_keeps_its_order_in_a_run(tmp_path: Path) -> None:
    ranking = build("lexical").rerank(
        "a", [Candidate(d, t) for d, t in (("w", ""), ("x", "b"), ("y", "c"), ("z", "a"))]
    )
    file = tmp_path / "x.trec"
    write_run(file, {"q": ranking, "r": [("m", 2.5), ("n", 1)]}, tag="mine")
    assert file.read_text() == (
        "q Q0 z 1 -1.0 mine\nq Q0 x 2 -2.0 mine\nq Q0 y 3 -3.0 mine\nq Q0 w 4 -4.0 mine\n"
        "r Q0 m 1 2.5 mine\nr Q0 n 2 1.0 mine\n"
    )


@pytest.mark.parametrize("id", ["two words", "", "a\tb", "a\u00a0b", "a\x00b", "\ud800"])
def test_an_id_that_a_trec_file_cannot_express_is_refused(tmp_path: Path, id: str) -> None:
    with pytest.raises(InputError, match="cannot be written to a TREC file"):
        write_qrels(tmp_path / "x", {"q": {id: 1}})
    with pytest.raises(InputError, match="cannot be written to a TREC file"):
        write_run(tmp_path / "x", {id: [("d", 1.0)]})
    assert not (tmp_path / "x").exists()


def test_metadata_that_is_no_json_is_refused(tmp_path: Path) -> None:
    query = JudgedQuery(id="q", text="x", candidates=(Candidate("d", "t"),), grades={"d": 1}, metadata={"a": object()})
    with pytest.raises(InputError, match="query 'q': its metadata cannot be written as JSON"):
        write_jsonl(tmp_path / "x", Judged(name="any", queries=(query,)))


ONE = JudgedQuery(
    id="q",
    text="x",
    candidates=(Candidate("a", "A", 2.0, {"lang": "en"}), Candidate("b", "B", 1.0)),
    grades={"a": 1, "far": 2},
    metadata={"kind": "k", "n": 1},
)
TWO = replace(ONE, id="r")


@pytest.mark.parametrize(
    "same",
    [
        (TWO, ONE),
        (replace(ONE, grades={"far": 2, "a": 1}), TWO),
        (replace(ONE, metadata={"n": 1, "kind": "k"}), TWO),
        (replace(ONE, candidates=(Candidate("a", "A", None, {"lang": "en"}), Candidate("b", "B", 7.0))), TWO),
    ],
    ids=["order of queries", "order of judgments", "order of keys", "first stage's scores"],
)
def test_a_fingerprint_stays_with_what_decides_no_figure(same: tuple[JudgedQuery, ...]) -> None:
    assert fingerprint(same, 1) == fingerprint((ONE, TWO), 1)


@pytest.mark.parametrize(
    ("query", "relevant"),
    [
        (replace(ONE, id="s"), 1),
        (replace(ONE, text="y"), 1),
        (replace(ONE, candidates=ONE.candidates[::-1]), 1),
        (replace(ONE, candidates=(ONE.candidates[0], Candidate("b", "C", 1.0))), 1),
        (replace(ONE, candidates=ONE.candidates[:1]), 1),
        (replace(ONE, grades={"a": 2, "far": 2}), 1),
        (replace(ONE, grades={"a": 1}), 1),
        (replace(ONE, metadata={"kind": "l", "n": 1}), 1),
        (ONE, 2),
    ],
)
def test_a_fingerprint_changes_with_all_that_decides_a_figure(query: JudgedQuery, relevant: int) -> None:
    assert fingerprint((query, TWO), relevant) != fingerprint((ONE, TWO), 1)
    assert fingerprint((ONE,), 1) != fingerprint((ONE, TWO), 1)

"""The first stage that is made here: BM25 over the corpus of a folder in BEIR's format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from rag_rerank.cli.evaluate import page
from rag_rerank.evaluation import evaluate
from rag_rerank.evaluation.data.read import read


def beir_folder(
    folder: Path, corpus: Mapping[str, str], queries: Mapping[str, str], qrels: str, run: str | None = None
) -> Path:
    """Write a folder in BEIR's format; the rows of ``qrels`` and ``run`` have spaces between their columns."""
    for name, texts in (("corpus", corpus), ("queries", queries)):
        rows = (json.dumps({"_id": id, "text": text}) + "\n" for id, text in texts.items())
        (folder / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    (folder / "qrels.tsv").write_text(qrels.replace(" ", "\t"), encoding="utf-8")
    if run is not None:
        (folder / "run.trec").write_text(run, encoding="utf-8")
    return folder


def candidate_ids(folder: Path) -> dict[str, list[str]]:
    return {query.id: [candidate.id for candidate in query.candidates] for query in read(folder).queries}


def test_a_corpus_without_spaces(tmp_path: Path) -> None:
    corpus = {"d1": "香蕉是黄色的", "d2": "珠穆朗玛峰的海拔高度是8848米", "d3": "水"}
    queries = {"q1": "珠穆朗玛峰有多高", "q2": "水"}
    assert candidate_ids(beir_folder(tmp_path, corpus, queries, "q1 d2 1\nq2 d3 1\n")) == {"q1": ["d2"], "q2": ["d3"]}


def test_a_word_of_one_character_in_an_alphabetic_script(tmp_path: Path) -> None:
    corpus = {"d1": "กล้วยสีเหลือง", "d2": "ปลาดีมาก"}
    assert candidate_ids(beir_folder(tmp_path, corpus, {"q1": "ดี"}, "q1 d2 1\n")) == {"q1": ["d2"]}


TOPICS = ["python snake", "python code", "python care"]
OWN = "candidates that are the query itself (its id, not judged relevant), left out as BEIR does"


def noted(folder: Path, **options: int) -> int:
    return sum(problem.count for problem in read(folder, **options).problems if problem.kind == OWN)


@pytest.mark.parametrize("run", [None, "a Q0 a 1 9 x\na Q0 b 2 8 x\na Q0 c 3 7 x\n"], ids=["BM25", "run"])
def test_a_query_that_is_a_document_is_no_candidate_of_its_own(tmp_path: Path, run: str | None) -> None:
    corpus = dict(zip("abc", TOPICS, strict=True))
    folder = beir_folder(tmp_path, corpus, {"a": corpus["a"]}, "a b 1\n", run)
    assert candidate_ids(folder) == {"a": ["b", "c"]}
    assert noted(folder) == 1
    (query,) = read(folder, depth=2).queries  # the depth is filled without it
    assert [candidate.id for candidate in query.candidates] == ["b", "c"]


@pytest.mark.parametrize("run", [None, "1 Q0 1 1 9 x\n1 Q0 2 2 8 x\n1 Q0 3 3 7 x\n"], ids=["BM25", "run"])
def test_a_number_that_a_query_and_a_document_share_by_chance_is_no_sign(tmp_path: Path, run: str | None) -> None:
    corpus = dict(zip("123", TOPICS, strict=True))
    folder = beir_folder(tmp_path, corpus, {"1": "python"}, "1 2 1\n", run)
    assert candidate_ids(folder) == {"1": ["1", "2", "3"]}
    assert noted(folder) == 0
    (query,) = read(folder, depth=2).queries
    assert [candidate.id for candidate in query.candidates] == ["1", "2"]


@pytest.mark.parametrize(
    ("query", "text", "candidates"),
    [
        ("Python, care!", "python care", ["2"]),
        ("how does one care for a ball python", "Title: How does one care for a ball python?", ["2"]),
        ("ball python", "a ball python", ["1", "2"]),
    ],
)
def test_a_number_counts_where_the_text_is_the_querys(
    tmp_path: Path, query: str, text: str, candidates: list[str]
) -> None:
    folder = beir_folder(
        tmp_path, {"1": text, "2": query + " x"}, {"1": query}, "1 2 1\n", "1 Q0 1 1 9 x\n1 Q0 2 2 8 x\n"
    )
    assert candidate_ids(folder) == {"1": candidates}


def test_a_relevant_document_is_never_dropped(tmp_path: Path) -> None:
    corpus = dict(zip("ab", TOPICS, strict=False))
    folder = beir_folder(tmp_path, corpus, {"a": corpus["a"]}, "a a 1\na b 0\n")
    assert candidate_ids(folder) == {"a": ["a", "b"]}


def test_a_file_of_queries_with_candidates_has_the_same_rule(tmp_path: Path) -> None:
    rows = [
        {"id": id, "query": text, "relevant": ["b"], "candidates": [{"id": i, "text": t} for i, t in candidates]}
        for id, text, candidates in (
            ("a", "x y", [("a", "x y"), ("b", "x")]),
            ("7", "x y", [("7", "other"), ("b", "x")]),
        )
    ]
    file = tmp_path / "judged.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    judged = read(file)
    assert [[candidate.id for candidate in query.candidates] for query in judged.queries] == [["b"], ["7", "b"]]
    assert [(p.count, p.examples) for p in judged.problems if p.kind == OWN] == [(1, ("judged.jsonl:1: query 'a'",))]
    report = evaluate(judged, ["lexical"], measures=["nDCG@10"], samples=2)
    assert OWN in [problem["kind"] for problem in report.to_dict()["data"]["problems"]]
    assert OWN in page(report)

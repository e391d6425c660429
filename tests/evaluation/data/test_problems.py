"""Problems in judged data are counted with their places, or refused where the data are unusable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.small_collection import FILES

from rag_rerank.errors import InputError
from rag_rerank.evaluation.data.judged import Judged
from rag_rerank.evaluation.data.read import read

Make = Callable[..., Path]
Expected = tuple[str, int, tuple[str, ...]]


def problems_of(judged: Judged) -> list[Expected]:
    return [(problem.kind, problem.count, problem.examples) for problem in judged.problems]


C, Q, J, R = (FILES[name] for name in ("corpus.jsonl", "queries.jsonl", "qrels.tsv", "run.trec"))

TROUBLES: dict[str, tuple[dict[str, str | bytes], Expected]] = {
    "queries without judgments": (
        {"queries.jsonl": Q + '{"_id": "q3", "text": "unjudged"}\n'},
        ("queries with no judgments, left out", 1, ("queries.jsonl:3: query 'q3'",)),
    ),
    "queries without candidates": (
        {"run.trec": "q1 Q0 d2 1 3.5 bm25\n"},
        ("queries without candidates, which still count", 1, ("query 'q2'",)),
    ),
    "judged documents that are missing": (
        {"qrels.tsv": J + "q2\td8\t1\nq2\td9\t0\n"},
        (
            "judged documents that are not in the corpus, which count in the ideal ranking",
            2,
            ("qrels.tsv:5: document 'd8' of query 'q2'", "qrels.tsv:6: document 'd9' of query 'q2'"),
        ),
    ),
    "candidates that are missing": (
        {"run.trec": R + "q2 Q0 d9 3 0.1 bm25\n"},
        ("candidates that are not in the corpus, left out", 1, ("run.trec:5: document 'd9' of query 'q2'",)),
    ),
    "judgments twice": (
        {"qrels.tsv": J + "q1\td1\t2\n"},
        (
            "judgments that occur twice with one grade",
            1,
            ("qrels.tsv:5: document 'd1' of query 'q1', also in line 2",),
        ),
    ),
    "judgments that contradict each other": (
        {"qrels.tsv": J + "q1\td1\t1\n"},
        (
            "judgments that occur twice with different grades (the last one counts)",
            1,
            ("qrels.tsv:5: document 'd1' of query 'q1': 1, but 2 in line 2",),
        ),
    ),
    "negative grades": (
        {"qrels.tsv": J + "q1\td3\t-2\n"},
        (
            "judgments below 0, which count as not relevant",
            1,
            ("qrels.tsv:5: document 'd3' of query 'q1': -2",),
        ),
    ),
    "candidates twice": (
        {"run.trec": R + "q1 Q0 d2 3 0.5 bm25\n"},
        (
            "run rows that occur twice (the higher score counts)",
            1,
            ("run.trec:5: document 'd2' of query 'q1', also in line 1",),
        ),
    ),
    "judged queries that nobody knows": (
        {"qrels.tsv": J + "q8\td1\t1\nq8\td2\t1\nq9\td1\t1\n"},
        (
            "queries of qrels.tsv that are unknown, left out",
            2,
            ("qrels.tsv:5: query 'q8'", "qrels.tsv:7: query 'q9'"),
        ),
    ),
    "queries of the run that nobody knows": (
        {"run.trec": R + "q9 Q0 d1 1 1 x\n"},
        ("queries of run.trec that are unknown, left out", 1, ("run.trec:5: query 'q9'",)),
    ),
    "ranks against scores": (
        {"run.trec": R + "q2 Q0 d1 1 0.1 x\n"},
        (
            "queries whose ranks contradict their scores (the scores count)",
            1,
            ("run.trec:5: document 'd1' of query 'q2': rank 1 comes after rank 2",),
        ),
    ),
    "a rank that is no number": (
        {"run.trec": R + "q2 Q0 d1 last 0.1 x\n"},
        ("run rows whose rank is not a whole number (the rank is not needed)", 1, ("run.trec:5",)),
    ),
    "columns of the run": (
        {"run.trec": R + "q2 Q0 d1 3 0.1\n"},
        ("run rows that cannot be read, left out", 1, ("run.trec:5: 5 columns; a TREC run has 6, none of them empty",)),
    ),
    "empty ids in the run": (
        {"run.trec": R + "q2\tQ0\t\t3\t0.1\tx\n"},
        ("run rows that cannot be read, left out", 1, ("run.trec:5: 6 columns; a TREC run has 6, none of them empty",)),
    ),
    "columns of the judgments": (
        {"qrels.tsv": J + "q2\td1\nq2\t\t1\n"},
        (
            "qrels rows that cannot be read, left out",
            2,
            (
                "qrels.tsv:5: 2 columns; 3 (BEIR) or 4 (TREC) are needed, none of them empty",
                "qrels.tsv:6: 3 columns; 3 (BEIR) or 4 (TREC) are needed, none of them empty",
            ),
        ),
    ),
    "documents twice": (
        {"corpus.jsonl": C + '{"_id": "d1", "text": "newer"}\n'},
        ("document ids that occur twice (the last one counts)", 1, ("corpus.jsonl:4: document 'd1'",)),
    ),
    "queries twice": (
        {"queries.jsonl": Q + '{"_id": "q1", "text": "newer"}\n'},
        ("query ids that occur twice (the last one counts)", 1, ("queries.jsonl:3: query 'q1'",)),
    ),
    "blank documents": (
        {"corpus.jsonl": C + '{"_id": "d4", "text": " \\u200b"}\n', "run.trec": R + "q2 Q0 d4 3 0.1 x\n"},
        ("candidates with a blank text, which no reranker scores", 1, ("document 'd4' of query 'q2'",)),
    ),
    "blank queries": (
        {"queries.jsonl": Q + '{"_id": "q3", "text": " "}\n', "qrels.tsv": J + "q3\td1\t1\n"},
        ("queries with a blank text, left out", 1, ("queries.jsonl:3: query 'q3'",)),
    ),
    "nothing relevant": (
        {"qrels.tsv": "q1\td1\t2\nq1\td2\t0\nq2\td2\t0\n"},
        ("queries without a document of grade 1 or higher, which still count", 1, ("query 'q2'",)),
    ),
    "lines that are not UTF-8": (
        {"corpus.jsonl": C.encode() + b'{"_id": "d4", "text": "caf\xe9"}\n'},
        ("lines that are not UTF-8, left out", 1, ("corpus.jsonl:4: byte 27 of the line",)),
    ),
    "lines that are no object": (
        {"corpus.jsonl": C + '["d4"]\n{"_id": \n{"_id": "d5", "text": "x", "n": NaN}\n'},
        (
            "lines that are not a JSON object, left out",
            3,
            (
                "corpus.jsonl:4: a JSON object is needed, not list",
                "corpus.jsonl:5: Expecting value: line 1 column 9 (char 8)",
                "corpus.jsonl:6: NaN is not JSON",
            ),
        ),
    ),
    "lines without a text": (
        {"corpus.jsonl": C + '{"_id": "d4"}\n{"text": "x"}\n{"_id": "d5", "text": "x", "title": 5}\n'},
        (
            "lines of corpus.jsonl without an _id and a text, left out",
            3,
            ("corpus.jsonl:4", "corpus.jsonl:5", "corpus.jsonl:6"),
        ),
    ),
}


@pytest.mark.parametrize(("changes", "expected"), TROUBLES.values(), ids=TROUBLES)
def test_each_trouble_is_reported_with_its_count_and_places_and_all_else_is_read(
    make: Make, changes: dict[str, str | bytes], expected: Expected
) -> None:
    judged = read(make(changes))
    assert problems_of(judged) == [expected]
    assert {"q1", "q2"} == {query.id for query in judged.queries}


@pytest.mark.parametrize("score", ["nan", "inf", "-inf", "1e999", "high", "1_0", ""])
def test_a_run_row_whose_score_is_no_finite_number_is_reported(make: Make, score: str) -> None:
    judged = read(make({"run.trec": R.replace(" ", "\t") + f"q2\tQ0\td1\t3\t{score}\tx\n"}))
    [problem] = judged.problems
    assert (problem.kind, problem.count) == ("run rows that cannot be read, left out", 1)
    assert problem.examples[0].startswith("run.trec:5: the score")


def test_the_last_of_contradicting_rows_counts_for_judgments_and_texts_and_the_best_for_runs(make: Make) -> None:
    changes = {
        "qrels.tsv": J + "q1\td1\t1\n",
        "run.trec": "q1 Q0 d1 2 0.5 x\n" + R,
        "corpus.jsonl": C + '{"_id": "d1", "text": "newer"}\n',
        "queries.jsonl": Q + '{"_id": "q1", "text": "newer"}\n',
    }
    first = read(make(changes)).queries[0]
    assert (first.text, first.grades) == ("newer", {"d1": 1, "d2": 0})
    assert [(c.id, c.text, c.score) for c in first.candidates] == [
        ("d2", "Asynchronous Python with tasks.", 3.5),
        ("d1", "newer", 2.5),
    ]


def test_examples_are_few_and_counts_are_exact(make: Make) -> None:
    many = "".join(f'{{"_id": "x{i}", "text": "unjudged"}}\n' for i in range(100))
    [problem] = read(make({"queries.jsonl": Q + many})).problems
    assert problem.count == 100
    assert problem.examples == tuple(f"queries.jsonl:{i}: query 'x{i - 3}'" for i in range(3, 8))


def test_a_broken_line_of_the_corpus_is_counted_once_though_bm25_reads_it_twice(make: Make) -> None:
    judged = read(make({"run.trec": None, "corpus.jsonl": C + "broken\n"}))
    assert [problem.count for problem in judged.problems] == [1]


REFUSED: dict[str, tuple[dict[str, str | bytes | None], str]] = {
    "a grade in the middle": ({"qrels.tsv": J + "q1\td3\t0.5\n"}, r"qrels\.tsv:5: the grade is not a whole number"),
    "a grade that is a word": ({"qrels.tsv": J + "q1\td3\tgood\n"}, r"qrels\.tsv:5: the grade is not a whole number"),
    "a grade that is NaN": ({"qrels.tsv": J + "q1\td3\tnan\n"}, r"qrels\.tsv:5: the grade is not a whole number"),
    "a grade without end": ({"qrels.tsv": J + "q1\td3\tinf\n"}, r"qrels\.tsv:5: the grade is not a whole number"),
    "a grade beyond all": ({"qrels.tsv": J + "q1\td3\t1e300\n"}, r"qrels\.tsv:5: the grade is not a whole number"),
    "a first row that is no header": ({"qrels.tsv": "q1\td1\tyes\n"}, r"qrels\.tsv:1: the grade is not a whole number"),
    "empty corpus": ({"corpus.jsonl": ""}, r"corpus\.jsonl: none of its lines is a JSON object; it is empty"),
    "empty queries": ({"queries.jsonl": "\n\n"}, r"queries\.jsonl: none of its lines is a JSON object; it is empty"),
    "empty judgments": ({"qrels.tsv": "query-id\tcorpus-id\tscore\n"}, r"qrels\.tsv holds no judgments; it is empty"),
    "empty run": ({"run.trec": ""}, r"run\.trec holds no run; it is empty"),
    "something else as a run": ({"run.trec": '{"a": 1}\n'}, r"run\.trec holds no run; run rows .*: 1 \(run\.trec:1"),
    "UTF-16": ({"queries.jsonl": Q.encode("utf-16")}, r"queries\.jsonl is UTF-16; save it as UTF-8"),
    "no corpus": ({"corpus.jsonl": None}, r"has no corpus\.jsonl and no corpus\.jsonl\.gz"),
    "no judgments": ({"qrels.tsv": None}, r"has none of qrels-full\.tsv, .*; name the judgments with qrels"),
    "nothing in common": (
        {"qrels.tsv": "x\td1\t1\n"},
        r"small: no query has judgments and candidates; queries with no judgments, left out: 2 \(queries\.jsonl:1",
    ),
    "no candidate at all": ({"run.trec": "x Q0 d1 1 1 x\n"}, "small: no query has judgments and candidates"),
    "nothing relevant at all": (
        {"qrels.tsv": "q1\td1\t0\nq2\td1\t-1\n"},
        "no document of any query has a grade of at least 1, so there is nothing to find; the highest grade is 0",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_unusable_data_raise_an_error_that_says_what_and_where(
    make: Make, changes: dict[str, str | bytes | None], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(make(changes))


def test_broken_gzip_and_missing_files_are_named(make: Make, tmp_path: Path) -> None:
    folder = make()
    whole = make({"run.trec": None, "run.trec.gz": R}) / "run.trec.gz"
    (folder / "broken.gz").write_bytes(whole.read_bytes()[:-12])
    with pytest.raises(InputError, match=r"cannot read .*broken\.gz"):
        read(folder, run=folder / "broken.gz")
    with pytest.raises(InputError, match=r"cannot read .*none\.trec: No such file"):
        read(folder, run=folder / "none.trec")
    with pytest.raises(InputError, match="no such file or folder"):
        read(tmp_path / "nowhere")


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


GOOD = {"id": "q", "query": "x", "candidates": ["one", "two"], "relevant": ["0"]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"id": "b", "querry": "a slip", "candidates": []},
            (
                "lines without a query and a list of candidates, left out",
                "asked.jsonl:2: its keys: 'id', 'querry', 'candidates'",
            ),
        ),
        ({**GOOD, "id": "b", "relevant": []}, ("queries with no judgments, left out", "asked.jsonl:2: query 'b'")),
        ({**GOOD, "id": "b", "query": ""}, ("queries with a blank text, left out", "asked.jsonl:2: query 'b'")),
        ({**GOOD, "id": "b", "candidates": []}, ("queries without candidates, which still count", "query 'b'")),
        ({**GOOD, "id": 1.5}, ("lines whose id is neither a string nor a whole number, left out", "asked.jsonl:2")),
        (GOOD, ("query ids that occur twice (the last one counts)", "asked.jsonl:2: query 'q'")),
        (
            {**GOOD, "id": "b", "candidates": ["one", {"id": "0", "text": "again"}]},
            ("candidate ids that occur twice (the first one counts)", "asked.jsonl:2: candidates[1]: '0'"),
        ),
        (
            {**GOOD, "id": "b", "candidates": ["one", {"id": "1"}]},
            (
                "candidates that cannot be read, left out",
                "asked.jsonl:2: candidates[1]: candidate '1': text must be a string, got NoneType",
            ),
        ),
        (
            {**GOOD, "id": "b", "candidates": ["one", {"text": "x", "score": "high"}]},
            (
                "candidates that cannot be read, left out",
                "asked.jsonl:2: candidates[1]: candidate '1': score must be a number, got 'high'",
            ),
        ),
        (
            {**GOOD, "id": "b", "candidates": ["one", 5]},
            (
                "candidates that cannot be read, left out",
                "asked.jsonl:2: candidates[1]: a text or an object with a text is needed",
            ),
        ),
    ],
)
def test_each_trouble_of_a_file_of_queries_is_reported(tmp_path: Path, row: object, expected: tuple[str, str]) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text(lines(GOOD, row))
    [problem] = read(file).problems
    assert (problem.kind, problem.count, problem.examples) == (expected[0], 1, (expected[1],))


@pytest.mark.parametrize("relevant", ['{"0": 1.5}', '{"0": true}', '{"0": 1e999}', '{"0": "1"}', '"0"', "[null]"])
def test_relevance_that_is_no_grade_and_no_id_is_refused(tmp_path: Path, relevant: str) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text(f'{{"query": "x", "candidates": ["one"], "relevant": {relevant}}}\n')
    with pytest.raises(InputError, match=r"asked\.jsonl:1: "):
        read(file)


def test_more_candidates_than_the_depth_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text(lines({**GOOD, "candidates": ["a", "b", "c", "d"]}))
    judged = read(file, depth=3)
    assert [c.text for c in judged.queries[0].candidates] == ["a", "b", "c"]
    assert problems_of(judged) == [("candidates below the depth of 3, left out", 1, ("query 'q' has 4",))]


def test_records_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    file, qrels = tmp_path / "traces.jsonl", tmp_path / "judged.tsv"
    qrels.write_text("q\tb\t1\n")
    file.write_text(lines({"schema": "rag_rerank.record/1", "query": "x"}, GOOD | {"id": "q"}))
    judged = read(file, qrels=qrels)
    assert [(p.kind, p.count) for p in judged.problems] == [("records that cannot be read, left out", 1)]

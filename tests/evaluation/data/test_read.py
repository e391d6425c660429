"""Every format of judged data is read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rag_rerank import Candidate, build
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.evaluation.data.read import read
from rag_rerank.execution.protocols import CallStarted
from rag_rerank.records.build import record_of
from rag_rerank.records.record import digest

Make = Callable[..., Path]


def ids(judged: Judged) -> dict[str, list[str]]:
    return {query.id: [candidate.id for candidate in query.candidates] for query in judged.queries}


def test_a_folder_gives_its_queries_with_texts_first_stage_judgments_and_metadata(make: Make) -> None:
    judged = read(make())
    assert judged.name == "small"
    assert judged.sources == ("candidates: run.trec", "judgments: qrels.tsv")
    assert judged.problems == ()
    assert judged.queries == (
        JudgedQuery(
            id="q1",
            text="python pet care",
            candidates=(
                Candidate("d2", "Asynchronous Python with tasks.", 3.5),
                Candidate("d1", "Ball pythons A python needs a warm hide.", 2.5, {"lang": "en"}),
            ),
            grades={"d1": 2, "d2": 0},
            metadata={"kind": "pets", "lang": "en"},
        ),
        JudgedQuery(
            id="q2",
            text="python tasks",
            candidates=(
                Candidate("d2", "Asynchronous Python with tasks.", 1.5),
                Candidate("d3", "Geckos eat crickets.", 0.5, {"year": 2020}),
            ),
            grades={"d2": 1},
        ),
    )


def test_gzip_windows_lines_and_byte_order_marks_change_nothing(make: Make) -> None:
    plain = read(make())
    folder = make()
    for name in ("corpus.jsonl", "queries.jsonl", "qrels.tsv", "run.trec"):
        data = b"\xef\xbb\xbf" + (folder / name).read_bytes().replace(b"\n", b"\r\n") + b"\r\n"
        (folder / name).unlink()
        target = folder / (f"{name}.gz" if name != "qrels.tsv" else name)  # gzip is known by its bytes
        target.write_bytes(gzip.compress(data))
    other = read(folder)
    assert (other.queries, other.fingerprint, other.problems) == (plain.queries, plain.fingerprint, ())


@pytest.mark.parametrize(
    "qrels",
    [
        "q1 0 d1 2\nq1 0 d2 0\nq2 0 d2 1\n",
        "q1\t0\td1\t2\nq1\t0\td2\t0\nq2\t0\td2\t1\n",
        "q1\td1\t2\nq1\td2\t0\nq2\td2\t1\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0.0\nq2\td2\t1.0\n",
        "q1   0  d1 2 \nq1 0 d2 0\n\nq2 0 d2 1",
        "\n\nquery\tdocument\tRelevance\nq1\t0 d1 2\nq1 0 d2 0\nq2\t0 d2 1",
    ],
)
def test_judgments_may_be_trec_or_beir_with_or_without_a_header(make: Make, tmp_path: Path, qrels: str) -> None:
    expected = read(make()).queries
    file = tmp_path / "given.txt"
    file.write_text(qrels)
    assert read(make(), qrels=file).queries == expected
    assert read(make({"qrels.tsv": qrels})).queries == expected


def test_a_full_table_of_judgments_comes_before_the_others_and_the_test_split_before_the_rest(make: Make) -> None:
    test = make({"qrels/test.tsv": "q1\td1\t1\n"})
    assert read(test).sources[1] == "judgments: test.tsv"
    full = make({"qrels-full.tsv": "q1\td1\t1\nq1\tfar\t3\n"})
    judged = read(full)
    assert judged.sources[1] == "judgments: qrels-full.tsv"
    assert judged.queries[0].grades == {"d1": 1, "far": 3}


def test_the_bm25_run_comes_before_others_and_several_must_be_chosen_from(make: Make) -> None:
    row = "q1 Q0 d3 1 9 x\n"
    assert read(make({"run.trec": None, "other.trec.gz": row})).sources[0] == "candidates: other.trec.gz"
    folder = make({"run.trec": None, "another.trec": row})
    with pytest.raises(InputError, match=r"has another\.trec, other\.trec\.gz; choose one with run"):
        read(folder)
    assert read(folder, run=folder / "another.trec").sources[0] == "candidates: another.trec"
    assert read(make({"bm25-top100.trec.gz": row, "run.trec": None})).sources[0] == "candidates: bm25-top100.trec.gz"


def test_without_a_run_the_first_stage_is_bm25_over_the_corpus_and_says_so(make: Make) -> None:
    judged = read(make({"run.trec": None}))
    assert judged.sources[0] == "candidates: BM25 over the corpus, made here (no stemming, no stop list)"
    assert ids(judged) == {"q1": ["d2", "d1"], "q2": ["d2", "d1"]}  # d2 is shorter; d3 shares no word
    for query in judged.queries:
        texts = {"d1": "Ball pythons A python needs a warm hide.", "d2": "Asynchronous Python with tasks."}
        everything = [*texts.values(), "Geckos eat crickets."]
        scores = build("lexical").score(query.text, everything).values  # type: ignore[attr-defined]
        assert [c.score for c in query.candidates] == sorted((s for s in scores if s > 0), reverse=True)
    assert ids(read(make({"run.trec": None}), depth=1)) == {"q1": ["d2"], "q2": ["d2"]}


def test_the_order_is_that_of_the_scores_then_of_the_ranks_then_of_the_file(make: Make) -> None:
    run = "q1 Q0 d3 3 1.0 x\nq1 Q0 d2 2 1.0 x\nq1 Q0 d1 1 7 x\nq2 Q0 d3 0 1 x\nq2 Q0 d1 0 1 x\n"
    judged = read(make({"run.trec": run}))
    assert ids(judged) == {"q1": ["d1", "d2", "d3"], "q2": ["d3", "d1"]}
    assert judged.problems == ()


def test_only_the_first_queries_and_the_first_candidates_are_read_where_that_is_asked(make: Make) -> None:
    judged = read(make(), queries=1, depth=1)
    assert ids(judged) == {"q1": ["d2"]}
    assert [(p.kind, p.count, p.examples) for p in judged.problems] == [
        ("run rows below the depth of 1, left out", 1, ("run.trec: query 'q1' has 2",))
    ]


def test_a_file_of_queries_has_candidates_as_texts_or_objects_and_relevance_as_a_list_or_grades(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    rows = [
        {"query": "plain", "candidates": ["one", "two"], "relevant": ["1"], "lang": "de"},
        {
            "id": 7,
            "query": "graded",
            "candidates": [{"id": 3, "text": "x", "score": 2, "metadata": {"a": 1}, "b": 2}, {"id": "e", "text": "y"}],
            "relevant": {"3": 2, "e": 0, "gone": 1},
            "metadata": {"kind": "k"},
        },
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = read(file)
    assert (judged.name, judged.sources) == ("asked", ("candidates: asked.jsonl", "judgments: asked.jsonl"))
    assert judged.queries == (
        JudgedQuery(
            id=digest("plain"),
            text="plain",
            candidates=(Candidate("0", "one"), Candidate("1", "two")),
            grades={"1": 1},
            metadata={"lang": "de"},
        ),
        JudgedQuery(
            id="7",
            text="graded",
            candidates=(Candidate("3", "x", 2.0, {"b": 2, "a": 1}), Candidate("e", "y")),
            grades={"3": 2, "e": 0, "gone": 1},
            metadata={"kind": "k"},
        ),
    )
    assert read(file, relevant=2).queries[0].grades == {"1": 2}  # whoever is listed is relevant


def test_judgments_that_are_given_replace_those_of_the_file(tmp_path: Path) -> None:
    file, qrels = tmp_path / "asked.jsonl", tmp_path / "given.qrels"
    file.write_text(json.dumps({"id": "q", "query": "x", "candidates": ["one", "two"], "relevant": ["1"]}))
    qrels.write_text("q 0 0 3\nelse 0 0 1\n")
    judged = read(file, qrels=qrels)
    assert judged.queries[0].grades == {"0": 3}
    assert judged.sources == ("candidates: asked.jsonl", "judgments: given.qrels")
    assert [(p.kind, p.examples) for p in judged.problems] == [
        ("queries of given.qrels that are unknown, left out", ("given.qrels:2: query 'else'",))
    ]


def record_line(query: str, texts: bool = True, **tags: str) -> str:
    reranker = build("lexical")
    candidates = (Candidate("a", "nothing here", 2.0, {"lang": "en"}), Candidate("b", f"about {query}", 1.0))
    call = CallStarted(reranker=reranker, query=query, candidates=candidates, top_k=1, tags=tags)
    ranking = reranker.rerank(query, candidates)
    record = record_of(call, ranking, None, id="r", time="2026-01-01T00:00:00Z", seconds=0.1, texts=texts)
    return json.dumps(record.to_dict()) + "\n"


def test_records_of_production_are_read_in_the_first_stages_order_and_judged_by_tag_or_hash(tmp_path: Path) -> None:
    file, qrels = tmp_path / "traces.jsonl", tmp_path / "judged.tsv"
    file.write_text(
        record_line("snakes", query_id="q1", tenant="t") + record_line("lizards") + record_line("x", texts=False)
    )
    qrels.write_text(f"q1\tb\t1\n{digest('lizards')}\ta\t2\n")
    judged = read(file, qrels=qrels)
    assert judged.queries == (
        JudgedQuery(
            id="q1",
            text="snakes",
            candidates=(Candidate("a", "nothing here", 2.0, {"lang": "en"}), Candidate("b", "about snakes", 1.0)),
            grades={"b": 1},
            metadata={"tenant": "t"},
        ),
        JudgedQuery(
            id=digest("lizards"),
            text="lizards",
            candidates=(Candidate("a", "nothing here", 2.0, {"lang": "en"}), Candidate("b", "about lizards", 1.0)),
            grades={"a": 2},
        ),
    )
    assert [(p.kind, p.count, p.examples) for p in judged.problems] == [
        ("records without texts, left out; they are recorded with texts=True", 1, ("traces.jsonl:3",))
    ]


def test_records_need_judgments_and_a_layout_that_is_known(tmp_path: Path) -> None:
    file, qrels = tmp_path / "traces.jsonl", tmp_path / "judged.tsv"
    qrels.write_text("q1\tb\t1\n")
    file.write_text(record_line("snakes", query_id="q1"))
    with pytest.raises(ConfigError, match=r"^qrels: .* holds records, which have no judgments"):
        read(file)
    file.write_text('{"schema": "rag_rerank.record/99"}\n')
    with pytest.raises(InputError, match=r"traces\.jsonl:1: the layout 'rag_rerank\.record/99' is not"):
        read(file, qrels=qrels)


@pytest.mark.parametrize(
    ("options", "path"),
    [({"depth": 0}, "depth"), ({"queries": True}, "queries"), ({"relevant": 0}, "relevant"), ({"depth": 1.5}, "depth")],
)
def test_arguments_without_a_meaning_are_refused(make: Make, options: dict[str, int], path: str) -> None:
    with pytest.raises(ConfigError, match=f"^{path}: must be a whole number of at least 1"):
        read(make(), **options)  # type: ignore[arg-type]


def test_a_run_beside_a_file_with_candidates_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text(json.dumps({"query": "x", "candidates": ["one"], "relevant": ["0"]}))
    with pytest.raises(ConfigError, match=r"^run: .* holds its candidates"):
        read(file, run="some.trec")

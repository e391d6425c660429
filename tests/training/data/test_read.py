"""Pairs, judgments and feedback become examples, and what is left out is counted."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rag_rerank import Candidate, build
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.evaluation import Judged, JudgedQuery
from rag_rerank.execution.protocols import CallStarted
from rag_rerank.records.build import record_of
from rag_rerank.records.record import digest
from rag_rerank.training.data.examples import Example, Examples, Passage
from rag_rerank.training.data.read import read_examples

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_rows(*rows: Any, name: str = "pairs.jsonl") -> Path:
        lines = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
        return file

    return write_rows


def passages(result: Examples) -> list[tuple[str, float | None, str]]:
    return [(passage.text, passage.grade, passage.origin) for e in result.examples for passage in e.passages]


def counts(result: Examples) -> dict[str, int]:
    return {problem.kind: problem.count for problem in result.problems}


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.gz"])
def test_a_pair_becomes_an_example_with_its_title_before_the_positive(write: Write, name: str) -> None:
    result = read_examples(write({"query": "warm?", "title": "Pythons", "positive": "They need heat."}, name=name))
    whole = "Pythons They need heat."
    expected = Passage(text=whole, id=digest(whole), grade=1.0, origin="positive")
    assert result.examples == (Example(query="warm?", passages=(expected,), source="pairs"),)
    assert result.problems == ()


def test_lines_of_one_query_make_one_example_with_all_positives_and_negatives(write: Write) -> None:
    result = read_examples(
        write(
            {"query": "q", "positive": ["a", "b"], "negatives": ["x"]},
            {"query": "other", "positive": "c"},
            {"query": "q", "positive": "d", "negatives": ["y", "b"]},
            {"query": "q", "positive": "a"},
        )
    )
    assert [e.query for e in result.examples] == ["q", "other"]
    assert [(p.text, p.grade) for p in result.examples[0].passages] == [
        ("a", 1.0),
        ("b", 1.0),
        ("x", 0.0),
        ("d", 1.0),
        ("y", 0.0),
    ]
    assert counts(result) == {
        "passages with two grades for one query (the higher one counts)": 1,
        "repeated passages of one query (the first one counts)": 1,
    }


def test_a_higher_grade_that_comes_later_counts(write: Write) -> None:
    result = read_examples(write({"query": "q", "positive": "a", "negatives": ["b"]}, {"query": "q", "positive": "b"}))
    assert passages(result) == [("a", 1.0, "positive"), ("b", 1.0, "positive")]


def test_source_and_licence_of_a_line_precede_the_arguments(write: Write) -> None:
    file = write(
        {"query": "1", "positive": "a", "source": "org/docs@abc:guide/one.md", "licence": "CC BY 4.0"},
        {"query": "2", "positive": "b", "source": "org/docs@abc:guide/two.md", "licence": "CC BY 4.0"},
        {"query": "3", "positive": "c", "source": "https://example.org/page"},
        {"query": "4", "positive": "d"},
    )
    result = read_examples(file, name="mine", licence="MIT")
    assert [e.source for e in result.examples] == ["org/docs@abc", "org/docs@abc", "https://example.org/page", "mine"]
    assert [(s.name, s.licence, s.path, s.queries, s.pairs) for s in result.sources] == [
        ("org/docs@abc", "CC BY 4.0", str(file), 2, 2),
        ("https://example.org/page", "MIT", str(file), 1, 1),
        ("mine", "MIT", str(file), 1, 1),
    ]


def test_several_licences_of_one_source_are_several_sources(write: Write) -> None:
    result = read_examples(
        write(
            {"query": "1", "positive": "a", "licence": "CC BY 4.0"},
            {"query": "2", "positive": "b", "licence": "CC BY-SA 4.0"},
            {"query": "3", "positive": "c"},
        )
    )
    assert [(s.name, s.licence) for s in result.sources] == [
        ("pairs (CC BY 4.0)", "CC BY 4.0"),
        ("pairs (CC BY-SA 4.0)", "CC BY-SA 4.0"),
        ("pairs (no licence stated)", None),
    ]
    assert [e.source for e in result.examples] == [s.name for s in result.sources]


def test_the_hash_of_a_source_is_of_its_texts_and_not_of_their_order(write: Write) -> None:
    rows = [{"query": "1", "positive": "a"}, {"query": "2", "positive": "b"}]
    one, other = read_examples(write(*rows)), read_examples(write(*reversed(rows), name="again.jsonl"))
    third = read_examples(write(rows[0], {"query": "2", "positive": "B"}))
    assert one.sources[0].sha256 == other.sources[0].sha256 != third.sources[0].sha256


def test_broken_lines_and_blank_texts_are_left_out_and_counted_with_their_places(write: Write) -> None:
    result = read_examples(
        write(
            {"query": "q"},
            "{broken",
            {"query": "q", "positive": "a"},
            {"query": "q", "positive": 7},
            {"query": "q", "positive": []},
            {"query": "q", "positive": "b", "negatives": [None]},
            {"query": "q", "positive": "b", "licence": ["CC"]},
            {"query": " ", "positive": "c"},
            {"query": "q", "positive": [" \u200b", "d"], "title": "Title"},
        )
    )
    assert passages(result) == [("a", 1.0, "positive"), ("Title d", 1.0, "positive")]
    assert {problem.kind: problem.examples[0].split(": ")[0] for problem in result.problems} == {
        "lines that are not a query with positives and negatives, left out": "pairs.jsonl:1",
        "lines that are not a JSON object, left out": "pairs.jsonl:2",
        "passages of a blank query, left out": "pairs.jsonl:8",
        "blank passages, left out": "pairs.jsonl:9",
    }
    assert counts(result)["lines that are not a query with positives and negatives, left out"] == 5


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "none of its lines is a JSON object; it is empty"),
        (("not json",), "pairs.jsonl: none of its lines is a JSON object"),
        (({"query": "q", "positive": " "},), "no query has a relevant passage.*blank passages, left out: 1"),
    ],
)
def test_data_with_nothing_to_learn_is_refused_with_the_reason(
    write: Write, rows: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_examples(write(*rows))


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read_examples(tmp_path / "absent.jsonl")


@pytest.fixture
def folder(write: Write, tmp_path: Path) -> Path:
    write(
        {"_id": "d1", "title": "Snakes", "text": "warm"},
        {"_id": "d2", "text": "cold"},
        {"_id": "d3", "text": "far from every query's words"},
        name="small/corpus.jsonl",
    )
    write({"_id": "q1", "text": "snakes"}, {"_id": "q2", "text": "ice"}, name="small/queries.jsonl")
    write("q1\td1\t2", "q1\td3\t1", "q1\td2\t0", "q2\td2\t1", "q2\tgone\t1", name="small/qrels.tsv")
    return tmp_path / "small"


def test_of_a_folder_every_judged_document_is_read_though_no_first_stage_finds_it(folder: Path) -> None:
    result = read_examples(folder, licence="CC BY 4.0")
    assert [(e.query, [(p.id, p.text, p.grade, p.origin) for p in e.passages]) for e in result.examples] == [
        (
            "snakes",
            [
                ("d1", "Snakes warm", 2.0, "judged"),
                ("d3", "far from every query's words", 1.0, "judged"),
                ("d2", "cold", 0.0, "judged"),
            ],
        ),
        ("ice", [("d2", "cold", 1.0, "judged")]),
    ]
    [source] = result.sources
    assert (source.name, source.licence, source.path, source.queries, source.pairs) == (
        "small",
        "CC BY 4.0",
        str(folder),
        2,
        4,
    )


def test_judged_ids_that_are_not_in_the_corpus_are_counted(folder: Path) -> None:
    [problem] = read_examples(folder).problems
    assert (problem.kind, problem.count) == ("judged documents without a text among the candidates, left out", 1)
    assert problem.examples == ("small: query 'q2', document 'gone'",)


def test_named_judgments_precede_those_for_training_which_precede_the_others(folder: Path, write: Write) -> None:
    write("q2\td1\t1", name="small/qrels/train.tsv")
    assert [e.query for e in read_examples(folder).examples] == ["ice"]
    other = write("q1\td2\t1", name="other.tsv")
    assert [e.query for e in read_examples(folder, qrels=other).examples] == ["snakes"]


def test_one_class_of_judgments_that_is_not_relevant_teaches_nothing(folder: Path, write: Write) -> None:
    other = write("q1\td2\t0", "q2\td1\t0", name="other.tsv")
    with pytest.raises(InputError, match=r"small: no query has a relevant passage.*left out: 2"):
        read_examples(folder, qrels=other)


def test_lines_with_candidates_give_the_judged_ones(write: Write) -> None:
    row = {"query": "q", "candidates": [{"id": "a", "text": "A"}, "B", {"id": "c", "text": "C"}], "relevant": ["c"]}
    graded = {**row, "query": "graded", "relevant": {"a": 0, "1": 2}}
    result = read_examples(write(row, graded, name="lines.jsonl"))
    assert passages(result) == [("C", 1.0, "judged"), ("A", 0.0, "judged"), ("B", 2.0, "judged")]
    assert result.sources[0].name == "lines"


def recorded(query: str, *texts: str, **tags: Any) -> Any:
    candidates = tuple(Candidate(f"d{i}", text) for i, text in enumerate(texts))
    call = CallStarted(reranker=build("lexical"), query=query, candidates=candidates, tags=tags)
    ranking = call.reranker.rerank(query, candidates)
    return record_of(call, ranking, None, id="r", time="t", seconds=0.1, texts=True).to_dict()


def test_records_with_judgments_are_feedback(write: Write) -> None:
    file = write(recorded("warm snakes", "warm", "cold", query_id="42"), recorded("ice", "snow", "sun"))
    thumbs = write("42 0 d0 1", "42 0 d1 0", f"{digest('ice')} 0 d0 1", name="thumbs.qrels")
    assert passages(read_examples(file, qrels=thumbs)) == [
        ("warm", 1.0, "feedback"),
        ("cold", 0.0, "feedback"),
        ("snow", 1.0, "feedback"),
    ]
    with pytest.raises(ConfigError, match=r"^qrels: .* holds records"):
        read_examples(file)


def test_a_judged_is_read_as_it_is() -> None:
    query = JudgedQuery(id="q", text="warm?", candidates=(Candidate("a", "A"), Candidate("b", "B")), grades={"b": 3})
    result = read_examples(Judged(name="own", queries=(query,)))
    assert passages(result) == [("B", 3.0, "judged")]
    assert (result.sources[0].name, result.sources[0].path) == ("own", "own")


def test_judgments_beside_data_that_have_their_own_are_refused(write: Write) -> None:
    other = write("q 0 d 1", name="other.qrels")
    with pytest.raises(ConfigError, match=r"^qrels: .*pairs"):
        read_examples(write({"query": "q", "positive": "a"}), qrels=other)
    with pytest.raises(ConfigError, match=r"^qrels: a Judged has its own judgments"):
        read_examples(Judged(name="own", queries=()), qrels=other)


def test_no_message_holds_a_text(write: Write) -> None:
    result = read_examples(
        write(
            {"query": "secret question", "positive": "a secret"}, {"query": "secret question", "positive": "a secret"}
        )
    )
    assert "secret" not in repr(result.problems)

"""Queries for a teacher: read from a user's file, or made from passages by named rules."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from rag_rerank.errors import InputError
from rag_rerank.training.distillation.corpus import CorpusDocument, read_corpus, read_questions
from rag_rerank.training.distillation.pseudo_queries import MAX_CHARACTERS, RULES, make_pseudo_queries, own_queries


def document(body: str, *, title: str = "", id: str = "d") -> CorpusDocument:
    return CorpusDocument(id=id, title=title, body=body)


def rule_and_text(*documents: CorpusDocument) -> set[tuple[str, str]]:
    return {(query.rule, query.text) for query in make_pseudo_queries(documents).queries}


def test_a_title_is_a_query() -> None:
    assert ("title", "Feeding ball pythons") in rule_and_text(document("x.", title="Feeding ball pythons"))


def test_every_markdown_heading_is_a_query_and_no_part_of_the_first_sentence() -> None:
    body = (
        "# Keeping snakes ##\n\nHow warm it is\n--------------\nA python needs a warm hide. It is shy.\n"
        "### Water and food\nDaily."
    )
    assert rule_and_text(document(body)) == {
        ("heading", "Keeping snakes"),
        ("heading", "How warm it is"),
        ("heading", "Water and food"),
        ("first sentence", "A python needs a warm hide."),
    }


def test_questions_in_the_text_are_queries() -> None:
    body = "Snakes are shy. Do they bite people? Seldom. 蛇は何を食べますか？ねずみです。"
    assert {text for rule, text in rule_and_text(document(body)) if rule == "question"} == {
        "Do they bite people?",
        "蛇は何を食べますか？",
    }


def test_a_first_sentence_that_asks_is_a_question_once() -> None:
    assert rule_and_text(document("Do pythons bite people? Seldom, and never hard.")) == {
        ("question", "Do pythons bite people?")
    }


def test_a_first_sentence_that_is_the_whole_text_is_no_query() -> None:
    assert rule_and_text(document("A python needs a warm hide.")) == set()


def test_what_is_too_short_or_too_long_is_left_out_and_counted() -> None:
    result = make_pseudo_queries([document("word " * 60 + ". More.", title="Snakes")])
    assert result.queries == ()
    assert result.left_out == {"shorter than 8 characters": 1, f"longer than {MAX_CHARACTERS} characters": 1}


def test_the_same_words_are_asked_once_for_the_first_passage() -> None:
    result = make_pseudo_queries(
        [document("", title="Ball  Pythons", id="a"), document("", title="Ball pythons!", id="b")]
    )
    assert [(query.text, query.document) for query in result.queries] == [("Ball Pythons", "a")]
    assert result.left_out == {"asked already": 1}


def test_counts_tell_what_each_rule_gave() -> None:
    result = make_pseudo_queries(
        [document("A python is shy. Does it bite?", title=f"Python number {i}", id=str(i)) for i in range(3)]
    )
    assert dict(result.counts) == {"title": 3, "heading": 0, "question": 1, "first sentence": 1}
    assert set(result.counts) == set(RULES)


def test_the_order_is_the_same_on_every_run_and_another_with_another_seed() -> None:
    documents = [document("", title=f"Title number {i}", id=str(i)) for i in range(20)]
    first = [query.text for query in make_pseudo_queries(documents).queries]
    assert first == [query.text for query in make_pseudo_queries(documents[::-1]).queries]
    assert first != [query.text for query in make_pseudo_queries(documents, seed=1).queries]
    assert sorted(first) == sorted(query.text for query in own_queries(first).queries)


def test_a_corpus_is_read_from_json_lines_a_beir_folder_and_plain_lines(tmp_path: Path) -> None:
    rows = [
        {"_id": "1", "title": "Ball pythons", "text": "Shy snakes."},
        {"id": 2, "text": "Geckos."},
        {"text": "Newts."},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "ours.jsonl").write_text(lines)
    (tmp_path / "ours.txt").write_text("Ball pythons Shy snakes.\n\nGeckos.\nNewts.\n")
    texts = ["Ball pythons Shy snakes.", "Geckos.", "Newts."]
    for source in (tmp_path, tmp_path / "ours.jsonl", tmp_path / "ours.txt"):
        corpus = read_corpus(source)
        assert [result.text for result in corpus.documents] == texts
        assert corpus.name == source.name.split(".")[0]
        assert len(corpus.sha256) == 64
    read = read_corpus(tmp_path / "ours.jsonl")
    assert [result.id for result in read.documents[:2]] == ["1", "2"]
    assert len(read.documents[2].id) == 64


def test_what_is_no_passage_is_left_out_and_told(tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    rows = [
        {"id": "a", "text": "One."},
        {"id": "b", "text": "One."},
        {"id": "a", "text": "Two."},
        {"text": " "},
        {"id": "c"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no JSON\n")
    corpus = read_corpus(file)
    assert [result.text for result in corpus.documents] == ["One."]
    assert {problem.kind.split(",")[0]: problem.count for problem in corpus.problems} == {
        "passages with a repeated text": 1,
        "passages with a repeated id": 1,
        "blank passages": 1,
        "lines without a text": 1,
        "lines that are not a JSON object": 1,
    }


def test_own_queries_are_read_once_each(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("what do snakes eat\n\nWhat do snakes eat?\nare geckos shy\n")
    (tmp_path / "q.jsonl").write_text(
        '{"query": "what do snakes eat"}\n{"_id": "7", "text": "are geckos shy"}\n{"id": 1}\n'
    )
    for name, problem in (("q.txt", "repeated queries"), ("q.jsonl", "lines without a query")):
        texts, problems = read_questions(tmp_path / name)
        assert texts == ("what do snakes eat", "are geckos shy")
        assert [result.kind.split(",")[0] for result in problems] == [problem]


@pytest.mark.parametrize("content", ["", "\n \n", '{"id": 1}\n'])
def test_files_that_hold_nothing_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "empty.jsonl"
    file.write_text(content)
    for read in (read_corpus, read_questions):
        with pytest.raises(InputError, match="empty"):
            read(file)


def test_a_missing_file_and_a_folder_without_a_corpus_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_corpus(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match=r"corpus\.jsonl"):
        read_corpus(tmp_path)

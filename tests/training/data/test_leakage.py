"""Text of an evaluation in training text is found, reported without its words, and removed."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.training.examples import example, examples, text

from rag_rerank import Candidate
from rag_rerank.errors import InputError
from rag_rerank.evaluation import Judged, JudgedQuery
from rag_rerank.records.record import digest
from rag_rerank.training.data.collection_texts import CollectionTexts, read_texts
from rag_rerank.training.data.leakage import Leak, find_leaks

QUERY = "who keeps a ball python warm at night"
DOCUMENT = text(60, "document")
SENTENCE = "A terrarium for a ball python needs a basking spot of about 32 degrees."


def evaluation(*documents: str, queries: tuple[str, ...] = (QUERY,), name: str = "held") -> CollectionTexts:
    return CollectionTexts(
        name=name,
        queries={f"q{i}": query for i, query in enumerate(queries)},
        documents={f"d{i}": document for i, document in enumerate(documents)},
    )


def leaks_of(query: str, passage: str, *documents: str) -> list[tuple[str, str, str, str]]:
    leaks = find_leaks(examples(example(query, passage)), [evaluation(*documents)]).leaks
    return [(leak.part, leak.of, leak.id, leak.kind) for leak in leaks]


def test_a_text_with_the_same_words_is_found_whatever_their_case_and_punctuation() -> None:
    assert leaks_of("Who keeps a (ball) python warm, at night?", "kept") == [("query", "query", "q0", "exact")]
    assert leaks_of("other", DOCUMENT.upper().replace(" ", ", "), "first", DOCUMENT) == [
        ("passage", "document", "d1", "exact")
    ]


def test_a_text_with_a_word_changed_is_near() -> None:
    words = DOCUMENT.split()
    words[30] = "changed"
    [leak] = find_leaks(examples(example("other", " ".join(words))), [evaluation(DOCUMENT)]).leaks
    assert leak == Leak(
        sha256=digest(" ".join(words)),
        part="passage",
        collection="held",
        of="document",
        id="d0",
        kind="near",
        share=round(55 / 58, 3),
    )


def test_a_sentence_is_found_in_a_longer_text_in_both_directions() -> None:
    longer = f"{text(50, 1)} {SENTENCE} {text(50, 2)}"
    assert leaks_of("other", longer, SENTENCE) == [("passage", "document", "d0", "near")]
    assert leaks_of("other", SENTENCE, longer) == [("passage", "document", "d0", "near")]


def test_a_query_of_an_evaluation_is_found_in_a_passage() -> None:
    assert leaks_of("other", f"{text(50, 1)} {QUERY} {text(50, 2)}") == [("passage", "query", "q0", "near")]


def test_queries_are_near_with_nearly_the_same_words_in_any_order() -> None:
    assert leaks_of("at night who keeps a ball python warm?", "kept") == [("query", "query", "q0", "near")]
    assert leaks_of("who keeps a ball python cool all night", "kept") == []


def test_texts_that_were_cut_at_other_places_share_a_run_of_thirteen_words() -> None:
    parts = text(120, "whole").split()
    assert leaks_of("other", " ".join(parts[:70]), " ".join(parts[57:])) == [("passage", "document", "d0", "run")]
    assert leaks_of("other", " ".join(parts[:69]), " ".join(parts[57:])) == []


def test_short_texts_count_only_where_they_are_equal_and_of_the_same_kind() -> None:
    heading = "Security in Amazon"
    assert leaks_of(heading, "kept", f"{text(40, 1)} {heading} {text(40, 2)}", heading) == []
    assert leaks_of("other", heading, heading.upper()) == [("passage", "document", "d0", "exact")]


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 29))
def test_a_planted_text_is_found_among_unrelated_text_and_nothing_else(seed: int, at: int) -> None:
    documents = [text(40, seed, "held", i) for i in range(30)]
    trained = [text(40, seed, "trained", i) for i in range(30)]
    planted = documents[at].split()
    trained[at] = " ".join(["before", *planted[:20], "changed", *planted[20:], "behind"])
    training = examples(*(example(f"query {text(8, seed, i)}", passage) for i, passage in enumerate(trained)))
    leakage = find_leaks(training, [evaluation(*documents)])
    assert [(leak.sha256, leak.id, leak.kind) for leak in leakage.leaks] == [
        (digest(trained[at]), f"d{at}", "near"),
    ]
    assert leakage.without(training).examples == (*training.examples[:at], *training.examples[at + 1 :])


def test_every_text_that_overlaps_has_a_leak_though_not_every_pair_has() -> None:
    trained = [f"{SENTENCE} {text(20, i)}" for i in range(4)]
    documents = [f"{text(20, 'held', i)} {SENTENCE}" for i in range(3)]
    training = examples(*(example(f"query {i}", passage) for i, passage in enumerate(trained)))
    leaks = find_leaks(training, [evaluation(*documents)]).leaks
    assert {leak.sha256 for leak in leaks} == set(map(digest, trained))
    assert {leak.id for leak in leaks} == {"d0", "d1", "d2"}


def test_an_example_is_removed_with_its_query_or_its_last_positive_and_a_passage_alone() -> None:
    training = examples(
        example(QUERY, "kept words"),
        example("one", DOCUMENT, "another positive"),
        example("two", DOCUMENT, others=("a negative",)),
        example("three", "a positive", others=(DOCUMENT,)),
        example("four", "clean"),
    )
    clean = find_leaks(training, [evaluation(DOCUMENT)]).without(training)
    assert [(e.query, [p.text for p in e.passages]) for e in clean.examples] == [
        ("one", ["another positive"]),
        ("three", ["a positive"]),
        ("four", ["clean"]),
    ]
    assert [(problem.kind, problem.count) for problem in clean.problems] == [
        ("examples with text of held, left out", 2),
        ("passages with text of held, left out", 2),
    ]


def test_with_one_corpus_for_both_only_queries_of_the_evaluation_leak() -> None:
    training = examples(example(QUERY, "kept"), example("one", DOCUMENT), example("two", f"{QUERY} {DOCUMENT}"))
    leakage = find_leaks(training, [evaluation(DOCUMENT)])
    assert [e.query for e in leakage.without(training, shared_corpus=True).examples] == ["one", "two"]
    assert leakage.without(training).examples == ()


def test_the_same_text_is_removed_from_other_examples_too() -> None:
    leakage = find_leaks(examples(example("one", DOCUMENT)), [evaluation(DOCUMENT)])
    mined = examples(example("two", "clean", others=(DOCUMENT,)))
    assert [len(e.passages) for e in leakage.without(mined).examples] == [1]


def test_the_contamination_list_counts_by_collection_and_kind_and_holds_no_text() -> None:
    training = examples(example(QUERY, DOCUMENT), example("one", f"{SENTENCE} {text(30, 1)}"))
    evaluated = evaluation(DOCUMENT, SENTENCE, "clean")
    first, second = find_leaks(training, [evaluated, evaluation("other", queries=(), name="clean")]).contamination()
    assert first == {
        "collection": "held",
        "fingerprint": evaluated.fingerprint,
        "left out": "queries and passages",
        "searched": {"queries": 1, "documents": 3},
        "queries": {"exact": 1, "near": 0, "run": 0},
        "documents": {"exact": 1, "near": 1, "run": 0},
        "training": {
            "queries": {"exact": 1, "near": 0, "run": 0},
            "passages": {"exact": 1, "near": 1, "run": 0},
        },
        "first": first["first"],
    }
    assert first["first"][0] == {
        "training": digest(QUERY),
        "part": "query",
        "query": "q0",
        "kind": "exact",
        "share": 1.0,
    }
    rows = find_leaks(training, [evaluated]).contamination(shared_corpus=True)
    assert [row["left out"] for row in rows] == ["queries"]
    assert second["documents"] == {"exact": 0, "near": 0, "run": 0}
    as_json = json.dumps([first, second])
    assert not any(whole in as_json for whole in (QUERY, DOCUMENT, SENTENCE))


def test_of_a_folder_the_whole_corpus_and_all_queries_are_searched(tmp_path: Path) -> None:
    rows = [{"_id": "d1", "title": "Snakes", "text": SENTENCE}, {"_id": "d2", "text": "never judged"}]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "never judged either"}) + "\n")
    assert read_texts(tmp_path) == CollectionTexts(
        name=tmp_path.name,
        queries={"q1": "never judged either"},
        documents={"d1": f"Snakes {SENTENCE}", "d2": "never judged"},
    )
    [leak] = find_leaks(examples(example("other", f"Once more. {SENTENCE}")), [tmp_path]).leaks
    assert (leak.collection, leak.id, leak.kind) == (tmp_path.name, "d1", "near")


def test_candidates_with_one_id_and_two_texts_are_both_searched() -> None:
    queries = [
        JudgedQuery(id=f"q{i}", text=f"query {i}", candidates=(Candidate("0", t),), grades={"0": 1})
        for i, t in enumerate(("one text", "another text"))
    ]
    judged = Judged(name="lines", queries=tuple(queries))
    assert read_texts(judged).documents == {"0": "one text", "q1/0": "another text"}


def test_two_collections_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two collections are called 'held'"):
        find_leaks(examples(example("q", "p")), [evaluation("a"), evaluation("b")])


def test_nothing_to_compare_with_finds_nothing() -> None:
    assert find_leaks(examples(example("q", "p")), []).leaks == ()
    assert find_leaks(examples(), [evaluation(DOCUMENT)]).leaks == ()
    assert leaks_of("?!", "...", "!!!") == []

"""The option ``text``: which metadata the reranker reads; what is returned and packed stays the document's own text."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from rag_rerank import Candidate, ConfigError, Context, Ranking, Windows, build
from rag_rerank.testing import ScriptedReranker

from langchain_rag_rerank import RagRerank, RagRerankRetriever

QUERY = "how deep is Lake Garda?"


def read_by(document: Document, text: Any) -> str:
    """Return what the reranker reads of a document; an empty text if it is not sent."""
    reranker = ScriptedReranker()
    RagRerank(reranker, text=text).compress_documents([document], QUERY)
    return reranker.calls[0][1][0] if reranker.calls and reranker.calls[0][1] else ""


def test_metadata_are_read_and_the_document_comes_back_as_it_was() -> None:
    documents = [
        Document("It is 8,611 metres high.", id="k2", metadata={"title": "K2", "page": 1}),
        Document("It is 346 metres deep.", id="garda", metadata={"title": "Lake Garda", "page": 2}),
    ]
    before = copy.deepcopy(documents)
    for text in ("{title}\n{page_content}", ["title"], ("title", "page_content")):
        ranked = RagRerank("lexical", text=text, score_key=None).compress_documents(documents, "Garda")
        assert ranked == [documents[1], documents[0]]
    assert documents == before


def test_a_title_in_the_metadata_lets_a_model_see_what_a_text_is_about() -> None:
    documents = [
        Document("It is 346 metres deep and 52 kilometres long.", metadata={"title": "Lake Como"}),
        Document("It is 425 metres deep and 46 kilometres long.", metadata={"title": "Lake Garda"}),
    ]
    scores = {}
    for text in (None, ["title"]):
        ranked = RagRerank("embedded", text=text).compress_documents(documents, QUERY)
        scores[text is None] = {document.metadata["title"]: document.metadata["relevance_score"] for document in ranked}
    assert scores[False]["Lake Garda"] > scores[False]["Lake Como"]
    assert scores[False]["Lake Garda"] > scores[True]["Lake Garda"] + 0.1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{title}\n{page_content}", "T\nbody"),
        ("Title: {title}. {page_content}", "Title: T. body"),
        ("{{{title}}} {page_content}", "{T} body"),
        ("{ title } {page_content}", "T body"),
        (["title"], "T\nbody"),
        (["page_content", "title"], "body\nT"),
        (["title", "tags", "year"], "T\na, b\n2024\nbody"),
        ("{dc.title}|{source.page}|{page_content}", "dotted|7|body"),
        (["dc.title", "source.page"], "dotted\n7\nbody"),
        ("{title}", "T"),
    ],
)
def test_a_template_and_a_list_of_keys(text: Any, expected: str) -> None:
    metadata = {"title": "T", "tags": ["a", "b"], "year": 2024, "dc.title": "dotted", "source": {"page": 7}}
    assert read_by(Document("body", metadata=metadata), text) == expected


@pytest.mark.parametrize(
    "absent", [{}, {"title": None}, {"title": ""}, {"title": " \n"}, {"title": math.nan}, {"title": []}]
)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{title}\n{page_content}", "body"),
        ("Title: {title}\nText: {page_content}", "Text: body"),
        ("Title: {title}. {page_content}", "body"),
        ("{page_content} ({title})", "body"),
        ("{page_content} ({title}) {year}", "body 2024"),
        ("{title} {year}\n{page_content}", "2024\nbody"),
        (["title", "year"], "2024\nbody"),
        (["title"], "body"),
        ("{title}", ""),
    ],
)
def test_what_a_document_lacks_is_left_out_with_the_text_around_it(
    absent: dict[str, Any], text: Any, expected: str
) -> None:
    assert read_by(Document("body", metadata={"year": 2024, **absent}), text) == expected


def test_a_document_without_text_is_not_sent_for_its_title_alone() -> None:
    document = Document(" \n", metadata={"title": "Lake Garda"})
    assert read_by(document, ["title"]) == ""
    (ranked,) = RagRerank("lexical", text=["title"]).compress_documents([document], QUERY)
    assert ranked.metadata["relevance_score"] is None
    assert read_by(document, "{title}") == "Lake Garda"  # here the caller says that the text is elsewhere


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title", r"^text: the template 'title' has no field; write .*a list of metadata keys: \[.title.\]"),
        ("", "has no field"),
        ("$title\n%(title)s {{ title }}", "has no field"),
        ("{title", "^text: ill-formed template line '{title': "),
        ("title}", "ill-formed template line"),
        ("{title} {", "ill-formed template line"),
        ("{}", r"^text: the field \{\} of the template is no metadata key"),
        ("{0}", r"the field \{0\} of the template is no metadata key"),
        ("{title!r}", r"the field \{title!r\} of"),
        ("{year:>4}", r"the field \{year:>4\} of"),
        ("{tags[0]}", r"the field \{tags\[0\]\} of"),
        ([], r"^text: expected a template or a list of metadata keys, got \[\]"),
        ([""], "expected a template or a list"),
        ([3], "expected a template or a list"),
        ({"title": 1}, "expected a template or a list"),
        (3, "expected a template or a list"),
    ],
)
def test_a_template_that_cannot_be_meant_is_refused_at_once(text: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RagRerank("lexical", text=text)
    with pytest.raises(ConfigError, match=message):
        RagRerankRetriever(RunnableLambda(lambda query: []), "lexical", text=text)


def test_attributes_of_python_objects_are_out_of_reach() -> None:
    assert read_by(Document("body", metadata={"title": "T"}), "{title.__class__} {page_content}") == "body"


def test_it_round_trips() -> None:
    for text in ("{title}\n{page_content}", ("title", "section")):
        rerank = RagRerank("lexical", text=text)
        for twin in (
            RagRerank(**rerank.model_dump()),
            RagRerank(**json.loads(rerank.model_dump_json())),
            RagRerank.model_validate(rerank.model_dump()),
            pickle.loads(pickle.dumps(rerank)),
        ):
            assert twin == rerank


def test_the_retriever_has_it_too_and_the_hook_sees_what_was_read() -> None:
    rankings: list[Ranking] = []
    first_stage = RunnableLambda(lambda query: [Document("body", metadata={"title": "T"})])
    retriever = RagRerankRetriever(first_stage, "lexical", text=["title"], on_ranking=rankings.append)
    (document,) = retriever.invoke(QUERY)
    assert document.page_content == "body"
    assert rankings[0][0].text == "T\nbody"


# packing: the LLM reads the content

LONG = "Lake Garda is in Italy. It is 346 metres deep. Sirmione lies on its southern shore."


def test_what_is_counted_and_compared_is_the_content() -> None:
    contexts: list[Context] = []
    documents = [
        Document("K2 is high.", id="a", metadata={"title": "a title that is longer than the text"}),
        Document("K2  is high.", id="b", metadata={"title": "another title"}),
        Document("Garda is deep.", id="c", metadata={"title": "a third title"}),
    ]
    context = {"max_tokens": 27, "tokenizer": len, "duplicates": "exact"}
    rerank = RagRerank(ScriptedReranker(), text=["title"], context=context, on_context=contexts.append)
    assert [document.id for document in rerank.compress_documents(documents, QUERY)] == ["a", "c"]
    assert contexts[0].text == "K2 is high.\n\nGarda is deep."
    assert contexts[0].tokens == 27
    assert [(drop.hit.id, drop.reason) for drop in contexts[0].dropped] == [("b", "duplicates")]
    assert [hit.coverage for hit in contexts[0]] == [None, None]  # it was of another text


def test_trimming_is_of_the_content_alone() -> None:
    context = {"max_tokens": 50, "tokenizer": len, "trim": "sentences"}
    document = Document(LONG, metadata={"title": "Lake Garda. A lake."})
    (trimmed,) = RagRerank("lexical", text=["title"], context=context).compress_documents([document], QUERY)
    assert trimmed.page_content == LONG[:46]
    assert trimmed.metadata["trimmed"] == [0, 46]
    assert trimmed.metadata["title"] == "Lake Garda. A lake."


@pytest.mark.parametrize("text", [None, "A heading: {title}.\n{page_content}"])
def test_trimming_keeps_the_best_window_wherever_the_content_begins_in_what_was_read(text: str | None) -> None:
    filler = " ".join(f"This is sentence number {i}." for i in range(40))
    content = f"{filler} Lake Garda is 346 metres deep. {filler}"
    windows = Windows(reranker=build("embedded"), tokens=30, overlap=0)
    context = {"max_tokens": 12, "tokenizer": lambda text: len(text.split()), "trim": "sentences"}
    document = Document(content, metadata={"title": "mountains and waters"})
    rankings: list[Ranking] = []
    rerank = RagRerank(windows, text=text, context=context, on_ranking=rankings.append)
    (trimmed,) = rerank.compress_documents([document], QUERY)
    (hit,) = rankings[0]
    assert hit.window is not None and "Garda is" in hit.text[slice(*hit.window)]
    first, last = trimmed.metadata["trimmed"]
    window_start = hit.window[0] - hit.text.index(content)
    assert first <= window_start < first + len("This is sentence number 38. ")  # the sentence in which it begins
    assert content[first:last] == trimmed.page_content


def test_a_document_without_text_is_left_out_of_a_context_whatever_its_metadata_score() -> None:
    contexts: list[Context] = []
    rerank = RagRerank("lexical", text="{title}", context={}, on_context=contexts.append)
    documents = [
        Document("", id="empty", metadata={"title": "Lake Garda deep"}),
        Document("x", metadata={"title": "K2"}),
    ]
    assert [document.page_content for document in rerank.compress_documents(documents, QUERY)] == ["x"]
    assert [(drop.hit.id, drop.reason) for drop in contexts[0].dropped] == [("empty", "blank")]


def test_hits_still_have_the_callers_metadata() -> None:
    seen: list[Candidate] = []
    context = {"per_source": 1, "source": lambda candidate: seen.append(candidate) or candidate.metadata["title"]}
    documents = [Document("a", metadata={"title": "T"}), Document("b", metadata={"title": "T"})]
    assert len(RagRerank("lexical", text=["title"], context=context).compress_documents(documents, QUERY)) == 1
    assert [candidate.text for candidate in seen] == ["a", "b"]

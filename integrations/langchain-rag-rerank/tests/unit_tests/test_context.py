"""Documents packed for the LLM: the option ``context``, what comes out, and who is told what is missing."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from typing import Any

import pytest
import rag_rerank
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from pydantic import ValidationError
from rag_rerank import CalibrationWarning, ConfigError, Context, Packing, Ranking
from rag_rerank.testing import ScriptedReranker

from langchain_rag_rerank import RagRerank, RagRerankRetriever

QUERY = "how deep is Lake Garda?"
TEXT = "Lake Garda is in Italy. It is 346 metres deep. Sirmione lies on its southern shore."
CHUNKS = (TEXT[24:47], "K2 is 8,611 metres high.", TEXT[:30], TEXT[24:47])


def chunks() -> list[Document]:
    """Return four chunks, the first and the third of one page with an overlap, the fourth a copy of the first."""
    starts = (24, 0, 0, 24)
    pages = ("garda", "k2", "garda", "copy")
    return [
        Document(text, id=f"doc-{i}", metadata={"page": page, "start_index": start})
        for i, (text, page, start) in enumerate(zip(CHUNKS, pages, starts, strict=True))
    ]


def rerank(**options: Any) -> RagRerank:
    scores = {CHUNKS[0]: 3.0, CHUNKS[1]: 2.0, CHUNKS[2]: 1.0}
    return RagRerank(ScriptedReranker(by_text=scores), **options)


def test_documents_keep_to_the_budget_and_the_report_says_why_others_are_missing() -> None:
    contexts: list[Context] = []
    rankings: list[Ranking] = []
    context = {"max_tokens": 60, "tokenizer": len, "duplicates": "exact"}
    before = chunks()
    documents = rerank(context=context, on_context=contexts.append, on_ranking=rankings.append).compress_documents(
        before, QUERY
    )
    assert before == chunks()
    assert [document.id for document in documents] == ["doc-0", "doc-1"]
    assert documents[0].metadata == {
        "page": "garda",
        "start_index": 24,
        "relevance_score": 3.0,
        "relevance_score_scale": "unbounded",
    }
    assert len("\n\n".join(document.page_content for document in documents)) == contexts[0].tokens == 49
    assert [(drop.hit.id, drop.reason) for drop in contexts[0].dropped] == [
        ("doc-3", "duplicates"),
        ("doc-2", "max_tokens"),
    ]
    assert len(rankings[0]) == 4


async def test_async_gives_what_sync_gives() -> None:
    contexts: list[Context] = []
    packing = rerank(context=Packing(max_tokens=40, tokenizer=len, trim="sentences"), on_context=contexts.append)
    documents = packing.compress_documents(chunks(), QUERY)
    assert await packing.acompress_documents(chunks(), QUERY) == documents
    assert contexts[0] == contexts[1]


def test_neighbours_become_one_document_that_names_them() -> None:
    context = Packing(merge="characters", source="page", position="start_index", duplicates="exact")
    documents = rerank(context=context, score_key=None).compress_documents(chunks(), QUERY)
    assert [(document.id, document.page_content) for document in documents] == [
        ("doc-0", TEXT[:47]),
        ("doc-1", CHUNKS[1]),
    ]
    assert documents[0].metadata == {"page": "garda", "start_index": 24, "merged_ids": ["doc-2", "doc-0"]}


def test_a_trimmed_document_says_which_characters_are_left() -> None:
    context = {"max_tokens": 50, "tokenizer": len, "trim": "sentences"}
    (document,) = RagRerank("lexical", context=context).compress_documents([Document(TEXT)], QUERY)
    assert document.page_content == TEXT[:46]
    assert document.metadata["trimmed"] == [0, 46]


def test_a_document_with_its_relevant_sentences_says_which_parts_are_left() -> None:
    text = "Lake Garda is 346 m deep. It has boats. Nobody asked about fish. How deep lake Garda is, is well known."
    reranker = {"type": "spans", "reranker": "lexical"}
    rerank = RagRerank(reranker, context={"trim": "relevant"})
    (document,) = rerank.compress_documents([Document(text)], "how deep is lake Garda?")
    parts = document.metadata["trimmed_parts"]
    assert document.page_content == " … ".join(text[first:end] for first, end in parts)
    assert document.metadata["trimmed"] == [parts[0][0], parts[-1][1]] == [0, len(text)]
    assert "boats" not in document.page_content


def test_top_k_is_how_many_the_context_chooses_from() -> None:
    documents = rerank(top_k=2, context={"duplicates": "exact"}).compress_documents(chunks(), QUERY)
    assert [document.id for document in documents] == ["doc-0"]


def test_a_retriever_packs_too() -> None:
    packing = rerank(context={"top_k": 1})
    retriever = RagRerankRetriever(base_retriever=RunnableLambda(lambda _: chunks()), reranker=packing)
    assert [document.id for document in retriever.invoke(QUERY)] == ["doc-0"]


def test_a_threshold_that_was_not_applied_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    context = {"min_score": 0.5, "min_score_scale": "sigmoid"}
    assert len(RagRerank("lexical", context=context).compress_documents(chunks(), QUERY)) == 4
    assert "context: min_score=0.5 was not applied: it was written for sigmoid scores" in caplog.text


def test_no_documents_are_an_empty_context() -> None:
    contexts: list[Context] = []
    packing = rerank(context={"max_tokens": 1, "tokenizer": len}, on_context=contexts.append)
    assert packing.compress_documents([], QUERY) == []
    assert [len(context) for context in contexts] == [0]


def test_it_round_trips_with_its_options() -> None:
    options = {"max_tokens": 50, "tokenizer": "o200k_base", "duplicates": 0.8}
    packing = RagRerank("lexical", context=options)
    dumped = packing.model_dump()
    assert dumped["context"] == json.loads(packing.model_dump_json())["context"] == options
    for twin in (RagRerank(**dumped), RagRerank.model_validate(dumped), pickle.loads(pickle.dumps(packing))):
        assert twin == packing
        assert twin.context == Packing(**options)
    assert copy.deepcopy(packing) == packing


def test_a_function_works_but_is_not_dumped_as_something_else() -> None:
    packing = RagRerank("lexical", context=Packing(max_tokens=50, tokenizer=len))
    with pytest.raises(ValueError, match="live object"):
        packing.model_dump()


def test_a_wrong_option_is_the_librarys_own_error() -> None:
    with pytest.raises(ConfigError, match=r"^context: unknown option .* did you mean 'max_tokens'"):
        RagRerank("lexical", context={"max_token": 3})
    with pytest.raises(ConfigError, match=r"^context\.max_tokens: trim='sentences' needs max_tokens"):
        RagRerank("lexical", context={"trim": "sentences"})
    with pytest.raises(ConfigError, match=r"^context\.max_tokens: must be a whole number of at least 1"):
        RagRerank("lexical", context={"max_tokens": 0})
    with pytest.raises(ValidationError, match="context"):
        RagRerank("lexical", context=3)


def test_without_a_tokenizer_the_budget_is_kept_by_an_estimate_and_a_note_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    contexts: list[Context] = []
    context = {"max_tokens": 12, "duplicates": "exact"}
    documents = rerank(context=context, on_context=contexts.append).compress_documents(chunks(), QUERY)
    assert [document.id for document in documents] == ["doc-0"]
    assert contexts[0].tokens is not None and 6 <= contexts[0].tokens <= 12
    (note,) = contexts[0].notes
    assert "estimate" in note and f"context: {note}" in caplog.text


def test_a_tokenizer_may_return_a_list() -> None:
    context = {"max_tokens": 10, "tokenizer": str.split}
    documents = rerank(context=context).compress_documents(chunks(), QUERY)
    assert [document.id for document in documents] == ["doc-0", "doc-3"]
    assert sum(len(document.page_content.split()) for document in documents) == 10


def test_the_tokenizer_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    tokens = rag_rerank.context.packing.tokens
    monkeypatch.setattr(rag_rerank.context.packing, "tokens", lambda spec: loaded.append(spec) or tokens(spec))
    packing = rerank(context={"max_tokens": 50, "tokenizer": len})
    for _ in range(3):
        packing.compress_documents(chunks(), QUERY)
    assert loaded == [len]


def test_a_tokenizer_that_raises_is_named_with_its_place() -> None:
    options = {"max_tokens": 9, "tokenizer": lambda text: 1 // 0}
    with pytest.raises(ConfigError, match=r"^context\.tokenizer: the function raised ZeroDivisionError"):
        rerank(context=options).compress_documents(chunks(), QUERY)


@pytest.mark.parametrize("kept", [True, False])
def test_no_documents_where_it_is_improbable_that_any_answers(kept: bool, caplog: pytest.LogCaptureFixture) -> None:
    fitted = {
        **{"reranker": "scripted", "scale": "unbounded", "identity": "other", "data": "d", "fingerprint": "f"},
        **{"relevant": [1], "queries": 9, "pairs": 18, "prior": 0.5, "version": "0", "date": "2026-12-01"},
        **{"model": None, "unjudged": "not relevant", "before": None, "after": {"ece": 0, "brier": 0, "log_loss": 0}},
    }
    map = {"weights": {"top": 0.0, "lead": 0.0}, "intercept": 1.0 if kept else -1.0, "auroc": 0.8, "fitted": fitted}
    spec = {"type": "answerable", "reranker": "lexical", "map": {**map, "false_accepts": None}}
    with pytest.warns(CalibrationWarning):
        packing = RagRerank(spec, context={"answerable": 0.5})
        here = packing.compress_documents(chunks(), QUERY)
        there = asyncio.run(packing.acompress_documents(chunks(), QUERY))
    assert len(here) == len(there) == (4 if kept else 0)
    assert ("no text is in the context: the probability that a text answers is 0.2689" in caplog.text) is not kept


def test_an_answerable_that_nobody_gives_names_the_command() -> None:
    with pytest.raises(ConfigError, match=r"^context\.answerable: .* rag-rerank calibrate JUDGED --answerable"):
        RagRerank("lexical", context={"answerable": 0.5}).compress_documents(chunks(), QUERY)

"""The caller's documents: any iterable of them, taken once; anything else is refused by a sentence that helps."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from rag_rerank import Candidate, InputError, PointwiseReranker, Ranking, Scale, Scores, recording
from rag_rerank.cli import app
from rag_rerank.records.reader import read
from rag_rerank.testing import ScriptedReranker

from langchain_rag_rerank import RagRerank

QUERY = "how warm must a bearded dragon be kept?"
TEXTS = ("Cranes migrate in autumn.", "A dragon wants shade at noon.", "A bearded dragon must be kept warm.")


def documents_of(*texts: str) -> list[Document]:
    return [Document(text, metadata={"n": i}) for i, text in enumerate(texts)]


def order(documents: Iterable[Document]) -> list[str]:
    return [document.page_content for document in documents]


ITERABLES: list[Callable[[list[Document]], Any]] = [
    tuple,
    iter,
    lambda documents: (document for document in documents),
    lambda documents: filter(lambda document: document.page_content, documents),
    lambda documents: map(copy.copy, documents),
    lambda documents: dict(enumerate(documents)).values(),
    lambda documents: pd.Series(documents, dtype=object),
]


@pytest.mark.parametrize("make", ITERABLES)
async def test_any_iterable_of_documents_will_do(make: Callable[[list[Document]], Any]) -> None:
    rerank = RagRerank("lexical", context={"top_k": 2})
    expected = [TEXTS[2], TEXTS[1]]
    assert order(rerank.compress_documents(make(documents_of(*TEXTS)), QUERY)) == expected
    assert order(await rerank.acompress_documents(make(documents_of(*TEXTS)), QUERY)) == expected
    step = rerank.as_runnable()
    assert order(step.invoke({"documents": make(documents_of(*TEXTS)), "query": QUERY})) == expected
    assert order(await step.ainvoke({"documents": make(documents_of(*TEXTS)), "query": QUERY})) == expected


async def test_an_empty_iterator_is_no_documents() -> None:
    reranker = ScriptedReranker()
    assert RagRerank(reranker).compress_documents(iter(()), QUERY) == []
    assert await RagRerank(reranker).acompress_documents((d for d in ()), QUERY) == []
    assert reranker.calls == []


def test_an_iterator_that_callbacks_look_at_is_not_used_up(runs: Any) -> None:
    documents = documents_of(*TEXTS)
    ranked = RagRerank("lexical").compress_documents(iter(documents), QUERY, callbacks=[runs])
    assert runs.inputs["rag_rerank"] == {"documents": documents, "query": QUERY}
    assert len(ranked) == 3


@dataclass(frozen=True, kw_only=True)
class Pausing(PointwiseReranker):
    """Says when it starts, and scores by length when it may go on."""

    kind: ClassVar[str] = "pausing"

    started: asyncio.Event = field(default_factory=asyncio.Event)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def scale(self) -> Scale:
        return "unbounded"

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        return Scores([float(len(text)) for text in texts], "unbounded")

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        self.started.set()
        await self.may_go_on.wait()
        return self.score(query, texts)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("way", ["compressor", "runnable"])
async def test_what_changes_while_it_waits_changes_no_result(packed: bool, way: str) -> None:
    documents = documents_of("short", "the longest of them", "a longer one")
    reranker = Pausing()
    rerank = RagRerank(reranker, context={} if packed else None)
    expected = rerank.compress_documents(copy.deepcopy(documents), QUERY)
    if way == "compressor":
        call = asyncio.ensure_future(rerank.acompress_documents(documents, QUERY))
    else:
        call = asyncio.ensure_future(rerank.as_runnable().ainvoke({"documents": documents, "query": QUERY}))
    await reranker.started.wait()
    documents.reverse()
    documents[0].page_content = "something else"
    documents[1].metadata["n"] = "something else"
    documents.append(Document("one more"))
    reranker.may_go_on.set()
    assert await call == expected


async def test_a_list_may_change_as_soon_as_the_call_has_started(runs: Any) -> None:
    documents = documents_of("short", "the longest of them", "a longer one")
    before = list(documents)
    call = RagRerank("lexical").acompress_documents(documents, QUERY, callbacks=[runs])
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0)
    documents.clear()
    assert len(await task) == 3
    assert runs.inputs["rag_rerank"]["documents"] == before


WRONG: list[tuple[Any, str]] = [
    (["a"], r"^documents\[0\] must be a Document, got a str; wrap it: Document\(page_content=text\)"),
    ([Document("a"), None], r"^documents\[1\] must be a Document, got None; a document is Document\(page_content="),
    ([{"page_content": "a"}], r"^documents\[0\] must be a Document, got a dict; make a document of each"),
    ([("a", 0.5)], r"^documents\[0\] must be a Document, got a tuple"),
    ([[Document("a")]], r"^documents\[0\] must be a Document, got a list"),
    ([(Document("a"), 0.5)], r"^documents\[0\] must be a Document, got a tuple"),
    ([Candidate("1", "a")], r"^documents\[0\] must be a Document, got a Candidate; .*\.rerank\(query, candidates\)"),
    (Document("a"), r"^documents must be a list or another iterable of Document, got one; put it into a list"),
    ("a text", r"^documents must be .*, got one text; wrap it"),
    (b"a text", r"^documents must be .*, got one text"),
    ({"documents": []}, r"^documents must be .*, got a dict"),
    (None, r"^documents must be .*, got None"),
    (3, r"^documents must be .*, got an int"),
    (pd.DataFrame({"text": ["a"]}), r"^documents must be .*, got a DataFrame; make documents of its rows: .*table"),
    (pd.DataFrame(), r"^documents must be .*, got a DataFrame"),
    (pd.Series(["a"]), r"^documents\[0\] must be a Document, got a str"),
    (HumanMessage("a"), r"^documents must be .*, got a HumanMessage"),
]


@pytest.mark.parametrize(("documents", "message"), WRONG, ids=lambda value: str(value)[:40])
async def test_other_things_are_refused_by_name_before_anything_is_scored(documents: Any, message: str) -> None:
    reranker = ScriptedReranker()
    rerank = RagRerank(reranker)
    with pytest.raises(InputError, match=message):
        rerank.compress_documents(documents, QUERY)
    with pytest.raises(InputError, match=message):
        await rerank.acompress_documents(documents, QUERY)
    with pytest.raises(InputError, match=message):
        rerank.as_runnable().invoke({"documents": documents, "query": QUERY})
    assert reranker.calls == []


def test_nodes_of_llamaindex_are_sent_to_their_own_adapter() -> None:
    schema = pytest.importorskip("llama_index.core.schema")
    node = schema.TextNode(text="a")
    message = r"LlamaIndex's nodes go to llama_index\.postprocessor\.rag_rerank\.RagRerank"
    for wrong in ([node], [schema.NodeWithScore(node=node)], [schema.Document(text="a")], node):
        with pytest.raises(InputError, match=message):
            RagRerank("lexical").compress_documents(wrong, QUERY)


async def test_a_coroutine_and_an_async_generator_are_told_what_to_do_first() -> None:
    async def retrieve() -> list[Document]:
        return []

    async def stream() -> Any:
        yield Document("a")

    coroutine: Any = retrieve()
    with pytest.raises(InputError, match="got a coroutine; await it first"):
        await RagRerank("lexical").acompress_documents(coroutine, QUERY)
    coroutine.close()
    with pytest.raises(InputError, match="got an async_generator; collect it first, in a list"):
        await RagRerank("lexical").acompress_documents(stream(), QUERY)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("a query", r"got a str; in a chain: \{.documents.: retriever, .query.: RunnablePassthrough"),
        ([Document("a")], "got a list"),
        ({"query": "q"}, r"got a dict with the keys \['query'\]"),
        ({"documents": [], "question": "q"}, r"\['documents', 'question'\]"),
    ],
)
async def test_a_step_says_what_it_takes(request_: Any, message: str) -> None:
    step = RagRerank("lexical").as_runnable()
    with pytest.raises(InputError, match=message):
        step.invoke(request_)
    with pytest.raises(InputError, match=message):
        await step.ainvoke(request_)


def test_a_query_that_is_no_text_is_refused() -> None:
    query: Any
    for query in (None, HumanMessage(QUERY), {"query": QUERY}):
        with pytest.raises(InputError, match="the query must be a string, got"):
            RagRerank("lexical").compress_documents(documents_of(*TEXTS), query)


# ids: a document's own where no other has it


def ids_of(documents: list[Document], **options: Any) -> dict[str, str]:
    """Return text -> id of the hit."""
    rankings: list[Ranking] = []
    ranked = RagRerank("lexical", on_ranking=rankings.append, **options).compress_documents(documents, QUERY)
    assert len(ranked) == len(documents)
    assert set(rankings[0].trace.scores) | set(rankings[0].trace.unscored) == {hit.id for hit in rankings[0]}
    return {hit.text: hit.id for hit in rankings[0]}


def test_a_hit_has_the_documents_own_id_or_the_one_that_its_store_left_in_the_metadata() -> None:
    documents = [
        Document("a", id="own", metadata={"id": "metadata"}),
        Document("b", metadata={"id": "key"}),
        Document("c", metadata={"_id": np.int64(17)}),
        Document("d", metadata={"id": None, "_id": "point"}),
        Document("e", metadata={"id": True}),
        Document("f", id="", metadata={"id": ["x"]}),
    ]
    assert ids_of(documents) == {"a": "own", "b": "key", "c": "17", "d": "point", "e": "4", "f": "5"}


def test_documents_that_share_an_id_are_told_apart_by_their_positions() -> None:
    documents = [Document("a", id="same"), Document("b", id="x"), Document("c", id="same"), Document("d")]
    assert ids_of(documents) == {"a": "0", "b": "x", "c": "2", "d": "3"}


def test_a_position_that_is_another_documents_id_is_marked() -> None:
    documents = [Document("a", id="1"), Document("b"), Document("c", id="position 1"), Document("d", id="3")]
    assert ids_of(documents) == {"a": "1", "b": "position position 1", "c": "position 1", "d": "3"}


def test_a_record_says_which_ids_are_positions(tmp_path: Any) -> None:
    file = tmp_path / "traces.jsonl"
    with recording(file):
        RagRerank("lexical").compress_documents([Document("a", id="x"), Document("b", id="y")], QUERY)
        RagRerank("lexical").compress_documents([Document("a", id="x"), Document("b"), Document("c")], QUERY)
    own, mixed = read(file)
    assert own.tags == {"rag_rerank.host": "langchain"}
    assert [entry.id for entry in own.candidates] == ["x", "y"]
    assert mixed.tags["rag_rerank.ids"] == "2 of 3 are positions: no id of their own, or one that occurs twice"
    assert [entry.id for entry in mixed.candidates] == ["x", "1", "2"]


def test_merged_ids_are_the_documents_own() -> None:
    texts = ("Lake Garda is deep, very deep. ", "It lies in Italy.")
    documents = [Document(text, metadata={"id": f"c{i}", "page": "p", "at": i}) for i, text in enumerate(texts)]
    context = {"merge": "chunks", "source": "page", "position": "at"}
    (document,) = RagRerank("lexical", context=context).compress_documents(documents, "how deep is Lake Garda?")
    assert document.metadata["merged_ids"] == ["c0", "c1"]


@pytest.mark.parametrize("text", [None, ["title"]])
def test_the_command_line_finds_a_document_by_its_id_and_says_that_it_was_not_packed(tmp_path: Any, text: Any) -> None:
    file = tmp_path / "traces.jsonl"
    documents = [Document(text, id=f"doc-{i}", metadata={"title": f"T{i}"}) for i, text in enumerate(TEXTS)]
    with recording(file):
        RagRerank("lexical", text=text, context={"top_k": 1}).compress_documents(documents, QUERY)
    first, best = (CliRunner().invoke(app, ["trace", "show", str(file), "--id", f"doc-{i}"]) for i in (1, 2))
    assert first.exit_code == best.exit_code == 0
    assert "1 hits are kept" in first.output and "1 hits are kept" not in best.output

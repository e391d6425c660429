"""The ranker as a component: options, results, and what happens to the caller's documents."""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from haystack import Document
from haystack.components.preprocessors import DocumentSplitter
from haystack.dataclasses import ByteStream, SparseEmbedding
from rag_rerank import (
    Candidate,
    ConfigError,
    Context,
    InputError,
    Packing,
    PointwiseReranker,
    Ranking,
    Scores,
    build,
    recording,
)
from rag_rerank.backends.host_embedding import HostEmbeddingReranker
from rag_rerank.execution.instruction import instruction_or
from rag_rerank.records.reader import read
from rag_rerank.testing import ScriptedReranker

from haystack_integrations.components.rankers.rag_rerank import RagRerankRanker

QUERY = "how warm must a bearded dragon be kept?"
TEXTS = ("Cranes migrate in autumn.", "A dragon wants shade at noon.", "A bearded dragon must be kept warm.")
SCORES = {TEXTS[0]: -1.0, TEXTS[1]: 0.5, TEXTS[2]: 2.0}

EMBEDDED = build("embedded")
"""Loaded once for all tests of this file."""

Run = Callable[..., Any]


def documents_of(*texts: str | None, **options: Any) -> list[Document]:
    return [Document(content=text, meta={"n": i}, **options) for i, text in enumerate(texts)]


def ranked(run: Run, ranker: Any, documents: Any, **options: Any) -> list[Document]:
    return run(ranker, query=QUERY, documents=documents, **options)["documents"]  # type: ignore[no-any-return]


def contents(documents: list[Document]) -> list[str | None]:
    return [document.content for document in documents]


@dataclass(frozen=True, kw_only=True)
class Instructed(PointwiseReranker):
    """Scores a text 1 if the instruction stands in it."""

    kind: ClassVar[str] = "instructed"
    scale: ClassVar[Any] = "unbounded"
    instruction: str | None = None

    @property
    def takes_instruction(self) -> bool:
        return True

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        words = instruction_or(self.instruction) or query
        return Scores([float(words in text) for text in texts], "unbounded")


class TestInit:
    def test_defaults(self) -> None:
        ranker = RagRerankRanker("lexical")
        assert ranker.reranker == build("lexical")
        assert ranker.scale_key == "score_scale"
        for name in ("top_k", "instruction", "context", "text", "on_context", "on_ranking"):
            assert getattr(ranker, name) is None

    def test_parameters(self) -> None:
        reranker = build("lexical")
        ranker = RagRerankRanker(reranker, top_k=3, context={"top_k": 2}, text=("title",), scale_key="scale")
        assert ranker.reranker is reranker
        assert (ranker.top_k, ranker.context, ranker.text, ranker.scale_key) == (
            3,
            Packing(top_k=2),
            ["title"],
            "scale",
        )

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"top_k": 0}, "^top_k"),
            ({"top_k": "3"}, "^top_k"),
            ({"context": {"max_token": 3}}, "^context.*max_tokens"),
            ({"text": "no field"}, "^text: the template 'no field' has no field"),
            ({"text": []}, "^text: expected a template"),
            ({"scale_key": ""}, "^scale_key: it must be a metadata key"),
            ({"instruction": "prefer new ones"}, "^instruction"),
        ],
    )
    def test_a_wrong_option_is_named(self, options: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            RagRerankRanker("lexical", **options)

    def test_a_wrong_reranker_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="lexicall"):
            RagRerankRanker("lexicall")


class TestRun:
    def test_documents_come_best_first_with_the_scores_of_the_reranker(self, run: Run) -> None:
        direct = EMBEDDED.rerank(QUERY, TEXTS)
        best = ranked(run, RagRerankRanker(EMBEDDED), documents_of(*TEXTS))
        assert contents(best) == [hit.text for hit in direct]
        assert [document.score for document in best] == pytest.approx([hit.score for hit in direct], abs=1e-6)
        assert {type(document.score) for document in best} == {float}
        assert {document.meta["score_scale"] for document in best} == {direct.scale}

    def test_nothing_of_a_document_is_lost_and_the_inputs_do_not_change(self, run: Run) -> None:
        documents = [
            Document(
                id="own",
                content=TEXTS[0],
                blob=ByteStream(b"x", mime_type="image/png"),
                meta={"nested": {"a": [1]}},
                score=0.9,
                embedding=[0.5, 0.25],
                sparse_embedding=SparseEmbedding(indices=[3], values=[0.5]),
            ),
            *documents_of(*TEXTS[1:]),
        ]
        before = copy.deepcopy(documents)
        best = ranked(run, RagRerankRanker(ScriptedReranker(by_text=SCORES), scale_key=None), documents)
        assert documents == before
        assert [replace(document, score=None) for document in best] == [
            replace(document, score=None) for document in reversed(before)
        ]
        assert not {id(document) for document in best} & {id(document) for document in documents}
        assert not {id(document.meta) for document in best} & {id(document.meta) for document in documents}
        assert [document.score for document in best] == [2.0, 0.5, -1.0]

    def test_documents_without_text_are_not_scored_and_come_last_with_a_reason(self, run: Run) -> None:
        image = Document(blob=ByteStream(b"png"), score=0.99, meta={"title": "A bearded dragon"})
        documents = [image, Document(content=" ", score=0.98), *documents_of(*TEXTS)]
        rankings: list[Ranking] = []
        reranker = ScriptedReranker(default=-5.0)
        ranker = RagRerankRanker(reranker, text=["title"], on_ranking=rankings.append)
        best = ranked(run, ranker, documents)
        assert [document.id for document in best[3:]] == [image.id, documents[1].id]
        assert [document.score for document in best[3:]] == [None, None]
        assert [hit.unscored for hit in rankings[0]][3:] == ["blank text"] * 2
        assert best[3].content is None
        assert [len(texts) for _, texts in reranker.calls] == [3]

    def test_documents_with_one_id_all_stay(self, run: Run) -> None:
        documents = [Document(id="same", content=text) for text in TEXTS]
        rankings: list[Ranking] = []
        best = ranked(run, RagRerankRanker(ScriptedReranker(by_text=SCORES), on_ranking=rankings.append), documents)
        assert contents(best) == [TEXTS[2], TEXTS[1], TEXTS[0]]
        assert {document.id for document in best} == {"same"}
        assert [hit.id for hit in rankings[0]] == ["2", "1", "0"]

    def test_no_documents_are_no_call(self, run: Run) -> None:
        reranker = ScriptedReranker()
        assert ranked(run, RagRerankRanker(reranker), []) == []
        assert ranked(run, RagRerankRanker(reranker, context={"max_tokens": 5}), iter(())) == []
        assert reranker.calls == []

    @pytest.mark.parametrize(("own", "of_call", "count"), [(None, None, 3), (2, None, 2), (2, 1, 1), (1, 3, 3)])
    def test_the_cutoff_of_a_call_goes_before_that_of_the_component(
        self, run: Run, own: int | None, of_call: int | None, count: int
    ) -> None:
        assert len(ranked(run, RagRerankRanker("lexical", top_k=own), documents_of(*TEXTS), top_k=of_call)) == count

    @pytest.mark.parametrize("top_k", [0, -1, False])
    def test_a_cutoff_below_one_is_an_error_and_not_the_default(self, run: Run, top_k: Any) -> None:
        reranker = ScriptedReranker()
        with pytest.raises(InputError, match="top_k"):
            ranked(run, RagRerankRanker(reranker, top_k=2), documents_of(*TEXTS), top_k=top_k)
        assert reranker.calls == []

    def test_a_blank_query_is_refused(self, run: Run) -> None:
        for query in ("", " \n"):
            with pytest.raises(InputError, match="query"):
                run(RagRerankRanker("lexical"), query=query, documents=documents_of(*TEXTS))

    @pytest.mark.parametrize(
        ("documents", "message"),
        [
            (["a"], r"^documents\[0\] must be a Document, got a str; wrap it: Document\(content=text\)"),
            ([Document(content="a"), None], r"^documents\[1\] must be a Document, got None"),
            ([Candidate("1", "a")], r"got a Candidate; .*\.rerank\(query, candidates\)"),
            ([{"content": "a"}], r"got a dict; make a document of each: Document\.from_dict"),
            (Document(content="a"), r"^documents must be .*, got one; put it into a list"),
            (None, r"^documents must be .*, got None"),
        ],
        ids=["text", "none", "candidate", "dict", "one", "nothing"],
    )
    def test_what_is_no_document_is_refused_before_anything_is_scored(
        self, run: Run, documents: Any, message: str
    ) -> None:
        reranker = ScriptedReranker()
        with pytest.raises(InputError, match=message):
            ranked(run, RagRerankRanker(reranker), documents)
        assert reranker.calls == []

    def test_the_first_stages_score_goes_along_unless_it_says_nothing(self, run: Run) -> None:
        rankings: list[Ranking] = []
        documents = [
            Document(content=text, score=score) for text, score in zip(TEXTS, (0.25, math.nan, None), strict=True)
        ]
        ranked(run, RagRerankRanker("lexical", on_ranking=rankings.append), documents)
        assert {hit.text: hit.candidate.score for hit in rankings[0]} == dict(
            zip(TEXTS, (0.25, None, None), strict=True)
        )

    def test_metadata_are_read_where_text_says_so_and_nothing_else_changes(self, run: Run) -> None:
        documents = [Document(content=text, meta={"title": title}) for text, title in zip(TEXTS, "abc", strict=True)]
        reranker = ScriptedReranker()
        best = ranked(run, RagRerankRanker(reranker, text="About {title}.\n{content}"), documents)
        assert reranker.calls == [(QUERY, tuple(f"About {t}.\n{text}" for text, t in zip(TEXTS, "abc", strict=True)))]
        assert contents(best) == list(TEXTS)

    def test_an_instruction_of_a_call_goes_before_that_of_the_component(self, run: Run) -> None:
        reranker = Instructed(instruction="Cranes")
        for own, of_call, best in ((None, None, 0), ("noon", None, 1), ("noon", "bearded", 2), (None, "noon", 1)):
            ranker = RagRerankRanker(reranker, instruction=own, top_k=1)
            assert contents(ranked(run, ranker, documents_of(*TEXTS), instruction=of_call)) == [TEXTS[best]]
        for wrong, error in (("", InputError), ("x", ConfigError)):
            with pytest.raises(error, match="instruction"):
                ranked(run, RagRerankRanker("lexical"), documents_of(*TEXTS), instruction=wrong)

    def test_embeddings_score_without_being_made_again(self, run: Run) -> None:
        asked: list[list[str]] = []

        def embed(texts: list[str]) -> list[list[float]]:
            asked.append(texts)
            return [[1.0, 0.0] for _ in texts]

        vectors = ([0.0, 1.0], [2.0, 0.0], [-1.0, 0.0])
        documents = [Document(content=t, embedding=v) for t, v in zip(TEXTS, vectors, strict=True)]
        best = ranked(run, RagRerankRanker(HostEmbeddingReranker(embedder=embed)), documents)
        assert [(document.content, document.score) for document in best] == [
            (TEXTS[1], 1.0),
            (TEXTS[0], 0.0),
            (TEXTS[2], -1.0),
        ]
        assert asked == [[QUERY]]

    def test_records_have_the_documents_own_ids_and_name_the_host(self, run: Run, tmp_path: Any) -> None:
        with recording(tmp_path / "traces.jsonl"):
            ranked(run, RagRerankRanker("lexical"), [Document(id=f"d{i}", content=t) for i, t in enumerate(TEXTS)])
        (record,) = read(tmp_path / "traces.jsonl")
        assert record.tags == {"rag_rerank.host": "haystack"}
        assert {entry.id for entry in record.candidates} == {"d0", "d1", "d2"}

    async def test_what_changes_while_an_async_call_waits_changes_no_result(self) -> None:
        documents = documents_of(*TEXTS)
        ranker = RagRerankRanker(EMBEDDED)
        call = asyncio.ensure_future(ranker.run_async(query=QUERY, documents=documents))
        await asyncio.sleep(0)
        documents[0].meta["n"] = "another"
        documents.clear()
        answer = await call
        assert sorted(document.meta["n"] for document in answer["documents"]) == [0, 1, 2]


class TestContext:
    def test_a_budget_drops_and_the_hook_says_why(self, run: Run) -> None:
        seen: list[Context] = []
        context = {"max_tokens": 9, "tokenizer": str.split}
        ranker = RagRerankRanker(ScriptedReranker(by_text=SCORES), context=context, on_context=seen.append)
        best = ranked(run, ranker, documents_of(*TEXTS))
        assert contents(best) == [TEXTS[2]]
        assert [(drop.hit.text, str(drop.reason)) for drop in seen[0].dropped] == [
            (TEXTS[1], "max_tokens"),
            (TEXTS[0], "max_tokens"),
        ]

    def test_a_trimmed_document_says_what_is_left_and_keeps_its_id(self, run: Run) -> None:
        text = "Cranes migrate. A bearded dragon must be kept warm. It eats crickets."
        document = Document(content=text, meta={"title": "Dragons"})
        context = {"max_tokens": 8, "tokenizer": str.split}
        (kept,) = ranked(run, RagRerankRanker("lexical", text=["title"], context=context), [document])
        first, last = kept.meta["trimmed"]
        assert kept.content == text[first:last] != text
        assert (kept.id, kept.meta["title"], document.content) == (document.id, "Dragons", text)

    def test_neighbours_that_the_hosts_splitter_made_are_merged_by_the_places_that_it_set(self, run: Run) -> None:
        source = Document(content=". ".join(f"Sentence {i} tells of lake number {i}" for i in range(6)) + ".")
        splitter = DocumentSplitter(split_by="word", split_length=14, split_overlap=0)
        if hasattr(splitter, "warm_up"):
            splitter.warm_up()
        parts = splitter.run(documents=[source])["documents"]
        context = {"merge": "characters", "source": "source_id", "position": "split_idx_start"}
        (whole,) = run(RagRerankRanker("lexical", context=context), query="lake number", documents=parts)["documents"]
        assert whole.content == source.content
        assert whole.meta["merged_ids"] == [part.id for part in parts]


class TestHooks:
    def test_a_coroutine_function_is_awaited_in_async_calls_and_refused_in_sync_ones(self) -> None:
        seen: list[Ranking] = []

        async def keep(ranking: Ranking) -> None:
            await asyncio.sleep(0)
            seen.append(ranking)

        reranker = ScriptedReranker()
        ranker = RagRerankRanker(reranker, on_ranking=keep)
        with pytest.raises(ConfigError, match=r"^on_ranking: .*run_async"):
            ranker.run(query=QUERY, documents=documents_of(*TEXTS))
        assert reranker.calls == []
        asyncio.run(ranker.run_async(query=QUERY, documents=documents_of(*TEXTS)))
        assert len(seen) == 1

"""Nodes packed for the LLM: the option ``context``, what comes out, and who is told what is missing."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import llama_index.core
import pytest
from llama_index.core import set_global_tokenizer
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, ImageNode, MediaResource, MetadataMode, Node, NodeWithScore, TextNode
from llama_index.core.utils import get_tokenizer
from pydantic import ValidationError
from rag_rerank import CalibrationWarning, ConfigError, Context, Packing
from rag_rerank.testing import ScriptedReranker

from llama_index.postprocessor.rag_rerank import RagRerank

QUERY = "how deep is Lake Garda?"
TEXT = "Lake Garda is in Italy. It is 346 metres deep. Sirmione lies on its southern shore."


def chunks(**node: Any) -> list[NodeWithScore]:
    """Return three chunks, the first and the last of one page with an overlap."""
    chunks = ((TEXT[24:47], "garda", 24), ("K2 is 8,611 metres high.", "k2", 0), (TEXT[:30], "garda", 0))
    return [
        NodeWithScore(
            node=TextNode(text=text, id_=f"node-{i}", metadata={"page": page, "start": start}, **node), score=0.5
        )
        for i, (text, page, start) in enumerate(chunks)
    ]


def rerank(**options: Any) -> RagRerank:
    return RagRerank(ScriptedReranker(by_text={}, default=1.0), metadata_mode="none", **options)


def read(nodes: list[NodeWithScore]) -> str:
    """Return what the host's synthesizers give the LLM to read."""
    return "\n\n".join(node.get_content(MetadataMode.LLM) for node in nodes)


def test_the_budget_counts_what_the_llm_reads_metadata_included() -> None:
    contexts: list[Context] = []
    nodes = chunks(excluded_llm_metadata_keys=["start"])
    before = copy.deepcopy(nodes)
    out = rerank(context={"max_tokens": 71, "tokenizer": len}, on_context=contexts.append).postprocess_nodes(
        nodes, query_str=QUERY
    )
    assert nodes == before
    assert [node.node for node in out] == [nodes[0].node, nodes[1].node]
    assert [id(node.node) for node in out] == [id(nodes[0].node), id(nodes[1].node)]
    assert out[0].score == 1.0
    assert read(out) == contexts[0].text
    assert len(read(out)) == contexts[0].tokens == 71
    assert [(drop.hit.id, drop.reason) for drop in contexts[0].dropped] == [("node-2", "max_tokens")]


async def test_async_gives_what_sync_gives(events: list[Any]) -> None:
    packing = rerank(context=Packing(max_tokens=90, tokenizer=len, trim="sentences"))
    out = packing.postprocess_nodes(chunks(), query_str=QUERY)
    assert await packing.apostprocess_nodes(chunks(), query_str=QUERY) == out
    first, second = (event.tags for event in events if event.class_name() == "ReRankEndEvent")
    assert [drop["reason"] for drop in first["dropped"]] == [drop["reason"] for drop in second["dropped"]]
    assert json.loads(json.dumps(first)) == first


def test_neighbours_become_one_node_that_names_them_and_shows_the_llm_the_text_alone() -> None:
    context = Packing(merge="characters", source="page", position="start")
    out = rerank(context=context).postprocess_nodes(chunks(), query_str=QUERY)
    assert read(out[:1]) == out[0].text == TEXT[:47]
    assert (out[0].node_id, out[0].metadata) == (
        "node-0",
        {"page": "garda", "start": 24, "merged_ids": ["node-2", "node-0"]},
    )
    assert read(out) == TEXT[:47] + "\n\nK2 is 8,611 metres high."
    assert "merged_ids" not in out[0].get_content(MetadataMode.EMBED)
    assert "page: garda" in out[0].get_content(MetadataMode.EMBED)


@pytest.mark.parametrize("kind", ["text", "multimodal"])
def test_a_trimmed_node_says_which_characters_are_left_and_the_original_stays(kind: str) -> None:
    node = TextNode(text=TEXT) if kind == "text" else Node(text_resource=MediaResource(text=TEXT))
    context = {"max_tokens": 50, "tokenizer": len, "trim": "sentences"}
    (out,) = rerank(context=context).postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
    assert read([out]) == TEXT[:46]
    assert out.metadata == {"trimmed": [0, 46]}
    assert (node.get_content(), node.metadata) == (TEXT, {})


def test_a_node_with_its_relevant_sentences_says_which_parts_are_left() -> None:
    text = "Lake Garda is 346 m deep. It has boats. Nobody asked about fish. How deep lake Garda is, is well known."
    node = TextNode(text=text, metadata={"page": "garda"})
    postprocessor = RagRerank({"type": "spans", "reranker": "lexical"}, context={"trim": "relevant"})
    (out,) = postprocessor.postprocess_nodes([NodeWithScore(node=node)], query_str="how deep is lake Garda?")
    before, parts = node.get_content(MetadataMode.LLM), out.metadata["trimmed_parts"]
    assert read([out]) == " … ".join(before[first:end] for first, end in parts)
    assert read([out]).startswith("page: garda") and "boats" not in read([out])
    assert out.metadata["trimmed"] == [0, parts[-1][1]]
    assert "trimmed_parts" not in out.get_content(MetadataMode.EMBED)


def test_a_node_without_text_is_left_out_and_reported() -> None:
    contexts: list[Context] = []
    image = NodeWithScore(node=ImageNode(image_url="http://127.0.0.1/x.png", metadata={"file": "x.png"}))
    out = rerank(context={}, on_context=contexts.append).postprocess_nodes([image, *chunks()], query_str=QUERY)
    assert len(out) == 3
    assert [(drop.hit.id, drop.reason) for drop in contexts[0].dropped] == [(image.node_id, "blank")]


def test_top_k_is_how_many_the_context_chooses_from() -> None:
    out = rerank(top_k=2, context={"per_source": 1, "source": "page"}).postprocess_nodes(
        [chunks()[0], chunks()[2], chunks()[1]], query_str=QUERY
    )
    assert [node.node_id for node in out] == ["node-0"]


def test_a_threshold_that_was_not_applied_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    context = {"min_score": 0.5, "min_score_scale": "sigmoid"}
    assert len(RagRerank("lexical", context=context).postprocess_nodes(chunks(), query_str=QUERY)) == 3
    assert "context: min_score=0.5 was not applied: it was written for sigmoid scores" in caplog.text


def test_it_round_trips_with_its_options() -> None:
    options = {"max_tokens": 50, "tokenizer": "o200k_base", "duplicates": 0.8}
    packing = RagRerank("lexical", context=options)
    assert json.loads(packing.to_json())["context"] == options
    twins = [RagRerank.from_dict(packing.to_dict()), RagRerank.from_json(packing.to_json())]
    twins += [pickle.loads(pickle.dumps(packing)), copy.deepcopy(packing)]
    assert [twin.context for twin in twins] == [Packing(**options)] * 4


def test_a_function_works_but_is_not_serialised_as_something_else() -> None:
    packing = RagRerank("lexical", context=Packing(max_tokens=50, tokenizer=lambda text: len(text)))
    assert len(copy.deepcopy(packing).postprocess_nodes(chunks(), query_str=QUERY)) == 1
    for way in (packing.to_dict, packing.to_json, lambda: pickle.dumps(packing)):
        with pytest.raises(ConfigError, match="live object"):
            way()


def test_a_wrong_option_is_the_librarys_own_error() -> None:
    with pytest.raises(ConfigError, match=r"^context: unknown option .* did you mean 'max_tokens'"):
        RagRerank("lexical", context={"max_token": 3})
    with pytest.raises(ValidationError, match="context"):
        RagRerank("lexical", context=3)


def test_duplicates_are_found_by_the_text_and_not_by_the_metadata() -> None:
    """Metadata would hide that two copies are one, and make all short chunks of one file alike."""
    contexts: list[Context] = []
    title = "a long title that all chunks of this file have in common, whatever it is that they say themselves"
    texts = ("K2 is high.", "Garda is deep.", "K2  is high.")
    nodes = [NodeWithScore(node=TextNode(text=t, metadata={"title": title, "page": i})) for i, t in enumerate(texts)]
    for duplicates in ("exact", 0.6):
        out = rerank(context={"duplicates": duplicates}, on_context=contexts.append).postprocess_nodes(
            nodes, query_str=QUERY
        )
        assert [node.node for node in out] == [node.node for node in nodes[:2]]
        assert [(drop.hit.id, drop.duplicate_of) for drop in contexts[-1].dropped] == [
            (nodes[2].node_id, nodes[0].node_id)
        ]
    assert read(out) == contexts[-1].text
    assert title in contexts[-1].text


def test_neighbours_that_the_hosts_splitter_made_are_merged_by_the_places_that_it_set() -> None:
    document = Document(
        text=" ".join(f"This is the sentence with the number {i}." for i in range(30)), id_="a document"
    )
    chunks = SentenceSplitter(chunk_size=60, chunk_overlap=20).get_nodes_from_documents([document])
    assert len(chunks) > 3
    context = {"merge": "characters", "source": "ref_doc_id", "position": "start_char_idx"}
    (out,) = rerank(context=context).postprocess_nodes([NodeWithScore(node=chunk) for chunk in chunks], query_str=QUERY)
    assert out.text == document.text
    assert out.metadata == {"merged_ids": [chunk.node_id for chunk in chunks]}


def test_a_tokenizer_that_raises_is_named_with_its_place() -> None:
    options = {"max_tokens": 9, "tokenizer": lambda text: 1 // 0}
    with pytest.raises(ConfigError, match=r"^context\.tokenizer: the function raised ZeroDivisionError"):
        rerank(context=options).postprocess_nodes(chunks(), query_str=QUERY)


# without a tokenizer, LlamaIndex's own counts


@pytest.fixture
def host_tokenizer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    monkeypatch.setattr(llama_index.core, "global_tokenizer", None)
    yield set_global_tokenizer


async def test_the_budget_is_counted_by_the_tokenizer_that_the_application_set(
    host_tokenizer: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    contexts: list[Context] = []
    packing = rerank(context={"max_tokens": 11}, on_context=contexts.append)
    nodes = chunks(excluded_llm_metadata_keys=["page", "start"])
    host_tokenizer(str.split)
    outs = [packing.postprocess_nodes(nodes, query_str=QUERY), await packing.apostprocess_nodes(nodes, query_str=QUERY)]
    for out, context in zip(outs, contexts, strict=True):
        assert [node.node_id for node in out] == ["node-0", "node-1"]
        assert context.tokens == len(read(out).split()) == 10
        assert context.notes == ()  # nothing is estimated
    host_tokenizer(list)  # as many as characters; the next call counts with it
    assert [node.node_id for node in packing.postprocess_nodes(nodes, query_str=QUERY)] == ["node-0"]
    assert contexts[-1].tokens is not None and contexts[-1].tokens <= 11
    written = RagRerank("lexical", context=packing.context).to_dict()
    assert written["context"] == {"max_tokens": 11}
    assert RagRerank.from_dict(written).context == packing.context == Packing(max_tokens=11)


def test_by_default_that_is_the_encoding_of_the_host(host_tokenizer: Callable[[Any], None]) -> None:
    contexts: list[Context] = []
    context = Packing(max_tokens=60, trim="sentences")
    node = NodeWithScore(node=TextNode(text=" ".join(f"Sentence number {i} has words." for i in range(40))))
    (out,) = rerank(context=context, on_context=contexts.append).postprocess_nodes([node], query_str=QUERY)
    assert contexts[0].tokens == len(get_tokenizer()(read([out])))
    assert 50 < contexts[0].tokens <= 60


def test_a_tokenizer_of_ones_own_goes_before_that_of_the_host(host_tokenizer: Callable[[Any], None]) -> None:
    def refuse(text: str) -> list[str]:
        raise AssertionError("the host's tokenizer is not asked")

    host_tokenizer(refuse)
    contexts: list[Context] = []
    for context in ({"max_tokens": 200, "tokenizer": len}, {"duplicates": "exact"}):
        rerank(context=context, on_context=contexts.append).postprocess_nodes(chunks(), query_str=QUERY)
    assert (contexts[0].tokens is None, contexts[1].tokens is None) == (False, True)


@pytest.mark.parametrize("kept", [True, False])
def test_no_nodes_where_it_is_improbable_that_any_answers(kept: bool, caplog: pytest.LogCaptureFixture) -> None:
    fitted = {
        **{"reranker": "scripted", "scale": "unbounded", "identity": "other", "data": "d", "fingerprint": "f"},
        **{"relevant": [1], "queries": 9, "pairs": 18, "prior": 0.5, "version": "0", "date": "2026-12-01"},
        **{"model": None, "unjudged": "not relevant", "before": None, "after": {"ece": 0, "brier": 0, "log_loss": 0}},
    }
    map = {"weights": {"top": 0.0, "lead": 0.0}, "intercept": 1.0 if kept else -1.0, "auroc": 0.8, "fitted": fitted}
    spec = {"type": "answerable", "reranker": "lexical", "map": {**map, "false_accepts": None}}
    with pytest.warns(CalibrationWarning):
        packing = RagRerank(spec, context={"answerable": 0.5})
        here = packing.postprocess_nodes(chunks(), query_str=QUERY)
        there = asyncio.run(packing.apostprocess_nodes(chunks(), query_str=QUERY))
    assert len(here) == len(there) == (3 if kept else 0)
    assert ("no text is in the context: the probability that a text answers is 0.2689" in caplog.text) is not kept


def test_an_answerable_that_nobody_gives_names_the_command() -> None:
    with pytest.raises(ConfigError, match=r"^context\.answerable: .* rag-rerank calibrate JUDGED --answerable"):
        RagRerank("lexical", context={"answerable": 0.5}).postprocess_nodes(chunks(), query_str=QUERY)

from __future__ import annotations

import copy
import json
import logging
import math
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rag_rerank
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import (
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from pydantic import ValidationError
from rag_rerank import BackendUnavailable, Cascade, ConfigError, Fallback, InputError, Ranking, Stage, build
from rag_rerank.testing import ScriptedReranker
from rag_rerank.text.unicode import is_blank

from llama_index.postprocessor.rag_rerank import RagRerank

QUERY = "how warm must a bearded dragon be kept?"
TEXTS = ("Cranes migrate in autumn.", "A dragon wants shade at noon.", "A bearded dragon must be kept warm.")


def nodes_of(*texts: str) -> list[NodeWithScore]:
    """Return nodes as a first stage gives them: with falling scores of its own."""
    return [NodeWithScore(node=TextNode(text=text), score=0.9 - i / 10) for i, text in enumerate(texts)]


def order(nodes: list[NodeWithScore]) -> list[str]:
    return [node.get_content() for node in nodes]


# what goes in and what comes out


def test_class() -> None:
    names_of_base_classes = [base.__name__ for base in RagRerank.__mro__]
    assert BaseNodePostprocessor.__name__ in names_of_base_classes
    assert RagRerank.class_name() == "RagRerank"


def test_the_most_relevant_node_comes_first_with_a_plain_float_of_the_new_scale() -> None:
    ranked = RagRerank("lexical").postprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)
    assert order(ranked) == [TEXTS[2], TEXTS[1], TEXTS[0]]
    expected = rag_rerank.build("lexical").rerank(QUERY, TEXTS)
    assert [node.score for node in ranked] == [hit.score for hit in expected]
    assert all(type(node.score) is float for node in ranked)
    json.dumps([node.to_dict() for node in ranked])


async def test_async_gives_what_sync_gives() -> None:
    rerank = RagRerank("lexical", top_k=2)
    nodes = nodes_of(*TEXTS)
    assert await rerank.apostprocess_nodes(nodes, query_str=QUERY) == rerank.postprocess_nodes(nodes, query_str=QUERY)


async def test_async_is_native(remote: Any) -> None:
    ranked = await RagRerank(remote()).apostprocess_nodes(nodes_of("longer", "short"), query_str=QUERY)
    assert order(ranked) == ["short", "longer"]


@pytest.mark.parametrize(("top_k", "count"), [(None, 3), (1, 1), (3, 3), (99, 3)])
def test_top_k_is_how_many_come_back(top_k: int | None, count: int) -> None:
    ranked = RagRerank("lexical", top_k=top_k).postprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)
    assert order(ranked) == [TEXTS[2], TEXTS[1], TEXTS[0]][:count]


def test_a_missing_query_is_the_hosts_own_error() -> None:
    for nodes in (nodes_of(*TEXTS), []):
        with pytest.raises(ValueError, match=r"^Missing query bundle in extra info\.$"):
            RagRerank("lexical").postprocess_nodes(nodes)


async def test_a_missing_query_is_the_hosts_own_error_in_async_too() -> None:
    with pytest.raises(ValueError, match=r"^Missing query bundle in extra info\.$"):
        await RagRerank("lexical").apostprocess_nodes(nodes_of(*TEXTS))


def test_a_blank_query_is_an_input_error() -> None:
    with pytest.raises(InputError, match="query is blank"):
        RagRerank("lexical").postprocess_nodes(nodes_of(*TEXTS), query_str=" ")


async def test_no_nodes_give_no_nodes_without_a_call_or_an_event(events: list[Any]) -> None:
    reranker = ScriptedReranker()
    rerank = RagRerank(reranker)
    assert rerank.postprocess_nodes([], query_str=QUERY) == []
    assert await rerank.apostprocess_nodes([], query_str=QUERY) == []
    assert reranker.calls == []
    assert [event for event in events if event.class_name().startswith("ReRank")] == []


def test_the_nodes_are_the_same_objects_in_new_wrappers_and_the_input_stays_as_it_was() -> None:
    nodes = [NodeWithScore(node=TextNode(text=text, metadata={"nested": {"n": [i]}})) for i, text in enumerate(TEXTS)]
    before = copy.deepcopy(nodes)
    ranked = RagRerank("lexical").postprocess_nodes(nodes, query_str=QUERY)
    assert nodes == before
    assert [id(node.node) for node in ranked] == [id(nodes[i].node) for i in (2, 1, 0)]
    assert not {id(node) for node in ranked} & {id(node) for node in nodes}


def test_a_subclass_of_the_wrapper_keeps_its_class_and_fields() -> None:
    class Cited(NodeWithScore):
        page: int

    (ranked,) = RagRerank("lexical").postprocess_nodes([Cited(node=TextNode(text="warm"), page=7)], query_str=QUERY)
    assert isinstance(ranked, Cited)
    assert ranked.page == 7


def test_a_node_that_comes_twice_is_ranked_twice() -> None:
    node = TextNode(text=TEXTS[2], id_="same")
    other = TextNode(text=TEXTS[0], id_="same")
    nodes = [NodeWithScore(node=other), NodeWithScore(node=node), NodeWithScore(node=node)]
    ranked = RagRerank("lexical").postprocess_nodes(nodes, query_str=QUERY)
    assert [item.node is node for item in ranked] == [True, True, False]


# what the reranker reads


def read_by(nodes: list[Any], **options: Any) -> list[str]:
    reranker = ScriptedReranker()
    RagRerank(reranker, **options).postprocess_nodes([NodeWithScore(node=node) for node in nodes], query_str=QUERY)
    return [text for _, texts in reranker.calls for text in texts]


def test_metadata_is_read_as_the_embedding_model_reads_it_unless_said_otherwise() -> None:
    node = TextNode(
        text="body",
        metadata={"title": "T", "path": "p", "page": 3},
        excluded_embed_metadata_keys=["path"],
        excluded_llm_metadata_keys=["page"],
    )
    assert read_by([node]) == ["title: T\npage: 3\n\nbody"]
    assert read_by([node], metadata_mode=MetadataMode.LLM) == ["title: T\npath: p\n\nbody"]
    assert read_by([node], metadata_mode="none") == ["body"]


def test_every_kind_of_node_is_read_by_its_text() -> None:
    nodes = [
        Document(text="a document"),
        IndexNode(text="an index node", index_id="i"),
        ImageNode(text="a caption", image_url="http://127.0.0.1/x.png"),
        Node(text_resource=MediaResource(text="a multimodal node")),
    ]
    assert read_by(nodes) == ["a document", "an index node", "a caption", "a multimodal node"]


def test_nodes_without_text_are_not_sent_and_stand_last_in_their_order_without_a_score() -> None:
    image = ImageNode(image_url="http://127.0.0.1/x.png", metadata={"file": "x.png"})
    picture = Node(image_resource=MediaResource(data=b"pixels"))
    blank = TextNode(text=" \n")
    nodes = [NodeWithScore(node=node, score=0.9) for node in (image, picture, blank)] + nodes_of(*TEXTS)
    reranker = ScriptedReranker(by_text={TEXTS[1]: 2.0, TEXTS[2]: 1.0})
    ranked = RagRerank(reranker).postprocess_nodes(nodes, query_str=QUERY)
    assert reranker.calls == [(QUERY, TEXTS)]
    assert [node.score for node in ranked] == [2.0, 1.0, 0.0, None, None, None]
    assert [ranked[3].node, ranked[4].node, ranked[5].node] == [image, picture, blank]
    assert nodes[0].score == 0.9


def test_only_nodes_without_text_come_back_as_they_stood() -> None:
    nodes = [NodeWithScore(node=ImageNode(image_url=f"http://127.0.0.1/{i}.png"), score=0.5) for i in range(3)]
    ranked = RagRerank("lexical").postprocess_nodes(nodes, query_str=QUERY)
    assert [node.node for node in ranked] == [node.node for node in nodes]
    assert [node.score for node in ranked] == [None] * 3


def test_nodes_that_stopped_in_an_early_stage_follow_without_a_score() -> None:
    cascade = Cascade(stages=(Stage(reranker=build("lexical")), Stage(reranker=ScriptedReranker(default=3), depth=1)))
    ranked = RagRerank(cascade).postprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)
    assert [(node.get_content(), node.score) for node in ranked] == [
        (TEXTS[2], 3.0),
        (TEXTS[1], None),
        (TEXTS[0], None),
    ]


def test_a_first_stage_score_that_is_not_a_number_does_no_harm() -> None:
    nodes = nodes_of(*TEXTS)
    nodes[0].score, nodes[1].score = math.nan, math.inf
    assert order(RagRerank("lexical").postprocess_nodes(nodes, query_str=QUERY))[0] == TEXTS[2]


# how it is made


def test_a_name_a_mapping_a_file_and_a_reranker_make_the_same(tmp_path: Path) -> None:
    file = tmp_path / "rerank.yaml"
    file.write_text("type: lexical\nk1: 1.5\n")
    config = {"type": "lexical", "k1": 1.5}
    rerankers = [RagRerank(spec).reranker for spec in (config, file, str(file), build(config))]
    assert rerankers == [build(config)] * 4
    assert RagRerank("lexical").reranker == RagRerank(reranker="lexical").reranker == build("lexical")


def test_a_wrong_config_is_the_librarys_own_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'lexical'"):
        RagRerank("lexicl")
    with pytest.raises(ConfigError, match="k1"):
        RagRerank({"type": "lexical", "k1": "much"})


@pytest.mark.parametrize("options", [{"metadata_mode": "most"}, {"on_ranking": 3}])
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        RagRerank("lexical", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topn": 3}, "^unknown option 'topn' of RagRerank; did you mean 'top_n'"),
        ({"max_token": 3}, "^unknown option 'max_token' of RagRerank; known: .*context"),
        ({"top_k": 0}, "^top_k: must be a whole number of at least 1, got 0"),
        ({"top_n": 0}, "^top_n: must be a whole number"),
        ({"k": -1}, "^k: must be a whole number"),
        ({"top_n": 2.5}, "^top_n: must be a whole number"),
        ({"top_k": True}, "^top_k: must be a whole number"),
        ({"top_k": "3"}, "^top_k: must be a whole number"),
        ({"top_k": 3, "top_n": 5}, "^top_k=3 and top_n=5 are one option under two names; give top_k alone"),
        ({"k": 3, "top_n": 3}, "^top_n=3 and k=3 are one option under two names"),
    ],
)
def test_a_wrong_option_of_our_own_is_one_clear_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RagRerank("lexical", **options)


@pytest.mark.parametrize("name", ["top_k", "top_n", "k"])
def test_the_cutoff_has_the_names_that_users_of_other_rerankers_know(name: str) -> None:
    options: Any = {name: np.int64(2)}
    rerank = RagRerank("lexical", **options, **{other: None for other in ("top_k", "top_n", "k") if other != name})
    assert type(rerank.top_k) is int
    assert order(rerank.postprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)) == [TEXTS[2], TEXTS[1]]
    assert rerank.to_dict()["top_k"] == RagRerank.from_dict(rerank.to_dict()).top_k == 2
    assert RagRerank.from_dict({"reranker": "lexical", name: 2}).top_k == 2


def test_the_reranker_cannot_be_swapped_unseen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RagRerank("lexical").reranker = "embedded"  # type: ignore[assignment]


# serialisation


def twins(rerank: RagRerank) -> list[RagRerank]:
    return [
        RagRerank.from_dict(rerank.to_dict()),
        RagRerank.from_json(rerank.to_json()),
        pickle.loads(pickle.dumps(rerank)),
        copy.deepcopy(rerank),
    ]


def test_it_round_trips_with_all_its_options() -> None:
    cascade = {"type": "cascade", "stages": [{"reranker": "lexical", "depth": 50}, {"reranker": {"type": "lexical"}}]}
    rerank = RagRerank(cascade, top_k=2, metadata_mode=MetadataMode.NONE)
    assert json.loads(rerank.to_json()) == {
        "class_name": "RagRerank",
        "reranker": {
            "type": "cascade",
            "stages": [{"reranker": {"type": "lexical"}, "depth": 50}, {"reranker": {"type": "lexical"}}],
        },
        "top_k": 2,
        "instruction": None,
        "context": None,
        "metadata_mode": "none",
    }
    for twin in twins(rerank):
        assert twin.reranker == rerank.reranker
        assert (twin.top_k, twin.metadata_mode) == (2, MetadataMode.NONE)
        assert order(twin.postprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)) == [TEXTS[2], TEXTS[1]]


def test_no_key_is_ever_shown(remote: Any) -> None:
    rerank = RagRerank({"type": "remote", "api_key": "sk-hidden"})
    assert rerank.reranker == remote(api_key=rag_rerank.Secret("sk-hidden"))
    outputs = [repr(rerank), str(rerank), str(rerank.to_dict()), rerank.to_json(), rerank.model_dump_json()]
    for spec, options in (
        ({"type": "remote", "api_key": "sk-hidden"}, {"top_n": 0}),
        ({"type": "remote", "api_key": "sk-hidden", "modle": "x"}, {}),
        ({"type": "remote", "api_key": "sk-hidden"}, {"api_key": "sk-hidden"}),
    ):
        with pytest.raises(ValueError, match=r"\w") as caught:
            RagRerank(spec, **options)
        outputs.append(str(caught.value))
    assert not any("sk-hidden" in text for text in outputs)


def test_a_reference_to_a_key_round_trips(remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMOTE_KEY", "sk-hidden")
    rerank = RagRerank({"type": "remote", "api_key": "${REMOTE_KEY}"})
    assert rerank.to_dict()["reranker"] == {"type": "remote", "api_key": "${REMOTE_KEY}"}
    assert RagRerank.from_dict(rerank.to_dict()).reranker == rerank.reranker


def test_an_injected_client_works_but_is_not_serialised_as_something_else(remote: Any) -> None:
    rerank = RagRerank(remote(client=threading.Lock()))
    assert order(rerank.postprocess_nodes(nodes_of("longer", "short"), query_str=QUERY)) == ["short", "longer"]
    assert copy.deepcopy(rerank).reranker.client is rerank.reranker.client  # type: ignore[attr-defined]
    ways: list[Callable[[], object]] = [rerank.to_dict, rerank.to_json, lambda: pickle.dumps(rerank)]
    for way in ways:
        with pytest.raises(ConfigError, match="live object"):
            way()
    with pytest.raises(ValueError, match="live object"):
        rerank.model_dump()


def test_pickling_leaves_a_hook_that_does_not_pickle_out_of_the_copy_and_in_the_original() -> None:
    rankings: list[Ranking] = []
    rerank = RagRerank("lexical", on_ranking=lambda ranking: rankings.append(ranking))
    assert pickle.loads(pickle.dumps(rerank)).on_ranking is None
    rerank.postprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)
    assert len(rankings) == 1


# what the user and the host hear


def test_on_ranking_gets_the_whole_story_of_a_call() -> None:
    rankings: list[Ranking] = []
    nodes = nodes_of(*TEXTS, "")
    RagRerank("lexical", top_k=2, on_ranking=rankings.append).postprocess_nodes(nodes, query_str=QUERY)
    (ranking,) = rankings
    assert ranking.query == QUERY
    assert ranking.scale == "unbounded"
    assert [hit.id for hit in ranking] == [nodes[2].node_id, nodes[1].node_id]
    assert [hit.candidate.score for hit in ranking] == [nodes[2].score, nodes[1].score]
    assert ranking.usage.texts == 3
    assert ranking.trace.unscored == {nodes[3].node_id: "blank text"}
    assert all(hit.coverage is not None for hit in ranking)


async def test_on_ranking_is_called_in_async_too() -> None:
    rankings: list[Ranking] = []
    await RagRerank("lexical", on_ranking=rankings.append).apostprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)
    assert [ranking.query for ranking in rankings] == [QUERY]


def test_threads_that_share_it_each_hear_their_own_ranking() -> None:
    here = threading.local()
    rerank = RagRerank("lexical", on_ranking=lambda ranking: setattr(here, "ranking", ranking))

    def ask(i: int) -> bool:
        nodes = nodes_of(*(f"text {n} of {i}" for n in range(i % 5 + 1)))
        ranked = rerank.postprocess_nodes(nodes, query_str=f"text {i}")
        return bool(here.ranking.query == f"text {i}" and [h.score for h in here.ranking] == [n.score for n in ranked])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(40)))


def test_what_on_ranking_raises_is_not_swallowed() -> None:
    def refuse(ranking: Ranking) -> None:
        raise RuntimeError(f"{len(ranking)} hits are too few")

    with pytest.raises(RuntimeError, match="too few"):
        RagRerank("lexical", on_ranking=refuse).postprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)


def test_a_fallback_that_answered_is_logged_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    rankings: list[Ranking] = []
    fallback = Fallback(members=(ScriptedReranker(error=BackendUnavailable("down")), build("lexical")))
    with caplog.at_level(logging.WARNING):
        ranked = RagRerank(fallback, on_ranking=rankings.append).postprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)
    assert order(ranked)[0] == TEXTS[2]
    assert "lexical answered in place of scripted (BackendUnavailable)" in caplog.text
    assert rankings[0].degraded


def story(events: list[Any]) -> list[str]:
    return [event.class_name() for event in events]


async def test_events_come_in_pairs_inside_their_own_span(events: list[Any], spans: Any) -> None:
    nodes = nodes_of(*TEXTS)
    rerank = RagRerank("lexical", top_k=2)
    for way in ("_postprocess_nodes", "_apostprocess_nodes"):
        events.clear()
        if way == "_postprocess_nodes":
            ranked = rerank.postprocess_nodes(nodes, QueryBundle(QUERY))
        else:
            ranked = await rerank.apostprocess_nodes(nodes, QueryBundle(QUERY))
        assert story(events) == ["ReRankStartEvent", "ReRankEndEvent"]
        start, end = events
        assert (start.query.query_str, start.nodes, start.top_n, start.model_name) == (QUERY, nodes, 2, "lexical")
        assert end.nodes == ranked
        assert start.span_id == end.span_id == spans.completed_spans[-1].id_
        assert start.span_id.startswith(f"RagRerank.{way}-")
    assert not spans.open_spans and not spans.dropped_spans


def test_the_end_event_has_scale_degradation_and_trace(events: list[Any]) -> None:
    RagRerank("lexical").postprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)
    tags = events[-1].tags
    assert (tags["scale"], tags["degraded"]) == ("unbounded", [])
    assert rag_rerank.Trace.from_dict(json.loads(json.dumps(tags["trace"]))).step == "lexical"


def test_without_top_k_the_start_event_says_how_many_there_are(events: list[Any]) -> None:
    RagRerank("lexical").postprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)
    assert events[0].top_n == 3


async def test_a_failed_call_drops_its_span_and_reaches_the_caller(events: list[Any], spans: Any) -> None:
    rerank = RagRerank(ScriptedReranker(error=BackendUnavailable("down")))
    with pytest.raises(BackendUnavailable, match="down"):
        rerank.postprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)
    with pytest.raises(BackendUnavailable, match="down"):
        await rerank.apostprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)
    assert story(events) == ["ReRankStartEvent", "SpanDropEvent"] * 2
    assert [span.id_.partition("-")[0] for span in spans.dropped_spans] == [
        "RagRerank._postprocess_nodes",
        "RagRerank._apostprocess_nodes",
    ]
    assert not spans.open_spans


def test_callbacks_hear_the_beginning_the_end_and_a_failure() -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    manager = CallbackManager([debug])
    nodes = nodes_of(*TEXTS)
    ranked = RagRerank("lexical", top_k=1, callback_manager=manager).postprocess_nodes(nodes, query_str=QUERY)
    ((start, end),) = debug.get_event_pairs(CBEventType.RERANKING)
    assert start.payload == {
        EventPayload.NODES: nodes,
        EventPayload.MODEL_NAME: "lexical",
        EventPayload.QUERY_STR: QUERY,
        EventPayload.TOP_K: 1,
    }
    assert end.payload == {EventPayload.NODES: ranked}

    failing = RagRerank(ScriptedReranker(error=BackendUnavailable("down")), callback_manager=manager)
    with pytest.raises(BackendUnavailable):
        failing.postprocess_nodes(nodes, query_str=QUERY)
    _, failed = debug.get_event_pairs(CBEventType.RERANKING)[-1]
    assert failed.payload is not None
    assert isinstance(failed.payload[EventPayload.EXCEPTION], BackendUnavailable)


# nothing is lost, whatever the nodes

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
texts = st.sampled_from(["", " \n", "warm dragon", "cold crane"]) | st.text(max_size=20)
any_node = st.builds(
    TextNode,
    id_=st.sampled_from(["a", "b"]) | st.uuids().map(str),
    text=texts,
    metadata=st.dictionaries(st.text(max_size=8), json_values, max_size=3),
) | st.builds(ImageNode, text=texts, image_url=st.just("http://127.0.0.1/x.png"))
any_nodes = st.lists(
    st.builds(NodeWithScore, node=any_node, score=st.none() | st.floats(-5, 5)), min_size=1, max_size=8
)


@given(nodes=any_nodes, top_k=st.none() | st.integers(1, 9), mode=st.sampled_from(MetadataMode))
def test_whatever_goes_in_comes_out_once_and_unchanged(
    nodes: list[NodeWithScore], top_k: int | None, mode: MetadataMode
) -> None:
    nodes += nodes[:1]
    before = copy.deepcopy(nodes)
    ranked = RagRerank("lexical", top_k=top_k, metadata_mode=mode).postprocess_nodes(nodes, query_str=QUERY)
    assert nodes == before
    everything = RagRerank("lexical", metadata_mode=mode).postprocess_nodes(nodes, query_str=QUERY)
    assert sorted(id(node.node) for node in everything) == sorted(id(node.node) for node in nodes)
    assert [id(node.node) for node in ranked] == [id(node.node) for node in everything][:top_k]
    scored = [node.score for node in everything if node.score is not None]
    assert scored == sorted(scored, reverse=True)
    for node in everything:
        text = node.get_content(mode) if node.get_content(MetadataMode.NONE).strip() else ""
        assert (node.score is None) == is_blank(text)
        assert node.score is None or type(node.score) is float

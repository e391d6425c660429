"""The caller's nodes: any iterable of them, taken once; anything else is refused by a sentence that helps."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pandas as pd
import pytest
from click.testing import CliRunner
from llama_index.core.schema import Document, NodeWithScore, QueryBundle, TextNode
from rag_rerank import Candidate, InputError, PointwiseReranker, Ranking, Scale, Scores, recording
from rag_rerank.cli import app
from rag_rerank.records.reader import read
from rag_rerank.testing import ScriptedReranker

from llama_index.postprocessor.rag_rerank import RagRerank

QUERY = "how warm must a bearded dragon be kept?"
TEXTS = ("Cranes migrate in autumn.", "A dragon wants shade at noon.", "A bearded dragon must be kept warm.")


def nodes_of(*texts: str) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text, id_=f"n{i}"), score=0.5) for i, text in enumerate(texts)]


def order(nodes: list[NodeWithScore]) -> list[str]:
    return [node.get_content() for node in nodes]


ITERABLES: list[Callable[[list[NodeWithScore]], Any]] = [
    tuple,
    iter,
    lambda nodes: (node for node in nodes),
    lambda nodes: filter(lambda node: node.score > 0.1, nodes),
    lambda nodes: map(copy.copy, nodes),
    lambda nodes: dict(enumerate(nodes)).values(),
    lambda nodes: pd.Series(nodes, dtype=object),
]


@pytest.mark.parametrize("make", ITERABLES)
@pytest.mark.parametrize("way", ["public", "private"])
async def test_any_iterable_of_nodes_will_do(
    make: Callable[[list[NodeWithScore]], Any], way: str, events: list[Any]
) -> None:
    rerank = RagRerank("lexical", top_k=2)
    expected = [TEXTS[2], TEXTS[1]]
    if way == "public":
        assert order(rerank.postprocess_nodes(make(nodes_of(*TEXTS)), query_str=QUERY)) == expected
        assert order(await rerank.apostprocess_nodes(make(nodes_of(*TEXTS)), query_str=QUERY)) == expected
    else:
        query = QueryBundle(QUERY)
        assert order(rerank._postprocess_nodes(make(nodes_of(*TEXTS)), query)) == expected
        assert order(await rerank._apostprocess_nodes(make(nodes_of(*TEXTS)), query)) == expected
    starts = [event for event in events if event.class_name() == "ReRankStartEvent"]
    assert [len(start.nodes) for start in starts] == [3, 3]


async def test_an_empty_iterator_is_no_nodes() -> None:
    reranker = ScriptedReranker()
    assert RagRerank(reranker).postprocess_nodes(iter(()), query_str=QUERY) == []
    assert await RagRerank(reranker).apostprocess_nodes((n for n in ()), query_str=QUERY) == []
    assert reranker.calls == []


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
async def test_a_list_that_changes_while_it_waits_changes_no_result(packed: bool) -> None:
    nodes = nodes_of("short", "the longest of them", "a longer one")
    reranker = Pausing()
    rerank = RagRerank(reranker, context={} if packed else None)
    expected = rerank.postprocess_nodes(list(nodes), query_str=QUERY)
    call = asyncio.ensure_future(rerank.apostprocess_nodes(nodes, query_str=QUERY))
    await reranker.started.wait()
    nodes.reverse()
    nodes.append(nodes_of("one more")[0])
    del nodes[0]
    reranker.may_go_on.set()
    assert await call == expected


WRONG: list[tuple[Any, str]] = [
    ([TextNode(text="a")], r"^nodes\[0\] must be a NodeWithScore, got a TextNode; wrap each node: NodeWithScore\("),
    ([Document(text="a")], r"^nodes\[0\] must be a NodeWithScore, got a Document; wrap each node"),
    (TextNode(text="a"), r"^nodes must be .*, got a TextNode; wrap each node"),
    (
        NodeWithScore(node=TextNode(text="a")),
        r"^nodes must be .* iterable of NodeWithScore, got one; put it into a list",
    ),
    (["a"], r"^nodes\[0\] must be .*, got a str; wrap it: NodeWithScore\(node=TextNode\(text=text\)\)"),
    ([NodeWithScore(node=TextNode(text="a")), None], r"^nodes\[1\] must be a NodeWithScore, got None"),
    ([{"text": "a"}], r"^nodes\[0\] must be .*, got a dict; a node is NodeWithScore\("),
    ([(TextNode(text="a"), 0.5)], r"^nodes\[0\] must be .*, got a tuple"),
    ([Candidate("1", "a")], r"got a Candidate; .*rerank\(query, candidates\)"),
    ("a text", r"^nodes must be .*, got one text"),
    ({"nodes": []}, r"^nodes must be .*, got a dict"),
    (None, r"^nodes must be .*, got None"),
    (pd.DataFrame({"text": ["a"]}), r"^nodes must be .*, got a DataFrame; make nodes of its rows"),
    (pd.DataFrame(), r"^nodes must be .*, got a DataFrame"),
    (pd.Series(["a"]), r"^nodes\[0\] must be .*, got a str"),
]


@pytest.mark.parametrize(("nodes", "message"), WRONG, ids=lambda value: type(value).__name__)
async def test_other_things_are_refused_by_name_before_anything_is_scored(
    nodes: Any, message: str, events: list[Any]
) -> None:
    reranker = ScriptedReranker()
    rerank = RagRerank(reranker)
    with pytest.raises(InputError, match=message):
        rerank.postprocess_nodes(nodes, query_str=QUERY)
    with pytest.raises(InputError, match=message):
        await rerank.apostprocess_nodes(nodes, query_str=QUERY)
    assert reranker.calls == []
    assert not [event for event in events if event.class_name().startswith("ReRank")]


def test_documents_of_langchain_are_sent_to_their_own_adapter() -> None:
    documents = pytest.importorskip("langchain_core.documents")
    with pytest.raises(
        InputError, match=r"got a Document; LangChain's documents go to langchain_rag_rerank\.RagRerank"
    ):
        RagRerank("lexical").postprocess_nodes([documents.Document("a")], query_str=QUERY)


async def test_a_query_may_be_a_text_as_the_second_argument() -> None:
    rerank = RagRerank("lexical", top_k=1)
    assert order(rerank.postprocess_nodes(nodes_of(*TEXTS), QUERY)) == [TEXTS[2]]
    assert order(await rerank.apostprocess_nodes(nodes_of(*TEXTS), QUERY)) == [TEXTS[2]]
    with pytest.raises(ValueError, match="Cannot specify both"):
        rerank.postprocess_nodes(nodes_of(*TEXTS), QUERY, query_str=QUERY)
    wrong: Any
    for wrong in (3, {"query_str": QUERY}):
        with pytest.raises(InputError, match="the query must be a text or a QueryBundle, got a"):
            rerank.postprocess_nodes(nodes_of(*TEXTS), wrong)


# ids: a node's own where no other has it


def ids_of(nodes: list[NodeWithScore]) -> list[str]:
    """Return the ids of the hits, in the order of the nodes."""
    rankings: list[Ranking] = []
    out = RagRerank(ScriptedReranker(), on_ranking=rankings.append).postprocess_nodes(nodes, query_str=QUERY)
    assert [node.node for node in out] == [node.node for node in nodes]  # equal scores keep the order
    assert set(rankings[0].trace.scores) == {hit.id for hit in rankings[0]}
    return [hit.id for hit in rankings[0]]


def node(id: str, text: str = "a") -> NodeWithScore:
    return NodeWithScore(node=TextNode(text=text, id_=id))


def test_a_hit_has_the_id_of_its_node_where_no_other_node_has_it() -> None:
    assert ids_of([node("x"), node("y")]) == ["x", "y"]
    assert ids_of([node("x"), node("y"), node("x")]) == ["0", "y", "2"]
    assert ids_of([node("1"), node("same"), node("same"), node("")]) == ["1", "position 1", "2", "3"]


def test_a_node_that_two_retrievers_found_stays_twice_and_the_record_says_how_it_is_named(tmp_path: Any) -> None:
    shared = TextNode(text=TEXTS[2], id_="shared")
    nodes = [NodeWithScore(node=shared, score=0.9), node("other"), NodeWithScore(node=shared, score=0.3)]
    file = tmp_path / "traces.jsonl"
    with recording(file):
        out = RagRerank("lexical").postprocess_nodes(nodes, query_str=QUERY)
        RagRerank("lexical").postprocess_nodes(nodes[:2], query_str=QUERY)
    assert [item.node_id for item in out] == ["shared", "shared", "other"]
    twice, once = read(file)
    assert [entry.id for entry in twice.candidates] == ["0", "2", "other"]
    assert twice.tags["rag_rerank.ids"] == "2 of 3 are positions: no id of their own, or one that occurs twice"
    assert [entry.id for entry in once.candidates] == ["shared", "other"]
    assert once.tags == {"rag_rerank.host": "llama_index"}


def test_the_end_event_names_nodes_by_their_ids(events: list[Any]) -> None:
    RagRerank("lexical", context={"top_k": 1}).postprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)
    tags = events[-1].tags
    assert set(tags["trace"]["scores"]) == {"n0", "n1", "n2"}
    assert [drop["id"] for drop in tags["dropped"]] == ["n1", "n0"]


@pytest.mark.parametrize("world", ["sync", "async"])
async def test_the_command_line_finds_a_node_by_its_id_and_says_that_it_was_not_packed(
    tmp_path: Any, world: str
) -> None:
    file = tmp_path / "traces.jsonl"
    rerank = RagRerank("lexical", context={"top_k": 1})
    with recording(file):
        if world == "sync":
            rerank.postprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)
        else:
            await rerank.apostprocess_nodes(nodes_of(*TEXTS), query_str=QUERY)
    explanations = {id: CliRunner().invoke(app, ["trace", "show", str(file), "--id", id]) for id in ("n0", "n1", "n2")}
    assert {id: result.exit_code for id, result in explanations.items()} == {"n0": 0, "n1": 0, "n2": 0}
    assert "1 hits are kept" in explanations["n1"].output
    assert "1 hits are kept" not in explanations["n2"].output

from __future__ import annotations

import copy
import json
import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rag_rerank
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import AsyncCallbackManager, CallbackManager
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.load import dumps
from pydantic import ValidationError
from rag_rerank import BackendUnavailable, Cascade, ConfigError, Fallback, InputError, Ranking, Stage, build
from rag_rerank.testing import ScriptedReranker
from rag_rerank.text.unicode import is_blank

from langchain_rag_rerank import RagRerank

QUERY = "how warm must a bearded dragon be kept?"
TEXTS = ("Cranes migrate in autumn.", "A dragon wants shade at noon.", "A bearded dragon must be kept warm.")


def documents_of(*texts: str) -> list[Document]:
    return [Document(text, id=f"doc-{i}", metadata={"source": f"{i}.txt"}) for i, text in enumerate(texts)]


def order(documents: Any) -> list[str]:
    return [document.page_content for document in documents]


# what goes in and what comes out


def test_the_most_relevant_document_comes_first_with_its_score_and_the_scale() -> None:
    ranked = RagRerank("lexical").compress_documents(documents_of(*TEXTS), QUERY)
    expected = rag_rerank.build("lexical").rerank(QUERY, TEXTS)
    assert [(document.id, document.metadata) for document in ranked] == [
        (f"doc-{i}", {"source": f"{i}.txt", "relevance_score": hit.score, "relevance_score_scale": "unbounded"})
        for i, hit in zip((2, 1, 0), expected, strict=True)
    ]
    assert all(type(document.metadata["relevance_score"]) is float for document in ranked)
    json.dumps([document.model_dump() for document in ranked])


async def test_async_gives_what_sync_gives() -> None:
    rerank = RagRerank("lexical", top_k=2)
    documents = documents_of(*TEXTS)
    assert await rerank.acompress_documents(documents, QUERY) == rerank.compress_documents(documents, QUERY)


async def test_async_is_native(remote: Any) -> None:
    ranked = await RagRerank(remote()).acompress_documents(documents_of("longer", "short"), QUERY)
    assert order(ranked) == ["short", "longer"]


@pytest.mark.parametrize(("top_k", "count"), [(None, 3), (1, 1), (3, 3), (99, 3)])
def test_top_k_is_how_many_come_back(top_k: int | None, count: int) -> None:
    ranked = RagRerank("lexical", top_k=top_k).compress_documents(documents_of(*TEXTS), QUERY)
    assert order(ranked) == [TEXTS[2], TEXTS[1], TEXTS[0]][:count]


async def test_no_documents_give_no_documents_without_a_call() -> None:
    reranker = ScriptedReranker()
    rerank = RagRerank(reranker)
    assert rerank.compress_documents([], QUERY) == []
    assert await rerank.acompress_documents((), QUERY) == []
    assert reranker.calls == []


def test_any_sequence_of_documents_will_do() -> None:
    assert order(RagRerank("lexical").compress_documents(tuple(documents_of(*TEXTS)), QUERY))[0] == TEXTS[2]


def test_a_blank_query_is_an_input_error() -> None:
    with pytest.raises(InputError, match="query is blank"):
        RagRerank("lexical").compress_documents(documents_of(*TEXTS), " ")


def test_the_input_stays_as_it_was_and_ids_and_subclasses_are_kept() -> None:
    class Page(Document):
        number: int

    documents = [Page(page_content=text, id=str(i), number=i, metadata={"tags": [i]}) for i, text in enumerate(TEXTS)]
    before = copy.deepcopy(documents)
    ranked = RagRerank("lexical").compress_documents(documents, QUERY)
    assert documents == before
    assert [(type(page), page.id, getattr(page, "number", None)) for page in ranked] == [
        (Page, "2", 2),
        (Page, "1", 1),
        (Page, "0", 0),
    ]
    assert not {id(page) for page in ranked} & {id(page) for page in documents}
    assert ranked[0].metadata["tags"] is documents[2].metadata["tags"]  # a shallow copy


def test_documents_without_an_id_or_with_the_same_id_are_told_apart() -> None:
    documents = [Document(TEXTS[0], id="same"), Document(TEXTS[2], id="same"), Document(TEXTS[2])]
    ranked = RagRerank("lexical").compress_documents(documents, QUERY)
    assert [(document.page_content, document.id) for document in ranked] == [
        (TEXTS[2], "same"),
        (TEXTS[2], None),
        (TEXTS[0], "same"),
    ]


def test_blank_documents_are_not_sent_and_stand_last_with_the_score_none() -> None:
    reranker = ScriptedReranker(by_text={TEXTS[1]: 1.0})
    ranked = RagRerank(reranker).compress_documents(documents_of("", TEXTS[0], " \n", TEXTS[1]), QUERY)
    assert reranker.calls == [(QUERY, (TEXTS[0], TEXTS[1]))]
    assert [(document.id, document.metadata["relevance_score"]) for document in ranked] == [
        ("doc-3", 1.0),
        ("doc-1", 0.0),
        ("doc-0", None),
        ("doc-2", None),
    ]


def test_a_score_of_an_earlier_reranker_does_not_stay_behind() -> None:
    cascade = Cascade(stages=(Stage(reranker=build("lexical")), Stage(reranker=ScriptedReranker(default=3), depth=1)))
    first = RagRerank("lexical").compress_documents(documents_of(*TEXTS), QUERY)
    second = RagRerank(cascade).compress_documents(first, QUERY)
    assert [document.metadata["relevance_score"] for document in second] == [3.0, None, None]


def test_the_key_is_the_users_choice() -> None:
    (document,) = RagRerank("lexical", score_key="bm25").compress_documents([Document(TEXTS[2])], QUERY)
    assert set(document.metadata) == {"bm25", "bm25_scale"}
    (document,) = RagRerank("lexical", score_key=None).compress_documents([Document(TEXTS[2])], QUERY)
    assert document.metadata == {}


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


@pytest.mark.parametrize("options", [{"score_key": ""}, {"on_ranking": 3}])
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
    assert order(rerank.compress_documents(documents_of(*TEXTS), QUERY)) == [TEXTS[2], TEXTS[1]]


def test_the_reranker_cannot_be_swapped_unseen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RagRerank("lexical").reranker = "embedded"  # type: ignore[assignment]


# serialisation


def test_it_round_trips_with_all_its_options() -> None:
    rerank = RagRerank({"type": "lexical", "k1": 1.5}, top_k=2, score_key="bm25")
    node = {"type": "lexical", "k1": 1.5}
    dumped: dict[str, Any] = {"reranker": node, "top_k": 2, "instruction": None, "context": None, "text": None}
    dumped |= {"vector_key": None, "score_key": "bm25"}
    assert rerank.model_dump() == json.loads(rerank.model_dump_json()) == dumped
    for twin in (RagRerank(**dumped), RagRerank.model_validate(dumped), pickle.loads(pickle.dumps(rerank))):
        assert twin == rerank
    assert copy.deepcopy(rerank) == rerank.model_copy(deep=True) == rerank


def test_no_key_is_ever_shown(remote: Any) -> None:
    rerank = RagRerank({"type": "remote", "api_key": "sk-hidden"})
    assert rerank.reranker == remote(api_key=rag_rerank.Secret("sk-hidden"))
    outputs = [repr(rerank), str(rerank), dumps(rerank), str(rerank.model_dump()), rerank.model_dump_json()]
    for spec, options in (
        ({"type": "remote", "api_key": "sk-hidden"}, {"top_n": 0}),
        ({"type": "remote", "api_key": "sk-hidden", "modle": "x"}, {}),
        ({"type": "remote", "api_key": "sk-hidden"}, {"api_key": "sk-hidden"}),
    ):
        with pytest.raises(ValueError, match=r"\w") as caught:
            RagRerank(spec, **options)
        outputs.append(str(caught.value))
    assert not any("sk-hidden" in text for text in outputs)


def test_an_injected_client_works_but_is_not_serialised_as_something_else(remote: Any) -> None:
    rerank = RagRerank(remote(client=threading.Lock()))
    assert order(rerank.compress_documents(documents_of("longer", "short"), QUERY)) == ["short", "longer"]
    assert rerank.model_copy(deep=True).reranker.client is rerank.reranker.client  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="live object"):
        rerank.model_dump()
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(rerank)


# what the user and the host hear


def test_on_ranking_gets_the_whole_story_of_a_call() -> None:
    rankings: list[Ranking] = []
    documents = documents_of(*TEXTS, "")
    RagRerank("lexical", top_k=2, on_ranking=rankings.append).compress_documents(documents, QUERY)
    (ranking,) = rankings
    assert ranking.query == QUERY
    assert ranking.scale == "unbounded"
    assert [hit.id for hit in ranking] == ["doc-2", "doc-1"]
    assert ranking.usage.texts == 3
    assert ranking.trace.unscored == {"doc-3": "blank text"}
    assert all(hit.coverage is not None for hit in ranking)


async def test_on_ranking_is_called_in_async_too() -> None:
    rankings: list[Ranking] = []
    await RagRerank("lexical", on_ranking=rankings.append).acompress_documents(documents_of(*TEXTS), QUERY)
    assert [ranking.query for ranking in rankings] == [QUERY]


def test_threads_that_share_it_each_hear_their_own_ranking() -> None:
    here = threading.local()
    rerank = RagRerank("lexical", on_ranking=lambda ranking: setattr(here, "ranking", ranking))

    def ask(i: int) -> bool:
        ranked = rerank.compress_documents(documents_of(*(f"text {n} of {i}" for n in range(i % 5 + 1))), f"text {i}")
        scores = [document.metadata["relevance_score"] for document in ranked]
        return bool(here.ranking.query == f"text {i}" and [hit.score for hit in here.ranking] == scores)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(40)))


def test_what_on_ranking_raises_is_not_swallowed() -> None:
    def refuse(ranking: Ranking) -> None:
        raise RuntimeError(f"{len(ranking)} hits are too few")

    with pytest.raises(RuntimeError, match="too few"):
        RagRerank("lexical", on_ranking=refuse).compress_documents(documents_of(*TEXTS), QUERY)


def test_a_fallback_that_answered_is_logged_and_changes_the_scale(caplog: pytest.LogCaptureFixture) -> None:
    rankings: list[Ranking] = []
    first = ScriptedReranker(error=BackendUnavailable("down"), answers_on="relevance")
    fallback = Fallback(members=(first, build("lexical")))
    with caplog.at_level(logging.WARNING):
        ranked = RagRerank(fallback, on_ranking=rankings.append).compress_documents(documents_of(*TEXTS), QUERY)
    assert ranked[0].metadata["relevance_score_scale"] == "unbounded"
    assert "lexical answered in place of scripted (BackendUnavailable)" in caplog.text
    assert rankings[0].degraded


async def test_callbacks_see_a_run_of_its_own_with_inputs_and_outputs(runs: Any) -> None:
    rerank = RagRerank("lexical", top_k=1)
    documents = documents_of(*TEXTS)
    without = rerank.compress_documents(documents, QUERY)
    for native, callbacks in ((False, [runs]), (False, CallbackManager([runs])), (True, AsyncCallbackManager([runs]))):
        if native:
            ranked = await rerank.acompress_documents(documents, QUERY, callbacks=callbacks)
        else:
            ranked = rerank.compress_documents(documents, QUERY, callbacks=callbacks)
        assert runs.parents == {"rag_rerank": None}
        assert runs.inputs.pop("rag_rerank") == {"documents": documents, "query": QUERY}
        assert runs.outputs.pop("rag_rerank") == ranked == without


async def test_a_failed_call_fails_its_run_and_reaches_the_caller(runs: Any) -> None:
    rerank = RagRerank(ScriptedReranker(error=BackendUnavailable("down")))
    with pytest.raises(BackendUnavailable, match="down") as caught:
        rerank.compress_documents(documents_of(*TEXTS), QUERY, callbacks=[runs])
    assert runs.errors.pop("rag_rerank") is caught.value
    with pytest.raises(BackendUnavailable, match="down") as caught:
        await rerank.acompress_documents(documents_of(*TEXTS), QUERY, callbacks=[runs])
    assert runs.errors.pop("rag_rerank") is caught.value


def test_it_is_a_compressor_and_gives_a_runnable() -> None:
    rerank = RagRerank("lexical", top_k=1)
    assert isinstance(rerank, BaseDocumentCompressor)
    runnable = rerank.as_runnable()
    assert order(runnable.invoke({"documents": documents_of(*TEXTS), "query": QUERY})) == [TEXTS[2]]
    both = runnable.batch([{"documents": documents_of(*TEXTS), "query": q} for q in (QUERY, "cranes")])
    assert [order(ranked) for ranked in both] == [[TEXTS[2]], [TEXTS[0]]]


# nothing is lost, whatever the documents

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
any_document = st.builds(
    Document,
    st.sampled_from(["", " \n", "warm dragon", "cold crane"]) | st.text(max_size=20),
    id=st.none() | st.sampled_from(["a", "b"]) | st.text(max_size=5),
    metadata=st.dictionaries(st.text(max_size=8) | st.integers(), json_values, max_size=3),
)


def own_id(document: Document) -> str | None:
    values = (document.id, document.metadata.get("id"), document.metadata.get("_id"))
    return next((str(value) for value in values if (type(value) is str and value) or type(value) is int), None)


@given(documents=st.lists(any_document, min_size=1, max_size=8), top_k=st.none() | st.integers(1, 9))
def test_whatever_goes_in_comes_out_once_and_unchanged(documents: list[Document], top_k: int | None) -> None:
    documents = [*documents, documents[0]]
    before = copy.deepcopy(documents)
    rankings: list[Ranking] = []
    ranked = RagRerank("lexical", top_k=top_k, on_ranking=rankings.append).compress_documents(documents, QUERY)
    everything = RagRerank("lexical", on_ranking=rankings.append).compress_documents(documents, QUERY)
    assert documents == before
    assert ranked == everything[:top_k]
    ids = [own_id(document) for document in documents]
    positions = [
        ids.index(hit.id) if ids.count(hit.id) == 1 else int(hit.id.removeprefix("position ")) for hit in rankings[1]
    ]
    assert sorted(positions) == list(range(len(documents)))
    for document, position in zip(everything, positions, strict=True):
        original, score = documents[position], document.metadata["relevance_score"]
        assert (score is None) == is_blank(original.page_content)
        assert score is None or type(score) is float
        marks = {"relevance_score": score, "relevance_score_scale": "unbounded"}
        assert document == original.model_copy(update={"metadata": {**original.metadata, **marks}})
    scores = [document.metadata["relevance_score"] for document in everything]
    assert scores == sorted(scores, key=lambda score: (score is None, -(score or 0)))


def test_a_subclass_may_have_options_of_its_own() -> None:
    class Mine(RagRerank):
        colour: str = "red"

    assert Mine("lexical", top_n=2, colour="blue").colour == "blue"  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"^unknown option 'color' of Mine; did you mean 'colour'"):
        Mine("lexical", color="blue")  # type: ignore[call-arg]

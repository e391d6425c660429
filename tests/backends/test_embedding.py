"""The type ``embedding``: settings, prompts of known families, the store, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rag_rerank import Cached, ConfigError, InputTooLong, ModelLoadError, build, to_config
from rag_rerank.backends.embedding import EmbeddingReranker
from rag_rerank.backends.local.embedding.prompts import FAMILIES, Prompts, family_of

pytest.importorskip("sentence_transformers")
from support.tiny_checkpoints import DOCUMENTS, QUERIES, checkpoint
from support.tiny_colbert import colbert
from support.tiny_embeddings import embedding_model

pytestmark = pytest.mark.filterwarnings("ignore::rag_rerank.errors.TruncationWarning")


def copy(name: str, target: Path) -> Path:
    shutil.copytree(embedding_model(name), target)
    return target


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_model_has_to_be_named() -> None:
    with pytest.raises(ConfigError, match="embedding needs a model"):
        build("embedding")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"precision": "int2"}, "precision"),
        ({"dimensions": 0}, "dimensions"),
        ({"runtime": "jax"}, "runtime"),
        ({"query_prompt": 3}, "a prompt is a text, got int"),
        ({"query_prompt": "\ud800"}, "half of a surrogate pair"),
        ({"text_prompt": "{instruction}: "}, "belongs into query_prompt"),
        ({"instruction": " "}, "blank"),
        ({"store": "disk"}, "store"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        EmbeddingReranker(model="intfloat/e5-small-v2", **settings)


def test_a_config_makes_the_same_reranker_again() -> None:
    node = {"type": "embedding", "model": "intfloat/e5-small-v2", "dimensions": 8, "query_prompt": ""}
    reranker = build(node)
    assert to_config(reranker) == node and build(to_config(reranker)) == reranker


@pytest.mark.parametrize(
    ("model", "query", "text"),
    [
        ("intfloat/e5-small-v2", "query: ", "passage: "),
        ("/models/multilingual-E5-base/", "query: ", "passage: "),
        ("BAAI/bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("intfloat/multilingual-e5-large-instruct", "Instruct: {instruction}\nQuery: ", ""),
    ],
)
def test_known_families_have_their_prompts(model: str, query: str, text: str) -> None:
    prompts = Prompts.resolve((model,), {}, None, None)
    assert (prompts.query, prompts.text) == (query, text)
    (note,) = prompts.notes
    assert note.startswith("the prompts are those of") and repr(query) in note


@pytest.mark.parametrize(
    "model", ["sentence-transformers/all-MiniLM-L6-v2", "BAAI/bge-m3", "my-e5", "e5-base-tuned-by-me"]
)
def test_other_models_have_none(model: str) -> None:
    assert family_of(model) is None
    assert Prompts.resolve((model,), {}, None, None) == Prompts()


def test_every_family_says_where_its_prompts_are_from() -> None:
    assert all(family.query and family.source for family in FAMILIES)


def test_prompts_of_the_checkpoint_go_before_those_of_the_family_and_the_users_before_both() -> None:
    settings = {"prompts": {"query": "q: ", "document": "d: "}}
    own = Prompts.resolve(("e5-base",), settings, None, None)
    assert (own.query, own.text, own.notes) == ("q: ", "d: ", ())
    user = Prompts.resolve(("e5-base",), settings, "", None)
    assert (user.query, user.text) == ("", "d: ")
    assert user.notes == ("the model was trained with other prompts: 'q: ' before a query, 'd: ' before a text",)
    blank = Prompts.resolve(("e5-base",), {"prompts": {"query": "", "document": ""}}, None, None)
    assert (blank.query, blank.text) == ("query: ", "passage: ")


def test_the_trace_says_that_a_known_model_is_used_without_its_prompts(tmp_path: Path) -> None:
    folder = copy("mean", tmp_path / "e5-small-v2")
    reranker = EmbeddingReranker(model=str(folder), query_prompt="", text_prompt="")
    notes = reranker.rerank(QUERIES[0], DOCUMENTS).trace.notes
    words = "the model was trained with other prompts: 'query: ' before a query, 'passage: ' before a text"
    assert words in notes
    with_prompts = EmbeddingReranker(model=str(folder)).rerank(QUERIES[0], DOCUMENTS)
    assert words not in with_prompts.trace.notes
    assert any(note.startswith("the prompts are those of E5") for note in with_prompts.trace.notes)


def test_an_instruction_without_a_place_is_refused() -> None:
    model = str(embedding_model("mean"))
    with pytest.raises(ConfigError, match="takes no instruction"):
        EmbeddingReranker(model=model).rerank("q", ["a"], instruction="find lakes")
    with pytest.raises(ConfigError, match="has no place for an instruction"):
        EmbeddingReranker(model=model, instruction="find lakes").warm_up()
    assert EmbeddingReranker(model=model, query_prompt="{instruction}: ").takes_instruction
    assert EmbeddingReranker(model="Qwen/Qwen3-Embedding-0.6B").takes_instruction


def test_an_instruction_that_leaves_no_room_is_an_error() -> None:
    reranker = EmbeddingReranker(model=str(embedding_model("last")))
    with pytest.raises(InputTooLong, match="the prompt before the query has"):
        reranker.rerank("how deep?", DOCUMENTS, instruction="find the lake " * 100)


def test_more_dimensions_than_there_are_is_an_error() -> None:
    with pytest.raises(ConfigError, match="have 32 numbers"):
        EmbeddingReranker(model=str(embedding_model("mean")), dimensions=33).warm_up()


@pytest.mark.parametrize("kind", ["cross-encoder", "colbert"])
def test_models_of_other_kinds_are_refused_with_the_type_for_them(kind: str) -> None:
    folder = checkpoint("bert") if kind == "cross-encoder" else colbert("lateon")
    with pytest.raises(ModelLoadError, match=r"is no embedding model.*(late_interaction|onnx or torch)"):
        EmbeddingReranker(model=str(folder)).warm_up()


@pytest.mark.parametrize(
    ("file", "values", "problem"),
    [
        ("config_sentence_transformers.json", {"similarity_fn_name": "euclidean"}, "only cosine and dot are known"),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "pools by 'attention'"),
    ],
)
def test_what_is_not_known_is_refused(file: str, values: dict[str, Any], problem: str, tmp_path: Path) -> None:
    folder = copy("mean", tmp_path / "model")
    change(folder / file, **values)
    with pytest.raises(ModelLoadError, match=problem):
        EmbeddingReranker(model=str(folder)).warm_up()


def test_an_unknown_module_is_refused(tmp_path: Path) -> None:
    folder = copy("mean", tmp_path / "model")
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"path": "2_WordWeights", "type": "a.WordWeights"}]))
    with pytest.raises(ModelLoadError, match="a module WordWeights, which is not known here"):
        EmbeddingReranker(model=str(folder)).warm_up()


def test_indexed_texts_are_not_encoded_again_and_score_the_same(tmp_path: Path) -> None:
    model = str(embedding_model("mean"))
    node = {"type": "embedding", "model": model, "store": {"path": str(tmp_path / "vectors")}}
    with build(node) as index:
        report = index.index(DOCUMENTS)
        assert report.new == len(set(DOCUMENTS)) and report.bytes > 0
        assert index.index(DOCUMENTS).new == 0
    with build(node) as reranker:
        ranking = reranker.rerank(QUERIES[0], DOCUMENTS)
    assert f"{len(DOCUMENTS)} of {len(DOCUMENTS)} texts from the store" in ranking.trace.notes
    fresh = EmbeddingReranker(model=model, store=None).rerank(QUERIES[0], DOCUMENTS)
    assert [hit.id for hit in ranking] == [hit.id for hit in fresh]
    assert [hit.score for hit in ranking] == pytest.approx([hit.score for hit in fresh])


def test_other_settings_never_find_the_rows_of_these(tmp_path: Path) -> None:
    model, store = str(embedding_model("mean")), {"path": str(tmp_path / "vectors")}
    node = {"type": "embedding", "model": model, "store": store}
    with build(node) as reranker, build({**node, "query_prompt": "query: "}) as same:
        assert reranker.index(DOCUMENTS).in_store == 0
        assert same.index(DOCUMENTS).new == 0, "the prompt of a query is no part of a text's row"
    variants: list[dict[str, Any]] = [{"text_prompt": "passage: "}, {"dimensions": 8}, {"precision": "fp16"}]
    for settings in variants:
        with build({**node, **settings}) as reranker:
            assert reranker.index(DOCUMENTS).in_store == 0


def test_a_cache_may_keep_its_scores() -> None:
    reranker = Cached(reranker=EmbeddingReranker(model=str(embedding_model("mean"))))
    first, again = (reranker.rerank(QUERIES[0], DOCUMENTS) for _ in range(2))
    assert [hit.score for hit in first] == [hit.score for hit in again]


@pytest.mark.parametrize("call", ["on_overflow", "on_long_query"])
def test_what_is_too_long_may_be_refused(call: str) -> None:
    reranker = EmbeddingReranker(model=str(embedding_model("mean")), **{call: "error"})
    query, text = ("lake", "lake " * 100) if call == "on_overflow" else ("lake " * 100, "lake")
    with pytest.raises(InputTooLong, match="tokens"):
        reranker.rerank(query, [text])

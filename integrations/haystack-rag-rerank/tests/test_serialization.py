"""What a saved component holds: a config, never a key, and nothing that loading would have to trust."""

from __future__ import annotations

import json
from typing import Any

import pytest
from haystack import Document
from haystack.core.errors import DeserializationError, SerializationError
from haystack.utils import Secret
from rag_rerank import Cascade, ConfigError, Ranking, Stage, build
from rag_rerank.testing import ScriptedReranker

from haystack_integrations.components.rankers.rag_rerank import RagRerankIndexer, RagRerankRanker

KEY = "k3y-of-the-test-0123456789"
TYPE = "haystack_integrations.components.rankers.rag_rerank.ranker.RagRerankRanker"


def watch(ranking: Ranking) -> None:
    """A hook that can be imported."""


def test_to_dict() -> None:
    ranker = RagRerankRanker("cohere:rerank-v3.5", top_k=3, text=("title",), context={"max_tokens": 100})
    data = ranker.to_dict()
    context = data["init_parameters"].pop("context")
    assert data == {
        "type": TYPE,
        "init_parameters": {
            "reranker": {"type": "cohere", "model": "rerank-v3.5"},
            "top_k": 3,
            "instruction": None,
            "text": ["title"],
            "scale_key": "score_scale",
            "on_context": None,
            "on_ranking": None,
        },
    }
    assert context["max_tokens"] == 100
    json.dumps(data)


@pytest.mark.parametrize(
    "ranker",
    [
        RagRerankRanker("lexical"),
        RagRerankRanker("cohere:rerank-v3.5", top_k=3, text="{title}\n{content}", context={"duplicates": 0.8}),
        RagRerankRanker(
            Cascade(stages=[Stage(reranker=build("lexical"), depth=20), Stage(reranker=build("embedded"))])
        ),
        RagRerankRanker({"type": "llm", "model": "m"}, instruction="prefer the latest", scale_key=None),
        RagRerankRanker("lexical", on_ranking=json.dumps, on_context=json.loads),
    ],
    ids=["name", "options", "cascade", "instruction", "hooks"],
)
def test_a_dictionary_rebuilds_an_equal_component(ranker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAYSTACK_DESERIALIZATION_ALLOWLIST", "json")
    data = ranker.to_dict()
    before = json.dumps(data)
    again = RagRerankRanker.from_dict(json.loads(before))
    assert again.to_dict() == data and again.reranker == ranker.reranker
    assert (again.on_ranking, again.on_context) == (ranker.on_ranking, ranker.on_context)
    assert json.dumps(data) == before


def test_hooks_are_saved_by_name_and_one_without_a_name_is_refused() -> None:
    name = RagRerankRanker("lexical", on_ranking=watch).to_dict()["init_parameters"]["on_ranking"]
    assert name.endswith(".watch")
    with pytest.raises(SerializationError, match="lambda"):
        RagRerankRanker("lexical", on_ranking=lambda ranking: None).to_dict()


@pytest.mark.parametrize(
    ("secret", "written"),
    [
        (Secret.from_env_var("MY_KEY"), "${MY_KEY}"),
        (Secret.from_env_var(["UNSET_KEY", "MY_KEY"]), "${MY_KEY}"),
        (Secret.from_env_var("UNSET_KEY", strict=False), "${UNSET_KEY:-}"),
        ({"type": "env_var", "env_vars": ["MY_KEY"], "strict": True}, "${MY_KEY}"),
        ("${MY_KEY}", "${MY_KEY}"),
        (Secret.from_token(KEY), None),
        (KEY, None),
    ],
    ids=["variable", "variables", "optional", "dict", "reference", "token", "text"],
)
def test_a_key_is_never_written(monkeypatch: pytest.MonkeyPatch, secret: Any, written: str | None) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.delenv("UNSET_KEY", raising=False)
    cohere = {"type": "cohere", "model": "m", "api_key": secret}
    ranker = RagRerankRanker({"type": "fallback", "members": [cohere, "lexical"]})
    data = ranker.to_dict()
    assert data["init_parameters"]["reranker"]["members"][0].get("api_key") == written
    assert KEY not in json.dumps(data) + repr(ranker) + repr(ranker.reranker)
    if written != "${UNSET_KEY:-}":
        assert ranker.reranker.children[0].api_key.reveal() == KEY


def test_a_type_with_a_dot_is_not_imported() -> None:
    for node in ({"type": "os.path"}, {"type": "single", "device": "cpu"}):
        with pytest.raises(ConfigError):
            RagRerankRanker.from_dict({"type": TYPE, "init_parameters": {"reranker": node}})


def test_the_dictionary_of_another_class_is_refused() -> None:
    with pytest.raises(DeserializationError, match="can't be deserialized"):
        RagRerankRanker.from_dict({"type": "a.B", "init_parameters": {"reranker": "lexical"}})


def test_what_no_config_can_express_is_not_saved() -> None:
    with pytest.raises(ConfigError):
        RagRerankRanker(ScriptedReranker(error=ValueError())).to_dict()
    with pytest.raises(ConfigError):
        RagRerankRanker("lexical", context={"max_tokens": 3, "tokenizer": str.split}).to_dict()


def test_the_indexer_rebuilds_too(tmp_path: Any) -> None:
    config = {"type": "late_interaction", "model": "embedded", "store": {"path": str(tmp_path)}}
    indexer = RagRerankRanker(config, text=["title"]).indexer()
    again = RagRerankIndexer.from_dict(indexer.to_dict())
    assert again.to_dict() == indexer.to_dict() and again.text == ["title"]
    with pytest.raises(ConfigError, match="keeps no vectors"):
        RagRerankIndexer("lexical")
    assert Document(content="a").id  # which the vectors are kept under

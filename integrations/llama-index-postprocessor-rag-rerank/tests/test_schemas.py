"""What describes itself: the JSON Schema of the class, its signature, and what it writes of itself."""

from __future__ import annotations

import inspect
import json

import pytest
from jsonschema import Draft202012Validator
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from rag_rerank import ConfigError

from llama_index.postprocessor.rag_rerank import RagRerank


def rerank() -> RagRerank:
    context = {"max_tokens": 9, "tokenizer": "o200k_base"}
    return RagRerank({"type": "lexical", "k1": 1.5}, top_k=2, metadata_mode="none", context=context)


def test_the_class_has_a_schema_that_accepts_what_it_writes() -> None:
    assert RagRerank.model_json_schema(mode="serialization")["type"] == "object"  # the host's serialiser says no more
    schema = RagRerank.model_json_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    validator.validate(json.loads(rerank().to_json()))
    for wrong in ({"reranker": 3}, {"reranker": "a", "context": {"max_token": 3}}, {"reranker": "a", "topk": 3}):
        assert not validator.is_valid(wrong)
    assert not {"on_ranking", "on_context"} & set(schema["properties"])
    assert schema["properties"]["class_name"]["default"] == "RagRerank"


def test_a_model_that_holds_it_has_a_schema_and_reads_back_what_it_wrote() -> None:
    class Settings(BaseModel):
        rerank: RagRerank

    assert "RagRerank" in json.dumps(Settings.model_json_schema())
    settings = Settings(rerank=rerank())
    for twin in (Settings(**settings.model_dump()), Settings.model_validate_json(settings.model_dump_json())):
        assert twin.rerank.to_dict() == rerank().to_dict()
    assert RagRerank(**rerank().model_dump()).to_dict() == rerank().to_dict()


def test_the_signature_names_every_option() -> None:
    parameters = inspect.signature(RagRerank).parameters
    options = {"top_k", "top_n", "k", "instruction", "context", "metadata_mode", "on_context", "on_ranking"}
    assert set(parameters) == {"reranker", "callback_manager", *options}
    assert set(RagRerank.model_fields) <= set(parameters)
    assert set(BaseNodePostprocessor.model_fields) <= set(parameters)


def test_a_subclass_may_have_options_of_its_own() -> None:
    class Mine(RagRerank):
        colour: str = "red"

    assert Mine.from_dict(Mine("lexical", top_n=2, colour="blue").to_dict()).colour == "blue"  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"^unknown option 'color' of Mine; did you mean 'colour'"):
        Mine("lexical", color="blue")  # type: ignore[call-arg]

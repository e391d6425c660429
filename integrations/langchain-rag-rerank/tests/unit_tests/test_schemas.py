"""What describes itself to LangChain and to forms: JSON Schemas, tools, graphs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from langchain_core.documents import Document
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnablePassthrough

from langchain_rag_rerank import RagRerank, RagRerankRetriever

pytestmark = pytest.mark.filterwarnings("ignore:.*API is in beta")  # as_tool

DOCUMENTS = [Document("cold crane"), Document("warm dragon")]
FIRST_STAGE = RunnableLambda(lambda query: DOCUMENTS)
REQUEST = {"documents": [{"page_content": "cold crane"}, {"page_content": "warm dragon"}], "query": "dragon"}


def test_a_step_has_schemas_of_its_input_and_output() -> None:
    step = RagRerank("lexical").as_runnable()
    validator = Draft202012Validator(step.get_input_jsonschema())
    validator.validate(REQUEST)
    assert not validator.is_valid({"documents": ["a"], "query": "q"})
    assert not validator.is_valid({"documents": []})
    validator = Draft202012Validator(step.get_output_jsonschema())
    output = step.invoke({"documents": DOCUMENTS, "query": "dragon"})
    validator.validate([document.model_dump() for document in output])
    assert not validator.is_valid("a text")
    assert step.get_input_schema().model_json_schema() == step.get_input_jsonschema()


async def test_a_step_becomes_a_tool() -> None:
    tool = RagRerank("lexical", top_k=1).as_runnable().as_tool(name="rerank", description="order documents")
    assert set(tool.args) == {"documents", "query"}
    assert tool.args["documents"]["type"] == "array"
    for documents in (tool.invoke(REQUEST), await tool.ainvoke(REQUEST)):
        assert [document.page_content for document in documents] == ["warm dragon"]


def test_a_graph_shows_schemas_wherever_the_step_stands() -> None:
    step = RagRerank("lexical").as_runnable()
    chain = {"documents": FIRST_STAGE, "query": RunnablePassthrough()} | step
    for runnable in (step, chain, step | RunnableLambda(len), RagRerankRetriever(FIRST_STAGE, "lexical")):
        graph: Any = runnable.get_graph()
        assert json.loads(json.dumps(graph.to_json(with_schemas=True)))["nodes"]
        assert graph.draw_mermaid()
        assert runnable.get_input_jsonschema() and runnable.get_output_jsonschema()
        assert runnable.get_config_jsonschema() is not None


def test_a_retriever_has_schemas_and_becomes_a_tool() -> None:
    retriever = RagRerankRetriever(FIRST_STAGE, "lexical", top_k=1)
    assert retriever.get_input_jsonschema()["type"] == "string"
    output = [document.model_dump() for document in retriever.invoke("dragon")]
    Draft202012Validator(retriever.get_output_jsonschema()).validate(output)
    (document,) = retriever.as_tool(name="search", description="search").invoke("dragon")
    assert document.page_content == "warm dragon"


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_the_classes_have_a_schema_that_accepts_what_they_write(mode: Any) -> None:
    rerank = RagRerank(
        {"type": "lexical", "k1": 1.5}, top_k=2, text=["title"], context={"max_tokens": 9, "tokenizer": "o200k_base"}
    )
    schema = RagRerank.model_json_schema(mode=mode)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    validator.validate(json.loads(rerank.model_dump_json()))
    validator.validate({"reranker": "embedded", "text": "{title}"})
    for wrong in ({"reranker": 3}, {"reranker": "embedded", "context": {"max_token": 3}}, {"reranker": "a", "topk": 3}):
        assert not validator.is_valid(wrong)
    assert "on_ranking" not in schema["properties"]
    assert set(RagRerankRetriever.model_json_schema(mode=mode)["properties"]) >= {"base_retriever", "reranker", "top_k"}


def test_a_field_of_the_retriever_is_configurable_per_call() -> None:
    retriever = RagRerankRetriever(FIRST_STAGE, "lexical").configurable_fields(top_k=ConfigurableField(id="top_k"))
    assert len(retriever.invoke("dragon")) == 2
    assert len(retriever.invoke("dragon", {"configurable": {"top_k": 1}})) == 1

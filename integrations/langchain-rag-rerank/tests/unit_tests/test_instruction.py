"""An instruction reaches the reranker: by constructor, by call of a retriever, by the input of a step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from rag_rerank import ConfigError, InputError, PointwiseReranker, Scores
from rag_rerank.execution.instruction import instruction_or

from langchain_rag_rerank import RagRerank, RagRerankRetriever

DOCUMENTS = [Document("ruby"), Document("opal"), Document("jade")]


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


async def first(rerank: RagRerank, query: str = "ruby") -> str:
    (sync_best, *_), (async_best, *_) = (
        rerank.compress_documents(DOCUMENTS, query),
        await rerank.acompress_documents(DOCUMENTS, query),
    )
    assert sync_best.page_content == async_best.page_content
    return sync_best.page_content


async def test_the_option_goes_before_the_config_of_the_reranker() -> None:
    assert await first(RagRerank(Instructed())) == "ruby"
    assert await first(RagRerank(Instructed(instruction="opal"))) == "opal"
    assert await first(RagRerank(Instructed(instruction="opal"), instruction="jade")) == "jade"


async def test_a_call_of_a_retriever_has_its_own() -> None:
    seen: list[dict[str, Any]] = []

    def retrieve(query: str, **options: Any) -> list[Document]:
        seen.append(options)
        return DOCUMENTS

    retriever = RagRerankRetriever(RunnableLambda(retrieve), Instructed(), instruction="opal", top_k=1)
    assert [d.page_content for d in retriever.invoke("q")] == ["opal"]
    assert [d.page_content for d in retriever.invoke("q", instruction="jade")] == ["jade"]
    assert [d.page_content for d in await retriever.ainvoke("q", instruction="ruby")] == ["ruby"]
    assert [d.page_content for d in retriever.invoke("q")] == ["opal"]
    assert seen == [{}] * 4


async def test_the_input_of_a_step_has_its_own() -> None:
    step = RagRerank(Instructed(), instruction="opal").as_runnable()
    assert step.invoke({"documents": DOCUMENTS, "query": "q"})[0].page_content == "opal"
    assert step.invoke({"documents": DOCUMENTS, "query": "q", "instruction": "jade"})[0].page_content == "jade"
    results = await step.abatch([{"documents": DOCUMENTS, "query": "q", "instruction": w} for w in ("ruby", "jade")])
    assert [documents[0].page_content for documents in results] == ["ruby", "jade"]


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_a_tool_shows_the_argument_only_where_something_takes_one() -> None:
    def arguments(rerank: RagRerank) -> set[str]:
        return set(rerank.as_runnable().as_tool(name="rerank", description="order documents").args)

    assert arguments(RagRerank("lexical")) == {"documents", "query"}
    assert arguments(RagRerank(Instructed())) == {"documents", "query", "instruction"}


def test_nothing_takes_one() -> None:
    with pytest.raises(ConfigError, match=r"^instruction: lexical takes no instruction"):
        RagRerank("lexical", instruction="find gems")
    with pytest.raises(ConfigError, match=r"^instruction: lexical takes no instruction"):
        RagRerankRetriever(RunnableLambda(lambda query: DOCUMENTS), "lexical", instruction="find gems")
    retriever = RagRerankRetriever(RunnableLambda(lambda query: DOCUMENTS), "lexical")
    with pytest.raises(ConfigError, match="lexical takes no instruction"):
        retriever.invoke("q", instruction="find gems")


@pytest.mark.parametrize("blank", ["", " ", 3])
def test_a_bad_one_is_refused(blank: Any) -> None:
    with pytest.raises(ConfigError, match=r"^instruction: the instruction"):
        RagRerank(Instructed(), instruction=blank)
    step = RagRerank(Instructed()).as_runnable()
    with pytest.raises(InputError, match="the instruction"):
        step.invoke({"documents": DOCUMENTS, "query": "q", "instruction": blank})

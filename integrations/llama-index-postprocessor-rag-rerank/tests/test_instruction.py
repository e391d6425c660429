"""An instruction reaches the reranker: through the option of the postprocessor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from llama_index.core.schema import NodeWithScore, TextNode
from rag_rerank import ConfigError, PointwiseReranker, Scores
from rag_rerank.execution.instruction import instruction_or

from llama_index.postprocessor.rag_rerank import RagRerank

NODES = [NodeWithScore(node=TextNode(text=text)) for text in ("ruby", "opal", "jade")]


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


async def first(rerank: RagRerank) -> str:
    sync_best = rerank.postprocess_nodes(NODES, query_str="ruby")[0]
    async_best = (await rerank.apostprocess_nodes(NODES, query_str="ruby"))[0]
    assert sync_best.text == async_best.text
    return str(sync_best.text)


async def test_the_option_goes_before_the_config_of_the_reranker() -> None:
    assert await first(RagRerank(Instructed())) == "ruby"
    assert await first(RagRerank(Instructed(instruction="opal"))) == "opal"
    rerank = RagRerank(Instructed(instruction="opal"), instruction="jade")
    assert await first(rerank) == "jade"
    assert await first(RagRerank(rerank.reranker, instruction="ruby")) == "ruby"
    assert await first(rerank) == "jade"


def test_it_is_kept_with_the_config() -> None:
    rerank = RagRerank({"type": "torch", "model": "qwen3"}, instruction="find gems")  # nothing is loaded
    assert RagRerank.from_dict(rerank.to_dict()).instruction == "find gems"


@pytest.mark.parametrize("blank", ["", " ", 3])
def test_a_bad_one_is_refused(blank: Any) -> None:
    with pytest.raises(ConfigError, match=r"^instruction: the instruction"):
        RagRerank(Instructed(), instruction=blank)


def test_nothing_takes_one() -> None:
    with pytest.raises(ConfigError, match=r"^instruction: lexical takes no instruction"):
        RagRerank("lexical", instruction="find gems")

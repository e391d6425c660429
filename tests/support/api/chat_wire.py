"""The wire format of a chat endpoint whose model is a perfect judge of the prompts of the ``llm`` reranker.

The judge reads the prompt as a model would: it finds the query and the passages by their markers, and compares texts
with the query by `relevance`. It knows nothing of the code that wrote the prompt.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from support.api.wire_formats import Rows, Shape, relevance

_BLOCK = re.compile(r"<<(query|passage ?\w*) (\w+)>>\n(.*?)\n<<end of \1 \2>>", re.DOTALL)


@dataclass(frozen=True)
class Question:
    """A prompt, as a model reads it."""

    ask: str
    query: str
    passages: tuple[str, ...]
    fence: str

    @classmethod
    def read(cls, messages: Sequence[Mapping[str, str]]) -> Question:
        """Find the blocks with the code that the system message names."""
        system, user = messages[0]["content"], messages[1]["content"]
        fence = re.search(r"carry the code (\w+)", system)
        assert fence is not None
        blocks = [(name, text) for name, code, text in _BLOCK.findall(user) if code == fence[1]]
        first_words = {"You order": "listwise", "You decide whether": "yes_no", "You grade": "grade"}
        ask = next((ask for words, ask in first_words.items() if system.startswith(words)), "pairwise")
        (query,) = [text for name, text in blocks if name == "query"]
        return cls(ask, query, tuple(text for name, text in blocks if name != "query"), fence[1])


def answer_of(question: Question, scores: Sequence[float]) -> tuple[str, list[dict[str, Any]] | None]:
    """Return what a model with these opinions writes, and the log-probabilities of its tokens."""
    if question.ask == "listwise":
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        return json.dumps({"ranking": [i + 1 for i in order]}), None
    if question.ask == "pairwise":
        return json.dumps({"better": "B" if scores[1] > scores[0] else "A"}), None
    if question.ask == "grade":
        return json.dumps({"grade": round(3 * scores[0])}), None
    yes = min(max(scores[0], 1e-6), 1 - 1e-6)
    likeliest = [{"token": "yes", "logprob": math.log(yes)}, {"token": "no", "logprob": math.log(1 - yes)}]
    word = max(likeliest, key=lambda one: one["logprob"])
    return str(word["token"]), [{**word, "top_logprobs": likeliest}]


def completion(body: Any, text: str, logprobs: Any = None, *, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """Return the body of a chat completion, as OpenAI's reference shows it."""
    read = sum(len(one["content"].split()) for one in body["messages"])
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_796_047_559,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None, **message},
                "logprobs": None if logprobs is None else {"content": logprobs, "refusal": None},
                "finish_reason": finish,
            }
        ],
        "usage": {
            "prompt_tokens": read,
            "completion_tokens": len(text.split()),
            "total_tokens": read + len(text.split()),
        },
    }


@dataclass(frozen=True)
class ChatShape(Shape):
    """A chat endpoint."""

    gives_logprobs: bool = True

    def query(self, body: Any) -> str:
        return Question.read(body["messages"]).query

    def texts_of(self, body: Any) -> list[str]:
        return list(Question.read(body["messages"]).passages)

    def reply(self, body: Any, change: Callable[[Rows], Any]) -> Any:
        question = Question.read(body["messages"])
        rows: Rows = [
            {"index": i, "relevance_score": relevance(question.query, text)} for i, text in enumerate(question.passages)
        ]
        by_index = {row["index"]: row["relevance_score"] for row in change(rows)}
        scores = [by_index[i] for i in range(len(rows))]
        text, logprobs = answer_of(question, scores)
        return completion(body, text, logprobs if self.gives_logprobs and body.get("logprobs") else None)


def error(status: int, words: str) -> Any:
    """Return the body of an error."""
    return {"error": {"message": words, "type": "invalid_request_error", "param": None, "code": None}}


CHAT = ChatShape(error=error)
__all__ = ["CHAT", "ChatShape", "Question", "answer_of", "completion", "error"]

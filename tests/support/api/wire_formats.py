"""The requests and answers of each service, written down from samples of their wire and not from our code."""

from __future__ import annotations

import json
import math
import random
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Rows = list[dict[str, Any]]


def relevance(query: str, text: str) -> float:
    """The score that the server gives: mostly shared words, and a little of the text's checksum."""
    query_words, text_words = set(re.findall(r"\w+", query.casefold())), set(re.findall(r"\w+", text.casefold()))
    return round(
        0.9 * len(query_words & text_words) / max(1, len(query_words)) + 0.1 * zlib.crc32(text.encode()) / 2**32, 6
    )


def logit(query: str, text: str) -> float:
    """The score of a server that gives logits, in the same order."""
    return round(12 * relevance(query, text) - 6, 6)


def sigmoid(query: str, text: str) -> float:
    """The score of a server that can give logits, and was asked for none."""
    return 1 / (1 + math.exp(-logit(query, text)))


def tokens(query: str, texts: Sequence[str]) -> int:
    """What the server bills as tokens: words, the query's once for each text."""
    return sum(len(query.split()) + len(text.split()) for text in texts)


def _openai(status: int, words: str) -> Any:
    return {"error": {"message": words, "type": "BadRequestError", "param": None, "code": status}}


@dataclass(frozen=True)
class Shape:
    """The wire format of one service.

    Args:
        texts: Field of the texts.
        text: Field of an object that wraps a text.
        query_field: Field of the query; a list holds one copy for each text.
        rows: Place of the rows, with dots between its fields; ``None`` where the body is the list.
        index: Field of a row with the position of its text.
        index_type: What a position is sent as.
        score: Field of a row's score; empty where there are only scores, in the order of the texts.
        more: Other fields of an answer.
        gives: The score of a query and a text, given the request's body.
        error: The body of an error answer.
        most: Texts in one request at most.
        too_many: Status of more texts than that.
    """

    texts: str = "documents"
    text: str = "text"
    query_field: str = "query"
    rows: str | None = "results"
    index: str = "index"
    index_type: Callable[[int], Any] = int
    score: str = "relevance_score"
    more: Callable[[Any, int], Mapping[str, Any]] = lambda body, count: {
        "model": body.get("model"),
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }
    gives: Callable[[Any], Callable[[str, str], float]] = lambda body: relevance
    error: Callable[[int, str], Any] = lambda status, words: {"detail": words}
    most: int | None = None
    too_many: int = 422

    def query(self, body: Any) -> str:
        """The query of a request."""
        query = body[self.query_field]
        if isinstance(query, list):
            assert len(query) == len(body[self.texts]) and len(set(query)) == 1, "one query for each text"
            query = query[0]
        return str(query[self.text] if isinstance(query, dict) else query)

    def texts_of(self, body: Any) -> list[str]:
        """The texts of a request."""
        return [text[self.text] if isinstance(text, dict) else text for text in body[self.texts]]

    def reply(self, body: Any, change: Callable[[Rows], Any]) -> Any:
        """The body of a correct answer, with shuffled rows, after a change of them."""
        query, texts, give = self.query(body), self.texts_of(body), self.gives(body)
        rows: Rows = [{"index": i, "relevance_score": give(query, text)} for i, text in enumerate(texts)]
        random.Random(len(texts)).shuffle(rows)
        new_rows = change(rows)
        if isinstance(new_rows, list):
            new_rows = [self._row(row) for row in new_rows] if self.score else _bare_scores(new_rows, len(texts))
        if self.rows is None:
            return new_rows
        for name in reversed(self.rows.split(".")):
            new_rows = {name: new_rows}
        return {**new_rows, **self.more(body, tokens(query, texts))}

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        names = {"index": self.index, "relevance_score": self.score}
        return {
            names.get(name, name): self.index_type(value) if name == "index" and type(value) is int else value
            for name, value in row.items()
        }


def _bare_scores(rows: Rows, count: int) -> list[Any]:
    """Scores in the order of the texts; where rows were damaged, which such a list cannot say, there is one less."""
    scores = {row.get("index"): row.get("relevance_score") for row in rows}
    if len(rows) != count or set(scores) != set(range(count)):
        return [row.get("relevance_score") for row in rows][: count - 1]
    return [scores[i] for i in range(count)]


def _raw(body: Any) -> Callable[[str, str], float]:
    return logit if body.get("raw_scores") else sigmoid


def _cohere(body: Any, count: int) -> dict[str, Any]:
    units = -(-len(body["documents"]) // 100)
    return {"id": "r", "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": units}}}


def characters(query: str, texts: Sequence[str]) -> int:
    """What Infinity counts in place of tokens."""
    return sum(len(query.strip()) + len(text.strip()) for text in texts)


def _infinity(body: Any, count: int) -> dict[str, Any]:
    count = characters(body["query"], body["documents"])
    return {
        "object": "rerank",
        "model": body.get("model"),
        "usage": {"prompt_tokens": count, "total_tokens": count},
        "id": "infinity-3cb1d7cf",
        "created": 1_796_047_559,
    }


def _model_and_tokens(body: Any, count: int) -> dict[str, Any]:
    return {"model": body.get("model"), "usage": {"total_tokens": count}}


def _openrouter(body: Any, count: int) -> dict[str, Any]:
    figures = {"total_tokens": count, "search_units": 1, "cost": 0.002}
    return {"id": "gen-rerank-1", "model": body["model"], "provider": "Cohere", "usage": figures}


def _deepinfra(body: Any, count: int) -> dict[str, Any]:
    status = {"status": "succeeded", "runtime_ms": 12, "cost": 0.0004, "tokens_generated": 0, "tokens_input": count}
    return {"input_tokens": count, "request_id": None, "inference_status": status}


def _zeroentropy(body: Any, count: int) -> dict[str, Any]:
    return {
        "total_tokens": count,
        "total_bytes": 7 * count,
        "e2e_latency": 0.1,
        "inference_latency": 0.09,
        "actual_latency_mode": "fast",
    }


def _nothing(body: Any, count: int) -> dict[str, Any]:
    return {}


def _watsonx(body: Any, count: int) -> dict[str, Any]:
    return {"model_id": body["model_id"], "created_at": "2026-11-30T12:00:00Z", "input_token_count": count}


HOSTED_SHAPES: Mapping[str, Shape] = {
    "cloudflare": Shape(
        texts="contexts",
        rows="result.response",
        index="id",
        score="score",
        more=lambda body, count: {"success": True, "errors": [], "messages": []},
        error=lambda status, words: {"success": False, "errors": [{"code": 7000, "message": words}], "result": None},
    ),
    "contextual": Shape(more=_nothing),
    "dashscope": Shape(
        more=lambda body, count: {"id": "a1", "usage": {"total_tokens": count}},
        error=lambda status, words: {"code": "InvalidParameter", "message": words, "request_id": "a1"},
    ),
    "deepinfra": Shape(
        query_field="queries",
        rows="scores",
        score="",
        more=_deepinfra,
        error=lambda status, words: {"detail": {"error": words}},
    ),
    "fireworks": Shape(rows="data"),
    "google": Shape(
        texts="records",
        text="content",
        rows="records",
        index="id",
        index_type=str,
        score="score",
        more=_nothing,
        error=lambda status, words: {"error": {"code": status, "message": words, "status": "INVALID_ARGUMENT"}},
        most=200,
        too_many=400,
    ),
    "novita": Shape(),
    "openrouter": Shape(more=_openrouter, error=lambda status, words: {"error": {"code": status, "message": words}}),
    "opper": Shape(more=_model_and_tokens),
    "pinecone": Shape(
        rows="data",
        score="score",
        more=lambda body, count: {"model": body["model"], "usage": {"rerank_units": 1}},
        error=lambda status, words: {"status": status, "error": {"code": "INVALID_ARGUMENT", "message": words}},
    ),
    "prime": Shape(more=_model_and_tokens, error=_openai),
    "scaleway": Shape(),
    "sglang": Shape(rows=None, score="score", error=_openai),
    "siliconflow": Shape(more=lambda body, count: {"id": "s", "meta": {"tokens": {"input_tokens": count}}}),
    "together": Shape(),
    "vercel": Shape(more=lambda body, count: {"id": "v", "meta": {"billed_units": {"search_units": 1}}}),
    "watsonx": Shape(
        texts="inputs",
        score="score",
        gives=lambda body: logit,
        more=_watsonx,
        error=lambda status, words: {"errors": [{"code": "invalid", "message": words}], "status_code": status},
    ),
    "zeroentropy": Shape(more=_zeroentropy),
}

LEVELS = 4
"""Levels of the rubrics in requests to decision models."""


def _decision_answer(wish: str, value: Any) -> dict[str, Any]:
    """The answer to a question of one type, for a score; what is no number stays what it is."""
    if wish == "noul":
        return {"type": "noul", "noul": value}
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return {"type": "score", "score": value, "confidence": 0.5, "legend": {}, "probabilities": {}}
    level = value * (LEVELS - 1)
    low = min(max(int(level), 0), LEVELS - 2)
    shares = {str(i): 0.0 for i in range(LEVELS)} | {str(low): 1 - (level - low), str(low + 1): level - low}
    legend = {str(i): f"level {i}" for i in range(LEVELS)}
    return {"type": "score", "score": level, "confidence": 0.5, "legend": legend, "probabilities": shares}


@dataclass(frozen=True)
class SystemOne(Shape):
    """The format of decision models at TypeSafe, Ollama and others: answers by the names of the questions."""

    def state(self, body: Any) -> Any:
        """What the model reads."""
        return body["state"]

    def query(self, body: Any) -> str:
        """The query of a request."""
        return str(self.state(body)["query"])

    def texts_of(self, body: Any) -> list[str]:
        """The texts of a request."""
        state = self.state(body)
        return [state["passage"]] if "passage" in state else [passage["text"] for passage in state["passages"]]

    def reply(self, body: Any, change: Callable[[Rows], Any]) -> Any:
        """The body of a correct answer after a change of its rows; a row that is there twice has a name of its own."""
        query, texts = self.query(body), self.texts_of(body)
        rows = change([{"index": i, "relevance_score": relevance(query, text)} for i, text in enumerate(texts)])
        count = sum(len(text.split()) for text in texts) + len(query.split())
        return self.answered(body, rows if isinstance(rows, list) else None, count)

    def answered(self, body: Any, rows: Rows | None, count: int) -> Any:
        """The body with these rows."""
        names, answers = list(body["questions"]), dict[str, Any]()
        for row in rows or ():
            index = row.get("index")
            name = names[index] if isinstance(index, int) and 0 <= index < len(names) else f"q{index}"
            while name in answers:
                name += "'"
            wish = body["questions"][names[0]]["type"]
            answers[name] = (
                _decision_answer(wish, row["relevance_score"]) if "relevance_score" in row else {"type": wish}
            )
        usage = {"input_tokens": count, "output_tokens": len(answers)}
        return {"model": body["model"], "answers": None if rows is None else answers, "usage": usage}


@dataclass(frozen=True)
class OpenAIDecisions(SystemOne):
    """The format of OpenAI's Decisions API: answers in the order of the questions."""

    def state(self, body: Any) -> Any:
        """What the model reads."""
        return json.loads(body["input"][1]["content"])

    def answered(self, body: Any, rows: Rows | None, count: int) -> Any:
        """The body with these rows, at the places that their indexes say."""
        questions = body["questions"]
        usage = {
            "input_tokens": count,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": count,
        }
        if rows is None:
            return {"model": body["model"], "usage": usage}
        answers = []
        for row in sorted(rows, key=lambda row: str(row.get("index")).zfill(9)):
            index, value = row.get("index"), row.get("relevance_score")
            name = questions[index]["name"] if isinstance(index, int) and 0 <= index < len(questions) else f"q{index}"
            if questions[0]["type"] == "predicate":
                answers.append({"type": "predicate", "name": name, "probability": value})
            else:
                answer = _decision_answer("score", value)
                shares = answer["probabilities"].items()
                rows_of = [{"value": int(i), "label": f"level {i}", "probability": p} for i, p in shares]
                more = {"score": answer["score"], "confidence": 0.5, "probabilities": rows_of}
                answers.append({"type": "score", "name": name, **more})
        return {"model": body["model"], "answers": answers, "usage": usage}


SHAPES: dict[str, Shape] = {
    **HOSTED_SHAPES,
    "cohere": Shape(more=_cohere, error=lambda status, words: {"message": words}, most=10_000),
    "infinity": Shape(
        more=_infinity,
        gives=_raw,
        most=2_048,
    ),
    "jina": Shape(error=lambda status, words: {"code": "SOME_CODE", "message": words}),
    "llamacpp": Shape(gives=lambda body: logit, error=_openai),
    "mixedbread": Shape(texts="input", rows="data", score="score"),
    "nim": Shape(
        texts="passages",
        rows="rankings",
        score="logit",
        more=lambda body, count: {"usage": {"prompt_tokens": count, "total_tokens": count}},
        gives=lambda body: logit,
        most=512,
    ),
    "openai": OpenAIDecisions(
        error=lambda status, words: {"error": {"message": words, "type": "error", "param": None, "code": None}}
    ),
    "systemone": SystemOne(),
    "tei": Shape(
        texts="texts",
        rows=None,
        score="score",
        gives=_raw,
        error=lambda status, words: {"error": words, "error_type": "validation"},
    ),
    "vllm": Shape(error=_openai),
    "voyage": Shape(
        rows="data",
        more=lambda body, count: {"object": "list", "model": body["model"], "usage": {"total_tokens": count}},
        most=1_000,
        too_many=400,
    ),
}

TEI_INFO: Mapping[str, Any] = {
    "model_id": "m",
    "model_sha": None,
    "model_dtype": "float16",
    "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
    "max_concurrent_requests": 512,
    "max_input_length": 512,
    "max_batch_tokens": 16_384,
    "max_batch_requests": None,
    "max_client_batch_size": 32,
    "auto_truncate": True,
    "tokenization_workers": 8,
    "version": "1.9.3",
    "sha": None,
    "docker_label": None,
}


MODELS: Mapping[str, Any] = {
    "sglang": {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "sglang", "max_model_len": 512}]},
    "infinity": {
        "data": [
            {
                "id": "m",
                "stats": {"queue_fraction": 0.0, "queue_absolute": 0, "results_pending": 0, "batch_size": 32},
                "object": "model",
                "owned_by": "infinity",
                "created": 1_796_047_559,
                "backend": "torch",
                "capabilities": ["rerank"],
            }
        ],
        "object": "list",
    },
    "llamacpp": {
        "models": [{"name": "m", "model": "m", "capabilities": ["completion"]}],
        "object": "list",
        "data": [
            {
                "id": "m",
                "object": "model",
                "created": 1_796_047_559,
                "owned_by": "llamacpp",
                "meta": {"vocab_type": 3, "n_vocab": 30_522, "n_ctx_train": 512, "n_embd": 384, "n_params": 22_713_601},
            }
        ],
    },
    "vllm": {
        "object": "list",
        "data": [
            {
                "id": "m",
                "object": "model",
                "created": 1_796_047_890,
                "owned_by": "vllm",
                "root": "/models/m",
                "parent": None,
                "max_model_len": 512,
                "permission": [{"id": "modelperm-b4291b2724d3aef0", "object": "model_permission"}],
            }
        ],
    },
}
"""What servers list at ``/models``, by service."""


def name_of(path: str) -> str:
    """Return the service of a path: its beginning, else Cohere or Voyage, whose SDKs set their own paths."""
    first = path.split("/")[1]
    return first if first in SHAPES else "cohere" if path.endswith("/v2/rerank") else "voyage"

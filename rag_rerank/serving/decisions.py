"""Questions to a decision model, as far as a reranker can answer them: is this passage relevant to the query?

The wire format is that of System One (typesafe-sdk 0.7.5): a ``state``, and ``questions`` by name. A decision model
reads both as text. A reranker reads no question; it says how relevant a text is to a query. So a request is answered
only if that is what it asks:

- the state is an object with a ``query`` and with texts: ``passage``, ``document`` or ``text`` with one, or
  ``passages`` or ``documents`` with a list or an object of them;
- each question is a ``noul`` (yes or no), names the query and exactly one passage, and asks about its relevance or
  whether it helps, answers or is useful; no two ask about the same passage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rag_rerank._checks import describe
from rag_rerank.errors import InputError
from rag_rerank.serving.shapes import RerankBody, Shapes, check_number_of_texts, read_object
from rag_rerank.types import Ranking

__all__ = ["DECISIONS"]

_ONE = ("passage", "document", "text")
_SEVERAL = ("passages", "documents")
_RELEVANCE = re.compile(r"relevan|\b(help|answer|useful|usefulness)", re.IGNORECASE)
_QUERY = re.compile(r"\bquery\b", re.IGNORECASE)

_PROBABILITIES = ("calibrated", "sigmoid", "relevance")
"""Scales whose numbers are from 0 to 1, as those of a ``noul`` are."""

_FIELDS = ("model", "state", "questions", "assets")


def _read(body: bytes, *, max_texts: int) -> RerankBody:
    """Read the questions of a request.

    Raises:
        InputError: A reranker cannot answer it. The message names the field and what it should be.
    """
    fields = read_object(body)
    state, questions, model = (fields.get(name) for name in ("state", "questions", "model"))
    if not isinstance(state, dict) or not isinstance(state.get("query"), str):
        raise InputError(
            "state is no object with query: this server is a reranker, and answers only how relevant passages are to a "
            'query; send {"query": TEXT, "passages": [TEXT, ...]}'
        )
    if not isinstance(questions, dict) or not questions:
        raise InputError(
            f"questions is {describe(questions)}, and should be an object with a question for each passage"
        )
    if model is not None and not isinstance(model, str):
        raise InputError(f"model is {describe(model)}, and should be a text")
    if fields.get("assets"):
        raise InputError("assets holds images, which a reranker does not read; leave it out")
    place, texts = _texts(state)
    check_number_of_texts(texts, f"state.{place}", max_texts)
    names = _names(questions, place, tuple(texts))
    unread = [f"state.{name}" for name in state if name not in ("query", place)]
    unread += [name for name in fields if name not in _FIELDS]
    remarks = ["a noul is how relevant the passage is to state.query; criteria and further words are not read"]
    remarks += [f"not applied: {', '.join(sorted(unread))}"] if unread else []
    return RerankBody(
        shape="questions",
        query=state["query"],
        texts=tuple(texts[key] for key in names),
        documents=tuple(names.values()),
        model=model,
        remarks=tuple(remarks),
    )


def _texts(state: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the field of the state that holds the texts, and its texts by the words that questions name them with."""
    places = [name for name in (*_ONE, *_SEVERAL) if state.get(name) is not None]
    if len(places) != 1:
        raise InputError(
            f"state has {' and '.join(places) or 'no texts'}; put the texts into one of {', '.join((*_ONE, *_SEVERAL))}"
        )
    (place,) = places
    value = state[place]
    if place in _ONE:
        return place, {place: _text(value, f"state.{place}")}
    if isinstance(value, dict):
        return place, {key: _text(text, f"state.{place}.{key}") for key, text in value.items()}
    if not isinstance(value, list):
        raise InputError(f"state.{place} is {describe(value)}, and should be a list or an object of texts")
    ids = [str(item["id"] if isinstance(item, dict) and "id" in item else i) for i, item in enumerate(value)]
    if len(set(ids)) < len(ids):
        raise InputError(f"state.{place} has an id twice; give each passage its own")
    return place, {id: _text(item, f"state.{place}[{i}]") for i, (id, item) in enumerate(zip(ids, value, strict=True))}


def _text(value: object, place: str) -> str:
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise InputError(f"{place} is {describe(value)}, and should be a text or an object with text")
    return text


def _names(questions: Mapping[str, Any], place: str, keys: Sequence[str]) -> dict[str, str]:
    """Return the keys of passages, each with the name of the question about it.

    Raises:
        InputError: A reranker cannot answer the question.
    """
    names: dict[str, str] = {}
    alone = place in _ONE
    words_of_keys = re.compile(
        "|".join(rf"(?<!\w){re.escape(key)}(?!\w)" for key in sorted(keys, key=len, reverse=True))
    )
    for name, question in questions.items():
        where = f"questions.{name}"
        kind = question.get("type") if isinstance(question, dict) else None
        if kind != "noul":
            raise InputError(
                f"{where} is {describe(question) if kind is None else f'of the type {kind!r:.40}'}; a reranker answers "
                "only questions of the type 'noul'"
            )
        words = question.get("instructions")
        if not isinstance(words, str) or not _QUERY.search(words) or not _RELEVANCE.search(words):
            raise InputError(
                f"{where}.instructions does not ask whether a passage is relevant to the query, which is all that a "
                f"reranker can answer; ask for example: Is {'the passage' if alone else 'passage 0'} relevant to the "
                "query?"
            )
        mentioned = {keys[0]} if alone else set(words_of_keys.findall(words))
        if len(mentioned) != 1:
            raise InputError(
                f"{where}.instructions names {len(mentioned)} passages of state.{place}, and should name one, by its "
                f"id or key, such as {keys[0]!r}"
            )
        (key,) = mentioned
        if key in names:
            raise InputError(
                f"{where} and questions.{names[key]} ask about one passage, and a reranker has one number for it; ask "
                "one of them"
            )
        names[key] = name
    return names


def _write(
    request: RerankBody, ranking: Ranking, values: Sequence[float], warnings: Sequence[str], *, id: str, model: str
) -> Any:
    """Return the answers, by the names of their questions.

    Raises:
        InputError: The scores are no numbers from 0 to 1.
    """
    scored = any(hit.score is not None for hit in ranking)
    if ranking.scale not in _PROBABILITIES or not scored or not all(0 <= value <= 1 for value in values):
        why = f"they are on the scale {ranking.scale!r}" if scored else "no passage has one"
        raise InputError(
            f"a noul is a number from 0 to 1, and the scores of this reranker are not: {why}; serve a `calibrated` "
            "reranker, or ask /v2/rerank"
        )
    answers = {request.documents[int(hit.id)]: value for hit, value in zip(ranking, values, strict=True)}
    return {
        "model": model,
        "answers": {name: {"type": "noul", "noul": answers[name]} for name in request.documents},
        "usage": {"input_tokens": ranking.usage.tokens or 0, "output_tokens": 0},
        "id": id,
        "scale": ranking.scale,
        "warnings": warnings,
    }


def _schema() -> dict[str, Any]:
    texts = {"anyOf": [{"type": "array"}, {"type": "object"}]}
    text = {"anyOf": [{"type": "string"}, {"type": "object", "required": ["text"]}]}
    words = {"type": "string", "description": "Names the query and one passage, and asks whether it is relevant."}
    question = {"type": "object", "properties": {"type": {"const": "noul"}, "instructions": words}}
    return {
        "type": "object",
        "required": ["state", "questions"],
        "properties": {
            "model": {"type": ["string", "null"]},
            "state": {
                "type": "object",
                "required": ["query"],
                "properties": {
                    "query": {"type": "string"},
                    **dict.fromkeys(_ONE, text),
                    **dict.fromkeys(_SEVERAL, texts),
                },
            },
            "questions": {
                "type": "object",
                "additionalProperties": {**question, "required": ["type", "instructions"]},
            },
        },
    }


DECISIONS = Shapes(_read, _write, _schema)
"""The shape of System One, for the questions that a reranker can answer."""

"""Requests and answers as the clients of rerank APIs write and read them.

The field that holds the texts tells the shapes apart:

- ``documents``: Cohere (https://docs.cohere.com/reference/rerank, v1 and v2), Jina (https://api.jina.ai/redoc), vLLM,
  Infinity and llama.cpp, which agree in what is needed here; Voyage, too, whose answers have ``data`` for ``results``;
- ``texts``: Text Embeddings Inference (https://huggingface.github.io/text-embeddings-inference/);
- ``input``: Mixedbread (https://www.mixedbread.com/api-reference).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

from rag_rerank._checks import describe
from rag_rerank._files import parse_json
from rag_rerank.errors import InputError
from rag_rerank.types import Ranking

__all__ = [
    "RELEVANCE",
    "RerankBody",
    "Shapes",
    "answer_warnings",
    "check_number_of_texts",
    "numbers",
    "read_fields",
    "read_object",
]

_TEXTS = ("documents", "texts", "input")
_TOP = ("top_n", "top_k")
_ECHO = ("return_documents", "return_text", "return_input")
_INSTRUCTION = ("instruction", "instruct")
_CUT = ("truncate", "truncation")
_OTHER = ("query", "model", "rank_fields", "raw_scores", "user", "request_id", "priority", "truncation_direction")
_READ = frozenset((*_TEXTS, *_TOP, *_ECHO, *_INSTRUCTION, *_CUT, *_OTHER))
"""All fields that are applied, or that change no score; a value in any other is named in the answer as not applied."""


@dataclass(frozen=True, kw_only=True)
class RerankBody:
    """A request, whichever shape it had.

    Args:
        shape: The field that held the texts: ``"documents"``, ``"texts"`` or ``"input"``.
        query: The query.
        texts: What is reranked.
        documents: The texts as the client wrote them: texts or objects.
        top_k: How many hits the answer has; ``None`` for all.
        model: The model that was asked for.
        instruction: What relevance means here.
        echo: Whether the answer repeats the texts.
        raw_scores: Whether the answer has raw scores.
        refuses_cuts: Whether a text that is too long is an error.
        with_data: Whether the hits are in ``data``, too, as clients of Voyage read them.
        remarks: What the answer must say of the request.
    """

    shape: str
    query: str
    texts: tuple[str, ...]
    documents: Sequence[Any] = field(repr=False)
    top_k: int | None = None
    model: str | None = None
    instruction: str | None = None
    echo: bool = False
    raw_scores: bool = False
    refuses_cuts: bool = False
    with_data: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shapes:
    """What a path understands.

    Args:
        read: Reads the body of a request that has at most so many texts.
        write: Returns the JSON values of an answer, with its `numbers` and `answer_warnings`.
        schema: Returns the JSON Schema of a request, for the page of the API.
    """

    read: Callable[..., RerankBody]
    write: Callable[..., Any]
    schema: Callable[[], dict[str, Any]]


def read_object(body: bytes) -> dict[str, Any]:
    """Return the fields of a body.

    Raises:
        InputError: It is not a JSON object.
    """
    try:
        fields = parse_json(body)
    except ValueError as error:
        raise InputError(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InputError(f"the body is {describe(fields)}, and should be an object")
    return fields


def read_body(body: bytes, *, max_texts: int) -> RerankBody:
    """Read the body of a request.

    Raises:
        InputError: It is not JSON, has no query or no texts, or a field has a wrong type. The message names the field.
    """
    return read_fields(read_object(body), max_texts=max_texts)


def read_fields(fields: Mapping[str, Any], *, max_texts: int) -> RerankBody:
    """Read the fields of a request.

    Raises:
        InputError: There is no query, there are no or too many texts, or a field has a wrong type.
    """
    shape = next((name for name in _TEXTS if fields.get(name) is not None), None)
    if shape is None:
        raise InputError("the body has no texts: put them into documents (or texts for TEI, input for Mixedbread)")
    documents = fields[shape]
    if not isinstance(documents, list):
        raise InputError(f"{shape} is {describe(documents)}, and should be a list of texts")
    check_number_of_texts(documents, shape, max_texts)
    rank_fields = _optional(fields, ("rank_fields",), list)
    cut = next((fields[name] for name in _CUT if name in fields), None)
    ignored = sorted(name for name, value in fields.items() if name not in _READ and value is not None)
    return RerankBody(
        shape=shape,
        query=_query(fields.get("query")),
        texts=tuple(_text(document, f"{shape}[{i}]", rank_fields) for i, document in enumerate(documents)),
        documents=documents,
        top_k=_top_k(fields),
        model=_optional(fields, ("model",), str),
        instruction=_optional(fields, _INSTRUCTION, str) or None,
        echo=bool(_optional(fields, _ECHO, bool)),
        raw_scores=bool(_optional(fields, ("raw_scores",), bool)),
        refuses_cuts=cut is False or cut in ("none", "NONE"),
        with_data=shape == "documents" and ("top_k" in fields or "truncation" in fields),
        remarks=(f"not applied: {', '.join(ignored)}",) if ignored else (),
    )


def check_number_of_texts(texts: Sized, place: str, max_texts: int) -> None:
    """Raise an `InputError` if there are more texts than a request may have, or none."""
    if not texts:
        raise InputError(f"{place} is empty; send at least one text")
    if len(texts) > max_texts:
        raise InputError(f"{place} has {len(texts):,} texts; this server takes at most {max_texts:,} in a request")


def _query(value: object) -> str:
    if isinstance(value, dict):  # NIM and others wrap it
        value = value.get("text")
    if not isinstance(value, str):
        raise InputError(f"query is {describe(value)}, and should be a text")
    return value


def _optional(fields: Mapping[str, Any], names: Sequence[str], kind: type) -> Any:
    """Return the value of the first of these fields that has one.

    Raises:
        InputError: It has another type.
    """
    name, value = next(((name, fields[name]) for name in names if fields.get(name) is not None), ("", None))
    if value is not None and not isinstance(value, kind):
        expected = {str: "a text", bool: "true or false", list: "a list", int: "a whole number"}[kind]
        raise InputError(f"{name} is {describe(value)}, and should be {expected}")
    return value


def _top_k(fields: Mapping[str, Any]) -> int | None:
    """Return the cutoff; 0 means all, as in vLLM."""
    top_k = _optional(fields, _TOP, int)
    if isinstance(top_k, bool) or (top_k is not None and top_k < 0):
        raise InputError(f"{_TOP[0]} is {describe(top_k)}, and should be a whole number of at least 1")
    return top_k or None


def _text(document: object, place: str, rank_fields: Sequence[str] | None) -> str:
    """Return the text of a document: of an object its ``text``, or its ``rank_fields`` as YAML, as Cohere advises."""
    if isinstance(document, str):
        return document
    if isinstance(document, dict):
        if rank_fields:
            import yaml

            values = {name: document[name] for name in rank_fields if name in document}
            return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        if isinstance(document.get("text"), str):
            return str(document["text"])
        raise InputError(f"{place} is an object without text; give text, or name its fields in rank_fields")
    raise InputError(f"{place} is {describe(document)}, and should be a text")


def numbers(ranking: Ranking, *, raw: bool) -> tuple[list[float], tuple[str, ...]]:
    """Return a number for each hit, which never rises from one to the next, and what the answer must say of them.

    Clients need a number for every text. A hit without a score gets the lowest number that the others have, at most 0;
    if none has a score, the numbers are those of places, 1 - place/n.
    """
    scored = [(hit.raw_score if raw else hit.score) for hit in ranking if hit.score is not None]
    without = [hit for hit in ranking if hit.score is None]
    values = [float(number) for number in scored if number is not None]
    if not without:
        return values, ()
    reasons = "; ".join(sorted({str(hit.unscored) for hit in without}))
    if not values:
        count = len(without)
        return [1 - place / count for place in range(count)], (
            f"no text has a score ({reasons}); the texts are in the order of the request, and their scores say no more",
        )
    least = min(0.0, values[-1])
    return values + [least] * len(without), (
        f"{len(without)} of {len(ranking)} texts have no score ({reasons}); they come last, with the number {least:g}",
    )


def answer_warnings(request: RerankBody, ranking: Ranking, remarks: Sequence[str]) -> list[str]:
    """Return what a client must know of an answer besides its `numbers`, which bring their own remarks."""
    cut = sum(hit.coverage.truncated for hit in ranking if hit.coverage is not None)
    cuts = [f"only the beginning of {cut} of {len(ranking)} texts was read"] if cut else []
    return [*request.remarks, *ranking.degraded, *remarks, *cuts]


def write_answer(
    request: RerankBody, ranking: Ranking, values: Sequence[float], warnings: Sequence[str], *, id: str, model: str
) -> Any:
    """Return the JSON values of an answer in the shape of its request, with its `numbers` and `answer_warnings`."""
    rows = [(int(hit.id), value) for hit, value in zip(ranking, values, strict=True)]
    if request.shape == "texts":
        texts = request.texts
        return [{"index": i, "score": v, **({"text": texts[i]} if request.echo else {})} for i, v in rows]
    usage = ranking.usage
    tokens = usage.tokens or 0  # clients insist on a number, also where nothing counts tokens
    kind = "list" if request.shape == "input" or request.with_data else "rerank"  # what their own servers say
    answer: dict[str, Any] = {"id": id, "object": kind, "model": model, "scale": ranking.scale}
    answer["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    if request.shape == "input":
        answer["data"] = [
            {"index": i, "score": v, "object": "rank_result", "input": request.documents[i] if request.echo else None}
            for i, v in rows
        ]
        return answer | {"top_k": len(rows), "return_input": request.echo, "warnings": warnings}
    results = [
        {"index": i, "relevance_score": v, **({"document": _echo(request.documents[i])} if request.echo else {})}
        for i, v in rows
    ]
    billed = {} if usage.search_units is None else {"search_units": usage.search_units}
    answer["results"] = results
    if request.with_data:
        answer["data"] = results
    answer["meta"] = {
        "api_version": {"version": "2"},
        "billed_units": billed,
        "tokens": {"input_tokens": tokens},
        "warnings": warnings,
    }
    return answer


def _echo(document: object) -> object:
    return {"text": document} if isinstance(document, str) else document


def _body_schema() -> dict[str, Any]:
    text = {"anyOf": [{"type": "string"}, {"type": "object"}]}
    optional = {"type": ["integer", "null"], "minimum": 0}
    flag = {"type": ["boolean", "null"]}
    return {
        "type": "object",
        "required": ["query"],
        "properties": {
            "query": {"type": "string"},
            **{name: {"type": "array", "items": text} for name in _TEXTS},
            "model": {"type": ["string", "null"]},
            **dict.fromkeys(_TOP, optional),
            **dict.fromkeys((*_ECHO, "raw_scores"), flag),
            **{name: {"type": ["string", "null"]} for name in _INSTRUCTION},
        },
    }


RELEVANCE = Shapes(read_body, write_answer, _body_schema)
"""The shapes of rerank APIs, which the field with the texts tells apart."""

"""The tools of the MCP server: their schemas, their arguments, and their answers as data and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from rag_rerank.base import Reranker
from rag_rerank.context import Context, Reason
from rag_rerank.errors import InputError, did_you_mean
from rag_rerank.serving.settings import ServerSettings
from rag_rerank.serving.shapes import RerankBody, answer_warnings, read_fields
from rag_rerank.types import SCALE_MEANINGS, Candidate, Ranking

__all__ = ["PACKING_OPTIONS", "ToolArguments", "describe_tools", "pack_answer", "rank_answer", "read_arguments"]

PACKING_OPTIONS = ("max_tokens", "top_k", "duplicates", "per_source", "source", "order", "trim")
"""The arguments of ``pack`` that are options of `Packing`."""

_DOCUMENT_KEYS = ("id", "text", "score", "metadata")


@dataclass(frozen=True, kw_only=True)
class ToolArguments:
    """The arguments of a call.

    Args:
        body: The query, the texts, and what else the shapes of rerank APIs have.
        candidates: What is reranked.
        packing: The options of `Packing`; empty for ``rerank``.
    """

    body: RerankBody
    candidates: tuple[Candidate, ...]
    packing: Mapping[str, Any]


def read_arguments(tool: str, arguments: Mapping[str, Any], settings: ServerSettings) -> ToolArguments:
    """Read the arguments of a tool.

    Raises:
        InputError: An argument is missing, unknown, wrong or too large. The message names it.
    """
    arguments_of_tool = _schema_of_arguments(tool, settings, takes_instruction=True)["properties"]
    for name in arguments:
        if name not in arguments_of_tool:
            raise InputError(f"{tool} has no argument {name!r:.60}{did_you_mean(str(name), list(arguments_of_tool))}")
    if arguments.get("documents") is None:
        raise InputError(f"{tool} needs documents: a list of texts, or of objects with text")
    packing = {name: arguments[name] for name in PACKING_OPTIONS if tool == "pack" and arguments.get(name) is not None}
    if tool == "pack" and "max_tokens" not in packing:
        raise InputError("pack needs max_tokens: the number of tokens that the text may have")
    # all hits are packed: those that stand behind the first may be the ones that fit
    fields = {name: value for name, value in arguments.items() if name not in packing}
    body = read_fields(fields, max_texts=settings.max_texts)
    size = sum(map(len, body.texts)) + len(body.query)
    if size > settings.max_body_bytes:
        raise InputError(
            f"documents has {size:,} characters; this server takes at most {settings.max_body_bytes:,} in a request"
        )
    unread = {key for document in body.documents if isinstance(document, dict) for key in document} - {*_DOCUMENT_KEYS}
    remarks = [f"not read: {', '.join(sorted(unread))} of documents; put them into metadata"] if unread else []
    documents = enumerate(zip(body.documents, body.texts, strict=True))
    candidates = tuple(_candidate(i, document, text) for i, (document, text) in documents)
    return ToolArguments(body=replace(body, remarks=(*body.remarks, *remarks)), candidates=candidates, packing=packing)


def _candidate(i: int, document: Any, text: str) -> Candidate:
    fields = document if isinstance(document, dict) else {}
    try:
        return Candidate(fields.get("id", str(i)), text, fields.get("score"), fields.get("metadata") or {})
    except InputError as error:
        raise InputError(f"documents[{i}]: {error}") from None


def rank_answer(arguments: ToolArguments, ranking: Ranking, *, model: str) -> tuple[dict[str, Any], list[str]]:
    """Return the answer of ``rerank``: as data, and as the texts that a model reads."""
    places = {candidate.id: i for i, candidate in enumerate(arguments.candidates)}
    results = [
        {
            "rank": hit.rank,
            "index": places[hit.id],
            "id": hit.id,
            "score": hit.score,
            **({} if hit.unscored is None else {"unscored": hit.unscored}),
            **({"truncated": True} if hit.coverage is not None and hit.coverage.truncated else {}),
            **({"text": hit.text} if arguments.body.echo else {}),
        }
        for hit in ranking
    ]
    unscored = [hit for hit in ranking if hit.score is None]
    reasons = "; ".join(sorted({str(hit.unscored) for hit in unscored}))
    remarks = [f"without a score, and therefore last: {len(unscored)} documents ({reasons})"] if unscored else []
    facts = _facts(arguments, ranking, remarks, model=model)
    count = f"{len(results)} of {len(arguments.candidates)} documents, the most relevant first"
    lines = [f"{count}; score: {SCALE_MEANINGS[ranking.scale]}."]
    for row in results:
        name = "" if row["id"] == str(row["index"]) else f" ({row['id']})"
        score = "no score" if row["score"] is None else f"score {row['score']:.4g}"
        lines.append(f"{row['rank']}. documents[{row['index']}]{name}: {score}")
        if arguments.body.echo:
            lines.append(f"   {row['text']}")
    return {"results": results, **facts}, ["\n".join([*lines, *_warning_lines(facts["warnings"])])]


def pack_answer(
    arguments: ToolArguments, ranking: Ranking, context: Context, *, model: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the answer of ``pack``: as data, and as the texts that a model reads, the packed text first."""
    facts = _facts(arguments, ranking, context.notes, model=model)
    fields = context.to_dict()
    names = ("text", "tokens", "tokens_before", "tokens_estimated", "dropped")
    pieces = [{name: piece[name] for name in ("ids", "tokens", "trimmed")} for piece in fields["pieces"]]
    answer = {**{name: fields[name] for name in names}, "pieces": pieces, **facts}
    count = sum(len(piece["ids"]) for piece in pieces)
    estimated = " (estimated)" if context.tokens_estimated else ""
    lines = [
        f"{count} of {len(arguments.candidates)} documents in {context.tokens:,} of "
        f"{arguments.packing['max_tokens']:,} tokens{estimated}, from {context.tokens_before:,}."
    ]
    reasons = [drop.reason for drop in context.dropped]
    counts = [f"{reasons.count(reason)} {reason}" for reason in get_args(Reason) if reason in reasons]
    lines += [f"Left out: {', '.join(counts)}."] if counts else []
    summary = "\n".join([*lines, *_warning_lines(facts["warnings"])])
    return answer, [*([context.text] if context.text else []), summary]


def _facts(arguments: ToolArguments, ranking: Ranking, remarks: Sequence[str], *, model: str) -> dict[str, Any]:
    """Return what a client must know of a ranking besides its order."""
    return {
        "scale": ranking.scale,
        "model": model,
        "degraded": bool(ranking.degraded),
        "warnings": answer_warnings(arguments.body, ranking, remarks),
        **({} if ranking.answerable is None else {"answerable": ranking.answerable}),
        **({} if ranking.usage.tokens is None else {"tokens_read": ranking.usage.tokens}),
        **({} if ranking.usage.cost is None else {"cost_dollars": ranking.usage.cost}),
    }


def _warning_lines(warnings: Sequence[str]) -> list[str]:
    return [f"Warning: {warning}" for warning in warnings]


def describe_tools(reranker: Reranker, settings: ServerSettings) -> list[dict[str, Any]]:
    """Return the tools as ``tools/list`` shows them."""
    hints = {
        "readOnlyHint": True,
        "destructiveHint": False,
        "idempotentHint": True,
        "openWorldHint": any(part.remote for part in reranker.walk()),
    }
    words = {
        "rerank": (
            "Order documents by relevance",
            "Order documents by how relevant they are to a query, the most relevant first. Use it when you have more "
            "texts than you need, such as search results, chunks, notes or descriptions of tools, and want the few "
            "that answer the question. It reads the documents that you send; it does not search. Each result has the "
            f"index and the id of its document and a score; {SCALE_MEANINGS[reranker.scale]}.",
        ),
        "pack": (
            "Select documents within a token budget",
            "Select the documents that are most relevant to a query and fit into max_tokens, and return them as one "
            "text. Use it before you put many or long texts into a prompt. Documents that do not fit are left out; if "
            "the best one alone is too long, its sentences that fit are kept. The answer says what was left out and "
            "why.",
        ),
    }
    return [
        {
            "name": name,
            "title": title,
            "description": description,
            "inputSchema": _schema_of_arguments(name, settings, takes_instruction=reranker.takes_instruction),
            "outputSchema": _schema_of_answer(name),
            "annotations": hints,
        }
        for name, (title, description) in words.items()
    ]


def _schema_of_arguments(tool: str, settings: ServerSettings, *, takes_instruction: bool) -> dict[str, Any]:
    document = {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "required": ["text"],
                "properties": {
                    "text": {"type": "string", "description": "What is read and scored."},
                    "id": {"type": "string", "description": "Your name for the document; else its index."},
                    "score": {"type": "number", "description": "The score of the search that found it."},
                    "metadata": {"type": "object", "description": "Title, source, date and the like."},
                },
            },
        ]
    }
    properties: dict[str, Any] = {
        "query": {"type": "string", "description": "The question or the search words."},
        "documents": {
            "type": "array",
            "items": document,
            "minItems": 1,
            "maxItems": settings.max_texts,
            "description": "The texts, or objects with text.",
        },
        "top_k": {"type": "integer", "minimum": 1, "description": "How many documents to return at most; else all."},
    }
    if takes_instruction:
        properties["instruction"] = {
            "type": "string",
            "description": "What relevance means here, such as: prefer the latest guideline.",
        }
    if tool == "rerank":
        properties["return_documents"] = {
            "type": "boolean",
            "default": False,
            "description": "Repeat the texts in the results. You have them already, so it is seldom needed.",
        }
    else:
        properties |= {
            "max_tokens": {"type": "integer", "minimum": 1, "description": "How many tokens the text may have."},
            "duplicates": {
                "anyOf": [{"const": "exact"}, {"type": "number", "exclusiveMinimum": 0, "maximum": 1}],
                "description": "Keep one of several like texts: 'exact' for the same text, or the share of common "
                "words from which two texts are alike; 0.8 is a good start.",
            },
            "source": {"type": "string", "description": "The key of metadata that names the source of a document."},
            "per_source": {"type": "integer", "minimum": 1, "description": "Most documents of one source."},
            "order": {
                "enum": ["relevance", "edges", "source"],
                "default": "relevance",
                "description": "Best first; the best at both ends; or by source.",
            },
            "trim": {
                "enum": ["best", "sentences"],
                "default": "best",
                "description": "What is shortened to fit: only the best document; or also the first other one.",
            },
        }
    required = ["query", "documents", *(["max_tokens"] if tool == "pack" else [])]
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def _schema_of_answer(tool: str) -> dict[str, Any]:
    count = {"type": ["integer", "null"]}
    texts = {"type": "array", "items": {"type": "string"}}
    facts = {
        "scale": {"enum": list(SCALE_MEANINGS), "description": "What the scores are."},
        "model": {"type": "string", "description": "The model that answered."},
        "degraded": {"type": "boolean", "description": "Whether this is not quite what was asked for; see warnings."},
        "warnings": {**texts, "description": "What you must know of this answer, one sentence each."},
        "answerable": {"type": "number", "description": "The probability that any document answers the query."},
        "tokens_read": {"type": "integer", "description": "Tokens that models read."},
        "cost_dollars": {"type": "number", "description": "US dollars, where prices are known."},
    }
    required = ["scale", "model", "degraded", "warnings"]
    if tool == "rerank":
        result = {
            "rank": {"type": "integer", "description": "1 for the most relevant."},
            "index": {"type": "integer", "description": "The place in documents, counted from 0."},
            "id": {"type": "string"},
            "score": {"type": ["number", "null"]},
            "unscored": {"type": "string", "description": "Why there is no score."},
            "truncated": {"type": "boolean", "description": "Whether only the beginning was read."},
            "text": {"type": "string"},
        }
        row = {"type": "object", "required": ["rank", "index", "id", "score"], "properties": result}
        own: dict[str, Any] = {"results": {"type": "array", "items": row}}
    else:
        ends = {"type": ["array", "null"], "items": {"type": "integer"}}
        piece = {"ids": texts, "tokens": count, "trimmed": {**ends, "description": "The characters that are left."}}
        drop = {
            "id": {"type": "string"},
            "rank": {"type": "integer"},
            "reason": {"enum": list(get_args(Reason))},
            "detail": {"type": "string"},
            "duplicate_of": {"type": ["string", "null"]},
        }
        own = {
            "text": {"type": "string", "description": "The selected documents."},
            "tokens": count,
            "tokens_before": {**count, "description": "Tokens of all documents."},
            "tokens_estimated": {"type": "boolean"},
            "pieces": {"type": "array", "items": {"type": "object", "required": list(piece), "properties": piece}},
            "dropped": {"type": "array", "items": {"type": "object", "required": list(drop), "properties": drop}},
        }
    return {"type": "object", "required": [*own, *required], "properties": {**own, **facts}}

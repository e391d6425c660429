"""Build a reranker, call it, read the ranking, pack a context: the types that a program sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from typing_extensions import assert_type

from rag_rerank import (
    Candidate,
    ConfigError,
    Context,
    Dropped,
    Hit,
    Packing,
    Piece,
    Ranking,
    RelevantSpan,
    Reranker,
    RerankError,
    Scale,
    Secret,
    Trace,
    TransientError,
    Usage,
    build,
    json_schema,
    load,
    pack,
    to_config,
)
from rag_rerank.errors import AllFailed, UnusableKey

texts: list[str] = ["a"]
candidates: list[Candidate] = [Candidate("1", "a", metadata={"page": 3}, vector=[0.1, 0.2])]


def stream() -> Iterator[str]:
    yield "a"


def count_words(text: str) -> int:
    return len(text.split())


# built from a name, a mapping, a path or a reranker, with options
reranker = build("lexical")
assert_type(reranker, Reranker)
assert_type(build({"type": "lexical", "k1": 1.2}), Reranker)
assert_type(build(Path("rerank.yaml")), Reranker)
assert_type(build(reranker), Reranker)
assert_type(build("lexical", k1=1.2), Reranker)
assert_type(build("cohere:rerank-v3.5", api_key=Secret("${CO_API_KEY}")), Reranker)
assert_type(load(Path("rerank.yaml")), Reranker)
assert_type(to_config(reranker), dict[str, Any])
assert_type(json_schema(), dict[str, Any])

# called with any iterable of texts or candidates
ranking = reranker.rerank("q", texts)
assert_type(ranking, Ranking)
reranker.rerank("q", candidates, top_k=3, timeout=0.5, instruction="Prefer recent ones.")
reranker.rerank("q", [*texts, *candidates])
reranker.rerank("q", stream())
reranker.rerank("q", filter(None, texts))
reranker.rerank("q", tuple(texts))


async def call() -> None:
    assert_type(await reranker.arerank("q", texts, top_k=3), Ranking)
    async with build("lexical") as local:
        assert_type(local, Reranker)
    await reranker.aclose()


with build("lexical") as local:
    assert_type(local, Reranker)

# the ranking and its hits
assert_type(ranking[0], Hit)
assert_type(ranking[:3], tuple[Hit, ...])
assert_type(list(ranking), list[Hit])
assert_type(len(ranking), int)
assert_type(ranking.top(3), Ranking)
assert_type(ranking.scale, Scale)
assert_type(ranking.trace, Trace)
assert_type(ranking.usage, Usage)
assert_type(ranking.usage.cost, float | None)
assert_type(ranking.degraded, tuple[str, ...])
assert_type(ranking.answerable, float | None)
assert_type(ranking[0].score, float | None)
assert_type(ranking[0].id, str)
assert_type(ranking[0].candidate, Candidate)
assert_type(ranking[0].spans, tuple[RelevantSpan, ...] | None)
assert_type(Ranking.from_dict(ranking.to_dict()), Ranking)
bounded: Literal["sigmoid", "unbounded"] = "sigmoid"
print(ranking.scale == bounded, next(iter(ranking.trace.walk())).step)

# packed
context = pack(ranking, max_tokens=300, tokenizer=count_words, duplicates="exact", order="relevance")
assert_type(context, Context)
assert_type(context.pieces, tuple[Piece, ...])
assert_type(context.dropped, tuple[Dropped, ...])
assert_type(context.tokens, int | None)
packing = Packing(top_k=3, duplicates=0.8, per_source=2, source=lambda hit: hit.id)
print(packing, context.text)

# what is raised
try:
    reranker.rerank("q", texts)
except ConfigError as error:
    assert_type(error.path, str)
    assert_type(error.url, str | None)
except AllFailed as error:
    assert_type(error.errors, tuple[TransientError, ...])
except TransientError as error:
    assert_type(error.retry_after, float | None)
    assert_type(error.status, int | None)
except RerankError as error:
    assert_type(error.trace, Trace | None)
assert_type(UnusableKey("no key").backend, str | None)

build(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
build("lexical").rank("q", texts)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
load()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
to_config("lexical")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
reranker.rerank(texts, "q")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
reranker.rerank("q", texts, topk=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
reranker.rerank("q", texts, 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
reranker.rerank("q", texts, top_k="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
reranker.rerank("q", [1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
reranker.rerank("q", None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Candidate("1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Candidate(1, "a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
total: float = ranking[0].score  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
ranking[0].score = 1.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
ranking.hits = ()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
Packing(max_token=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Packing(order="best")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
pack(ranking, tokenizer=len, trim="last")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
pack(texts, max_tokens=300)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
prices: dict[str, float] = {"cost": ranking.usage.cost}  # type: ignore[dict-item]  # pyright: ignore[reportAssignmentType]

"""Cached: stores the scores of a reranker, and uses them again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from rag_rerank._checks import at_least, finite_positive
from rag_rerank._files import FilePath
from rag_rerank._lazy import forget, load_once
from rag_rerank._version import __version__
from rag_rerank.base import PointwiseReranker
from rag_rerank.compose.cache.cache_stores import FileStore, MemoryStore, Store, StoredScore
from rag_rerank.compose.wrapper import WrapsReranker, check_reranker
from rag_rerank.errors import BadResponse, ConfigError
from rag_rerank.execution.calls import check_scores, map_error_position
from rag_rerank.execution.deadline import arun_in_thread
from rag_rerank.execution.plan import span_request
from rag_rerank.trace import Usage
from rag_rerank.types import Scores

__all__ = ["Cached"]


@dataclass(frozen=True, kw_only=True)
class Cached(WrapsReranker, PointwiseReranker):
    """A reranker whose scores are stored, so that a pair of query and text is scored once.

    A stored score is used for the same query, the same text, and a reranker with the same `identity` and release of
    this package. The identity covers the commit or the content of the model's files and every setting that can change a
    score. So different models, revisions, precisions, windows and prompts can share one cache, and never get each
    other's scores. The store holds hashes, scores, coverages and relevant spans, and no text.

    Relevant spans are stored where the reranker always gives them with its scores, as `CohereReranker` does with
    ``relevant_spans``. `RelevantSpans` belongs around the cache: the sentences that it scores are stored as texts.

    ``usage.texts`` counts the texts that were scored now. ``usage.cached`` counts the others: those whose scores were
    stored, and further copies of a text within one call.

    A provider can change a model without changing its name, which no identity can detect: choose ``ttl`` with that in
    mind. Scores of local models agree up to rounding (1e-4 on a logit) between machines, threads and batches; a cache
    keeps those that came first.

    Args:
        reranker: A reranker whose scores depend on the query and the text alone: a local model or a provider. For
            cascades and fallbacks, cache their members.
        path: The file that holds the scores, on a local disk; threads and processes may share it. By default scores are
            kept in memory until `close`. A file that cannot be used raises at first use; if it cannot be written for a
            moment (disk full), the trace has a note, and nothing else changes.
        max_entries: How many scores are stored at most. Those used least recently are removed first. An entry takes
            about 200 bytes of a file, or 400 bytes of memory.
        ttl: Seconds after which a text is scored again. By default never.

    Raises:
        ConfigError: The reranker cannot be cached, or a value is not allowed.
    """

    kind: ClassVar[str] = "cached"

    reranker: PointwiseReranker
    path: FilePath | None = None
    max_entries: int = 100_000
    ttl: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reranker(self.reranker, "reranker")
        if not isinstance(self.reranker, PointwiseReranker):
            mend = "cache its members instead" if self.reranker.children else "its answer depends on all candidates"
            raise ConfigError(f"{self.reranker.label} gives no scores of single texts; {mend}", path="reranker")
        if self.reranker.why_not_cacheable is not None:
            raise ConfigError(
                f"{self.reranker.label} cannot be cached: {self.reranker.why_not_cacheable}", path="reranker"
            )
        if self.path is not None:
            object.__setattr__(self, "path", os.fspath(self.path))
            if not self.path.strip():
                raise ConfigError("the path is blank; leave it out to keep scores in memory", path="path")
        at_least(self.max_entries, 1, "max_entries")
        if self.ttl is not None:
            finite_positive(self.ttl, "ttl")

    @property
    def model_id(self) -> str | None:
        """The reranker's model."""
        return self.reranker.model_id

    @property
    def template_id(self) -> str | None:
        """The reranker's prompt."""
        return self.reranker.template_id

    @property
    def why_not_cacheable(self) -> str | None:
        """The reason of the reranker inside: a cache in memory may contain one on disk."""
        return self.reranker.why_not_cacheable

    def _identity(self, version: str | None = None) -> str:
        return self.reranker._identity(version)  # a cache changes no score

    @property
    def _key(self) -> str:
        """The part of every key that identifies the reranker; it changes with the release of this package.

        Raises:
            ConfigError: The scores cannot be cached; the message says why.
        """
        if self.why_not_cacheable is not None:
            raise ConfigError(f"{self.reranker.label} cannot be cached: {self.why_not_cacheable}")
        return self._identity(__version__)

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text; the reranker is called for those without a stored score.

        Raises:
            ConfigError: The file cannot be used.
            RerankError: Any error of the reranker; stored scores stay.
        """
        lookup = _Lookup(self, query, texts)
        if not lookup.missing:
            return lookup.scores(Scores((), self.scale))
        with map_error_position(lookup.missing_positions), span_request(want=False):
            answer = self.reranker.score(query, lookup.missing)
        return lookup.scores(answer)

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does; hashing and file access run on a worker thread."""
        lookup = await arun_in_thread(partial(_Lookup, self, query, texts))
        if not lookup.missing:
            return lookup.scores(Scores((), self.scale))
        with map_error_position(lookup.missing_positions), span_request(want=False):
            answer = await self.reranker.ascore(query, lookup.missing)
        return await arun_in_thread(partial(lookup.scores, answer))

    def warm_up(self) -> None:
        """Load the reranker and open the file."""
        super().warm_up()
        _ = self._key, self._store

    def close(self) -> None:
        """Close the reranker and the file, and forget scores in memory."""
        try:
            super().close()
        finally:
            self._close_store()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop, and release what belongs to the loop."""
        try:
            await super().aclose()
        finally:
            await arun_in_thread(self._close_store)

    @load_once
    def _store(self) -> Store:
        if self.path is None:
            return MemoryStore(self.max_entries, self.ttl)
        return FileStore(self.path, self.max_entries, self.ttl)

    def _close_store(self) -> None:
        if store := forget(self, "_store"):
            store.close()


class _Lookup:
    """The stored scores of one call, and the texts without one."""

    def __init__(self, cached: Cached, query: str, texts: Sequence[str]) -> None:
        self._reranker = cached.reranker
        self._store = cached._store
        self._notes: list[str] = []
        self._keys = _keys(cached._key, query, texts)
        self._stored = self._store.find(tuple(dict.fromkeys(self._keys)), self._notes)
        self._missing: dict[bytes, int] = {}  # key -> the first position of its text
        for position, key in enumerate(self._keys):
            if key not in self._stored:
                self._missing.setdefault(key, position)
        self.missing = [texts[position] for position in self.missing_positions]

    @property
    def missing_positions(self) -> list[int]:
        """The positions of the `missing` texts among all texts."""
        return list(self._missing.values())

    def scores(self, answer: Scores) -> Scores:
        """Store the reranker's scores of the `missing` texts, and return the scores of all texts.

        Raises:
            BadResponse: The answer must not be stored.
        """
        answer = self._check(answer)
        new = {
            key: StoredScore(
                value, answer.coverage[i] if answer.coverage else None, answer.spans[i] if answer.spans else None
            )
            for i, (key, value) in enumerate(zip(self._missing, answer.values, strict=True))
        }
        unscored = {key: answer.unscored[i] for i, key in enumerate(self._missing) if i in answer.unscored}
        if valid := {} if answer.degraded else {key: score for key, score in new.items() if key not in unscored}:
            self._store.put(valid, self._notes)
        scores = [new.get(key) or self._stored[key] for key in self._keys]
        coverage = [score.coverage for score in scores if score.coverage is not None]
        if coverage and len(coverage) < len(scores):
            raise self._bad_response("returned the coverage of some texts only")
        positions = self.missing_positions
        cached = sorted({*range(len(self._keys))} - {*positions})
        if cached:
            self._notes.append(f"{len(cached)} of {len(self._keys)} scores came from the cache")
        return replace(
            answer,
            values=[score.score for score in scores],
            coverage=coverage,
            spans=[score.spans for score in scores] if any(score.spans is not None for score in scores) else (),
            usage=answer.usage + Usage(cached=len(cached)),
            notes=(*answer.notes, *self._notes),
            cached=sorted((*cached, *(positions[i] for i in answer.cached))),
            unscored={position: unscored[key] for position, key in enumerate(self._keys) if key in unscored},
        )

    def _check(self, answer: Scores) -> Scores:
        answer = check_scores(self._reranker, answer, len(self.missing))
        if answer.scale != self._reranker.scale:
            raise self._bad_response(f"declares the scale {self._reranker.scale!r} and answered on {answer.scale!r}")
        return answer

    def _bad_response(self, problem: str) -> BadResponse:
        return BadResponse(f"{self._reranker.label} {problem}, so it cannot be cached", backend=self._reranker.kind)


def _keys(identity: str, query: str, texts: Sequence[str]) -> list[bytes]:
    """Return a SHA-256 for each text; each part is hashed with its length, so that different parts never collide."""
    from hashlib import sha256

    def add(hashed: Any, part: str) -> Any:
        content = part.encode()
        hashed.update(len(content).to_bytes(8, "big"))
        hashed.update(content)
        return hashed

    pair = add(add(sha256(), identity), query)
    return [add(pair.copy(), text).digest() for text in texts]

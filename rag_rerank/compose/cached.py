"""Cached: the scores of a reranker, kept for the next time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from rag_rerank._lazy import forget, load_once
from rag_rerank._version import __version__
from rag_rerank.base import PointwiseReranker
from rag_rerank.compose.cache_stores import FileStore, MemoryStore, Store, StoredScore
from rag_rerank.compose.wrapper import WrapsReranker, check_reranker
from rag_rerank.errors import BadResponse, ConfigError, InputTooLong
from rag_rerank.execution.calls import check_scores
from rag_rerank.trace import Usage
from rag_rerank.types import Scores

__all__ = ["Cached"]


@dataclass(frozen=True, kw_only=True)
class Cached(WrapsReranker, PointwiseReranker):
    """Asks its reranker only for the scores that it does not have yet.

    A score is found again for the same query, the same text and the same `fingerprint` of the reranker, which
    covers the commit or the content of the model's files and every setting that can change a score. So another
    model, revision, precision, window or prompt shares a cache without ever sharing a score. Kept are hashes, scores
    and coverages, and no text.

    ``usage.texts`` counts the texts that were scored now, and ``usage.cached`` the others: those that were found,
    and further copies of a text within one call.

    A provider can change a model behind its name, which no fingerprint can see: choose a ``ttl`` that you can live
    with. Scores of local models are the same only up to rounding (1e-4 on a logit) between machines, threads and
    batches; a cache keeps the ones that it saw first.

    Args:
        reranker: A pointwise reranker whose scores depend on the pair alone: a local model or an API. Cascades and
            fallbacks are cached member by member.
        path: A file on a local disk for threads and processes to share; ``None`` keeps scores in memory until
            `close`. A file that cannot be used raises at first use; one that cannot be written for the moment (disk
            full) costs nothing but a note in the trace.
        max_entries: How many scores are kept; those used least recently go first. An entry takes about 200 bytes of
            a file, or 400 bytes of memory.
        ttl: Seconds after which a score is asked for anew; ``None`` for never.

    Raises:
        ConfigError: A reranker that cannot be cached, or a value that cannot be used.
    """

    kind: ClassVar[str] = "cached"

    reranker: PointwiseReranker
    path: str | None = None
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
        if self.max_entries < 1:
            raise ConfigError(f"max_entries must be at least 1, got {self.max_entries}", path="max_entries")
        if self.ttl is not None and not (self.ttl > 0 and math.isfinite(self.ttl)):
            raise ConfigError(f"ttl must be more than 0 seconds, got {self.ttl}", path="ttl")

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
        """What the reranker says: a cache in memory may stand before one on disk."""
        return self.reranker.why_not_cacheable

    def _identity(self, version: str | None = None) -> str:
        return self.reranker._identity(version)  # a cache changes no score

    @property
    def _key(self) -> str:
        """The part of every key that stands for the reranker; it changes with the release of this package.

        Raises:
            ConfigError: The scores cannot be cached; the message says why.
        """
        if self.why_not_cacheable is not None:
            raise ConfigError(f"{self.reranker.label} cannot be cached: {self.why_not_cacheable}")
        return self._identity(__version__)

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text, asking only for what is missing.

        Raises:
            ConfigError: The file cannot be used.
            RerankError: Whatever the reranker raises; what was kept before stays.
        """
        lookup = _Lookup(self, query, texts)
        if not lookup.missing:
            return lookup.scores(Scores((), self.scale))
        with lookup.own_positions():
            answer = self.reranker.score(query, lookup.missing)
        return lookup.scores(answer)

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does; hashes and files are worked on in a worker thread."""
        import asyncio

        lookup = await asyncio.to_thread(_Lookup, self, query, texts)
        if not lookup.missing:
            return lookup.scores(Scores((), self.scale))
        with lookup.own_positions():
            answer = await self.reranker.ascore(query, lookup.missing)
        return await asyncio.to_thread(lookup.scores, answer)

    def warm_up(self) -> None:
        """Load the reranker and open the file."""
        super().warm_up()
        _ = self._key, self._store

    def close(self) -> None:
        """Close the reranker and the file; scores in memory are forgotten."""
        try:
            super().close()
        finally:
            self._let_go()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop, and release what belongs to it."""
        import asyncio

        try:
            await super().aclose()
        finally:
            await asyncio.to_thread(self._let_go)

    @load_once
    def _store(self) -> Store:
        if self.path is None:
            return MemoryStore(self.max_entries, self.ttl)
        return FileStore(self.path, self.max_entries, self.ttl)

    def _let_go(self) -> None:
        if store := forget(self, "_store"):
            store.close()


class _Lookup:
    """One call: what is kept, what is missing, and both put together."""

    def __init__(self, cached: Cached, query: str, texts: Sequence[str]) -> None:
        self._reranker = cached.reranker
        self._store = cached._store
        self._notes: list[str] = []
        self._keys = _keys(cached._key, query, texts)
        self._kept = self._store.find(tuple(dict.fromkeys(self._keys)), self._notes)
        self._asked: dict[bytes, int] = {}
        for position, key in enumerate(self._keys):
            if key not in self._kept:
                self._asked.setdefault(key, position)
        self.missing = [texts[position] for position in self._asked.values()]

    @contextmanager
    def own_positions(self) -> Iterator[None]:
        """Let an error of the reranker name the position in this call, not in what was asked of it."""
        try:
            yield
        except InputTooLong as error:
            if error.position is not None:
                error.position = list(self._asked.values())[error.position]
            raise

    def scores(self, answer: Scores) -> Scores:
        """Keep what the reranker answered to `missing`, and return the scores of all texts.

        Raises:
            BadResponse: An answer that must not be kept.
        """
        answer = self._checked(answer)
        new = {
            key: StoredScore(value, answer.coverage[i] if answer.coverage else None)
            for i, (key, value) in enumerate(zip(self._asked, answer.values, strict=True))
        }
        if new:
            self._store.keep(new, self._notes)
        all_kept = [new.get(key) or self._kept[key] for key in self._keys]
        coverage = [kept.coverage for kept in all_kept if kept.coverage is not None]
        if coverage and len(coverage) < len(all_kept):
            raise self._bad("tells the coverage of some texts only")
        asked = list(self._asked.values())
        cached = sorted({*range(len(self._keys))} - {*asked})
        if cached:
            self._notes.append(f"{len(cached)} of {len(self._keys)} scores came from the cache")
        return replace(
            answer,
            values=[kept.score for kept in all_kept],
            coverage=coverage,
            usage=answer.usage + Usage(cached=len(cached)),
            notes=(*answer.notes, *self._notes),
            cached=sorted((*cached, *(asked[i] for i in answer.cached))),
        )

    def _checked(self, answer: Scores) -> Scores:
        answer = check_scores(self._reranker, answer, len(self.missing))
        if answer.scale != self._reranker.scale:
            raise self._bad(f"declares the scale {self._reranker.scale!r} and answered on {answer.scale!r}")
        return answer

    def _bad(self, what: str) -> BadResponse:
        return BadResponse(f"{self._reranker.label} {what}, so it cannot be cached", backend=self._reranker.kind)


def _keys(fingerprint: str, query: str, texts: Sequence[str]) -> list[bytes]:
    """Return a SHA-256 for each text; each part goes in with its length, so that no two divisions look alike."""
    from hashlib import sha256

    def add(hashed: Any, part: str) -> Any:
        content = part.encode()
        hashed.update(len(content).to_bytes(8, "big"))
        hashed.update(content)
        return hashed

    pair = add(add(sha256(), fingerprint), query)
    return [add(pair.copy(), text).digest() for text in texts]

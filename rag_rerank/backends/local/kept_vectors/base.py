"""The base of rerankers that encode texts once and keep their vectors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from rag_rerank._checks import one_of
from rag_rerank._lazy import forget, load_once, peek
from rag_rerank.backends.local.base import FIRST_TEXTS, TARGET_TOKENS, LocalReranker
from rag_rerank.backends.local.kept_vectors.engine import VectorEngine
from rag_rerank.backends.local.kept_vectors.opening import StoreSettings, open_store
from rag_rerank.backends.local.kept_vectors.store import StoreStats, VectorStore
from rag_rerank.backends.local.kept_vectors.tasks import (
    CallSettings,
    ComparisonTask,
    IndexedTexts,
    IndexTask,
    run_batches,
)
from rag_rerank.backends.local.worker_pool import WorkerPool
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.execution.calls import as_candidates
from rag_rerank.execution.progress import Progress, progress_to
from rag_rerank.execution.throughput import estimated_tokens
from rag_rerank.text.unicode import is_blank, valid_unicode
from rag_rerank.types import Candidate

__all__ = ["IndexReport", "VectorReranker"]

_CHUNK = 512
"""Texts that are indexed at once, and in the store together afterwards."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What `VectorReranker.index` has done.

    Args:
        texts: How many texts were given, equal ones without an id counted once.
        new: How many were encoded now.
        in_store: How many were in the store already.
        blank: How many are blank; they are never scored.
        unreadable: How many the model cannot read; see ``on_unreadable``.
        cut: How many are longer than the model reads.
        bytes: Bytes of the new ones.
        tokens: Tokens that were encoded.
        store: What the store holds now.
    """

    texts: int
    new: int
    in_store: int
    blank: int
    unreadable: int
    cut: int
    bytes: int
    tokens: int
    store: StoreStats


@dataclass(frozen=True, kw_only=True)
class VectorReranker(LocalReranker):
    """A reranker whose vectors of texts are made once and kept; a backend implements `_engine`.

    A row in the store is found by a SHA-256 over all that decides it, so a changed model or text is encoded anew, and
    never gets the vectors of another. A text's score does not depend on whether it was kept.

    Args:
        store: Where vectors are kept: ``memory`` (at most 64 MiB; those used least recently make room), or ``{path:
            FOLDER}`` for a folder that processes share and that stays. `StoreSettings` has its other keys. ``null``
            keeps none, so that each call encodes its texts; the scores are the same.

    Raises:
        ConfigError: A value is not allowed, or the store cannot be used.
    """

    fields_without_effect: ClassVar[frozenset[str]] = LocalReranker.fields_without_effect | {"store"}

    store: str | StoreSettings | None = "memory"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.store is not None and not isinstance(self.store, StoreSettings):
            if isinstance(self.store, Mapping):
                raise ConfigError("in Python, write StoreSettings(path=..., max_bytes=...)", path="store")
            one_of(self.store, ("memory",), "store")

    @property
    @abstractmethod
    def _engine(self) -> VectorEngine:
        """The model, loaded at first use."""

    def index(self, texts: Iterable[str | Candidate], progress: Progress | bool | None = None) -> IndexReport:
        """Encode texts ahead and put their vectors into the store; texts that are there already are skipped.

        What is in the store stays there when this is interrupted, so calling it again goes on where it was.

        Args:
            texts: Texts, or candidates. A folder keeps the vectors of a candidate under its id: with another text under
                the same id they replace the old ones. A text alone has its SHA-256 as id.
            progress: A function that is called with the share that is done and a few words, or ``True`` for a bar.

        Raises:
            InputTooLong: A text does not fit, and ``on_overflow="error"``.
            UnreadableText: A text cannot be read, and ``on_unreadable="error"``.
            Overloaded: ``max_queue`` calls are waiting or running already.
            ConfigError: Nothing is kept (``store: null``), or the store is full or read-only.
        """
        if self.store is None:
            raise ConfigError("store is null, so no vectors are kept; choose memory or a folder", path="store")
        candidates = as_candidates("index", _with_ids(texts))
        reports: list[IndexedTexts] = []
        blank = 0
        with progress_to(progress, f"indexing with {self.label}") as tell:
            for start in range(0, len(candidates), _CHUNK):
                chunk = candidates[start : start + _CHUNK]
                part = [candidate for candidate in chunk if not is_blank(candidate.text)]
                blank += len(chunk) - len(part)
                if part:
                    reports.append(self._index_chunk(part))
                share = min(start + _CHUNK, len(candidates))
                tell(share / len(candidates), f"{share} of {len(candidates)} texts")
        return IndexReport(
            texts=len(candidates),
            new=sum(len(one.new) for one in reports),
            in_store=sum(one.in_store for one in reports),
            blank=blank,
            unreadable=sum(one.unreadable for one in reports),
            cut=sum(one.cut for one in reports),
            bytes=sum(one.bytes for one in reports),
            tokens=sum(one.tokens for one in reports),
            store=self.store_stats,
        )

    def delete(self, ids: Iterable[str]) -> int:
        """Delete candidates that were indexed, by their ids; a text that another id names stays.

        Returns:
            How many of the ids were there.

        Raises:
            ConfigError: The store is memory, which keeps no ids, or is read-only.
        """
        return self._store.delete(ids)

    @property
    def store_folder(self) -> Path | None:
        """The folder that keeps the vectors; ``None`` for memory. Opens the store."""
        return self._store.path

    @property
    def store_stats(self) -> StoreStats:
        """What the store holds now; opens it."""
        return self._store.stats

    def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> int:
        """Estimate how many of the texts can be scored in the time; those in the store cost next to nothing."""
        runtime = peek(self, "_runtime")
        if runtime is None:
            return FIRST_TEXTS
        engine, pool = runtime
        rows = self._store.get([engine.key(text) for text in texts])
        tokens = estimated_tokens(query, texts, engine.tokenizer.window)
        works = [0.0 if row is not None else work for row, work in zip(rows, tokens, strict=True)]
        estimate = self._throughput.texts_within(works, seconds / (1 + pool.stats.calls))
        if estimate is not None:
            return estimate
        first = next((place for place, row in enumerate(rows) if row is None), len(texts))
        return max(first, FIRST_TEXTS)

    def close(self) -> None:
        """Answer the calls that have been accepted, and release model and store; a later call loads them again."""
        forget(self, "_engine")
        super().close()
        store = forget(self, "_store")
        if store is not None:
            store.close()

    @load_once
    def _store(self) -> VectorStore:
        return open_store(StoreSettings() if isinstance(self.store, str) else self.store)

    @load_once
    def _runtime(self) -> tuple[VectorEngine, WorkerPool]:
        """The loaded model, and its workers."""
        engine = self._engine
        _ = self._store
        run = partial(run_batches, engine)
        return engine, WorkerPool(run, workers=engine.workers, limit=self.max_queue, target_tokens=TARGET_TOKENS)

    def _settings_of_call(self, engine: VectorEngine, batch_tokens: int | None = None) -> CallSettings:
        return CallSettings(
            self,
            self.scale,
            self._readability,
            self._throughput,
            self.on_overflow,
            self.on_unreadable,
            batch_tokens or self.batch_tokens or engine.batch_tokens,
        )

    def _task(self, query: str, texts: Sequence[str], batch_tokens: int | None = None) -> ComparisonTask:
        engine, _ = self._runtime
        return ComparisonTask(self._settings_of_call(engine, batch_tokens), engine, self._store, query, texts)

    def _text_to_explain(self, query: str, text: str | Candidate) -> str:
        """Return the text whose score is to be explained.

        Raises:
            InputError: The query or the text is blank.
        """
        (candidate,) = as_candidates(query, [text])
        if is_blank(candidate.text):
            raise InputError("the text is blank, so it has no score to explain")
        return candidate.text

    def _index_chunk(self, candidates: Sequence[Candidate]) -> IndexedTexts:
        engine, pool = self._runtime
        ids = [candidate.id for candidate in candidates]
        texts = [valid_unicode(candidate.text) for candidate in candidates]
        task = IndexTask(self._settings_of_call(engine), engine, self._store, texts, ids)
        return self._accept(pool, task).result()


def _with_ids(texts: Iterable[str | Candidate]) -> Iterable[str | Candidate]:
    """Return texts without an id as candidates whose id is the SHA-256 of the text; all others as they are."""
    if isinstance(texts, str):
        return texts  # refused by the check of candidates
    items: dict[int | str, Any] = {}
    for position, item in enumerate(texts):
        if isinstance(item, str):
            id = f"sha256:{sha256(item.encode('utf-8', 'surrogatepass')).hexdigest()}"
            items.setdefault(id, Candidate(id, item))
        else:
            items[position] = item
    return list(items.values())

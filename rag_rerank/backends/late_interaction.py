"""Late interaction: texts are encoded once and kept, so that a question costs its own encoding and a comparison."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from rag_rerank._checks import one_of
from rag_rerank._lazy import forget, load_once, peek
from rag_rerank.backends.local.base import FIRST_TEXTS, TARGET_TOKENS, LocalReranker
from rag_rerank.backends.local.catalogue import HUB_ID, ModelName, is_folder, row_of
from rag_rerank.backends.local.late_interaction.engine import EngineSettings, LateInteractionEngine
from rag_rerank.backends.local.late_interaction.explanation.alignment import ExplanationTask
from rag_rerank.backends.local.late_interaction.explanation.explanation import Explanation
from rag_rerank.backends.local.late_interaction.opening import StoreSettings, open_store
from rag_rerank.backends.local.late_interaction.store import StoreStats, VectorStore
from rag_rerank.backends.local.late_interaction.tasks import (
    CallSettings,
    ComparisonTask,
    IndexedTexts,
    IndexTask,
    run_batches,
)
from rag_rerank.backends.local.model_files import TORCH_FILES, read_json
from rag_rerank.backends.local.onnx_files import graphs_in, names_in
from rag_rerank.backends.local.torch_models.checkpoint import has_checkpoint
from rag_rerank.backends.local.torch_models.late_interaction import MODEL_TYPE
from rag_rerank.backends.local.worker_pool import WorkerPool
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.execution.calls import as_candidates
from rag_rerank.execution.progress import Progress, progress_to
from rag_rerank.execution.throughput import estimated_tokens
from rag_rerank.text.unicode import is_blank, valid_unicode
from rag_rerank.types import Candidate, Scale

__all__ = ["Explanation", "IndexReport", "LateInteractionReranker"]

_CHUNK = 512
"""Texts that are indexed at once, and in the store together afterwards."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What `LateInteractionReranker.index` has done.

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
class LateInteractionReranker(LocalReranker, EngineSettings):
    """A model whose vectors of texts are made once and kept: a question costs its own encoding and a comparison.

    A text is encoded at first sight, or ahead by `index`. Two kinds of model work this way:

    - ``embedded``, and models that ``rag-rerank train`` makes from it: ``raw_score`` is the logit, the same as with the
      ``onnx`` backend wherever neither cuts anything (within 1e-5 at ``precision="fp32"``); ``score`` is its sigmoid.
    - ColBERT models, in the formats of sentence-transformers, PyLate and Stanford's ColBERT: both scores are MaxSim,
      the sum over the query's vectors of their largest cosine to one of the text. The sum grows with the query, so
      scores of different queries do not compare, and the scale is ``unbounded``.

    Query and text do not share a window. A text is cut to the same length beside every query, so its vectors and its
    coverage do not depend on the query.

    A row in the store is found by a SHA-256 over the model's files, the cut, the precision, the pooling, and the text.
    So a changed model or text is encoded anew, and never gets the vectors of another. The trace has a note on how many
    texts came from the store; ``usage.tokens`` counts what was encoded in this call.

    Args:
        model: The model: ``embedded``, the hub id of a ColBERT model (also ``org/name@revision``), or a folder.
        store: Where vectors are kept: ``memory`` (at most 64 MiB; those used least recently make room), or ``{path:
            FOLDER}`` for a folder that processes share and that stays. `StoreSettings` has its other keys. ``null``
            keeps none, so that each call encodes its texts; the scores are the same.
        max_length: The most tokens of a text, with its marker and special tokens. By default the model's own.
        on_long_query: What to do with a query of more than ``query_length`` tokens.

            - ``"truncate"``: Read its beginning. The trace, ``ranking.degraded`` and one `QueryTruncationWarning` a
              reranker say so.
            - ``"error"``: Raise `InputTooLong`.
        batch_tokens: How many tokens one batch has at most, padding included; it bounds the memory. By default 512 with
            ONNX Runtime, and 2048 with PyTorch.

    Raises:
        ConfigError: A value is not allowed, the store cannot be used, or ``pool`` is set for ``embedded``.
        ModelLoadError: At first use, when files are absent or are not a late-interaction model.
        MissingExtraError: At first use, when the model needs torch, or a folder needs lmdb, and it is not installed.
        InputTooLong: See ``on_overflow`` and ``on_long_query``.
        UnreadableText: See ``on_unreadable``.
        Overloaded: See ``max_queue``.
    """

    kind: ClassVar[str] = "late_interaction"
    files: ClassVar[tuple[str, ...]] = (*TORCH_FILES, "artifact.metadata")
    fields_without_effect: ClassVar[frozenset[str]] = LocalReranker.fields_without_effect | {
        "store",
        "workers",
        "threads",
    }

    model: ModelName = "embedded"
    store: str | StoreSettings | None = "memory"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.store is not None and not isinstance(self.store, StoreSettings):
            if isinstance(self.store, Mapping):
                raise ConfigError("in Python, write StoreSettings(path=..., max_bytes=...)", path="store")
            one_of(self.store, ("memory",), "store")
        if self.pool > 1 and self._has_signals:
            raise ConfigError(
                f"{self.model} scores word by word, and pooled vectors stand for several words; leave pool out",
                path="pool",
            )

    @property
    def scale(self) -> Scale:
        """Sigmoid for ``embedded`` and models made from it; unbounded for ColBERT models."""
        return "sigmoid" if self._has_signals else "unbounded"

    @property
    def scores_sentences(self) -> bool:
        """Whether `RelevantSpans` gets the scores of sentences from kept vectors: not if several tokens share one."""
        return self.pool == 1

    @property
    def _has_signals(self) -> bool:
        """Whether the score is that of the head that `MODEL_TYPE` defines, and not MaxSim. Loads nothing."""
        engine: LateInteractionEngine | None = peek(self, "_engine")
        if engine is not None:
            return engine.head is not None
        row = row_of(self.model)
        if row is not None:
            return row.architecture == MODEL_TYPE
        if not is_folder(self.model) and not (HUB_ID.fullmatch(self.model) and self.is_cached()):
            return False
        config = self.fetch().path / "config.json"
        return config.is_file() and read_json(config, self.model).get("model_type") == MODEL_TYPE

    @staticmethod
    def complete(folder: Path) -> bool:
        """Whether a folder holds a tokenizer, a config, and weights."""
        names = names_in(folder)
        modules = (folder / "modules.json").is_file() and any(folder.rglob("*.safetensors"))
        return (folder / "tokenizer.json").is_file() and (has_checkpoint(folder) or modules or bool(graphs_in(names)))

    def _patterns(self, names: Collection[str]) -> Sequence[str]:
        has_safetensors = any(name.endswith(".safetensors") for name in names)
        return self.files if has_safetensors else (*self.files, "*.onnx", "*.onnx_data")

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

    def explain(self, query: str, text: str | Candidate) -> Explanation:
        """Say which token of a text answers which token of a query, and what that adds to the score.

        The score is the one that `rerank` gives the text. The text's vectors come from the store, or go into it.

        Args:
            query: The query.
            text: A text, or a candidate.

        Raises:
            InputError: The query or the text is blank.
            UnreadableText: The model cannot read the query or the text, so that `rerank` gives no score.
            InputTooLong: See ``on_overflow`` and ``on_long_query``.
            Overloaded: ``max_queue`` calls are waiting or running already.
        """
        (candidate,) = as_candidates(query, [text])
        if is_blank(candidate.text):
            raise InputError("the text is blank, so it has no score to explain")
        engine, pool = self._runtime
        task = ExplanationTask(self._settings_of_call(engine), engine, self._store, query, candidate.text)
        return self._accept(pool, task).result()

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
    def _engine(self) -> LateInteractionEngine:
        files = self._files
        with files.reading() as folder:
            return LateInteractionEngine(files, folder, self)

    @load_once
    def _store(self) -> VectorStore:
        return open_store(StoreSettings() if isinstance(self.store, str) else self.store)

    @load_once
    def _runtime(self) -> tuple[LateInteractionEngine, WorkerPool]:
        """The loaded model, and its workers."""
        engine = self._engine
        _ = self._store
        run = partial(run_batches, engine)
        return engine, WorkerPool(run, workers=engine.workers, limit=self.max_queue, target_tokens=TARGET_TOKENS)

    def _settings_of_call(self, engine: LateInteractionEngine, batch_tokens: int | None = None) -> CallSettings:
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

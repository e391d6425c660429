"""The base of rerankers that run on this machine: which model, how much of a text is read, and how calls are run."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from queue import Full
from typing import Any, ClassVar, TypeVar, cast

from rag_rerank._lazy import forget, load_once, peek
from rag_rerank.backends.local.engine import BatchScores, Engine, LoadedModel
from rag_rerank.backends.local.model_files import ModelFiles, ModelFolder, is_cached, languages_of, locate, model_name
from rag_rerank.backends.local.pair_encoding import Batch, EncodedPairs, concatenate
from rag_rerank.backends.local.readability import (
    Readability,
    ReadabilityCheck,
    Reading,
    read,
    warn_of_unreadable,
)
from rag_rerank.backends.local.settings import LocalSettings
from rag_rerank.backends.local.worker_pool import PoolStats, Task, WorkerPool
from rag_rerank.errors import Overloaded
from rag_rerank.execution.calls import map_error_position
from rag_rerank.execution.clock import wait_for_any
from rag_rerank.execution.deadline import (
    arun_in_thread,
    arun_with_deadline,
    deadline_error,
    run_with_deadline,
    seconds_left,
)
from rag_rerank.execution.instruction import call_instruction, instruction_or
from rag_rerank.execution.progress import current_listener
from rag_rerank.execution.throughput import Throughput, estimated_tokens
from rag_rerank.text.tokenizers import TextLimit
from rag_rerank.text.unicode import valid_unicode
from rag_rerank.trace import Usage
from rag_rerank.types import RelevantSpan, Scale, Scores

__all__ = ["FIRST_TEXTS", "TARGET_TOKENS", "LocalReranker", "ScoringTask", "run_batches"]

T = TypeVar("T")

TARGET_TOKENS = 128
"""Tokens that keep a core busy: the rate of an AVX2 core is 15 % lower at 45 tokens, and no higher at 512."""

FIRST_TEXTS = 16
"""Texts to try a model with where a deadline needs to know how many fit, and the model has not scored any yet."""


@dataclass(frozen=True, kw_only=True)
class LocalReranker(LocalSettings):
    """A reranker with a model on this machine; a backend implements `files`, `complete` and `_engine`.

    Concurrent calls of one instance share its workers fairly (see `rag_rerank.backends.local.fair_queue`): a small call
    overtakes a large one, equal calls are answered in the order in which they came. A cancelled call frees its place.

    Raises:
        ConfigError: A number below 1.
        UnreadableText: See ``on_unreadable``.
        Overloaded: ``max_queue`` calls are waiting or running already.
    """

    enforces_deadline: ClassVar[bool] = True

    files: ClassVar[Sequence[str]]
    """Patterns of the files that the backend reads from a repository."""

    @property
    def label(self) -> str:
        """The name of this reranker in traces: its model, and the revision where one is named."""
        return super().label if self.name or not self.revision else f"{super().label}@{self.revision}"

    @staticmethod
    @abstractmethod
    def complete(folder: Path) -> bool:
        """Whether a folder holds all the files that the backend needs."""

    def _is_complete(self, folder: Path) -> bool:
        """Whether a folder is `complete`, and has the files that this instance names."""
        return self.complete(folder)

    def _patterns(self, names: Collection[str]) -> Sequence[str]:
        """Return the patterns of the files to read, of a model with these files."""
        return self.files

    @property
    @abstractmethod
    def _engine(self) -> LoadedModel:
        """The model, loaded at first use."""

    @property
    def scale(self) -> Scale:
        """Sigmoid: scores are sigmoids of logits."""
        return "sigmoid"

    @property
    def model_id(self) -> str:
        """Model id with the pinned revision."""
        return model_name(self.model, self.revision)

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model was made for, or ``("multilingual",)``; empty if they are not known.

        They are those of the catalogue or, for a folder, of its model card; no files are fetched.
        """
        return languages_of(self.model)

    def readability(self, texts: Sequence[str]) -> list[Readability]:
        """Return how well the model reads each text, which may be a query; loads the model."""
        _ = self._runtime
        return self._readability.of_texts(texts)

    @load_once
    def _readability(self) -> ReadabilityCheck:
        engine, _ = self._runtime
        return ReadabilityCheck(getattr(engine.tokenizer, "text_tokenizer", None), self.languages)

    def fetch(self) -> ModelFolder:
        """Find the model's files, and fetch into the hub's cache those that are not there; nothing is loaded.

        Raises:
            ModelLoadError: There are no such files, or the hub cannot be reached.
        """
        return locate(
            self.model,
            backend=self.kind,
            revision=self.revision,
            patterns=self.files,
            complete=self._is_complete,
            choose=self._patterns,
        )

    def is_cached(self) -> bool:
        """Whether `fetch` would find the model's files without asking the hub."""
        return is_cached(
            self.model, backend=self.kind, revision=self.revision, patterns=self.files, complete=self._is_complete
        )

    @property
    def why_not_cacheable(self) -> None:
        """``None``: a logit depends on the pair alone, up to rounding."""

    @load_once
    def _files(self) -> ModelFiles:
        """The files that the engine loads and `identity` covers, found once for both."""
        folder = self.fetch()
        if folder.revision:  # a commit of the hub, whose files cannot change
            return ModelFiles(folder, self.files)
        names = [file.relative_to(folder.path).as_posix() for file in folder.path.rglob("*")]
        return ModelFiles(folder, self._patterns(names))

    @load_once
    def _model_identity(self) -> Mapping[str, Any]:
        """The files and the window that ``model``, ``revision`` and ``max_length`` resolve to."""
        with self._files.reading() as folder:
            window = folder.max_length(self.max_length)
            return {"model": self._files.identity, "revision": None, "max_length": window}

    def _identity_facts(self) -> Mapping[str, Any]:
        return self._model_identity

    @property
    def resolved(self) -> LocalReranker:
        """The reranker that runs the model: this one, unless its class only chooses another."""
        return self

    @property
    def knows_text_limit(self) -> bool:
        """True: the model's own tokenizer counts the tokens."""
        return True

    def text_limits(self, query: str) -> tuple[TextLimit, ...]:
        """Return how long a text may be beside the query in the model's window; loads the model."""
        engine, _ = self._runtime
        return (engine.tokenizer.text_limit(valid_unicode(query)),)

    @property
    def stats(self) -> PoolStats | None:
        """The numbers of calls that wait and run on this instance now; ``None`` while no model is loaded."""
        stats: PoolStats | None = (runtime := peek(self, "_runtime")) and runtime[1].stats
        return stats

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text by the model's logit.

        Raises:
            DeadlineExceeded: The time of the call was up; its place is free again.
        """
        if peek(self, "_runtime") is None:
            current_listener()(0.0, f"loading {self.label}")
            run_with_deadline(self.label, self.warm_up)
        answer = self._submit(query, texts)
        try:
            if (seconds := seconds_left()) != math.inf:
                wait_for_any([answer], max(seconds, 0.0))
                if not answer.done():
                    raise deadline_error(self.label)
            return self._finish_answer(answer.result())
        except BaseException:
            answer.cancel()  # if the wait was interrupted, the answer is not needed
            raise
        finally:
            del answer  # it holds its error, whose traceback holds this frame

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does without blocking the event loop, and without a thread for each call that waits."""
        import asyncio

        if peek(self, "_runtime") is None:
            current_listener()(0.0, f"loading {self.label}")
            await arun_with_deadline(self.label, arun_in_thread(self.warm_up))
        scores = await arun_with_deadline(self.label, asyncio.wrap_future(self._submit(query, texts)))
        return self._finish_answer(scores)

    def _finish_answer(self, scores: Scores) -> Scores:
        """Return the scores of a call with a note on the verification; warn of what the model could not read."""
        notes = (*scores.notes, *self._verification_notes)
        return warn_of_unreadable(self, replace(scores, notes=notes) if self._verification_notes else scores)

    def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> int:
        """Estimate how many of the texts this model can score in the time, beside the calls that it serves now.

        For a model that has not scored yet it is a few, to try it.
        """
        runtime = peek(self, "_runtime")
        if runtime is None:
            return FIRST_TEXTS
        engine, pool = runtime
        estimate = self._throughput.texts_within(
            estimated_tokens(query, texts, engine.tokenizer.window), seconds / (1 + pool.stats.calls)
        )
        return FIRST_TEXTS if estimate is None else estimate

    def warm_up(self) -> None:
        """Load tokenizer and model."""
        _ = self._runtime
        _ = self._verification_notes

    def close(self) -> None:
        """Answer the calls that have been accepted, and release the model; a later call loads it again.

        A backend forgets its `_engine` before it calls this, so that new calls do not share it with those answered now.
        """
        runtime = forget(self, "_runtime")
        for name in ("_readability", "_model_identity", "_files", "_verification_notes"):
            forget(self, name)
        if runtime is not None:
            runtime[1].close()

    @load_once
    def _throughput(self) -> Throughput:
        """The throughput of the workers, without the time that calls wait for each other."""
        return Throughput()

    @load_once
    def _runtime(self) -> tuple[LoadedModel, WorkerPool]:
        """The loaded model, and its workers."""
        engine = self._engine
        run = partial(run_batches, cast(Engine, engine))
        return engine, WorkerPool(run, workers=engine.workers, limit=self.max_queue, target_tokens=TARGET_TOKENS)

    def _submit(self, query: str, texts: Sequence[str]) -> Future[Scores]:
        _, pool = self._runtime
        return self._accept(pool, self._task(query, texts))

    def _task(self, query: str, texts: Sequence[str], batch_tokens: int | None = None) -> Task[Scores]:
        """Return a call as a task of the worker pool; ``batch_tokens`` replaces that of this reranker."""
        engine, _ = self._runtime
        tokens = batch_tokens or self.batch_tokens or engine.batch_tokens
        return ScoringTask(self, cast(Engine, engine), query, texts, tokens)

    def _accept(self, pool: WorkerPool, task: Task[T]) -> Future[T]:
        """Give a task to the workers."""
        try:
            return pool.submit(task)
        except Full:
            raise Overloaded(
                f"{self.label} has {self.max_queue} calls waiting or running; call again later, raise max_queue, or "
                "let a fallback answer",
                backend=self.kind,
                model=self.model,
            ) from None


class ScoringTask:
    """One call, as a task of the worker pool.

    Args:
        reranker: Says how texts are cut.
        engine: The loaded model.
        query: Query of the call.
        texts: Its texts.
        batch_tokens: Token slots in one batch.
    """

    inputs: EncodedPairs
    reading: Reading

    def __init__(
        self, reranker: LocalReranker, engine: Engine, query: str, texts: Sequence[str], batch_tokens: int
    ) -> None:
        self.reranker = reranker
        self.engine = engine
        self.query = query
        self.texts = texts
        self.batch_tokens = batch_tokens
        self._tell = current_listener()  # workers are outside the context of the call
        self._instruction = instruction_or(None)
        self._scored = 0

    def split(self) -> list[Batch]:
        """Tokenise what the model can read, and return the batches.

        Raises:
            UnreadableText: Something cannot be read, and ``on_unreadable="error"``.
        """
        self.reading = read(
            self.reranker, self.reranker._readability, self.reranker.on_unreadable, self.query, self.texts
        )
        if not self.reading.texts:
            self.inputs = EncodedPairs((), (), (), 0)
            return []
        with map_error_position(self.reading.rows), call_instruction(self._instruction):
            self.inputs = self._encode()
        return self.inputs.batches(self.batch_tokens, equal_lengths=self.engine.equal_lengths)

    def note_batch(self, rows: int) -> None:
        """Tell the call's listener that some more texts are scored; several workers may call it."""
        self._scored = min(self._scored + rows, len(self.texts))  # there may be more inputs than texts
        self._tell(self._scored / len(self.texts), f"{self.reranker.label}: {self._scored} of {len(self.texts)} texts")

    def finish(self, results: Sequence[tuple[Batch, BatchScores]], seconds: float, waited: float) -> Scores:
        """Return the logits in the order of the texts."""
        logits = [0.0] * len(self.inputs.ids)
        notes = [*self.engine.notes, *self.reading.notes]
        for batch, scores in results:
            notes += scores.notes
            for row, logit in zip(batch.rows, scores.logits, strict=True):
                logits[row] = logit
        values = logits[: len(self.inputs.coverage)]
        if waited >= 0.01:
            notes.append(f"waited {waited:.2f} s for other calls")
        parallel = max(1, min(self.engine.workers, len(results)))
        if results:
            work = sum(estimated_tokens(self.query, self.reading.texts, self.engine.tokenizer.window))
            self.reranker._throughput.note(work, seconds / parallel)
        usage = Usage(texts=len(values), tokens=self.inputs.tokens, seconds=seconds)
        query = self.inputs.query
        is_cut = query is not None and query.truncated
        if query is not None and is_cut:
            notes.append(
                f"the query has {query.total} tokens; beside the longest text its first {query.seen} were read, in a "
                f"window of {self.engine.tokenizer.window}"
            )
        answer = Scores(
            values,
            self.reranker.scale,
            usage,
            self.inputs.coverage,
            notes=tuple(dict.fromkeys(notes)),
            degraded=(f"{self.reranker.label} read only the beginning of the query",) if is_cut else (),
            query_coverage=query if is_cut else None,
            spans=self._spans(results),
        )
        return self.reading.of_all_texts(answer)

    def _encode(self) -> EncodedPairs:
        """Return an input for each text; a subclass may add inputs behind them."""
        return self.engine.tokenizer.encode(self.query, self.reading.texts, self.reranker.on_overflow)

    def _spans(self, results: Sequence[tuple[Batch, BatchScores]]) -> Sequence[tuple[RelevantSpan, ...] | None]:
        """Return the relevant spans of each text, where the model gives them and the call wants them."""
        return ()


def run_batches(engine: Engine, pairs: Sequence[tuple[ScoringTask, Batch]]) -> list[BatchScores]:
    """Run batches, of one call or of several, in one pass through the model; return the scores of each."""
    notes: list[str] = []
    arrays = concatenate([task.inputs.arrays(batch.rows) for task, batch in pairs])
    logits = iter(engine.logits(arrays, notes))
    for task, batch in pairs:
        task.note_batch(len(batch.rows))
    return [BatchScores(list(islice(logits, len(batch.rows))), tuple(notes)) for _, batch in pairs]

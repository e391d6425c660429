"""What rerankers that run on this machine share: which model, how much of a text, and the way through the batches."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Full
from typing import Any, ClassVar, Protocol

from rag_rerank._lazy import forget, load_once, peek
from rag_rerank.backends.local.model_files import ModelFiles, ModelFolder, is_cached, locate, model_name
from rag_rerank.backends.local.pair_encoding import Batch, EncodedPairs, OnOverflow, concatenated
from rag_rerank.backends.local.worker_pool import WorkerPool
from rag_rerank.base import PointwiseReranker
from rag_rerank.errors import ConfigError, Overloaded
from rag_rerank.execution.clock import wait_for_any
from rag_rerank.execution.deadline import arun_with_deadline, deadline_error, run_with_deadline, seconds_left
from rag_rerank.execution.throughput import Throughput, estimated_tokens
from rag_rerank.text.tokenizers import TextLimit
from rag_rerank.text.unicode import valid_unicode
from rag_rerank.trace import Usage
from rag_rerank.types import Scale, Scores

__all__ = ["Engine", "LocalReranker", "ScoringTask"]

_ENOUGH = 128
"""Tokens that keep a core busy: the rate of an AVX2 core is 15 % lower at 45 tokens, and no higher at 512."""


_FIRST = 16
"""Texts that a model is tried with where a deadline asks how many fit, and it has not scored any yet."""


class JoinsPairs(Protocol):
    """A tokenizer that makes one input of a query and a text."""

    @property
    def window(self) -> int:
        """Tokens of an input at most."""

    def encode(self, query: str, texts: Sequence[str], on_overflow: OnOverflow) -> EncodedPairs:
        """Join the query with each text; cut texts that do not fit, never the query."""

    def text_limit(self, query: str) -> TextLimit:
        """Return what there is room for beside the query."""


class Engine(Protocol):
    """A loaded model."""

    @property
    def tokenizer(self) -> JoinsPairs:
        """What makes the model's inputs."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What each trace should say about the model."""

    @property
    def batch_tokens(self) -> int:
        """Token slots in one batch, where the user names none."""

    @property
    def exact(self) -> bool:
        """Whether all inputs of a batch must have the same length."""

    @property
    def workers(self) -> int:
        """How many threads at most run `logits` at the same time."""

    def logits(self, arrays: Mapping[str, Any], notes: list[str]) -> Sequence[float]:
        """Return one fp32 logit a row, as plain floats; what happened on the way goes into ``notes``."""


@dataclass(frozen=True, kw_only=True)
class LocalReranker(PointwiseReranker):
    """A reranker with a model on this machine; a backend gives `files`, `complete` and `_engine`.

    Calls that meet on one instance share its workers fairly (see `rag_rerank.backends.local.fair_queue`): a small call
    overtakes a large one, equal calls are answered in the order in which they came. A cancelled call frees its place.

    Args:
        model: Alias of the catalogue, hub id, or folder.
        revision: Commit, branch or tag on the hub; by default the one that the catalogue pins.
        max_length: Window in tokens, for query, text and all that surrounds them; by default the model's own.
        on_overflow: What to do with a text that does not fit.
        batch_tokens: Token slots in one batch, padding included; by default the engine's choice.
        max_queue: How many calls may be waiting or running on this instance.

    Raises:
        ConfigError: A number below 1.
        Overloaded: ``max_queue`` calls are waiting or running already.
    """

    fields_without_effect: ClassVar[frozenset[str]] = PointwiseReranker.fields_without_effect | {
        "batch_tokens",
        "max_queue",
    }
    enforces_deadline: ClassVar[bool] = True

    files: ClassVar[Sequence[str]]
    """Patterns of the files that the backend reads from a repository."""

    model: str = "minilm"
    revision: str | None = None
    max_length: int | None = None
    on_overflow: OnOverflow = "truncate"
    batch_tokens: int | None = None
    max_queue: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_length", "batch_tokens", "max_queue"):
            self._check_at_least_one(name)

    def _check_at_least_one(self, name: str) -> None:
        value = getattr(self, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}", path=name)

    @staticmethod
    @abstractmethod
    def complete(folder: Path) -> bool:
        """Whether a folder holds all the files that the backend needs."""

    @property
    @abstractmethod
    def _engine(self) -> Engine:
        """The model, loaded at first use."""

    @property
    def scale(self) -> Scale:
        """Sigmoid of a logit."""
        return "sigmoid"

    @property
    def model_id(self) -> str:
        """Model id with the pinned revision."""
        return model_name(self.model, self.revision)

    def fetch(self) -> ModelFolder:
        """Find the model's files, fetching into the hub's cache what is not there yet; nothing is loaded.

        Raises:
            ModelLoadError: There are none, or the hub cannot be reached.
        """
        return locate(
            self.model, backend=self.kind, revision=self.revision, patterns=self.files, complete=self.complete
        )

    def at_hand(self) -> bool:
        """Whether `fetch` would find the model's files without asking the hub."""
        return is_cached(self.model, revision=self.revision, patterns=self.files, complete=self.complete)

    @property
    def why_not_cacheable(self) -> None:
        """Nothing: a logit depends on the pair alone, up to rounding."""

    @load_once
    def _files(self) -> ModelFiles:
        """The files of engine and fingerprint, found once for both."""
        return ModelFiles(self.fetch(), self.files)

    @load_once
    def _model_identity(self) -> Mapping[str, Any]:
        """What stands behind ``model``, ``revision`` and ``max_length``: the files, and the window."""
        with self._files.reading() as folder:
            window = folder.max_length(self.max_length)
            return {"model": self._files.identity, "revision": None, "max_length": window}

    def _identity_facts(self) -> Mapping[str, Any]:
        return self._model_identity

    @property
    def knows_text_limit(self) -> bool:
        """It has the model's own tokenizer."""
        return True

    def text_limits(self, query: str) -> tuple[TextLimit, ...]:
        """Say what the model's window has room for beside the query; loads the model."""
        engine, _ = self._staffed
        return (engine.tokenizer.text_limit(valid_unicode(query)),)

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text by the model's logit.

        Raises:
            DeadlineExceeded: The time of the call was up; its place is free again.
        """
        if peek(self, "_staffed") is None:
            run_with_deadline(self.label, self.warm_up)
        answer = self._submitted(query, texts)
        try:
            if (seconds := seconds_left()) != math.inf:
                wait_for_any([answer], max(seconds, 0.0))
                if not answer.done():
                    raise deadline_error(self.label)
            return answer.result()
        except BaseException:
            answer.cancel()  # where it is the wait that was interrupted
            raise
        finally:
            del answer  # it holds its error, whose traceback holds this frame

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does without blocking the event loop, and without a thread for each call that waits."""
        import asyncio

        if peek(self, "_staffed") is None:
            await arun_with_deadline(self.label, asyncio.to_thread(self.warm_up))
        return await arun_with_deadline(self.label, asyncio.wrap_future(self._submitted(query, texts)))

    def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> int:
        """Estimate how many of the texts this model can score in the time, beside the calls that it serves now.

        A model that has not scored yet is tried with a few.
        """
        staffed = peek(self, "_staffed")
        if staffed is None:
            return _FIRST
        engine, crew = staffed
        fitting = self._pace.texts_within(
            estimated_tokens(query, texts, engine.tokenizer.window), seconds / (1 + crew.calls)
        )
        return _FIRST if fitting is None else fitting

    def warm_up(self) -> None:
        """Load tokenizer and model."""
        _ = self._staffed

    def close(self) -> None:
        """Answer the calls that have been accepted, and release the model; a later call loads it anew.

        A backend forgets its `_engine` before it calls this, so that a call that comes meanwhile shares no engine with
        those that are being answered.
        """
        staffed = forget(self, "_staffed")
        forget(self, "_model_identity")
        forget(self, "_files")
        if staffed is not None:
            staffed[1].close()

    @load_once
    def _pace(self) -> Throughput:
        """How long the crew takes, by work: without what calls wait for each other."""
        return Throughput()

    @load_once
    def _staffed(self) -> tuple[Engine, WorkerPool]:
        """The model with its workers."""
        engine = self._engine
        return engine, WorkerPool(engine.workers, self.max_queue, enough=_ENOUGH)

    def _submitted(self, query: str, texts: Sequence[str]) -> Future[Scores]:
        engine, crew = self._staffed
        try:
            return crew.submit(ScoringTask(self, engine, query, texts))
        except Full:
            raise Overloaded(
                f"{self.label} has {self.max_queue} calls waiting or running; call again later, raise max_queue, or "
                "let a fallback answer",
                backend=self.kind,
                model=self.model,
            ) from None


class ScoringTask:
    """One call, as a task of the crew: its units are its batches.

    Args:
        settings: How texts are cut, and the size of a batch.
        engine: The loaded model.
        query: Query of the call.
        texts: Its texts.
    """

    inputs: EncodedPairs

    def __init__(self, settings: LocalReranker, engine: Engine, query: str, texts: Sequence[str]) -> None:
        self.settings = settings
        self.engine = engine
        self.query = query
        self.texts = texts
        self.notes = list(engine.notes)
        self.values = [0.0] * len(texts)
        self.batches = 0

    def units(self) -> list[Batch]:
        """Tokenise, and return the batches."""
        self.inputs = self.engine.tokenizer.encode(self.query, self.texts, self.settings.on_overflow)
        groups = self.inputs.groups(self.settings.batch_tokens or self.engine.batch_tokens, exact=self.engine.exact)
        self.batches = len(groups)
        return groups

    def do(self, unit: Batch, others: Sequence[tuple[ScoringTask, Batch]]) -> None:
        """Run one batch, and in it those of other calls."""
        parts = [(self, unit), *others]
        notes: list[str] = []
        logits = iter(
            self.engine.logits(concatenated([task.inputs.arrays(group.rows) for task, group in parts]), notes)
        )
        for task, group in parts:
            task.notes += notes
            for row in group.rows:
                task.values[row] = next(logits)

    def result(self, seconds: float, waited: float) -> Scores:
        """Return the logits in the order of the texts."""
        if waited >= 0.01:
            self.notes.append(f"waited {waited:.2f} s for other calls")
        side_by_side = max(1, min(self.engine.workers, self.batches))
        done = sum(estimated_tokens(self.query, self.texts, self.engine.tokenizer.window))
        self.settings._pace.note(done, seconds / side_by_side)
        usage = Usage(texts=len(self.texts), tokens=self.inputs.tokens, seconds=seconds)
        notes = tuple(dict.fromkeys(self.notes))
        return Scores(self.values, self.settings.scale, usage, self.inputs.coverage, notes=notes)

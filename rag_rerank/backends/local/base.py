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

from rag_rerank._lazy import loaded
from rag_rerank.backends.local.model_files import ModelFiles, ModelFolder, at_hand, locate, model_name
from rag_rerank.backends.local.pair_encoding import Group, Inputs, OnOverflow, together
from rag_rerank.backends.local.worker_pool import Crew
from rag_rerank.base import PointwiseReranker
from rag_rerank.errors import ConfigError, Overloaded
from rag_rerank.execution.calls import readable
from rag_rerank.execution.clock import first_of
from rag_rerank.execution.deadline import ain_time, in_time, late, left
from rag_rerank.execution.throughput import Pace, work
from rag_rerank.text.tokenizers import Room
from rag_rerank.trace import Usage
from rag_rerank.types import Scale, Scores

__all__ = ["Engine", "LocalReranker", "Scoring"]

_ENOUGH = 128
"""Tokens that keep a core busy: the rate of an AVX2 core is 15 % lower at 45 tokens, and no higher at 512."""


_FIRST = 16
"""Texts that a model is tried with where a deadline asks how many fit, and it has not scored any yet."""


class JoinsPairs(Protocol):
    """A tokenizer that makes one input of a query and a text."""

    @property
    def window(self) -> int:
        """Tokens of an input at most."""

    def encode(self, query: str, texts: Sequence[str], on_overflow: OnOverflow) -> Inputs:
        """Join the query with each text; cut texts that do not fit, never the query."""

    def room(self, query: str) -> Room:
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

    neutral: ClassVar[frozenset[str]] = PointwiseReranker.neutral | {"batch_tokens", "max_queue"}
    prompt: ClassVar[bool] = True

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
        return at_hand(self.model, revision=self.revision, patterns=self.files, complete=self.complete)

    @property
    def uncacheable(self) -> None:
        """Nothing: a logit depends on the pair alone, up to rounding."""

    @loaded
    def _files(self) -> ModelFiles:
        """The files of engine and fingerprint, found once for both."""
        return ModelFiles(self.fetch(), self.files)

    @loaded
    def _identity(self) -> Mapping[str, Any]:
        """What stands behind ``model``, ``revision`` and ``max_length``: the files, and the window."""
        with self._files.reading() as folder:
            window = folder.max_length(self.max_length)
            return {"model": self._files.identity, "revision": None, "max_length": window}

    def _facts(self) -> Mapping[str, Any]:
        return self._identity

    @property
    def measured(self) -> bool:
        """It has the model's own tokenizer."""
        return True

    def rooms(self, query: str) -> tuple[Room, ...]:
        """Say what the model's window has room for beside the query; loads the model."""
        engine, _ = self._staffed
        return (engine.tokenizer.room(readable(query)),)

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text by the model's logit.

        Raises:
            DeadlineExceeded: The time of the call was up; its place is free again.
        """
        if type(self)._staffed.peek(self) is None:
            in_time(self.label, self.warm_up)
        answer = self._submitted(query, texts)
        try:
            if (seconds := left()) != math.inf:
                first_of([answer], max(seconds, 0.0))
                if not answer.done():
                    raise late(self.label)
            return answer.result()
        except BaseException:
            answer.cancel()  # where it is the wait that was interrupted
            raise
        finally:
            del answer  # it holds its error, whose traceback holds this frame

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does without blocking the event loop, and without a thread for each call that waits."""
        import asyncio

        if type(self)._staffed.peek(self) is None:
            await ain_time(self.label, asyncio.to_thread(self.warm_up))
        return await ain_time(self.label, asyncio.wrap_future(self._submitted(query, texts)))

    def fits(self, query: str, texts: Sequence[str], seconds: float) -> int:
        """Estimate how many of the texts this model can score in the time, beside the calls that it serves now.

        A model that has not scored yet is tried with a few.
        """
        staffed = type(self)._staffed.peek(self)
        if staffed is None:
            return _FIRST
        engine, crew = staffed
        fitting = self._pace.fits(work(query, texts, engine.tokenizer.window), seconds / (1 + crew.calls))
        return _FIRST if fitting is None else fitting

    def warm_up(self) -> None:
        """Load tokenizer and model."""
        _ = self._staffed

    def close(self) -> None:
        """Answer the calls that have been accepted, and release the model; a later call loads it anew.

        A backend forgets its `_engine` before it calls this, so that a call that comes meanwhile shares no engine with
        those that are being answered.
        """
        staffed = type(self)._staffed.pop(self)
        type(self)._identity.pop(self)
        type(self)._files.pop(self)
        if staffed is not None:
            staffed[1].close()

    @loaded
    def _pace(self) -> Pace:
        """How long the crew takes, by work: without what calls wait for each other."""
        return Pace()

    @loaded
    def _staffed(self) -> tuple[Engine, Crew]:
        """The model with its workers."""
        engine = self._engine
        return engine, Crew(engine.workers, self.max_queue, enough=_ENOUGH)

    def _submitted(self, query: str, texts: Sequence[str]) -> Future[Scores]:
        engine, crew = self._staffed
        try:
            return crew.submit(Scoring(self, engine, query, texts))
        except Full:
            raise Overloaded(
                f"{self.label} has {self.max_queue} calls waiting or running; call again later, raise max_queue, or "
                "let a fallback answer",
                backend=self.kind,
                model=self.model,
            ) from None


class Scoring:
    """One call, as a task of the crew: its units are its batches.

    Args:
        settings: How texts are cut, and the size of a batch.
        engine: The loaded model.
        query: Query of the call.
        texts: Its texts.
    """

    inputs: Inputs

    def __init__(self, settings: LocalReranker, engine: Engine, query: str, texts: Sequence[str]) -> None:
        self.settings = settings
        self.engine = engine
        self.query = query
        self.texts = texts
        self.notes = list(engine.notes)
        self.values = [0.0] * len(texts)
        self.batches = 0

    def units(self) -> list[Group]:
        """Tokenise, and return the batches."""
        self.inputs = self.engine.tokenizer.encode(self.query, self.texts, self.settings.on_overflow)
        groups = self.inputs.groups(self.settings.batch_tokens or self.engine.batch_tokens, exact=self.engine.exact)
        self.batches = len(groups)
        return groups

    def do(self, unit: Group, others: Sequence[tuple[Scoring, Group]]) -> None:
        """Run one batch, and in it those of other calls."""
        parts = [(self, unit), *others]
        notes: list[str] = []
        logits = iter(self.engine.logits(together([task.inputs.arrays(group.rows) for task, group in parts]), notes))
        for task, group in parts:
            task.notes += notes
            for row in group.rows:
                task.values[row] = next(logits)

    def result(self, seconds: float, waited: float) -> Scores:
        """Return the logits in the order of the texts."""
        if waited >= 0.01:
            self.notes.append(f"waited {waited:.2f} s for other calls")
        side_by_side = max(1, min(self.engine.workers, self.batches))
        done = sum(work(self.query, self.texts, self.engine.tokenizer.window))
        self.settings._pace.note(done, seconds / side_by_side)
        usage = Usage(texts=len(self.texts), tokens=self.inputs.tokens, seconds=seconds)
        notes = tuple(dict.fromkeys(self.notes))
        return Scores(self.values, self.settings.scale, usage, self.inputs.coverage, notes=notes)

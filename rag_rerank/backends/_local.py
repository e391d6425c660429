"""What rerankers that run on this machine share: which model, how much of a text, and the way through the batches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, Protocol

from rag_rerank._lazy import loaded
from rag_rerank.backends._encoder import Inputs, OnOverflow
from rag_rerank.backends._files import ModelFiles
from rag_rerank.backends._weights import ModelFolder, locate, model_name
from rag_rerank.base import PointwiseReranker
from rag_rerank.errors import ConfigError
from rag_rerank.trace import Usage
from rag_rerank.types import Scale, Scores

__all__ = ["Engine", "LocalReranker"]


class JoinsPairs(Protocol):
    """A tokenizer that makes one input of a query and a text."""

    def encode(self, query: str, texts: Sequence[str], on_overflow: OnOverflow) -> Inputs:
        """Join the query with each text; cut texts that do not fit, never the query."""


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

    def logits(self, arrays: Mapping[str, Any], notes: list[str]) -> Sequence[float]:
        """Return one fp32 logit a row, as plain floats; what happened on the way goes into ``notes``."""


@dataclass(frozen=True, kw_only=True)
class LocalReranker(PointwiseReranker):
    """A reranker with a model on this machine; a backend gives `files`, `complete` and `_engine`.

    Args:
        model: Alias of the catalogue, hub id, or folder.
        revision: Commit, branch or tag on the hub; by default the one that the catalogue pins.
        max_length: Window in tokens, for query, text and all that surrounds them; by default the model's own.
        on_overflow: What to do with a text that does not fit.
        batch_tokens: Token slots in one batch, padding included; by default the engine's choice.

    Raises:
        ConfigError: A number below 1.
    """

    neutral: ClassVar[frozenset[str]] = PointwiseReranker.neutral | {"batch_tokens"}

    files: ClassVar[Sequence[str]]
    """Patterns of the files that the backend reads from a repository."""

    model: str = "minilm"
    revision: str | None = None
    max_length: int | None = None
    on_overflow: OnOverflow = "truncate"
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_length", "batch_tokens"):
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
            return {"model": self._files.identity(), "revision": None, "max_length": window}

    def _facts(self) -> Mapping[str, Any]:
        return self._identity

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text by the model's logit."""
        engine = self._engine
        started = perf_counter()
        inputs = engine.tokenizer.encode(query, texts, self.on_overflow)
        values = [0.0] * len(texts)
        notes = list(engine.notes)
        for rows, arrays in inputs.batches(self.batch_tokens or engine.batch_tokens):
            for row, logit in zip(rows, engine.logits(arrays, notes), strict=True):
                values[row] = logit
        usage = Usage(texts=len(texts), tokens=inputs.tokens, seconds=perf_counter() - started)
        return Scores(values, self.scale, usage, inputs.coverage, notes=tuple(dict.fromkeys(notes)))

    def warm_up(self) -> None:
        """Load tokenizer and model."""
        _ = self._engine

    def close(self) -> None:
        """Forget where the model's files are; a backend also releases what it loaded from them."""
        type(self)._identity.pop(self)
        type(self)._files.pop(self)

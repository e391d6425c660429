"""What a loaded model is for calls whose texts are encoded once and kept."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from rag_rerank.backends.local.engine import InputTokenizer
from rag_rerank.backends.local.kept_vectors.row_header import RowFacts
from rag_rerank.backends.local.late_interaction.text_inputs import EncodedQuery
from rag_rerank.backends.local.pair_encoding import EncodedPairs, OnOverflow
from rag_rerank.backends.local.readability import Readability
from rag_rerank.text.sentences import Span
from rag_rerank.trace import Coverage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["ApartTokenizer", "VectorEngine"]


class ApartTokenizer(InputTokenizer, Protocol):
    """A tokenizer that makes an input of a query, and one of each text."""

    def encode_query(self, query: str) -> EncodedQuery:
        """Return the input of a query."""

    def encode_texts(self, texts: Sequence[str], on_overflow: OnOverflow) -> EncodedPairs:
        """Return the inputs of texts; a longer one is cut."""


class VectorEngine(ABC):
    """A loaded model that turns a text into a row to keep, and compares a query with rows.

    Any number of threads may use one at the same time, up to ``workers`` in `outputs`.
    """

    name: str
    """The model's id or folder, for messages."""

    notes: tuple[str, ...] = ()
    """Notes on the model for each trace."""

    workers: int = 1
    """The greatest number of threads that run the model at the same time."""

    batch_tokens: int
    """Token slots in one batch, where the user names none."""

    equal_lengths: bool = False
    """Whether all inputs of a batch must have the same length."""

    queries_apart: bool = False
    """Whether a query does not go through the model that reads texts; `query_side` then gets no output of it."""

    scores_sentences: bool = False
    """Whether `sentence_scores` works."""

    @property
    @abstractmethod
    def tokenizer(self) -> ApartTokenizer:
        """The maker of the inputs."""

    @property
    @abstractmethod
    def key_facts(self) -> Mapping[str, Any]:
        """All that decides a row beside its text, as JSON-ready values; the kind of row among them."""

    @cached_property
    def _seed(self) -> Any:
        return hashlib.sha256(json.dumps(self.key_facts, sort_keys=True).encode())

    def key(self, text: str) -> bytes:
        """Return the key of a text's row: a SHA-256 over all that decides it."""
        digest = self._seed.copy()
        digest.update(text.encode("utf-8"))
        key: bytes = digest.digest()
        return key

    @abstractmethod
    def outputs(self, arrays: Mapping[str, Any]) -> Any:
        """Run a batch through the model; return a sequence with an output for each input, padding included."""

    @abstractmethod
    def row(self, ids: npt.NDArray[np.int32], output: Any, coverage: Coverage, readability: Readability) -> bytes:
        """Return the row of a text, of the ids and the output of its input."""

    @abstractmethod
    def facts(self, row: bytes | memoryview) -> RowFacts | None:
        """Return the facts about a text, or ``None`` for bytes that are no row of this engine."""

    @abstractmethod
    def query_side(self, query: EncodedQuery, output: Any) -> Any:
        """Return what is compared of a query, of its input and its output; ``None`` with ``queries_apart``."""

    @abstractmethod
    def scores(self, query: Any, rows: Sequence[bytes | memoryview], counts: Sequence[int]) -> list[float]:
        """Return the raw score of each row; ``counts`` are those of their facts."""

    def sentence_scores(
        self, query: Any, rows: Sequence[bytes | memoryview], counts: Sequence[int], texts: Sequence[str]
    ) -> Iterable[Sequence[tuple[Span, float]]]:
        """Return the place and the raw score of each sentence of each text; only with ``scores_sentences``."""
        raise NotImplementedError(f"{type(self).__name__} scores whole texts only")

"""What a loaded local model is for the code that runs calls: a tokenizer, notes, and logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from rag_rerank.backends.local.pair_encoding import EncodedPairs, OnOverflow
from rag_rerank.text.tokenizers import TextLimit

__all__ = ["BatchScores", "Engine", "InputTokenizer", "LoadedModel", "PairEncoder"]


class InputTokenizer(Protocol):
    """A tokenizer that makes a model's inputs.

    If it has a ``text_tokenizer``, a ``tokenizers.Tokenizer`` without truncation and padding, it is checked what the
    model can read.
    """

    @property
    def window(self) -> int:
        """Most tokens of an input."""

    def text_limit(self, query: str) -> TextLimit:
        """Return how long a text may be beside the query."""


class PairEncoder(InputTokenizer, Protocol):
    """A tokenizer that makes one input of a query and a text."""

    def encode(self, query: str, texts: Sequence[str], on_overflow: OnOverflow) -> EncodedPairs:
        """Join the query with each text; cut what does not fit."""


class LoadedModel(Protocol):
    """What calls need to know of a loaded model, whatever it computes."""

    @property
    def tokenizer(self) -> InputTokenizer:
        """The maker of the model's inputs."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the model for each trace."""

    @property
    def batch_tokens(self) -> int:
        """Token slots in one batch, where the user names none."""

    @property
    def equal_lengths(self) -> bool:
        """Whether all inputs of a batch must have the same length."""

    @property
    def workers(self) -> int:
        """The greatest number of threads that run the model at the same time."""


class Engine(LoadedModel, Protocol):
    """A loaded model that gives a logit for each pair of query and text."""

    @property
    def tokenizer(self) -> PairEncoder:
        """The encoder of the model's inputs."""

    def logits(self, arrays: Mapping[str, Any], notes: list[str]) -> Sequence[float]:
        """Return one fp32 logit a row, as plain floats; add notes for the trace to ``notes``."""


class BatchScores(NamedTuple):
    """The scores of one batch.

    Args:
        logits: A logit for each of its rows.
        notes: Notes for the trace.
        keep: For each row, the probability of each of its tokens to be kept, where the call wants it.
    """

    logits: list[float]
    notes: tuple[str, ...]
    keep: Sequence[Any] = ()

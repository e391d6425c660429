"""The settings that all rerankers on this machine share: which model, and how much of a text it reads."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, get_args

from rag_rerank._checks import at_least, one_of
from rag_rerank._files import expand_user
from rag_rerank._lazy import load_once
from rag_rerank._version import __version__
from rag_rerank.backends.local.catalogue import ModelName, parse_model
from rag_rerank.backends.local.pair_encoding import OnLongQuery, OnOverflow
from rag_rerank.backends.local.readability import OnUnreadable
from rag_rerank.backends.local.verification.record import find_record, has_records, library_versions
from rag_rerank.base import PointwiseReranker
from rag_rerank.errors import RerankError
from rag_rerank.execution.identity import identity_hash

__all__ = ["NOT_VERIFIED", "LocalSettings"]

NOT_VERIFIED = frozenset({"on_overflow", "on_long_query", "on_unreadable", "instruction"})
"""Fields that do not matter for whether a model is loaded rightly."""


@dataclass(frozen=True, kw_only=True)
class LocalSettings(PointwiseReranker):
    """The settings of a reranker with a model on this machine.

    Args:
        model: The model: an alias of the catalogue (``minilm``), a hub id (also ``org/name@revision``), or a folder.
        revision: The commit, branch or tag on the hub. By default the commit that the catalogue pins, else the main
            branch. Name one, so that a change on the hub cannot change your scores.
        max_length: The window in tokens, for the query, the text and the tokens around them together. By default the
            model's own. A smaller one makes long texts faster to score, and cuts more of them.
        on_overflow: What to do with a text that does not fit into the window. A prompt is never cut.

            - ``"truncate"``: Read the beginning. The coverage of the hit says how much was read, and one
              `TruncationWarning` a reranker says that texts were cut.
            - ``"error"``: Raise `InputTooLong`.
        on_long_query: What to do with a query that does not fit. Beside texts of more than half of the window, a query
            gets the other half, as in sentence-transformers.

            - ``"truncate"``: Read its beginning. The trace, ``ranking.degraded`` and one `QueryTruncationWarning` a
              reranker say so.
            - ``"error"``: Raise `InputTooLong`.
        on_unreadable: What to do with a query or a text in a script or a language that the model cannot read. By
            default ``"first_stage"`` for a model whose languages are known (from the catalogue, or from ``language`` in
            the README.md of a folder), else ``"score"``. Both of these say so in ``ranking.degraded``, in a note, and
            in one `ReadabilityWarning` a reranker.

            - ``"first_stage"``: Leave it without a score. The whole list stays in its incoming order if that is the
              query, one of the first three texts, or a third of all texts.
            - ``"score"``: Score it all the same.
            - ``"error"``: Raise `UnreadableText`, so that a `Fallback` calls another model.
        batch_tokens: How many tokens one batch has at most, padding included; it bounds the memory. By default the
            backend's choice, see there. ``rag-rerank tune`` measures it on your machine.
        max_queue: How many calls may be waiting or running on this reranker. One more raises `Overloaded`.

    Raises:
        ConfigError: A number below 1.
    """

    fields_without_effect: ClassVar[frozenset[str]] = PointwiseReranker.fields_without_effect | {
        "batch_tokens",
        "max_queue",
    }

    model: ModelName = "minilm"
    revision: str | None = None
    max_length: int | None = None
    on_overflow: OnOverflow = "truncate"
    on_long_query: OnLongQuery = "truncate"
    on_unreadable: OnUnreadable | None = None
    batch_tokens: int | None = None
    max_queue: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        model, revision = parse_model(self.model, self.revision)
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "revision", revision)
        for name in ("max_length", "batch_tokens", "max_queue"):
            if (value := getattr(self, name)) is not None:
                at_least(value, 1, name)
        one_of(self.on_long_query, get_args(OnLongQuery), "on_long_query")
        if self.on_unreadable is not None:
            one_of(self.on_unreadable, get_args(OnUnreadable), "on_unreadable")

    @property
    def verification_name(self) -> str:
        """The model's id, or its folder in full, under which the records of its verifications are kept."""
        folder = expand_user(self.model)
        return str(folder.resolve()) if folder.is_dir() else str(self.model_id).partition("@")[0]

    @property
    def verification_key(self) -> str:
        """A hash of all that decides whether the model is loaded rightly; another release or file changes it."""
        settings = {name: value for name, value in self._settings.items() if name not in NOT_VERIFIED}
        facts = {**settings, **self._identity_facts(), "libraries": library_versions()}
        return identity_hash(type(self), self.scale, facts, version=__version__)

    @load_once
    def _verification_notes(self) -> tuple[str, ...]:
        """What the trace says of a model that gave its reference scores on this machine; else nothing."""
        with suppress(RerankError):  # of a model whose files are gone, the call itself says so
            if has_records(self.verification_name):
                record = find_record(self.verification_name, self.verification_key)
                return (record.note,) if record is not None else ()
        return ()

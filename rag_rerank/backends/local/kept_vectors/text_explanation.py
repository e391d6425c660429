"""The call behind an explanation: a query and one text, scored as any call."""

from __future__ import annotations

from typing import Any

from rag_rerank.backends.local.kept_vectors.engine import VectorEngine
from rag_rerank.backends.local.kept_vectors.row_header import RowFacts
from rag_rerank.backends.local.kept_vectors.store import VectorStore
from rag_rerank.backends.local.kept_vectors.tasks import CallSettings, ComparisonTask, VectorBatch
from rag_rerank.errors import UnreadableText
from rag_rerank.text.unicode import valid_unicode

__all__ = ["TextExplanationTask"]


class TextExplanationTask:
    """A query and one text to explain, as a task of the worker pool; a kind of engine adds its ``finish``.

    Args:
        settings: As for a call.
        engine: The loaded model.
        store: What keeps rows.
        query: The query, as the caller gave it.
        text: The text, likewise.
    """

    def __init__(self, settings: CallSettings, engine: VectorEngine, store: VectorStore, query: str, text: str) -> None:
        self.settings, self.query, self.text = settings, query, text
        self._valid_query, self._valid_text = valid_unicode(query), valid_unicode(text)
        self._comparison = ComparisonTask(settings, engine, store, self._valid_query, [self._valid_text])

    def split(self) -> list[VectorBatch]:
        """Return what has to be encoded.

        Raises:
            UnreadableText: The query or the text cannot be read, so that it has no score.
            InputTooLong: The text or the query does not fit, and may not be cut.
        """
        batches = self._comparison.split()
        reading = self._comparison.reading
        if not reading.texts:
            reranker = self.settings.reranker
            raise UnreadableText(
                f"{'; '.join(reading.notes)}; so there is no score to explain. Choose a model for the language, or set "
                'on_unreadable="score"',
                backend=reranker.kind,
                model=reranker.model_id,
            )
        return batches

    def arrays(self, batch: VectorBatch) -> Any:
        """Return the inputs of a batch."""
        return self._comparison.arrays(batch)

    def take(self, batch: VectorBatch, outputs: Any) -> Any:
        """Return the result of a batch."""
        return self._comparison.take(batch, outputs)

    def _notes(self, facts: RowFacts) -> list[str]:
        """Return what a reader of the explanation must know of the query and the text."""
        call = self._comparison
        notes = [*call.reading.degraded, *call.reading.notes]
        for name, original, valid in (("query", self.query, self._valid_query), ("text", self.text, self._valid_text)):
            if valid is not original:
                notes.append(f"the {name} held lone surrogates, which were read as U+FFFD")
        for name, coverage in (("text", facts.coverage), ("query", call.query_input.coverage)):
            if coverage.truncated:
                notes.append(f"the {name} has {coverage.total} tokens, of which the first {coverage.seen} were read")
        return notes

"""Calls over kept vectors as tasks of the worker pool: encode what is not in the store, keep it, and compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from rag_rerank.backends.local.kept_vectors.engine import VectorEngine
from rag_rerank.backends.local.kept_vectors.row_header import RowFacts
from rag_rerank.backends.local.kept_vectors.store import VectorStore
from rag_rerank.backends.local.late_interaction.text_inputs import EncodedQuery, refuse_text
from rag_rerank.backends.local.pair_encoding import EncodedPairs, OnOverflow, concatenate
from rag_rerank.backends.local.readability import OnUnreadable, Readability, ReadabilityCheck, Reading, decide
from rag_rerank.errors import ConfigError, UnreadableText
from rag_rerank.execution.calls import map_error_position
from rag_rerank.execution.instruction import call_instruction, instruction_or
from rag_rerank.execution.plan import spans_wanted
from rag_rerank.execution.progress import current_listener
from rag_rerank.execution.protocols import PointwiseRanker
from rag_rerank.execution.throughput import Throughput, estimated_tokens
from rag_rerank.trace import Usage
from rag_rerank.types import RelevantSpan, Scale, Scores, present

__all__ = ["CallSettings", "ComparisonTask", "IndexTask", "IndexedTexts", "TextRows", "VectorBatch", "run_batches"]


class VectorBatch(NamedTuple):
    """A batch of texts to encode, or the query of a call.

    Args:
        rows: Positions among the texts to encode; empty for the query.
        size: Token slots, padding included.
        group: The length of all inputs, where batches of that length can be joined without padding; else ``None``.
    """

    rows: list[int]
    size: int
    group: int | None


class VectorTask(Protocol):
    """A task whose batches are encoded."""

    def arrays(self, batch: VectorBatch) -> Any:
        """Return the inputs of a batch."""

    def take(self, batch: VectorBatch, outputs: Any) -> Any:
        """Return the result of a batch, of the outputs of its inputs."""


def run_batches(engine: VectorEngine, pairs: Sequence[tuple[VectorTask, VectorBatch]]) -> list[Any]:
    """Encode batches, of one call or of several, in one pass; return the result of each."""
    arrays = [task.arrays(batch) for task, batch in pairs]
    outputs = engine.outputs(concatenate(arrays))
    results, start = [], 0
    for (task, batch), inputs in zip(pairs, arrays, strict=True):
        count = len(inputs["input_ids"])
        results.append(task.take(batch, outputs[start : start + count]))
        start += count
    return results


class TextRows:
    """The rows of a call's texts: those in the store, and those that have to be made.

    Args:
        engine: The loaded model.
        store: What keeps rows.
        texts: The texts.
    """

    def __init__(self, engine: VectorEngine, store: VectorStore, texts: Sequence[str]) -> None:
        self.engine, self.store, self.texts = engine, store, texts
        self.keys = [engine.key(text) for text in texts]
        self.rows: dict[bytes, bytes | memoryview] = {}
        self.facts: dict[bytes, RowFacts] = {}
        for key, row in zip(self.keys, store.get(self.keys), strict=True):
            facts = None if row is None else engine.facts(row)
            if row is not None and facts is not None:
                self.rows[key], self.facts[key] = row, facts
        self.missing = {key: text for key, text in zip(self.keys, texts, strict=True) if key not in self.rows}
        self.verdicts: dict[bytes, Readability] = {}
        self.inputs = EncodedPairs((), (), (), 0)
        self.encoded: list[bytes] = []  # keys of the inputs

    def judge(self, check: ReadabilityCheck, query: str | None = None) -> list[Readability]:
        """Return how well the model reads the query, if there is one, and each text."""
        queries = [] if query is None else [query]
        verdicts = check.of_texts([*queries, *self.missing.values()])
        self.verdicts = dict(zip(self.missing, verdicts[len(queries) :], strict=True))
        by_key = {key: facts.readability for key, facts in self.facts.items()} | self.verdicts
        return [*verdicts[: len(queries)], *(by_key[key] for key in self.keys)]

    def encode(self, positions: Sequence[int], on_overflow: OnOverflow) -> None:
        """Tokenise the texts at these positions that have no row yet.

        Raises:
            InputTooLong: A text does not fit, and ``on_overflow="error"``; its position is that among ``positions``.
        """
        if on_overflow == "error":
            for place, position in enumerate(positions):
                facts = self.facts.get(self.keys[position])
                if facts is not None and facts.coverage.truncated:
                    raise refuse_text(facts.coverage, self.engine.name, place)
        first = {self.keys[position]: place for place, position in reversed(list(enumerate(positions)))}
        self.encoded = [key for key in self.missing if key in first]
        if self.encoded:
            with map_error_position([first[key] for key in self.encoded]):
                texts = [self.missing[key] for key in self.encoded]
                self.inputs = self.engine.tokenizer.encode_texts(texts, on_overflow)

    def batches(self, tokens: int) -> list[VectorBatch]:
        """Return the batches of the texts to encode."""
        batches = self.inputs.batches(tokens, equal_lengths=self.engine.equal_lengths)
        return [VectorBatch(batch.rows, batch.size, batch.group) for batch in batches]

    def make(self, batch: VectorBatch, outputs: Any) -> dict[bytes, bytes]:
        """Return the rows of a batch of texts."""
        inputs, rows = self.inputs, {}
        for row, output in zip(batch.rows, outputs, strict=True):
            key, ids = self.encoded[row], inputs.ids[row]
            rows[key] = self.engine.row(ids, output, inputs.coverage[row], self.verdicts[key])  # type: ignore[arg-type]
        return rows

    def keep(self, new_rows: Sequence[dict[bytes, bytes]], ids: Sequence[str] = ()) -> None:
        """Add rows of this call, and put them into the store; a folder keeps them under ids, if there are some.

        Raises:
            ConfigError: The store cannot keep them.
        """
        rows = {key: row for part in new_rows for key, row in part.items()}
        self.rows |= rows
        for key, row in rows.items():
            facts = self.engine.facts(row)
            assert facts is not None
            self.facts[key] = facts
        keys = {id: key for id, key in zip(ids, self.keys, strict=True) if key in self.rows} if ids else None
        if rows or keys:
            self.store.put(rows, keys)


@dataclass(frozen=True)
class CallSettings:
    """What a call needs of its reranker.

    Args:
        reranker: For messages.
        scale: Scale of the scores.
        check: What the model can read.
        throughput: Where the speed of encoding is noted.
        on_overflow: What to do with a text that does not fit.
        on_unreadable: What to do with what the model cannot read.
        batch_tokens: Token slots in one batch.
    """

    reranker: PointwiseRanker
    scale: Scale
    check: ReadabilityCheck
    throughput: Throughput
    on_overflow: OnOverflow
    on_unreadable: OnUnreadable | None
    batch_tokens: int


class ComparisonTask:
    """One call: a query and its texts."""

    rows: TextRows
    reading: Reading
    query_input: EncodedQuery

    def __init__(
        self,
        settings: CallSettings,
        engine: VectorEngine,
        store: VectorStore,
        query: str,
        texts: Sequence[str],
    ) -> None:
        self.settings, self.engine, self.store = settings, engine, store
        self.query, self.texts = query, texts
        self._tell = current_listener()  # workers are outside the context of the call
        self._instruction = instruction_or(None)
        self._wants_spans = spans_wanted() and engine.scores_sentences
        self._done = 0

    def split(self) -> list[VectorBatch]:
        """Look the texts up, and return the query and the texts that have to be encoded as batches.

        Raises:
            UnreadableText: Something cannot be read, and ``on_unreadable="error"``.
            InputTooLong: A text or the query does not fit, and may not be cut.
        """
        settings = self.settings
        self.rows = TextRows(self.engine, self.store, self.texts)
        of_query, *of_texts = self.rows.judge(settings.check, self.query)
        self.reading = decide(
            settings.reranker, settings.check.languages, settings.on_unreadable, of_query, of_texts, self.texts
        )
        if not self.reading.texts:
            return []
        with call_instruction(self._instruction):
            self.query_input = self.engine.tokenizer.encode_query(self.query)
        with map_error_position(self.reading.rows):
            self.rows.encode(self.reading.rows, settings.on_overflow)
        if self.engine.queries_apart:
            return self.rows.batches(settings.batch_tokens)
        length = len(self.query_input.ids)
        of_the_query = VectorBatch([], length, length if self.engine.equal_lengths else None)
        return [of_the_query, *self.rows.batches(settings.batch_tokens)]

    def arrays(self, batch: VectorBatch) -> Any:
        """Return the inputs of a batch."""
        return self.rows.inputs.arrays(batch.rows) if batch.rows else self.query_input.arrays()

    def take(self, batch: VectorBatch, outputs: Any) -> Any:
        """Return the rows of a batch of texts, or what is compared of the query."""
        if not batch.rows:
            return self.engine.query_side(self.query_input, outputs[0])
        self._done += len(batch.rows)
        total, label = len(self.rows.encoded), self.settings.reranker.label
        self._tell(self._done / total, f"{label}: {self._done} of {total} texts encoded")
        return self.rows.make(batch, outputs)

    def finish(self, results: Sequence[tuple[VectorBatch, Any]], seconds: float, waited: float) -> Scores:
        """Keep new rows, and return the scores in the order of the texts."""
        reading, engine = self.reading, self.engine
        notes = [*engine.notes, *reading.notes]
        if waited >= 0.01:
            notes.append(f"waited {waited:.2f} s for other calls")
        if not reading.texts:
            empty = Scores([], self.settings.scale, Usage(seconds=seconds), notes=tuple(dict.fromkeys(notes)))
            return reading.of_all_texts(empty)
        try:
            self.rows.keep([result for batch, result in results if batch.rows])
        except ConfigError as error:  # a disk that is full, or a folder that may only be read, takes no score away
            notes.append(f"texts that were encoded now are not kept: {error}")
        query = self.query_side(results)
        keys = [self.rows.keys[position] for position in reading.rows]
        facts = [self.rows.facts[key] for key in keys]
        rows, counts = [self.rows.rows[key] for key in keys], [fact.count for fact in facts]
        values = engine.scores(query, rows, counts)
        self._tell(1.0, f"{self.settings.reranker.label}: {len(values)} texts compared")
        encoded = set(self.rows.encoded)
        notes.append(f"{sum(key not in encoded for key in keys)} of {len(keys)} texts from the store")
        self._note_throughput(seconds, len(results))
        of_query = self.query_input.coverage
        if of_query.truncated:
            notes.append(f"the query has {of_query.total} tokens, of which the first {of_query.seen} were read")
        answer = Scores(
            values,
            self.settings.scale,
            Usage(texts=len(values), tokens=self.rows.inputs.tokens + len(self.query_input.ids), seconds=seconds),
            tuple(fact.coverage for fact in facts),
            notes=tuple(dict.fromkeys(notes)),
            degraded=(f"{self.settings.reranker.label} read only the beginning of the query",)
            if of_query.truncated
            else (),
            query_coverage=of_query if of_query.truncated else None,
            spans=list(self._spans(query, rows, counts)) if self._wants_spans else (),
        )
        return reading.of_all_texts(answer)

    def query_side(self, results: Sequence[tuple[VectorBatch, Any]]) -> Any:
        """Return what is compared of the query, of the results of all batches."""
        if self.engine.queries_apart:
            return self.engine.query_side(self.query_input, None)
        (query,) = (result for batch, result in results if not batch.rows)
        return query

    def _spans(
        self, query: Any, rows: Sequence[bytes | memoryview], counts: Sequence[int]
    ) -> Iterator[tuple[RelevantSpan, ...] | None]:
        """Yield the sentences of each text that is scored, with their scores; ``None`` for a text without any."""
        scale = self.settings.scale
        for sentences in self.engine.sentence_scores(query, rows, counts, self.reading.texts):
            yield tuple(RelevantSpan(*place, present(value, scale), value) for place, value in sentences) or None

    def _note_throughput(self, seconds: float, batches: int) -> None:
        if self.rows.encoded:
            texts = [self.rows.missing[key] for key in self.rows.encoded]
            work = sum(estimated_tokens(self.query, texts, self.engine.tokenizer.window))
            self.settings.throughput.note(work, seconds / max(1, min(self.engine.workers, batches)))


@dataclass(frozen=True)
class IndexedTexts:
    """What was done with some texts.

    Args:
        new: Keys of the rows that were made and put into the store.
        in_store: How many texts had a row already.
        unreadable: How many texts the model cannot read, so that they have no row.
        cut: How many texts are longer than the model reads.
        bytes: Bytes of the rows that were made.
        tokens: Tokens that were encoded.
    """

    new: tuple[bytes, ...]
    in_store: int
    unreadable: int
    cut: int
    bytes: int
    tokens: int


class IndexTask:
    """Texts to encode ahead; those of a folder with their ids, where there are some."""

    rows: TextRows

    def __init__(
        self,
        settings: CallSettings,
        engine: VectorEngine,
        store: VectorStore,
        texts: Sequence[str],
        ids: Sequence[str] = (),
    ) -> None:
        self.settings, self.engine, self.store, self.texts, self.ids = settings, engine, store, texts, ids
        self.unreadable = 0

    def split(self) -> list[VectorBatch]:
        """Look the texts up, and return those that have to be encoded as batches.

        Raises:
            UnreadableText: A text cannot be read, and ``on_unreadable="error"``.
            InputTooLong: A text does not fit, and may not be cut.
        """
        settings = self.settings
        self.rows = TextRows(self.engine, self.store, self.texts)
        verdicts = self.rows.judge(settings.check)
        mode = settings.on_unreadable or ("first_stage" if settings.check.languages else "score")
        positions = [i for i, verdict in enumerate(verdicts) if verdict.readable or mode == "score"]
        self.unreadable = len(self.texts) - len(positions)
        if self.unreadable and mode == "error":
            raise UnreadableText(
                f"{settings.reranker.label} cannot read {self.unreadable} of {len(self.texts)} texts; choose a model "
                'for their language, or set on_unreadable="score"',
                backend=settings.reranker.kind,
                model=settings.reranker.model_id,
            )
        with map_error_position(positions):
            self.rows.encode(positions, settings.on_overflow)
        return self.rows.batches(settings.batch_tokens)

    def arrays(self, batch: VectorBatch) -> Any:
        """Return the inputs of a batch."""
        return self.rows.inputs.arrays(batch.rows)

    def take(self, batch: VectorBatch, outputs: Any) -> dict[bytes, bytes]:
        """Return the rows of a batch of texts."""
        return self.rows.make(batch, outputs)

    def finish(
        self, results: Sequence[tuple[VectorBatch, dict[bytes, bytes]]], seconds: float, waited: float
    ) -> IndexedTexts:
        """Keep new rows, and return what was done."""
        new_rows = [rows for _, rows in results]
        self.rows.keep(new_rows, self.ids)
        facts = [self.rows.facts[key] for key in self.rows.keys if key in self.rows.facts]
        return IndexedTexts(
            new=tuple(self.rows.encoded),
            in_store=sum(key not in self.rows.missing for key in self.rows.keys),
            unreadable=self.unreadable,
            cut=sum(fact.coverage.truncated for fact in facts),
            bytes=sum(len(row) for rows in new_rows for row in rows.values()),
            tokens=self.rows.inputs.tokens,
        )

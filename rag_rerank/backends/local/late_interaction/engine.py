"""A loaded late-interaction model: it turns a text into a row to keep, and compares a query with rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from rag_rerank._checks import at_least, one_of
from rag_rerank._lazy import need
from rag_rerank.backends.local.kept_vectors.engine import VectorEngine
from rag_rerank.backends.local.kept_vectors.row_header import ROW_VERSION, RowFacts
from rag_rerank.backends.local.late_interaction.checkpoint import (
    Conventions,
    Projection,
    read_conventions,
    read_projections,
    signal_conventions,
)
from rag_rerank.backends.local.late_interaction.maxsim import max_sim
from rag_rerank.backends.local.late_interaction.precision import VectorPrecision
from rag_rerank.backends.local.late_interaction.signals import QuerySide, SignalHead, unit
from rag_rerank.backends.local.late_interaction.text_inputs import EncodedQuery, TextTokenizer
from rag_rerank.backends.local.late_interaction.text_vectors import RowLayout, TextVectors
from rag_rerank.backends.local.late_interaction.token_encoder import (
    OnnxEncoder,
    TokenEncoder,
    TorchEncoder,
    encoder_weights,
)
from rag_rerank.backends.local.late_interaction.token_pooling import pool_tokens
from rag_rerank.backends.local.model_files import ModelFiles, ModelFolder, languages_of
from rag_rerank.backends.local.onnx_graphs.weights import EncoderWeights, UnsupportedGraph
from rag_rerank.backends.local.readability import Readability
from rag_rerank.backends.local.settings import LocalSettings
from rag_rerank.backends.local.torch_models.late_interaction import MODEL_TYPE, SIGNALS
from rag_rerank.errors import ConfigError, ModelLoadError
from rag_rerank.text.sentences import Span, sentence_places
from rag_rerank.trace import Coverage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["EngineSettings", "LateInteractionEngine", "Runtime"]

Runtime = Literal["auto", "onnx", "torch"]
"""What runs the encoder."""

_POOLS = (1, 2, 4)

_BLOCK_TOKENS = 8192
"""Tokens of texts that are compared at once: 13 MB of vectors with 384 numbers, and tables that fit into a cache."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings(LocalSettings):
    """The settings that an engine is loaded with.

    Args:
        precision: What each number of a vector is rounded to, at first sight and from the store alike. Fewer bytes mean
            more texts in the store.

            - ``"fp32"``: 4 bytes.
            - ``"fp16"``: 2 bytes.
            - ``"int8"``: 1 byte, and 4 bytes for each vector. This is the default.
            - ``"int4"``: Half a byte, and 2 bytes for each 16 numbers.
        pool: How many similar tokens of a text share a vector, on average: 1, 2 or 4. More needs less space, and
            changes the scores. For ColBERT models only, because ``embedded`` scores word by word.
        query_length: The most tokens of a query, with its marker and special tokens. By default the ColBERT model's
            own, or half of the window.
        runtime: What runs the encoder.

            - ``"auto"``: ONNX Runtime where the architecture is known (BERT and ModernBERT), else PyTorch, of which the
              trace has a note.
            - ``"onnx"``: ONNX Runtime, which needs no torch.
            - ``"torch"``: PyTorch.
        workers: How many batches ONNX Runtime encodes in parallel, for all calls together. By default the physical
            cores that this process may use, divided by ``threads``.
        threads: How many threads ONNX Runtime uses within one batch.
    """

    precision: VectorPrecision = "int8"
    pool: int = 1
    query_length: int | None = None
    runtime: Runtime = "auto"
    workers: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.precision, get_args(VectorPrecision), "precision")
        one_of(self.runtime, get_args(Runtime), "runtime")
        if self.pool not in _POOLS:
            raise ConfigError(f"pool is one of {', '.join(map(str, _POOLS))}, got {self.pool!r:.40}", path="pool")
        for name in ("query_length", "workers", "threads"):
            if (value := getattr(self, name)) is not None:
                at_least(value, 1, name)


class LateInteractionEngine(VectorEngine):
    """A loaded tokenizer, encoder and head; any number of threads may use them at the same time.

    Args:
        files: The files of the model.
        folder: The folder that they are in.
        settings: What the user wants of it.

    Raises:
        ConfigError: Pooling is set for a model whose score needs each token.
        ModelLoadError: The files are absent or of another kind of model.
    """

    def __init__(self, files: ModelFiles, folder: ModelFolder, settings: EngineSettings) -> None:
        self.name = folder.name
        has_signals = folder.config.get("model_type") == MODEL_TYPE
        if has_signals and settings.pool > 1:
            raise ConfigError(
                f"{folder.name} scores word by word, and pooled vectors stand for several words; leave pool out, or "
                "choose a ColBERT model",
                path="pool",
            )
        self.conventions = signal_conventions(folder) if has_signals else read_conventions(folder)
        text_length, query_length = self._lengths(folder, settings, has_signals=has_signals)
        self._tokenizer = TextTokenizer(
            folder,
            self.conventions,
            text_length=text_length,
            query_length=query_length,
            on_long_query=settings.on_long_query,
        )
        self.head = _signal_head(folder, self.conventions) if has_signals else None
        self.projections: Sequence[Projection] = () if has_signals else read_projections(folder, self.conventions)
        self._skipped = self.tokenizer.ids_of(self.conventions.skipped)
        self.encoder, notes = self._encoder(files, folder, settings)
        self.notes = (*folder.unpinned_note(settings.revision), *notes, *self.encoder.notes)
        self.workers, self.equal_lengths = self.encoder.workers, self.encoder.equal_lengths
        self.batch_tokens = self.encoder.batch_tokens
        self.pool = settings.pool
        self.layout = RowLayout(
            self._width(),
            settings.precision,
            has_signals,
            self.tokenizer.text_tokenizer.get_vocab_size(with_added_tokens=True),
        )
        self._key_facts = {
            "row": ROW_VERSION,
            "files": files.identity,
            "runtime": type(self.encoder).__name__,
            "window": text_length,
            "precision": settings.precision,
            "pool": settings.pool,
            "languages": languages_of(settings.model),
        }
        self.scores_sentences = settings.pool == 1

    @property
    def tokenizer(self) -> TextTokenizer:
        """The maker of the inputs."""
        return self._tokenizer

    @property
    def key_facts(self) -> Mapping[str, Any]:
        """All that decides a row beside its text."""
        return self._key_facts

    def outputs(self, arrays: Mapping[str, Any]) -> Floats:
        """Return the vectors of the tokens of each input."""
        return self.token_vectors(arrays)

    def token_vectors(self, arrays: Mapping[str, Any]) -> Floats:
        """Return the vector of each token of a batch, as it is compared but for its length."""
        vectors = self.encoder.token_vectors(arrays)
        for projection in self.projections:
            vectors = projection(vectors)
        return vectors

    def is_compared(self, ids: npt.NDArray[np.int32], *, of_query: bool) -> npt.NDArray[np.bool_]:
        """Return which tokens of a query or of a text are compared."""
        import numpy as np

        if self.head is not None:
            return self.head.is_compared(ids)
        skips = self.conventions.skips_in_queries if of_query else self.conventions.skips_in_texts
        return ~np.isin(ids, self._skipped) if skips and self._skipped else np.ones(len(ids), dtype=bool)

    def normalize(self, vectors: Floats) -> Floats:
        """Return vectors as they are compared: at unit length, unless the checkpoint compares them as they are."""
        return unit(vectors) if self.conventions.normalizes else vectors

    def row(self, ids: npt.NDArray[np.int32], output: Floats, coverage: Coverage, readability: Readability) -> bytes:
        """Return the row of a text, of the ids and vectors of all its tokens; vectors of padding are left out."""
        import numpy as np

        vectors = output[: len(ids)]
        if self.head is not None:
            compared = self.is_compared(ids, of_query=False)
            text = TextVectors(unit(vectors[compared]), ids[compared], unit(vectors.sum(axis=0)), coverage, readability)
        else:
            nothing = np.empty(0, dtype=np.float32)
            compact = self.normalize(vectors[self.is_compared(ids, of_query=False)])
            if self.pool > 1:
                compact = pool_tokens(compact, self.pool)
            text = TextVectors(compact, np.empty(0, dtype=np.int32), nothing, coverage, readability)
        return self.layout.to_bytes(text)

    def facts(self, row: bytes | memoryview) -> RowFacts | None:
        """Return the facts about a text, or ``None`` for bytes that are no row of this engine."""
        return self.layout.facts(row)

    def query_side(self, query: EncodedQuery, output: Floats) -> QuerySide | Floats:
        """Return what is compared of a query, of the vectors of all its tokens."""
        if self.head is not None:
            return self.head.query_side(query.ids, output)
        return self.normalize(output[self.is_compared(query.ids, of_query=True)])

    def scores(
        self, query: QuerySide | Floats, rows: Sequence[bytes | memoryview], counts: Sequence[int]
    ) -> list[float]:
        """Return the raw score of each row, which has so many vectors."""
        scores: list[float] = []
        for start, end in _blocks(counts):
            block = self.layout.join(rows[start:end], counts[start:end])
            if isinstance(query, QuerySide):
                assert self.head is not None
                scores += self.head.scores(query, block).tolist()
            else:
                scores += max_sim(query, block, mean=self.conventions.mean).tolist()
        return scores

    def sentence_scores(
        self,
        query: QuerySide | Floats,
        rows: Sequence[bytes | memoryview],
        counts: Sequence[int],
        texts: Sequence[str],
    ) -> list[list[tuple[Span, float]]]:
        """Return the place and the raw score of each sentence of each text, from the vectors of its tokens.

        A sentence scores as a text would that has its vectors, which were made within the whole text. A sentence
        without a compared token is left out, such as one behind the cut.

        Args:
            query: What is compared of the query.
            rows: The row of each text, not pooled.
            counts: How many vectors each has.
            texts: The texts.
        """
        import numpy as np

        assert self.pool == 1, "pooled vectors stand for tokens of several sentences"
        scored: list[list[tuple[Span, float]]] = []
        for first, stop in _blocks(counts):
            places = [sentence_places(text) for text in texts[first:stop]]
            part_of, total = [], 0
            for text, of_text in zip(texts[first:stop], places, strict=True):
                ids, last = self.tokenizer.last_characters(text)
                part_of.append(_part_of(last[self.is_compared(ids, of_query=False)], of_text, total))
                total += len(of_text)
            block = self.layout.join(rows[first:stop], counts[first:stop])
            parts = block.parts(np.concatenate(part_of), total)
            if isinstance(query, QuerySide):
                assert self.head is not None
                values = self.head.part_scores(query, parts)
            else:
                values = max_sim(query, parts, mean=self.conventions.mean)
            scores = iter(zip(values.tolist(), parts.counts.tolist(), strict=True))
            for of_text in places:
                of_sentences = [(place, *next(scores)) for place in of_text]
                scored.append([(place, value) for place, value, count in of_sentences if count])
        return scored

    def _lengths(self, folder: ModelFolder, settings: EngineSettings, *, has_signals: bool) -> tuple[int, int]:
        """Return the most tokens of a text and of a query, special tokens included."""
        conventions, window = self.conventions, folder.max_length(settings.max_length)
        if conventions.window is not None and settings.max_length is None:
            window = min(window, conventions.window)
        text = settings.max_length or min(conventions.text_length or window, window)
        expansion = conventions.expansion
        own = (expansion.length if expansion and expansion.is_fixed else conventions.query_length) or window
        if has_signals:
            own = (window + 1) // 2  # the share that it has beside any text where both share the window
        query = settings.query_length or own
        if query > window:
            raise ConfigError(f"{folder.name} reads at most {window} tokens, got {query}", path="query_length")
        if expansion is not None and query < expansion.length:
            raise ConfigError(
                f"{folder.name} fills queries up to {expansion.length} tokens, so it cannot read fewer, got {query}",
                path="query_length",
            )
        return text, query

    def _encoder(
        self, files: ModelFiles, folder: ModelFolder, settings: EngineSettings
    ) -> tuple[TokenEncoder, tuple[str, ...]]:
        """Return the encoder, and a note on why torch runs it, where that was not the user's choice."""
        reason = ""
        if settings.runtime != "torch":
            try:
                encoder = OnnxEncoder(
                    folder, self.conventions, files.identity, workers=settings.workers, threads=settings.threads
                )
                return encoder, ()
            except UnsupportedGraph as unsupported:
                reason = str(unsupported)
                if settings.runtime == "onnx":
                    raise ModelLoadError(
                        f"{folder.name} cannot be run without torch: {reason}; choose runtime: torch"
                    ) from unsupported
        need("torch", extra="torch")
        need("transformers", extra="torch")
        encoder_of_torch = TorchEncoder(folder, self.conventions, takes_types=self.tokenizer.takes_types)
        return encoder_of_torch, (f"auto means torch here: {reason}",) if reason else ()

    def _width(self) -> int:
        """Return how many numbers a vector has, of the vectors of one short text."""
        arrays = self.tokenizer.encode_texts(["a"], "truncate").arrays([0])
        return int(self.token_vectors(arrays).shape[-1])


def _part_of(last: npt.NDArray[np.int32], places: Sequence[Span], first: int) -> npt.NDArray[np.intp]:
    """Return the number of the place in which each token ends, counted from ``first``; -1 for none."""
    import numpy as np

    if not places:
        return np.full(len(last), -1, dtype=np.intp)
    starts, ends = np.array(places).T
    part = np.searchsorted(starts, last, side="right") - 1
    return np.where((part < 0) | (last >= ends[part]), -1, part + first)


def _blocks(counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last position, exclusive, of rows that are compared at once."""
    start = tokens = 0
    for position, count in enumerate(counts):
        if position > start and tokens + count > _BLOCK_TOKENS:
            yield start, position
            start, tokens = position, 0
        tokens += count
    if counts:
        yield start, len(counts)


def _signal_head(folder: ModelFolder, conventions: Conventions) -> SignalHead:
    """Read the head of a model with signals.

    Raises:
        ModelLoadError: It cannot be read, or is another one.
    """
    special = folder.config.get("special_ids")
    try:
        weights: EncoderWeights = encoder_weights(folder, conventions)
        head = weights.dense("classifier", head=True)
        token_weights = weights.array("token_weights.weight", head=True)[:, 0]
        continues = weights.array("continues", head=True)
    except UnsupportedGraph as error:
        raise ModelLoadError(f"{folder.name}: the head of its score cannot be read: {error}") from error
    if head.weight.shape != (len(SIGNALS), 1) or not isinstance(special, list):
        raise ModelLoadError(f"{folder.name}: its head is of another version of this model")
    return SignalHead(token_weights, continues, head.weight[:, 0], float(head.bias[0]), tuple(special))

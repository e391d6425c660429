"""A loaded learned sparse model: it gives the terms of a query or a text their weights, and compares them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from rag_rerank._checks import one_of, whole_number
from rag_rerank._lazy import need
from rag_rerank.backends.local.kept_vectors.engine import VectorEngine
from rag_rerank.backends.local.kept_vectors.row_header import ROW_VERSION, RowFacts
from rag_rerank.backends.local.late_interaction.checkpoint import Conventions
from rag_rerank.backends.local.late_interaction.text_inputs import EncodedQuery, InputToken, TextTokenizer
from rag_rerank.backends.local.model_files import ModelFiles, ModelFolder, beyond_window, languages_of
from rag_rerank.backends.local.model_tokenizer import IDS, MASK, ModelTokenizer, load_core, settings_of
from rag_rerank.backends.local.pair_encoding import EncodedPairs, OnOverflow
from rag_rerank.backends.local.readability import Readability
from rag_rerank.backends.local.settings import LocalSettings
from rag_rerank.backends.local.sparse.checkpoint import Side, SparseConventions, read_conventions
from rag_rerank.backends.local.sparse.term_weights import (
    K1,
    LENGTH,
    B,
    TermLayout,
    TermWeights,
    WeightTable,
    largest,
    read_table,
)
from rag_rerank.backends.local.sparse.torch_encoder import SparseTorchEncoder
from rag_rerank.text.tokenizers import TextLimit
from rag_rerank.trace import Coverage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["UNLIMITED", "SidesTokenizer", "SparseEngine", "SparseSettings", "conventions_of", "window_of"]

UNLIMITED = 10**6
"""The window of a table, which reads texts of any length where its tokenizer sets no limit."""


@dataclass(frozen=True, kw_only=True)
class SparseSettings(LocalSettings):
    """The settings that an engine is loaded with.

    Args:
        max_active_dims: The most terms of a query and of a text that get a weight: those with the largest. By default
            the model's own number, or all. Fewer terms need less space, and change the scores.
        device: The device: ``auto`` takes ``cuda``, else ``mps``, else ``cpu``; or any name of a torch device. A model
            that is not run has none.
        dtype: What the model computes in, whatever its file holds. Weights are kept in fp32 in any case.

            - ``"float32"``: 32-bit numbers. This is the default.
            - ``"bfloat16"``: 16-bit numbers with the range of float32.
            - ``"float16"``: 16-bit numbers with a smaller range, and more digits than bfloat16.
            - ``"auto"``: What the model's file holds.
    """

    max_active_dims: int | None = None
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_active_dims is not None:
            whole_number(self.max_active_dims, 1, "max_active_dims")
        one_of(self.dtype, ("float32", "bfloat16", "float16", "auto"), "dtype")


def conventions_of(folder: ModelFolder, max_active_dims: int | None) -> SparseConventions:
    """Return what a checkpoint does, with the user's number of terms in place of its own.

    Raises:
        ModelLoadError: It is no learned sparse model, or it does something that is not known here.
    """
    conventions = read_conventions(folder)
    return replace(conventions, max_active_dims=max_active_dims or conventions.max_active_dims)


def window_of(side: Side, folder: ModelFolder, limit: int | None) -> int:
    """Return the most tokens of an input of a side: the user's limit, or else all that the side reads.

    Raises:
        ModelLoadError: The limit is more than the model reads.
    """
    place = ModelFolder(folder.path / side.place, folder.name, folder.revision, folder.row)
    if side.kind == "model":
        window = place.max_length(limit)
        return window if limit is not None else min(window, side.window or window)
    declared = settings_of(place).get("model_max_length")
    window = int(declared) if isinstance(declared, (int, float)) and 0 < declared < UNLIMITED else UNLIMITED
    if limit is not None and limit > window:
        raise beyond_window(folder.name, window, limit)
    return limit or window


class SidesTokenizer:
    """The tokenizers of queries and of texts, each with its prompt and its window."""

    def __init__(self, query: TextTokenizer, text: TextTokenizer) -> None:
        self.query, self.text = query, text
        self.text_tokenizer = text.text_tokenizer

    @property
    def window(self) -> int:
        """Most tokens of a text."""
        return self.text.window

    def encode_query(self, query: str) -> EncodedQuery:
        """Return the input of a query; a longer one is cut."""
        return self.query.encode_query(query)

    def encode_texts(self, texts: Sequence[str], on_overflow: OnOverflow) -> EncodedPairs:
        """Return the inputs of texts; a longer one is cut."""
        return self.text.encode_texts(texts, on_overflow)

    def text_limit(self, query: str) -> TextLimit:
        """Return how long a text may be; that is the same beside every query."""
        return self.text.text_limit(query)

    def query_tokens(self, query: str) -> list[InputToken]:
        """Return the tokens of the input of a query."""
        return self.query.query_tokens(query)

    def text_tokens(self, text: str) -> list[InputToken]:
        """Return the tokens of the input of a text."""
        return self.text.text_tokens(text)


class SparseEngine(VectorEngine):
    """A loaded learned sparse model; torch runs one batch at a time.

    Args:
        files: The files of the model.
        folder: The folder that they are in.
        settings: What the user wants of it.

    Raises:
        ModelLoadError: The files are absent or of another kind of model.
        MissingExtraError: It has a model, and torch or sentence-transformers is not installed.
    """

    def __init__(self, files: ModelFiles, folder: ModelFolder, settings: SparseSettings) -> None:
        self.name = folder.name
        self.conventions = conventions = conventions_of(folder, settings.max_active_dims)
        self._tokenizer = SidesTokenizer(
            self._side_tokenizer(conventions.query, folder, settings),
            self._side_tokenizer(conventions.text, folder, settings),
        )
        self._tables = {
            side: read_table(
                folder,
                side,
                tokenizer.text_tokenizer,
                without_special=conventions.text.kind == "frequency",
            )
            for side, tokenizer in (
                (conventions.query, self._tokenizer.query),
                (conventions.text, self._tokenizer.text),
            )
            if side.kind != "model"
        }
        self._encoder: SparseTorchEncoder | None = None
        device = "cpu"
        if conventions.needs_model:
            need("torch", extra="torch")
            need("sentence_transformers", extra="torch")
            place = (conventions.text if conventions.text.kind == "model" else conventions.query).place
            self._encoder = SparseTorchEncoder(
                folder,
                place,
                device=settings.device,
                dtype=settings.dtype,
                max_active_dims=conventions.max_active_dims,
            )
            device = self._encoder.device
        self.batch_tokens = 512 if device == "cpu" else 4096
        self.queries_apart = not conventions.is_shared
        of_device = () if self._encoder is None or self._encoder.is_plain else (self._encoder.note,)
        self.notes = (*folder.unpinned_note(settings.revision), *of_device)
        self.vocabulary = self._tokenizer.text_tokenizer.get_vocab_size(with_added_tokens=True)
        if self._encoder is not None:  # a matrix of outputs may have more rows than the tokenizer has tokens
            self.vocabulary = max(self.vocabulary, self._encoder.width)
        self.layout = TermLayout(self.vocabulary)
        self._key_facts = {
            "row": ROW_VERSION,
            "kind": "sparse",
            "files": files.identity,
            "window": self._tokenizer.window,
            "terms": conventions.max_active_dims,
            "device": device,
            "dtype": settings.dtype if self._encoder else None,
            "frequency": (K1, B, LENGTH) if conventions.text.kind == "frequency" else None,
            "languages": languages_of(settings.model),
        }

    @property
    def tokenizer(self) -> SidesTokenizer:
        """The maker of the inputs."""
        return self._tokenizer

    @property
    def key_facts(self) -> Mapping[str, Any]:
        """All that decides a row beside its text."""
        return self._key_facts

    def outputs(self, arrays: Mapping[str, Any]) -> Sequence[TermWeights]:
        """Return the terms of each text of a batch."""
        return self._terms(self.conventions.text, arrays, "document")

    def row(
        self, ids: npt.NDArray[np.int32], output: TermWeights, coverage: Coverage, readability: Readability
    ) -> bytes:
        """Return the row of a text."""
        return self.layout.to_bytes(output, coverage, readability)

    def facts(self, row: bytes | memoryview) -> RowFacts | None:
        """Return the facts about a text, or ``None`` for bytes that are no row of this engine."""
        return self.layout.facts(row)

    def query_side(self, query: EncodedQuery, output: TermWeights | None) -> TermWeights:
        """Return the terms of a query."""
        if output is None:
            (output,) = self._terms(self.conventions.query, query.arrays(), "query")
        return output

    def scores(self, query: TermWeights, rows: Sequence[bytes | memoryview], counts: Sequence[int]) -> list[float]:
        """Return the similarity of each row to the query."""
        dense = self._dense(query)
        return [self._score(dense, self.layout.terms(row, count)) for row, count in zip(rows, counts, strict=True)]

    @property
    def is_sum(self) -> bool:
        """Whether a score is the sum of the products of weights, and not a distance."""
        return self.conventions.similarity in ("dot", "cosine")

    def matches(self, query: TermWeights, text: TermWeights) -> Iterator[tuple[int, float, float]]:
        """Yield the terms that query and text share: id, weight in the query and in the text, as they are compared.

        The products of the weights add up to the score. With the similarity ``cosine`` the weights are those of vectors
        of unit length.
        """
        lengths = (1.0, 1.0)
        if self.conventions.similarity == "cosine":
            lengths = (_length(query.weights), _length(text.weights))
        dense = self._dense(query)
        of_query = dense[text.ids]
        for place in of_query.nonzero()[0].tolist():
            yield (
                int(text.ids[place]),
                float(of_query[place]) / lengths[0],
                float(text.weights[place]) / lengths[1],
            )

    def term(self, id: int) -> str:
        """Return how the vocabulary writes a term."""
        return self._tokenizer.text_tokenizer.id_to_token(id) or f"term {id}"

    def _score(self, query: npt.NDArray[np.float64], text: TermWeights) -> float:
        """Return the similarity of a query, as a vector over the vocabulary, to a text.

        The formulas are those of sentence-transformers: of a distance, the similarity is its negative.
        """
        import numpy as np

        shared, weights = query[text.ids], text.weights.astype(np.float64)
        kind = self.conventions.similarity
        if kind == "manhattan":
            return -float(math.fsum(np.abs(query)) + math.fsum(np.abs(weights - shared) - np.abs(shared)))
        product = math.fsum(shared * weights)
        if kind == "euclidean":
            return -math.sqrt(max(_length(query) ** 2 + _length(weights) ** 2 - 2 * product, 0.0))
        return product / (_length(query) * _length(weights)) if kind == "cosine" else product

    def _dense(self, terms: TermWeights) -> npt.NDArray[np.float64]:
        import numpy as np

        dense = np.zeros(self.vocabulary, dtype=np.float64)
        dense[terms.ids] = terms.weights
        return dense

    def _terms(self, side: Side, arrays: Mapping[str, Any], task: Any) -> Sequence[TermWeights]:
        """Return the terms of each input of a batch of one side."""
        if side.kind == "model":
            assert self._encoder is not None
            tokenizer = self._tokenizer.query if task == "query" else self._tokenizer.text
            inputs = {name: arrays[name] for name in tokenizer.model_tokenizer.inputs}
            return self._encoder.term_weights(inputs, task)
        table: WeightTable = self._tables[side]
        weigh = table.frequent if side.kind == "frequency" else table.present
        rows = zip(arrays[IDS], arrays[MASK], strict=True)
        return [largest(weigh(ids[mask > 0]), self.conventions.max_active_dims) for ids, mask in rows]

    def _side_tokenizer(self, side: Side, folder: ModelFolder, settings: SparseSettings) -> TextTokenizer:
        window = window_of(side, folder, settings.max_length)
        place = ModelFolder(folder.path / side.place, folder.name, folder.revision, folder.row)
        of_table = ModelTokenizer(core=load_core(place), inputs=(IDS, MASK), pad=0) if side.kind != "model" else None
        return TextTokenizer(
            place,
            Conventions(query_prompt=side.prompt, text_prompt=side.prompt, lower_case=side.lower_case),
            text_length=window,
            query_length=window,
            on_long_query=settings.on_long_query,
            adds_special=side.kind == "model",
            model_tokenizer=of_table,
        )


def _length(weights: npt.NDArray[Any]) -> float:
    """Return the length of a vector; that of zeros is the least that the library divides by."""
    import numpy as np

    return max(math.sqrt(math.fsum(np.asarray(weights, dtype=np.float64) ** 2)), 1e-12)

"""Learned sparse rerankers: weights of terms, from SPLADE models and from inference-free ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from rag_rerank._lazy import load_once, need
from rag_rerank.backends.local.catalogue import ModelName
from rag_rerank.backends.local.kept_vectors.base import VectorReranker
from rag_rerank.backends.local.model_files import TORCH_FILES
from rag_rerank.backends.local.sparse.checkpoint import is_complete
from rag_rerank.backends.local.sparse.engine import SparseEngine, SparseSettings, conventions_of, window_of
from rag_rerank.backends.local.sparse.explanation import SparseExplanation, SparseExplanationTask, TermMatch
from rag_rerank.backends.local.torch_models.devices import usable_device
from rag_rerank.errors import ConfigError
from rag_rerank.types import Candidate, Scale

__all__ = ["SparseExplanation", "SparseReranker", "TermMatch"]


@dataclass(frozen=True, kw_only=True)
class SparseReranker(VectorReranker, SparseSettings):
    """A learned sparse model: query and text are weights of terms, and the score is the sum of shared ones' products.

    A term is a token of the model's vocabulary. Texts are encoded at first sight, or ahead by `index`, and kept. Three
    kinds of model work this way:

    - SPLADE models: a masked language model weighs the tokens of a query or a text, and adds terms that are not in it
      (Formal et al., SIGIR 2021). Weights are those of sentence-transformers' ``SparseEncoder``, which runs the model.
    - Inference-free models (OpenSearch's ``doc-v2`` and ``doc-v3`` ones): a model weighs texts, and a table of weights
      the tokens of a query. A question over kept texts runs no model.
    - A folder with ``idf.json`` and ``tokenizer.json`` alone: the table weighs the tokens of the query, and a token of
      the text counts by how often it occurs, as in BM25. Nothing is run, and torch is not needed.

    Both scores are the dot product, or the similarity that the model's settings name (of a distance, its negative). The
    sum grows with the query, so scores of different queries do not compare, and the scale is ``unbounded``. `explain`
    names the terms that make a score.

    Query and text are cut each to the window, whatever is beside them. The trace has a note on how many texts came from
    the store; ``usage.tokens`` counts what was encoded in this call.

    Args:
        model: The model: a hub id (also ``org/name@revision``), or a folder.
        max_length: The most tokens of a text, and of a query, with special tokens. By default the model's own.
        on_long_query: What to do with a query that is longer than the window.

            - ``"truncate"``: Read its beginning. The trace, ``ranking.degraded`` and one `QueryTruncationWarning` a
              reranker say so.
            - ``"error"``: Raise `InputTooLong`.
        batch_tokens: How many tokens one batch has at most, padding included. It bounds the memory: each token of a
            batch has a number for every term of the vocabulary. By default 512 on a CPU, and 4096 on a GPU.

    Raises:
        ConfigError: No model is named, a value is not allowed, or the device or the store cannot be used.
        ModelLoadError: At first use, when files are absent, pickled, or are not a learned sparse model.
        MissingExtraError: At first use, when a model has to be run and torch or sentence-transformers is not installed,
            or a folder needs lmdb.
        InputTooLong: See ``on_overflow`` and ``on_long_query``.
        UnreadableText: See ``on_unreadable``.
        Overloaded: See ``max_queue``.
    """

    kind: ClassVar[str] = "sparse"
    files: ClassVar[tuple[str, ...]] = TORCH_FILES

    model: ModelName = ""

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("sparse needs a model: a hub id, or a folder", path="model")
        super().__post_init__()

    @property
    def scale(self) -> Scale:
        """Unbounded: the score is a sum over the terms of the query."""
        return "unbounded"

    @staticmethod
    def complete(folder: Path) -> bool:
        """Whether a folder holds a tokenizer and weights, of a model or of a table."""
        return is_complete(folder)

    def explain(self, query: str, text: str | Candidate) -> SparseExplanation:
        """Say which terms query and text share, and what each adds to the score.

        The score is the one that `rerank` gives the text. The text's weights come from the store, or go into it.

        Args:
            query: The query.
            text: A text, or a candidate.

        Raises:
            ConfigError: The model compares by a distance, which is no sum over terms.
            InputError: The query or the text is blank.
            UnreadableText: The model cannot read the query or the text, so that `rerank` gives no score.
            InputTooLong: See ``on_overflow`` and ``on_long_query``.
            Overloaded: ``max_queue`` calls are waiting or running already.
        """
        readable = self._text_to_explain(query, text)
        engine, pool = self._runtime
        sparse_engine = cast(SparseEngine, engine)
        if not sparse_engine.is_sum:
            raise ConfigError(
                f"{self.label} compares by the {sparse_engine.conventions.similarity} distance, which is no sum over "
                "terms; explain needs a model that compares by a dot product or a cosine",
                path="model",
            )
        task = SparseExplanationTask(self._settings_of_call(engine), sparse_engine, self._store, query, readable)
        return self._accept(pool, task).result()

    @load_once
    def _engine(self) -> SparseEngine:
        files = self._files
        with files.reading() as folder:
            return SparseEngine(files, folder, self)

    @load_once
    def _model_identity(self) -> Mapping[str, Any]:
        """The files, the window, the number of terms and the device that the settings resolve to."""
        with self._files.reading() as folder:
            conventions = conventions_of(folder, self.max_active_dims)
            facts = {
                "model": self._files.identity,
                "revision": None,
                "max_length": window_of(conventions.text, folder, self.max_length),
                "max_active_dims": conventions.max_active_dims,
            }
        if not conventions.needs_model:
            return {**facts, "device": None, "dtype": None}
        need("torch", extra="torch")
        return {**facts, "device": usable_device(self.device)}

"""Late interaction: texts are encoded once and kept, so that a question costs its own encoding and a comparison."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

from rag_rerank._lazy import load_once, peek
from rag_rerank.backends.local.catalogue import HUB_ID, ModelName, is_folder, row_of
from rag_rerank.backends.local.kept_vectors.base import IndexReport, VectorReranker
from rag_rerank.backends.local.late_interaction.engine import EngineSettings, LateInteractionEngine
from rag_rerank.backends.local.late_interaction.explanation.alignment import ExplanationTask
from rag_rerank.backends.local.late_interaction.explanation.explanation import Explanation
from rag_rerank.backends.local.model_files import TORCH_FILES, read_json
from rag_rerank.backends.local.onnx_files import graphs_in, names_in
from rag_rerank.backends.local.torch_models.checkpoint import has_checkpoint
from rag_rerank.backends.local.torch_models.late_interaction import MODEL_TYPE
from rag_rerank.errors import ConfigError
from rag_rerank.types import Candidate, Scale

__all__ = ["Explanation", "IndexReport", "LateInteractionReranker"]


@dataclass(frozen=True, kw_only=True)
class LateInteractionReranker(VectorReranker, EngineSettings):
    """A model whose vectors of texts are made once and kept: a question costs its own encoding and a comparison.

    A text is encoded at first sight, or ahead by `index`. Two kinds of model work this way:

    - ``embedded``, and models that ``rag-rerank train`` makes from it: ``raw_score`` is the logit, the same as with the
      ``onnx`` backend wherever neither cuts anything (within 1e-5 at ``precision="fp32"``); ``score`` is its sigmoid.
    - ColBERT models, in the formats of sentence-transformers, PyLate and Stanford's ColBERT: both scores are MaxSim,
      the sum over the query's vectors of their largest cosine to one of the text. The sum grows with the query, so
      scores of different queries do not compare, and the scale is ``unbounded``.

    Query and text do not share a window. A text is cut to the same length beside every query, so its vectors and its
    coverage do not depend on the query.

    A row in the store is found by a SHA-256 over the model's files, the cut, the precision, the pooling, and the text.
    So a changed model or text is encoded anew, and never gets the vectors of another. The trace has a note on how many
    texts came from the store; ``usage.tokens`` counts what was encoded in this call.

    Args:
        model: The model: ``embedded``, the hub id of a ColBERT model (also ``org/name@revision``), or a folder.
        max_length: The most tokens of a text, with its marker and special tokens. By default the model's own.
        on_long_query: What to do with a query of more than ``query_length`` tokens.

            - ``"truncate"``: Read its beginning. The trace, ``ranking.degraded`` and one `QueryTruncationWarning` a
              reranker say so.
            - ``"error"``: Raise `InputTooLong`.
        batch_tokens: How many tokens one batch has at most, padding included; it bounds the memory. By default 512 with
            ONNX Runtime, and 2048 with PyTorch.

    Raises:
        ConfigError: A value is not allowed, the store cannot be used, or ``pool`` is set for ``embedded``.
        ModelLoadError: At first use, when files are absent or are not a late-interaction model.
        MissingExtraError: At first use, when the model needs torch, or a folder needs lmdb, and it is not installed.
        InputTooLong: See ``on_overflow`` and ``on_long_query``.
        UnreadableText: See ``on_unreadable``.
        Overloaded: See ``max_queue``.
    """

    kind: ClassVar[str] = "late_interaction"
    files: ClassVar[tuple[str, ...]] = (*TORCH_FILES, "artifact.metadata")
    fields_without_effect: ClassVar[frozenset[str]] = VectorReranker.fields_without_effect | {"workers", "threads"}

    model: ModelName = "embedded"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool > 1 and self._has_signals:
            raise ConfigError(
                f"{self.model} scores word by word, and pooled vectors stand for several words; leave pool out",
                path="pool",
            )

    @property
    def scale(self) -> Scale:
        """Sigmoid for ``embedded`` and models made from it; unbounded for ColBERT models."""
        return "sigmoid" if self._has_signals else "unbounded"

    @property
    def scores_sentences(self) -> bool:
        """Whether `RelevantSpans` gets the scores of sentences from kept vectors: not if several tokens share one."""
        return self.pool == 1

    @property
    def _has_signals(self) -> bool:
        """Whether the score is that of the head that `MODEL_TYPE` defines, and not MaxSim. Loads nothing."""
        engine: LateInteractionEngine | None = peek(self, "_engine")
        if engine is not None:
            return engine.head is not None
        row = row_of(self.model)
        if row is not None:
            return row.architecture == MODEL_TYPE
        if not is_folder(self.model) and not (HUB_ID.fullmatch(self.model) and self.is_cached()):
            return False
        config = self.fetch().path / "config.json"
        return config.is_file() and read_json(config, self.model).get("model_type") == MODEL_TYPE

    @staticmethod
    def complete(folder: Path) -> bool:
        """Whether a folder holds a tokenizer, a config, and weights."""
        names = names_in(folder)
        modules = (folder / "modules.json").is_file() and any(folder.rglob("*.safetensors"))
        return (folder / "tokenizer.json").is_file() and (has_checkpoint(folder) or modules or bool(graphs_in(names)))

    def _patterns(self, names: Collection[str]) -> Sequence[str]:
        has_safetensors = any(name.endswith(".safetensors") for name in names)
        return self.files if has_safetensors else (*self.files, "*.onnx", "*.onnx_data")

    def explain(self, query: str, text: str | Candidate) -> Explanation:
        """Say which token of a text answers which token of a query, and what that adds to the score.

        The score is the one that `rerank` gives the text. The text's vectors come from the store, or go into it.

        Args:
            query: The query.
            text: A text, or a candidate.

        Raises:
            InputError: The query or the text is blank.
            UnreadableText: The model cannot read the query or the text, so that `rerank` gives no score.
            InputTooLong: See ``on_overflow`` and ``on_long_query``.
            Overloaded: ``max_queue`` calls are waiting or running already.
        """
        readable = self._text_to_explain(query, text)
        engine, pool = self._runtime
        late_engine = cast(LateInteractionEngine, engine)
        task = ExplanationTask(self._settings_of_call(engine), late_engine, self._store, query, readable)
        return self._accept(pool, task).result()

    @load_once
    def _engine(self) -> LateInteractionEngine:
        files = self._files
        with files.reading() as folder:
            return LateInteractionEngine(files, folder, self)

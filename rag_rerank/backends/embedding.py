"""Embedding models: one vector a query and one a text, compared by their cosine or dot product."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rag_rerank._lazy import load_once, peek
from rag_rerank.backends.local.catalogue import HUB_ID, ModelName, is_folder
from rag_rerank.backends.local.embedding.engine import EmbeddingEngine, EmbeddingSettings, prompts_of
from rag_rerank.backends.local.kept_vectors.base import VectorReranker
from rag_rerank.backends.local.model_files import TORCH_FILES
from rag_rerank.backends.local.onnx_files import graphs_in, names_in
from rag_rerank.backends.local.torch_models.checkpoint import has_checkpoint
from rag_rerank.errors import ConfigError
from rag_rerank.execution.instruction import check_field
from rag_rerank.types import Scale

__all__ = ["EmbeddingReranker"]


@dataclass(frozen=True, kw_only=True)
class EmbeddingReranker(VectorReranker, EmbeddingSettings):
    """An embedding model: a text scores by the similarity of its vector to the query's; the cheapest model there is.

    It reads query and text apart, so it costs one pass for each new text and one for each question, and sees less than
    a cross-encoder or late interaction. It reads models of sentence-transformers (encoder, pooling, linear layers and
    normalisation, as their files say), and ONNX folders of them. Encoders of BERT and ModernBERT need no torch.

    Both scores are the cosine, or the dot product where the model's files say so. Cosines of one model lie in a narrow
    range (0.7 to 0.9 for E5), so a threshold for one model means nothing for another; ``rag-rerank calibrate`` makes a
    probability of them.

    What goes before a query and a text decides much of the quality of some models; see ``query_prompt``. The trace has
    a note where prompts come from the table of families, and where others are set than the model was trained with.

    Where your retriever already has the vectors, `HostEmbeddingReranker` uses those, and loads no model.

    Args:
        model: The model: a hub id (also ``org/name@revision``), or a folder.
        max_length: The most tokens of a text or a query, with prompt and special tokens. By default the model's own.
        on_overflow: What to do with a text that is longer.

            - ``"truncate"``: Read the beginning. The coverage of the hit says how much was read, and one
              `TruncationWarning` a reranker says that texts were cut.
            - ``"error"``: Raise `InputTooLong`.
        on_long_query: What to do with a query that is longer.

            - ``"truncate"``: Read its beginning. The trace, ``ranking.degraded`` and one `QueryTruncationWarning` a
              reranker say so.
            - ``"error"``: Raise `InputTooLong`.
        batch_tokens: How many tokens one batch has at most, padding included; it bounds the memory. By default 512 with
            ONNX Runtime, and 2048 with PyTorch.

    Raises:
        ConfigError: A value is not allowed, no model is named, ``dimensions`` is more than the model has, an
            instruction has no place in the query prompt, or the store cannot be used.
        ModelLoadError: At first use, when files are absent or are not an embedding model.
        MissingExtraError: At first use, when the model needs torch, or a folder needs lmdb, and it is not installed.
        InputTooLong: See ``on_overflow`` and ``on_long_query``.
        UnreadableText: See ``on_unreadable``.
        Overloaded: See ``max_queue``.
    """

    kind: ClassVar[str] = "embedding"
    files: ClassVar[tuple[str, ...]] = TORCH_FILES
    fields_without_effect: ClassVar[frozenset[str]] = VectorReranker.fields_without_effect | {"workers", "threads"}

    model: ModelName = ""

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError(
                "embedding needs a model: a hub id such as sentence-transformers/all-MiniLM-L6-v2, or a folder",
                path="model",
            )
        super().__post_init__()
        check_field(self.instruction)

    @property
    def scale(self) -> Scale:
        """Similarity: a cosine, or the dot product where the model's files say so."""
        return "similarity"

    @property
    def takes_instruction(self) -> bool:
        """Whether the query prompt has a place for one: the user's, the checkpoint's, or that of a known family."""
        engine: EmbeddingEngine | None = peek(self, "_engine")
        if engine is not None:
            return engine.prompts.takes_instruction
        at_hand = is_folder(self.model) or (HUB_ID.fullmatch(self.model) is not None and self.is_cached())
        return prompts_of(self, self.fetch() if at_hand else None).takes_instruction

    @staticmethod
    def complete(folder: Path) -> bool:
        """Whether a folder holds a tokenizer, a config, and weights."""
        weights = has_checkpoint(folder) or any(folder.rglob("*.safetensors")) or bool(graphs_in(names_in(folder)))
        return (folder / "tokenizer.json").is_file() and (folder / "config.json").is_file() and weights

    def _patterns(self, names: Collection[str]) -> Sequence[str]:
        has_safetensors = any(name.endswith(".safetensors") for name in names)
        return self.files if has_safetensors else (*self.files, "*.onnx", "*.onnx_data")

    @load_once
    def _engine(self) -> EmbeddingEngine:
        files = self._files
        with files.reading() as folder:
            return EmbeddingEngine(files, folder, self)

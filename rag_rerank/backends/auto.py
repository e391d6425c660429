"""Local models whose backend is chosen by their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

from rag_rerank._files import expand_user
from rag_rerank._lazy import forget, load_once, peek
from rag_rerank.backends.embedding import EmbeddingReranker
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.local import catalogue
from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.backends.local.embedding.pipeline import MODULES, is_embedding_model
from rag_rerank.backends.local.engine import LoadedModel
from rag_rerank.backends.local.late_interaction.checkpoint import is_late_interaction, may_be_late_interaction
from rag_rerank.backends.local.model_files import ModelFolder, list_files, locate
from rag_rerank.backends.local.readability import Readability
from rag_rerank.backends.local.sparse.checkpoint import is_sparse, may_be_sparse
from rag_rerank.backends.local.worker_pool import PoolStats
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.backends.sparse import SparseReranker
from rag_rerank.backends.torch import TorchReranker
from rag_rerank.errors import ConfigError, ModelLoadError
from rag_rerank.execution.deadline import arun_in_thread, arun_with_deadline, run_with_deadline
from rag_rerank.execution.plan import ScoresSentences
from rag_rerank.text.tokenizers import TextLimit
from rag_rerank.types import Scale, Scores

__all__ = ["AutoReranker"]

_GRAPHS = ("onnx/model.onnx", "model.onnx")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")

_BACKENDS: tuple[type[LocalReranker], ...] = (
    LateInteractionReranker,
    SparseReranker,
    EmbeddingReranker,
    OnnxReranker,
    TorchReranker,
)
_SETTINGS = ("config.json", "config_sentence_transformers.json", MODULES, "*router_config.json")
_REASONS: Mapping[type[LocalReranker], str] = {
    LateInteractionReranker: "{} has a late-interaction model",
    SparseReranker: "{} has a learned sparse model",
    EmbeddingReranker: "{} has an embedding model",
}
"""The backends that a model's settings choose, and the reason for the trace."""


@dataclass(frozen=True, kw_only=True)
class AutoReranker(LocalReranker):
    """A model by its hub id or folder; its files decide which type runs it.

    `build` makes one for a hub id that is not in the catalogue, and for a folder. The choice is made at first use: the
    catalogue's backend, else ``late_interaction`` for a model that reads query and text apart and compares tokens
    (ColBERT models, and those trained from ``embedded``), ``sparse`` for a learned sparse model, ``embedding`` for one
    that makes one vector of each (its ``modules.json`` lists a pooling), else ``onnx`` where there is an ONNX graph,
    else ``torch``. What a folder or the
    hub's cache holds decides; only if there is nothing, the hub is asked for the list of files, and for the model's
    settings where the list leaves it open. Each trace has a note with the choice and its reason, and `backend` is the
    reranker that it means. Scores, identity and errors are that one's.

    Options that only one of the backends has go with the name of that backend (``onnx:org/name``); `build` chooses it
    by the option.

    Args:
        model: The model: a hub id (also ``org/name@revision``), or a folder.

    Raises:
        ConfigError: No model is named.
        ModelLoadError: At first use, when there is no such model, or it has no file that one of the backends reads.
    """

    kind: ClassVar[str] = "auto"
    files: ClassVar[tuple[str, ...]] = tuple(dict.fromkeys((*OnnxReranker.files, *LateInteractionReranker.files)))

    model: catalogue.ModelName = ""

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("auto needs a model: a hub id such as BAAI/bge-reranker-v2-m3, or a folder", path="model")
        super().__post_init__()

    @staticmethod
    def complete(folder: Path) -> bool:
        """Whether a folder holds all that one of the backends needs."""
        return any(kind.complete(folder) for kind in _BACKENDS)

    @staticmethod
    def of_folder(folder: Path) -> type[LocalReranker]:
        """Return the backend that the files of a folder choose.

        Raises:
            ModelLoadError: They choose none.
        """
        return _kind_of_folder(folder, str(folder))[0]

    @property
    def scale(self) -> Scale:
        """The scale of the backend; sigmoid as long as the model's files are not on this machine."""
        backend = self._backend_at_hand
        return super().scale if backend is None else backend.scale

    @property
    def _backend_at_hand(self) -> LocalReranker | None:
        """The reranker that this one means, as long as nobody has to be asked for it."""
        try:
            return self.backend if peek(self, "_choice") or self.is_cached() else None
        except ModelLoadError:  # calls raise it
            return None

    @property
    def backend(self) -> LocalReranker:
        """The reranker that this one means here, chosen at first use.

        Raises:
            ModelLoadError: There is no such model, or the hub cannot be reached.
        """
        return self._choice[0]

    @property
    def resolved(self) -> LocalReranker:
        """The reranker that runs the model, chosen at first use."""
        return self.backend

    @property
    def template_id(self) -> str | None:
        """Name of the prompt, once the backend is chosen."""
        choice = peek(self, "_choice")
        template: str | None = choice and choice[0].template_id
        return template

    @property
    def takes_instruction(self) -> bool:
        """Whether the prompt of the model has a place for an instruction, as the catalogue or its files say."""
        backend = self._backend_at_hand
        if isinstance(backend, EmbeddingReranker):
            return backend.takes_instruction
        return self._with_backend(TorchReranker).takes_instruction

    @property
    def scores_sentences(self) -> bool:
        """Whether the chosen backend does, as its model is; not as long as the files are not on this machine."""
        backend = self._backend_at_hand
        return isinstance(backend, ScoresSentences) and backend.scores_sentences

    def fetch(self) -> ModelFolder:
        """Find the files that the chosen backend reads, and fetch those that are not there; nothing is loaded."""
        return self.backend.fetch()

    def is_cached(self) -> bool:
        """Whether `fetch` would find the model's files without asking the hub."""
        return any(self._with_backend(kind).is_cached() for kind in _BACKENDS)

    def text_limits(self, query: str) -> tuple[TextLimit, ...]:
        """Return how long a text may be beside the query in the model's window; loads the model."""
        return self.backend.text_limits(query)

    def readability(self, texts: Sequence[str]) -> list[Readability]:
        """Return how well the chosen backend's model reads each text; loads the model."""
        return self.backend.readability(texts)

    @property
    def stats(self) -> PoolStats | None:
        """The numbers of calls that wait and run on this instance now; ``None`` while no model is loaded."""
        choice = peek(self, "_choice")
        stats: PoolStats | None = choice and choice[0].stats
        return stats

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text by the chosen backend."""
        if peek(self, "_choice") is None:
            run_with_deadline(self.label, self._choose)
        backend, note = self._choice
        return _with_note(backend.score(query, texts), note)

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does without blocking the event loop."""
        if peek(self, "_choice") is None:
            await arun_with_deadline(self.label, arun_in_thread(self._choose))
        backend, note = self._choice
        return _with_note(await backend.ascore(query, texts), note)

    def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> int:
        """Estimate how many of the texts the chosen backend can score in the time."""
        choice = peek(self, "_choice")
        reranker: LocalReranker = choice[0] if choice else self._with_backend(OnnxReranker)  # neither is loaded
        return reranker.texts_within(query, texts, seconds)

    def warm_up(self) -> None:
        """Choose the backend, and load tokenizer and model."""
        self.backend.warm_up()

    def close(self) -> None:
        """Close the chosen backend; a later call chooses again."""
        choice = forget(self, "_choice")
        if choice is not None:
            choice[0].close()

    @property
    def _engine(self) -> LoadedModel:
        return self.backend._engine

    def _identity(self, version: str | None = None) -> str:
        return self.backend._identity(version)

    @load_once
    def _choice(self) -> tuple[LocalReranker, str]:
        """The reranker that this one means, and the note on it for the trace."""
        kind, reason = self._kind_and_reason()
        return self._with_backend(kind), f"auto means {kind.kind} here: {reason}"

    def _choose(self) -> None:
        _ = self._choice

    def _with_backend(self, kind: type[LocalReranker]) -> LocalReranker:
        return kind(**{f.name: getattr(self, f.name) for f in fields(LocalReranker)})

    def _kind_and_reason(self) -> tuple[type[LocalReranker], str]:
        row = catalogue.row_of(self.model)
        if row is not None:
            return next(kind for kind in _BACKENDS if kind.kind == row.backend), "the catalogue names it"
        if catalogue.is_folder(self.model):
            return _kind_of_folder(expand_user(self.model), self.model)
        for kind in _BACKENDS:
            reranker = self._with_backend(kind)
            if reranker.is_cached() and _fits(kind, reranker.fetch().path):
                return kind, f"the hub's cache holds its files for {kind.kind}"
        names = list_files(self.model, backend=self.kind, revision=self.revision)
        if may_be_sparse(names) or may_be_late_interaction(names) or MODULES in names:
            backend_kind = _kind_by_settings(self._fetch_settings().path)
            if backend_kind is not None:
                return backend_kind, _REASONS[backend_kind].format("the repository")
        return _kind_of(names, self.model, "the repository")

    def _fetch_settings(self) -> ModelFolder:
        """Fetch the small files that say what kind of model it is."""
        return locate(self.model, backend=self.kind, revision=self.revision, patterns=_SETTINGS, complete=_has_settings)


def _has_settings(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SETTINGS)


def _kind_by_settings(folder: Path) -> type[LocalReranker] | None:
    """Return the backend that the settings in a folder choose; ``None`` where the files have to."""
    if is_late_interaction(folder):
        return LateInteractionReranker
    if is_sparse(folder):
        return SparseReranker
    return EmbeddingReranker if is_embedding_model(folder) else None


def _fits(kind: type[LocalReranker], folder: Path) -> bool:
    """Whether the settings in a folder leave the choice to its files, or choose this backend."""
    return _kind_by_settings(folder) == (kind if kind in _REASONS else None)


def _kind_of_folder(folder: Path, name: str) -> tuple[type[LocalReranker], str]:
    backend_kind = _kind_by_settings(folder)
    if backend_kind is not None:
        return backend_kind, _REASONS[backend_kind].format("the folder")
    files = (*folder.glob("*"), *folder.glob("onnx/*"))
    return _kind_of([file.relative_to(folder).as_posix() for file in files], name, "the folder")


def _kind_of(files: Sequence[str], name: str, place: str) -> tuple[type[LocalReranker], str]:
    """Return the backend that reads these files, and why.

    Raises:
        ModelLoadError: None does.
    """
    if any(graph in files for graph in _GRAPHS):
        return OnnxReranker, f"{place} has an ONNX graph"
    if any(file.endswith(".safetensors") for file in files):
        return TorchReranker, f"{place} has safetensors and no model.onnx"
    if any(file.endswith(".onnx") for file in files):
        return OnnxReranker, f"{place} has an ONNX graph"
    if any(file.endswith(_PICKLED) for file in files):
        return TorchReranker, f"{place} has weights for PyTorch"
    raise ModelLoadError(
        f"{name} has neither an ONNX graph nor safetensors, so no backend can run it; {place} has "
        f"{', '.join(sorted(files)[:8]) or 'no files'}"
    )


def _with_note(scores: Scores, note: str) -> Scores:
    return replace(scores, notes=(*scores.notes, note))

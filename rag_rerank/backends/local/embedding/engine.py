"""A loaded embedding model: it turns a text into one vector to keep, and compares the vector of a query with rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from rag_rerank._checks import at_least, one_of
from rag_rerank._lazy import need
from rag_rerank.backends.local.embedding.exported_encoder import ExportedEncoder
from rag_rerank.backends.local.embedding.pipeline import Pipeline, read_pipeline
from rag_rerank.backends.local.embedding.prompts import PLACE, Prompts, read_settings
from rag_rerank.backends.local.kept_vectors.engine import VectorEngine
from rag_rerank.backends.local.kept_vectors.row_header import (
    HEADER_BYTES,
    ROW_VERSION,
    RowFacts,
    header_bytes,
    read_header,
)
from rag_rerank.backends.local.late_interaction.checkpoint import Conventions
from rag_rerank.backends.local.late_interaction.engine import Runtime
from rag_rerank.backends.local.late_interaction.precision import (
    VectorPrecision,
    bytes_per_vector,
    restore,
    round_vectors,
)
from rag_rerank.backends.local.late_interaction.products import products
from rag_rerank.backends.local.late_interaction.text_inputs import EncodedQuery, TextTokenizer
from rag_rerank.backends.local.late_interaction.token_encoder import OnnxEncoder, TokenEncoder, TorchEncoder
from rag_rerank.backends.local.model_files import ModelFiles, ModelFolder, languages_of
from rag_rerank.backends.local.onnx_files import graphs_in, names_in
from rag_rerank.backends.local.onnx_graphs.weights import UnsupportedGraph
from rag_rerank.backends.local.readability import Readability
from rag_rerank.backends.local.settings import LocalSettings
from rag_rerank.errors import ConfigError, ModelLoadError
from rag_rerank.execution.instruction import instruction_or
from rag_rerank.text.unicode import valid_unicode
from rag_rerank.trace import Coverage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["EmbeddingEngine", "EmbeddingSettings", "checked_prompt", "prompts_of"]


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings(LocalSettings):
    """The settings that an engine is loaded with.

    Args:
        query_prompt: What goes before a query, such as ``"query: "``; ``""`` for nothing. ``{instruction}`` in it
            stands for the instruction. By default that of the checkpoint, or else that of its family (E5, BGE, Nomic
            ...), of which the trace has a note.
        text_prompt: What goes before a text, likewise, such as ``"passage: "``.
        instruction: What relevance means here, in words, for a model whose query prompt has a place for it. By default
            the model's own.
        dimensions: How many numbers of a vector are kept, from the first on, for a model that was trained so
            (Matryoshka). They are scaled to unit length again. By default all.
        precision: What each number of a text's vector is rounded to, at first sight and from the store alike.

            - ``"fp32"``: 4 bytes. This is the default.
            - ``"fp16"``: 2 bytes.
            - ``"int8"``: 1 byte, and 4 bytes for the vector.
            - ``"int4"``: Half a byte, and 2 bytes for each 16 numbers.
        runtime: What runs the encoder.

            - ``"auto"``: ONNX Runtime where the architecture is known (BERT and ModernBERT) or the model has an ONNX
              file, else PyTorch, of which the trace has a note.
            - ``"onnx"``: ONNX Runtime, which needs no torch.
            - ``"torch"``: PyTorch.
        workers: How many batches ONNX Runtime encodes in parallel, for all calls together. By default the physical
            cores that this process may use, divided by ``threads``.
        threads: How many threads ONNX Runtime uses within one batch.
    """

    query_prompt: str | None = None
    text_prompt: str | None = None
    instruction: str | None = None
    dimensions: int | None = None
    precision: VectorPrecision = "fp32"
    runtime: Runtime = "auto"
    workers: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.precision, get_args(VectorPrecision), "precision")
        one_of(self.runtime, get_args(Runtime), "runtime")
        for name in ("dimensions", "workers", "threads"):
            if (value := getattr(self, name)) is not None:
                at_least(value, 1, name)
        for name in ("query_prompt", "text_prompt"):
            checked_prompt(getattr(self, name), name)


def checked_prompt(prompt: object, path: str) -> None:
    """Raise `ConfigError` unless a prompt is ``None`` or a text that a tokenizer can read."""
    if prompt is None:
        return
    if not isinstance(prompt, str):
        raise ConfigError(f"a prompt is a text, got {type(prompt).__name__}", path=path)
    if valid_unicode(prompt) is not prompt:
        raise ConfigError("the prompt holds half of a surrogate pair, which no model can read", path=path)
    if path == "text_prompt" and PLACE in prompt:
        raise ConfigError(f"{PLACE} belongs into query_prompt; an instruction is about the query", path=path)


def prompts_of(settings: EmbeddingSettings, folder: ModelFolder | None) -> Prompts:
    """Return the prompts of a model; without its folder, what is known by its name.

    Raises:
        ModelLoadError: Its settings cannot be read.
    """
    names = [str(settings.model)]
    own: Mapping[str, Any] = {}
    if folder is not None:
        config = folder.path / "config.json"
        base = folder.config.get("_name_or_path") if config.is_file() else None
        names += [folder.name, *([base] if isinstance(base, str) else [])]
        own = read_settings(folder.path, folder.name)
    return Prompts.resolve(tuple(names), own, settings.query_prompt, settings.text_prompt)


class EmbeddingTokenizer(TextTokenizer):
    """A tokenizer that puts the instruction of the call into the prompt of its query."""

    def __init__(
        self, folder: ModelFolder, pipeline: Pipeline, prompts: Prompts, settings: EmbeddingSettings, length: int
    ) -> None:
        conventions = Conventions(
            pipeline.encoder,
            query_prompt=prompts.query_prompt(settings.instruction),
            text_prompt=prompts.text,
            lower_case=pipeline.lower_case,
        )
        super().__init__(
            folder, conventions, text_length=length, query_length=length, on_long_query=settings.on_long_query
        )
        self.conventions = conventions
        prompt = self._prompts[conventions.text_prompt]
        self.text_prompt_tokens = len(self._before) + len(prompt) if conventions.text_prompt else 0
        self._own_prompts = prompts
        self._instruction = settings.instruction

    def encode_query(self, query: str, prompt: str | None = None) -> EncodedQuery:
        """Return the input of a query, with the instruction of the call where the model takes one."""
        if prompt is None:
            prompt = self._own_prompts.query_prompt(instruction_or(self._instruction))
        return super().encode_query(query, prompt)


class EmbeddingEngine(VectorEngine):
    """A loaded tokenizer and encoder; any number of threads may use them at the same time.

    Args:
        files: The files of the model.
        folder: The folder that they are in.
        settings: What the user wants of it.

    Raises:
        ConfigError: More dimensions are wanted than there are, or an instruction where the prompt has no place for one.
        ModelLoadError: The files are absent or of another kind of model.
    """

    def __init__(self, files: ModelFiles, folder: ModelFolder, settings: EmbeddingSettings) -> None:
        self.name = folder.name
        self.pipeline = read_pipeline(folder, read_settings(folder.path, folder.name))
        self.prompts = prompts_of(settings, folder)
        if settings.instruction is not None and not self.prompts.takes_instruction:
            raise ConfigError(
                f"the query prompt of {folder.name} has no place for an instruction; leave it out, or write a "
                f'query_prompt with "{PLACE}"',
                path="instruction",
            )
        window = folder.max_length(settings.max_length)
        if settings.max_length is None and self.pipeline.window is not None:
            window = min(window, self.pipeline.window)
        self._tokenizer = EmbeddingTokenizer(folder, self.pipeline, self.prompts, settings, window)
        self.encoder, notes = self._encoder(files, folder, settings)
        self.notes = (
            *folder.unpinned_note(settings.revision),
            *self.pipeline.notes,
            *self.prompts.notes,
            *notes,
            *self.encoder.notes,
        )
        self.workers, self.equal_lengths = self.encoder.workers, self.encoder.equal_lengths
        self.batch_tokens = self.encoder.batch_tokens
        self.precision = settings.precision
        self.dimensions: int | None = None
        width = self._width()
        if settings.dimensions is not None and settings.dimensions > width:
            raise ConfigError(f"the vectors of {folder.name} have {width} numbers", path="dimensions")
        self.dimensions = settings.dimensions
        self.width = settings.dimensions or width
        self._key_facts = {
            "kind": "embedding",
            "row": ROW_VERSION,
            "files": files.identity,
            "runtime": type(self.encoder).__name__,
            "window": window,
            "precision": settings.precision,
            "dimensions": self.width,
            "prompt": self.prompts.text,
            "languages": languages_of(settings.model),
        }

    @property
    def tokenizer(self) -> EmbeddingTokenizer:
        """The maker of the inputs."""
        return self._tokenizer

    @property
    def key_facts(self) -> Mapping[str, Any]:
        """All that decides a row beside its text."""
        return self._key_facts

    def outputs(self, arrays: Mapping[str, Any]) -> Floats:
        """Return the vectors of the tokens of each input."""
        return self.encoder.token_vectors(arrays)

    def row(self, ids: npt.NDArray[np.int32], output: Floats, coverage: Coverage, readability: Readability) -> bytes:
        """Return the row of a text: a header, and its vector."""
        vector = self.pipeline.vector(output[: len(ids)], self._tokenizer.text_prompt_tokens, self.dimensions)
        header = header_bytes(RowFacts(coverage, readability, 1))
        return b"".join([header, *round_vectors(vector[None], self.precision)])

    def facts(self, row: bytes | memoryview) -> RowFacts | None:
        """Return the facts about a text, or ``None`` for bytes that are no row of this engine."""
        facts = read_header(row)
        size = HEADER_BYTES + sum(bytes_per_vector(self.width, self.precision))
        return facts if facts is not None and len(row) == size else None

    def query_side(self, query: EncodedQuery, output: Floats) -> Floats:
        """Return the vector of a query."""
        return self.pipeline.vector(output[: len(query.ids)], query.prompt_tokens, self.dimensions)

    def scores(self, query: Floats, rows: Sequence[bytes | memoryview], counts: Sequence[int]) -> list[float]:
        """Return the cosine or dot product of the query with each row."""
        import numpy as np

        factor_bytes, number_bytes = bytes_per_vector(self.width, self.precision)
        content = np.frombuffer(b"".join(row[HEADER_BYTES:] for row in rows), np.uint8)
        table = content.reshape(len(rows), factor_bytes + number_bytes)
        factor_rows = np.ascontiguousarray(table[:, :factor_bytes])
        number_rows = np.ascontiguousarray(table[:, factor_bytes:])
        numbers, factors = restore(factor_rows, number_rows, self.width, self.precision)
        values = products(numbers, query[None])[:, 0]
        scores: list[float] = (values if factors is None else values * factors).tolist()
        return scores

    def _encoder(
        self, files: ModelFiles, folder: ModelFolder, settings: EmbeddingSettings
    ) -> tuple[TokenEncoder, tuple[str, ...]]:
        """Return the encoder, and a note on why another runs it than the graph that is written for it.

        Raises:
            ModelLoadError: No encoder can run the model.
            MissingExtraError: It needs torch, which is not installed.
        """
        reason = ""
        if settings.runtime != "torch":
            workers, threads = settings.workers, settings.threads
            try:
                conventions = self._tokenizer.conventions
                return OnnxEncoder(folder, conventions, files.identity, workers=workers, threads=threads), ()
            except UnsupportedGraph as unsupported:
                reason = str(unsupported)
            if graphs_in(names_in(folder.path)):
                return ExportedEncoder(folder, workers=workers, threads=threads), (f"runs its own graph: {reason}",)
            if settings.runtime == "onnx":
                raise ModelLoadError(f"{folder.name} cannot be run without torch: {reason}; choose runtime: torch")
        need("torch", extra="torch")
        need("transformers", extra="torch")
        if folder.config.get("is_encoder_decoder"):
            raise ModelLoadError(
                f"{folder.name} is an encoder with a decoder, and its encoder alone cannot be run here"
            )
        takes_types = self._tokenizer.takes_types
        encoder = TorchEncoder(folder, self._tokenizer.conventions, takes_types=takes_types)
        return encoder, (f"auto means torch here: {reason}",) if reason else ()

    def _width(self) -> int:
        """Return how many numbers a vector has, of the vector of one short text."""
        inputs = self._tokenizer.encode_texts(["a"], "truncate")
        output = self.outputs(inputs.arrays([0]))[0]
        return len(self.pipeline.vector(output, self._tokenizer.text_prompt_tokens, None))

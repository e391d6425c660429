"""Cross-encoders on ONNX Runtime: no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rag_rerank._checks import at_least
from rag_rerank._lazy import forget, load_once
from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.backends.local.cpu import cores
from rag_rerank.backends.local.model_files import ONNX_FILES, ModelFolder
from rag_rerank.backends.local.onnx_files import choose_graph, graph_note, graphs_in, names_in, onnx_patterns
from rag_rerank.backends.local.onnx_graphs.build import Precision, activation_note, write_without_activation
from rag_rerank.backends.local.onnx_graphs.cache import Graph, load_or_build, temporary_folder
from rag_rerank.backends.local.onnx_graphs.session import session_options
from rag_rerank.backends.local.padding import ROUGH, ignores_padding
from rag_rerank.backends.local.pair_encoding import PairTokenizer
from rag_rerank.backends.local.samples import TOLERANCE
from rag_rerank.errors import BackendError, ConfigError, ModelLoadError

__all__ = ["OnnxReranker"]

_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_INTEGERS = {"tensor(int64)": "int64", "tensor(int32)": "int32"}
_CPU = "CPUExecutionProvider"


@dataclass(frozen=True, kw_only=True)
class OnnxReranker(LocalReranker):
    """A cross-encoder run by ONNX Runtime: on a CPU without torch, or on other hardware that ONNX Runtime supports.

    ``raw_score`` is the fp32 logit, ``score`` its float64 sigmoid; of two logits, ``raw_score`` is the second less the
    first, and ``score`` is the softmax probability of the second label, that of relevance. Where the graph ends in a
    sigmoid or softmax, it is left out, so that ``raw_score`` is a logit nevertheless.

    It reads BERT, XLM-RoBERTa, DeBERTa-v2 and ModernBERT cross-encoders, and any other whose ONNX file takes
    ``input_ids``, ``attention_mask`` and optionally ``token_type_ids`` and gives logits of shape (batch, 1) or (batch,
    2).

    At first use on a CPU a faster graph of the model is built and cached on disk (see
    `rag_rerank.backends.local.onnx_graphs`). For BERT and RoBERTa models it is rewritten: it has no padding, so that
    scores do not depend on the other texts, and its fp32 logits are compared with those of the model's own graph when
    it is built (within 1e-4, relative beyond -1..1). For other models, and where the graph cannot be rewritten, ONNX
    Runtime optimises the model's own graph, and a note in the trace says so.

    Args:
        model: The model: an alias (``minilm``), a hub id (also ``org/name@revision``), or a folder with an ONNX file
            (also below ``onnx/``), ``config.json`` and ``tokenizer.json``. ``rag-rerank export`` makes such a folder
            from a safetensors checkpoint.
        file: The ONNX file within the model, such as ``onnx/model_quantized.onnx``. By default ``model.onnx``, at the
            top or below ``onnx/``, else the only one. The trace says which it is, if it has another name.
        precision: What the linear layers compute in.

            - ``"fp32"``: 32-bit numbers. This is the default.
            - ``"int8"``: 8-bit numbers, built from the fp32 file. It moves the logits a little (``rag-rerank models
              --check`` measures by how much), and gives the same scores with and without the int8 instructions of newer
              processors.
        batch_tokens: How many tokens one batch has at most, padding included; it bounds the memory. By default 512.
            ``rag-rerank tune`` measures ``workers``, ``threads`` and ``batch_tokens`` on your machine.
        workers: How many batches are computed in parallel, for all calls together. By default the physical cores that
            this process may use, divided by ``threads``.
        threads: How many threads ONNX Runtime uses within one batch.
        optimize: Whether to build the faster graph of the model. False runs the model's own graph.
        providers: The execution providers of ONNX Runtime, first choice first. With another than the CPU's, the model's
            own graph is run, one batch at a time unless ``workers`` says otherwise; ``threads`` matters on a CPU only.

    Raises:
        ConfigError: A number below 1, or ``precision="int8"`` without the optimised graph of a CPU.
        ModelLoadError: At first use, when files are absent or are not a cross-encoder with one logit.
        InputTooLong: See ``on_overflow`` and ``on_long_query``.
        UnreadableText: See ``on_unreadable``.
        Overloaded: See ``max_queue``.
    """

    kind: ClassVar[str] = "onnx"
    files: ClassVar[tuple[str, ...]] = ONNX_FILES
    fields_without_effect: ClassVar[frozenset[str]] = LocalReranker.fields_without_effect | {
        "workers",
        "threads",
        "optimize",
    }

    file: str | None = None
    precision: Precision = "fp32"
    workers: int | None = None
    threads: int = 1
    optimize: bool = True
    providers: Sequence[str] = (_CPU,)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("workers", "threads"):
            if (value := getattr(self, name)) is not None:
                at_least(value, 1, name)
        if self.precision == "int8" and not self._optimizes:
            raise ConfigError('"int8" is computed by the optimised graph on a CPU only', path="precision")

    @property
    def _optimizes(self) -> bool:
        return self.optimize and self.providers == (_CPU,)

    @staticmethod
    def complete(folder: Path) -> bool:
        """Whether a folder holds an ONNX file, a config and a tokenizer."""
        has_graph = bool(graphs_in(names_in(folder)))
        return has_graph and all((folder / f).is_file() for f in ("config.json", "tokenizer.json"))

    def _is_complete(self, folder: Path) -> bool:
        names = (self.file, f"onnx/{self.file}") if self.file else graphs_in(names_in(folder))
        return self.complete(folder) and any((folder / name).is_file() for name in names)

    def _patterns(self, names: Collection[str]) -> Sequence[str]:
        return onnx_patterns(names, self.model, self.file)

    def close(self) -> None:
        """Answer the calls that have been accepted, and release the session; a later call loads it again."""
        forget(self, "_engine")
        super().close()

    @load_once
    def _engine(self) -> OnnxEngine:
        with self._files.reading() as folder:
            return OnnxEngine(folder, self)


class OnnxEngine:
    """A loaded tokenizer and ONNX Runtime session; any number of threads may use them at the same time."""

    batch_tokens = 512

    def __init__(self, folder: ModelFolder, reranker: OnnxReranker) -> None:
        graph_name = choose_graph(names_in(folder.path), folder.name, reranker.file)
        file = folder.path / graph_name
        window = folder.max_length(reranker.max_length)
        self.tokenizer = PairTokenizer(folder, window, on_long_query=reranker.on_long_query)
        on_cpu = reranker.providers == (_CPU,)
        self.workers = reranker.workers or (max(1, cores() // reranker.threads) if on_cpu else 1)
        self.notes = (*folder.unpinned_note(reranker.revision), *graph_note(graph_name))
        if not reranker._optimizes:
            self._open_own_graph(file, folder, reranker)
            return

        def open_graph(graph: Path, optimised: Path | None) -> _Session:
            return _Session(graph, folder.name, reranker, is_ready=graph != file, optimised=optimised)

        identity = reranker._files.identity
        self.graph: Graph = load_or_build(folder, file, identity, reranker.precision, open_graph)
        self.notes += self.graph.notes
        self._session = open_graph(self.graph.file, None)
        self.equal_lengths = self._needs_equal_lengths(ROUGH if reranker.precision == "int8" else TOLERANCE)

    def _open_own_graph(self, file: Path, folder: ModelFolder, reranker: OnnxReranker) -> None:
        draft = temporary_folder()
        without = write_without_activation(file, folder, draft.path / "model.onnx")
        if without is not None:
            self._draft = draft  # removed with the engine
            file, activation = without
            self.notes += (activation_note(activation),)
        self._session = _Session(file, folder.name, reranker)
        self.equal_lengths = self._needs_equal_lengths(TOLERANCE)

    def _needs_equal_lengths(self, tolerance: float) -> bool:
        """Whether a batch may hold inputs of one length only: without a mask, and where padding changes logits."""
        return self._session.equal_lengths or not ignores_padding(self.tokenizer, self._session.logits, tolerance)

    def logits(self, arrays: Mapping[str, Any], notes: list[str]) -> list[float]:
        """Run one batch."""
        return self._session.logits(arrays)


class _Session:
    """An ONNX file opened by ONNX Runtime, after a check that it is a cross-encoder's.

    Args:
        file: The file.
        name: The model's name, for messages.
        reranker: Says which threads and providers to use.
        is_ready: Whether the graph is run as it is, without optimisation.
        optimised: Where ONNX Runtime writes the graph after its optimisation, with the weights in a file beside it.
    """

    def __init__(
        self,
        file: Path,
        name: str,
        reranker: OnnxReranker,
        *,
        is_ready: bool = False,
        optimised: Path | None = None,
    ) -> None:
        import onnxruntime

        self.name = name
        threads = reranker.threads if reranker.providers == (_CPU,) else 0
        options = session_options(threads, is_ready=is_ready)
        if optimised is not None:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.optimized_model_filepath = str(optimised)
            for key, value in _WEIGHTS_BESIDE.items():
                options.add_session_config_entry(key, value.format(optimised.name))
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=list(reranker.providers))
        except Exception as error:  # ONNX Runtime's errors have no public base class
            raise ModelLoadError(f"{name}: ONNX Runtime cannot load {file.name}: {error}") from error
        self._check_providers(reranker)
        self._inputs = self._input_types()
        self._output = self._output_name()
        self.equal_lengths = "attention_mask" not in self._inputs

    def logits(self, arrays: Mapping[str, Any]) -> list[float]:
        """Return one fp32 logit a row; of two, the second less the first."""
        import numpy as np

        feed = {name: arrays[name].astype(kind, copy=False) for name, kind in self._inputs.items()}
        try:
            (output,) = self._session.run([self._output], feed)
        except Exception as error:  # ONNX Runtime's errors have no public base class
            raise BackendError(
                f"ONNX Runtime failed on {self.name}: {error}", backend="onnx", model=self.name
            ) from error
        rows = len(feed["input_ids"])
        numbers = np.asarray(output, dtype=np.float32)
        if numbers.size == 2 * rows:
            numbers = numbers.reshape(rows, 2)
            numbers = numbers[:, 1] - numbers[:, 0]
        if numbers.size != rows:
            raise ModelLoadError(f"{self.name} gave {output.shape} numbers for {rows} pairs")
        logits: list[float] = numbers.reshape(-1).tolist()
        return logits

    def _check_providers(self, reranker: OnnxReranker) -> None:
        import onnxruntime

        missing = [provider for provider in reranker.providers if provider not in self._session.get_providers()]
        if missing:
            raise ModelLoadError(
                f"ONNX Runtime here has no {', '.join(missing)}; it has "
                f"{', '.join(onnxruntime.get_available_providers())}"
            )

    def _input_types(self) -> Mapping[str, str]:
        """Return the inputs of the graph with their types, or refuse it."""
        inputs = {i.name: _INTEGERS.get(i.type) for i in self._session.get_inputs()}
        types = {name: kind for name, kind in inputs.items() if name in _INPUTS and kind is not None}
        if types != inputs or "input_ids" not in inputs:
            raise ModelLoadError(
                f"{self.name}: its ONNX file takes the inputs {sorted(inputs)}; a cross-encoder takes integer "
                f"{', '.join(sorted(_INPUTS))}"
            )
        return types

    def _output_name(self) -> str:
        """Return the name of the output with the logits, or refuse the graph."""
        output = self._session.get_outputs()[0]
        shape = output.shape
        if len(shape) not in (1, 2) or (len(shape) == 2 and isinstance(shape[1], int) and shape[1] not in (1, 2)):
            raise ModelLoadError(
                f"{self.name}: its ONNX file gives {output.name!r} of shape {shape}, not one logit a pair; "
                f"for a model whose head is in other files, run: rag-rerank export {self.name} -o DIR"
            )
        name: str = output.name
        return name


_WEIGHTS_BESIDE = {
    "session.optimized_model_external_initializers_file_name": "{}_data",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}

"""Cross-encoders on ONNX Runtime: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rag_rerank._lazy import loaded
from rag_rerank.backends._encoder import PairTokenizer
from rag_rerank.backends._local import LocalReranker
from rag_rerank.backends._weights import ONNX_FILES, ModelFolder
from rag_rerank.errors import BackendError, ModelLoadError

__all__ = ["OnnxReranker"]

_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_INTEGERS = {"tensor(int64)": "int64", "tensor(int32)": "int32"}


@dataclass(frozen=True, kw_only=True)
class OnnxReranker(LocalReranker):
    """A cross-encoder with one relevance logit, run by ONNX Runtime.

    ``raw_score`` is the fp32 logit, ``score`` its float64 sigmoid. Reads BERT, XLM-RoBERTa, DeBERTa-v2 and ModernBERT
    cross-encoders, and any other whose ONNX file takes ``input_ids``, ``attention_mask`` and optionally
    ``token_type_ids`` and gives logits of shape (batch, 1).

    Args:
        model: Alias (``"minilm"``), hub id, or a folder with ``model.onnx`` (also below ``onnx/``), ``config.json``
            and ``tokenizer.json``. ``rag-rerank export`` makes such a folder from a safetensors checkpoint.
        revision: Commit, branch or tag on the hub; by default the one that the catalogue pins.
        max_length: Window in tokens, for query, text and special tokens together; by default the model's own.
        on_overflow: ``"truncate"`` reads the beginning of a text that does not fit and says so in its coverage and in
            one `TruncationWarning` a call; ``"error"`` raises `InputTooLong`. A query is never cut.
        batch_tokens: Token slots in one batch, padding included; bounds memory. By default 2048.
        threads: Threads of ONNX Runtime; by default one a physical core.
        providers: Execution providers of ONNX Runtime, first choice first.

    Raises:
        ConfigError: A number below 1.
        ModelLoadError: At first use, when files are absent or are not a cross-encoder with one logit.
        InputTooLong: See ``on_overflow``.
    """

    kind: ClassVar[str] = "onnx"
    files: ClassVar[tuple[str, ...]] = ONNX_FILES
    neutral: ClassVar[frozenset[str]] = LocalReranker.neutral | {"threads"}

    threads: int | None = None
    providers: tuple[str, ...] = ("CPUExecutionProvider",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_at_least_one("threads")

    @staticmethod
    def complete(folder: Path) -> bool:
        """Whether a folder holds an ONNX file, a config and a tokenizer."""
        return _onnx_file(folder) is not None and all((folder / f).is_file() for f in ("config.json", "tokenizer.json"))

    def close(self) -> None:
        """Release the session; a later call loads it anew."""
        type(self)._engine.pop(self)
        super().close()

    @loaded
    def _engine(self) -> _Engine:
        with self._files.reading() as folder:
            return _Engine(folder, self)


class _Engine:
    """A tokenizer and a session."""

    batch_tokens = 2048

    def __init__(self, folder: ModelFolder, settings: OnnxReranker) -> None:
        file = _onnx_file(folder.path)
        if file is None:
            raise ModelLoadError(
                f"{folder.name} has no ONNX file; make one with: rag-rerank export {folder.name} -o DIR, "
                'or use the "torch" backend'
            )
        self.name = folder.name
        self.tokenizer = PairTokenizer(folder, folder.max_length(settings.max_length))
        self.session = _session(file, folder.name, settings)
        self.inputs = {i.name: _INTEGERS.get(i.type) for i in self.session.get_inputs()}
        unknown = sorted(name for name, kind in self.inputs.items() if name not in _INPUTS or kind is None)
        if unknown or "input_ids" not in self.inputs:
            raise ModelLoadError(
                f"{folder.name}: its ONNX file takes the inputs {sorted(self.inputs)}; a cross-encoder takes integer "
                f"{', '.join(sorted(_INPUTS))}"
            )
        output = self.session.get_outputs()[0]
        shape = output.shape
        if len(shape) not in (1, 2) or (len(shape) == 2 and isinstance(shape[1], int) and shape[1] != 1):
            raise ModelLoadError(
                f"{folder.name}: its ONNX file gives {output.name!r} of shape {shape}, not one logit a pair; "
                f"for a model whose head lies in other files, run: rag-rerank export {folder.name} -o DIR"
            )
        self.output = output.name
        self.notes = folder.unpinned(settings.revision)

    def logits(self, arrays: Mapping[str, Any], notes: list[str]) -> list[float]:
        """Run one batch."""
        import numpy as np

        feed = {name: arrays[name].astype(kind, copy=False) for name, kind in self.inputs.items()}
        try:
            (output,) = self.session.run([self.output], feed)
        except Exception as error:  # ONNX Runtime's errors have no public base class
            raise BackendError(
                f"ONNX Runtime failed on {self.name}: {error}", backend="onnx", model=self.name
            ) from error
        if output.size != len(feed["input_ids"]):
            raise ModelLoadError(f"{self.name} gave {output.shape} numbers for {len(feed['input_ids'])} pairs")
        logits: list[float] = np.asarray(output, dtype=np.float32).reshape(-1).tolist()
        return logits


def _onnx_file(folder: Path) -> Path | None:
    return next((file for file in (folder / "onnx" / "model.onnx", folder / "model.onnx") if file.is_file()), None)


def _session(file: Path, name: str, settings: OnnxReranker) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: they reach the user as exceptions
    options.intra_op_num_threads = settings.threads or 0
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=list(settings.providers))
    except Exception as error:  # ONNX Runtime's errors have no public base class
        raise ModelLoadError(f"{name}: ONNX Runtime cannot load {file.name}: {error}") from error
    missing = [provider for provider in settings.providers if provider not in session.get_providers()]
    if missing:
        raise ModelLoadError(
            f"ONNX Runtime here has no {', '.join(missing)}; it has {', '.join(onnxruntime.get_available_providers())}"
        )
    return session

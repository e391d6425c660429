"""Cross-encoders and causal rerankers on PyTorch, from safetensors checkpoints."""

from __future__ import annotations

import gc
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from rag_rerank._extras import need
from rag_rerank._lazy import loaded
from rag_rerank.backends import _templates
from rag_rerank.backends._causal import CausalModel, PromptTokenizer
from rag_rerank.backends._checkpoint import CrossEncoderModel, has_checkpoint
from rag_rerank.backends._encoder import PairTokenizer
from rag_rerank.backends._local import LocalReranker
from rag_rerank.backends._weights import TORCH_FILES, ModelFolder
from rag_rerank.errors import BackendError, ConfigError

__all__ = ["TorchReranker"]


@dataclass(frozen=True, kw_only=True)
class TorchReranker(LocalReranker):
    """A reranker run by PyTorch: a cross-encoder with one logit, or a causal language model with a known prompt.

    ``raw_score`` is the fp32 logit, ``score`` its float64 sigmoid. Cross-encoders are loaded by sentence-transformers,
    so modular ones work too. Of a causal model the score is the logit of its positive answer word less that of its
    negative one (see ``backends/_templates.py``); a causal model whose prompt is not known is refused.

    Args:
        model: Alias (``"minilm"``), hub id, or a folder with ``config.json``, ``tokenizer.json`` and safetensors.
        revision: Commit, branch or tag on the hub; by default the one that the catalogue pins.
        template: Prompt of a causal model that is not in the catalogue: ``"mxbai-v2"``, ``"qwen3"`` or ``"bge-gemma"``.
        instruction: What relevance means here, in words, for causal models that take an instruction; by default the
            one of the model's card, if it has one.
        max_length: Window in tokens, for query, text, prompt and special tokens together; by default the model's own.
        on_overflow: ``"truncate"`` reads the beginning of a text that does not fit and says so in its coverage and in
            one `TruncationWarning` a call; ``"error"`` raises `InputTooLong`. A query or a prompt is never cut.
        batch_tokens: Token slots in one batch, padding included; bounds memory. By default 2048 on a CPU and 16384 on
            a GPU. A batch that is too large for a GPU's memory is halved, with a note in the trace.
        device: ``"auto"`` takes ``cuda``, else ``mps``, else ``cpu``; or any name of a torch device.
        dtype: What the model computes in, whatever its file holds; ``"auto"`` for the file's own. The last layer and
            the logits are fp32 in any case.

    Raises:
        ConfigError: A number below 1, an unknown template or device, or an instruction for a model that takes none.
        MissingExtraError: At first use, when torch or sentence-transformers is not installed.
        ModelLoadError: At first use, when files are absent, pickled, without a trained head, or of an unknown kind.
        InputTooLong: See ``on_overflow``.
    """

    kind: ClassVar[str] = "torch"
    files: ClassVar[tuple[str, ...]] = TORCH_FILES

    template: str | None = None
    instruction: str | None = None
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.template is not None:
            _templates.template(self.template)
        if self.instruction is not None and not self.instruction.strip():
            raise ConfigError("the instruction is blank; leave it out for the default", path="instruction")

    @staticmethod
    def complete(folder: Path) -> bool:
        """Whether a folder holds a config and all safetensors files."""
        return has_checkpoint(folder)

    def close(self) -> None:
        """Release the weights, and the GPU memory they took; a later call loads them anew."""
        if type(self)._engine.pop(self) is not None:
            gc.collect()  # modules hold each other
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        super().close()

    def _facts(self) -> Mapping[str, Any]:
        need("torch", extra="torch")
        return {**super()._facts(), "device": _device(self.device)}

    @loaded
    def _engine(self) -> _Engine:
        need("torch", extra="torch")
        need("sentence_transformers", extra="torch")
        with self._files.reading() as folder:
            return _Engine(folder, self)


class _Engine:
    """A tokenizer and a model, one forward pass at a time."""

    def __init__(self, folder: ModelFolder, settings: TorchReranker) -> None:
        self.name = folder.name
        self.device = _device(settings.device)
        self.lock = threading.Lock()
        dtype = _dtype(settings.dtype)
        window = folder.max_length(settings.max_length)
        template = _templates.template_of(folder, settings.template)
        self.tokenizer: PromptTokenizer | PairTokenizer
        self.model: CausalModel | CrossEncoderModel
        if template is None:
            if settings.instruction is not None:
                raise ConfigError("a cross-encoder takes no instruction", path="instruction")
            self.tokenizer = PairTokenizer(folder, window)
            self.model = CrossEncoderModel(folder, self.device, dtype)
        else:
            self.tokenizer = PromptTokenizer(folder, template, settings.instruction, window)
            self.model = CausalModel(folder, template, self.tokenizer.answers, self.device, dtype)
        on = () if self.device == "cpu" else (f"computed on {self.device}",)
        self.notes = (*folder.unpinned(settings.revision), *on)
        self.batch_tokens = 2048 if self.device == "cpu" else 16384

    def logits(self, arrays: Mapping[str, Any], notes: list[str]) -> list[float]:
        """Run one batch; in halves where a GPU has no memory for the whole."""
        import torch

        rows, width = arrays["input_ids"].shape
        try:
            with self.lock, torch.inference_mode():
                logits: list[float] = self.model.logits(arrays).tolist()
                return logits
        except torch.OutOfMemoryError as error:
            if rows == 1:
                raise self._failed(
                    f"the GPU has no memory for one input of {width} tokens; lower max_length"
                ) from error
        except Exception as error:  # torch raises RuntimeError, IndexError and others
            raise self._failed(f"PyTorch failed on {self.name}: {error}") from error
        notes.append(f"a batch of {rows} inputs of {width} tokens was halved: the GPU has no memory for it")
        torch.cuda.empty_cache()
        halves = ({name: array[part] for name, array in arrays.items()} for part in _halves(rows))
        return [logit for half in halves for logit in self.logits(half, notes)]

    def _failed(self, message: str) -> BackendError:
        return BackendError(message, backend="torch", model=self.name)


def _halves(rows: int) -> tuple[slice, slice]:
    return slice(0, rows // 2), slice(rows // 2, rows)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        mps = torch.backends.mps.is_available()
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        return str(torch.device(name))
    except RuntimeError as error:
        raise ConfigError(f"torch knows no device {name!r}", path="device") from error


def _dtype(name: str) -> Any:
    import torch

    return name if name == "auto" else getattr(torch, name)

"""Cross-encoders and causal rerankers on PyTorch, from safetensors checkpoints."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from rag_rerank._lazy import forget, load_once, need, peek
from rag_rerank.backends.local.base import TARGET_TOKENS, LocalReranker
from rag_rerank.backends.local.catalogue import HUB_ID, is_folder, row_of
from rag_rerank.backends.local.model_files import TORCH_FILES, ModelFolder, read_json
from rag_rerank.backends.local.pair_encoding import PairTokenizer
from rag_rerank.backends.local.torch_models import llama_bidirectional, open_provence, prompt_templates
from rag_rerank.backends.local.torch_models.causal import CausalModel, PromptTokenizer
from rag_rerank.backends.local.torch_models.checkpoint import CrossEncoderModel, has_checkpoint
from rag_rerank.backends.local.torch_models.devices import (
    dtype_named,
    is_out_of_memory,
    release_gpu_memory,
    usable_device,
)
from rag_rerank.backends.local.torch_models.llama_bidirectional import BidirectionalModel
from rag_rerank.backends.local.torch_models.pruning import PruningEngine, PruningModel, PruningTask, run_batches
from rag_rerank.backends.local.torch_models.shipped_prompt import ShippedPrompt, ships_prompt
from rag_rerank.backends.local.worker_pool import Task, WorkerPool
from rag_rerank.errors import BackendError, ConfigError
from rag_rerank.execution.instruction import check_field
from rag_rerank.execution.plan import spans_wanted
from rag_rerank.types import Scores

__all__ = ["TorchReranker", "usable_device"]


@dataclass(frozen=True, kw_only=True)
class TorchReranker(LocalReranker):
    """A reranker run by PyTorch: a cross-encoder with one logit, or a causal language model with a known prompt.

    ``raw_score`` is the fp32 logit, ``score`` its float64 sigmoid; of two logits, ``raw_score`` is the second less the
    first, and ``score`` is the softmax probability of the second label, that of relevance.

    Cross-encoders are loaded by sentence-transformers, so modular ones work too, and get the inputs that it makes; the
    layers of BERT, RoBERTa and XLM-RoBERTa run on packed tokens, without padding (see
    `rag_rerank.backends.local.torch_models.packed_attention`). The score of a causal model is the logit of its positive
    answer word less that of its negative one (see `rag_rerank.backends.local.torch_models.prompt_templates`); a causal
    model whose prompt is not known is refused. Two architectures whose code is in their repositories are written here:
    OpenProvence, which also gives `RelevantSpans` the probability of each sentence to be kept, and Nemotron's
    bidirectional Llama.

    Args:
        model: The model: an alias (``minilm``), a hub id (also ``org/name@revision``), or a folder with
            ``config.json``, ``tokenizer.json`` and safetensors.
        template: The prompt of a causal model that is not in the catalogue: ``mxbai-v2``, ``qwen3`` or ``bge-gemma``.
            By default that of the catalogue.
        instruction: What relevance means here, in words, for causal models that take an instruction. By default the
            instruction of the model's card, if it has one. ``rerank(..., instruction=)`` replaces it for one call.
        batch_tokens: How many tokens one batch has at most, padding included; it bounds the memory. By default 2048 on
            a CPU and 16384 on a GPU. A batch that is too large for a GPU's memory is halved, with a note in the trace.
        device: The device: ``auto`` takes ``cuda``, else ``mps``, else ``cpu``; or any name of a torch device. The
            trace names it, unless it is the CPU in fp32.
        dtype: What the model computes in, whatever its file holds. The last layer and the logits are fp32 in any case.
            Whether CUDA may round fp32 products to TF32 follows torch's own setting, which is off by default.

            - ``"float32"``: 32-bit numbers, on GPUs too, so that scores do not depend on the machine. This is the
              default.
            - ``"bfloat16"``: 16-bit numbers with the range of float32.
            - ``"float16"``: 16-bit numbers with a smaller range, and more digits than bfloat16.
            - ``"auto"``: What the model's file holds.

    Raises:
        ConfigError: A number below 1, an unknown template, a device that is unknown or absent, or an instruction for a
            model that takes none.
        MissingExtraError: At first use, when torch or sentence-transformers is not installed.
        ModelLoadError: At first use, when files are absent, pickled, without a trained head, or of an unknown kind.
        InputTooLong: See ``on_overflow`` and ``on_long_query``.
        UnreadableText: See ``on_unreadable``.
        Overloaded: ``max_queue`` calls are waiting or running already.
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
            prompt_templates.template(self.template)
        check_field(self.instruction)

    @property
    def template_id(self) -> str | None:
        """Name of the prompt, where the model is a causal one."""
        row = row_of(self.model)
        return self.template or (row.template if row else None)

    @property
    def takes_instruction(self) -> bool:
        """Whether the prompt of the model has a place for an instruction."""
        name = self.template_id
        return name is not None and prompt_templates.template(name).clause is not None

    @property
    def scores_sentences(self) -> bool:
        """Whether `RelevantSpans` gets keep probabilities of sentences: from an OpenProvence model. Loads nothing."""
        engine: TorchEngine | None = peek(self, "_engine")
        if engine is not None:
            return isinstance(engine.model, PruningModel)
        is_here = is_folder(self.model) or (HUB_ID.fullmatch(self.model) is not None and self.is_cached())
        if row_of(self.model) is not None or not is_here:
            return False
        config = self.fetch().path / "config.json"
        return config.is_file() and read_json(config, self.model).get("model_type") == open_provence.MODEL_TYPE

    @staticmethod
    def complete(folder: Path) -> bool:
        """Whether a folder holds a config and all safetensors files."""
        return has_checkpoint(folder)

    def close(self) -> None:
        """Answer the calls that have been accepted, and release the weights; a later call loads them again.

        Their GPU memory is released too.
        """
        was_loaded = forget(self, "_engine") is not None
        super().close()
        if was_loaded:
            gc.collect()  # modules refer to each other
            release_gpu_memory()

    def _identity_facts(self) -> Mapping[str, Any]:
        need("torch", extra="torch")
        return {**super()._identity_facts(), "device": usable_device(self.device)}

    @load_once
    def _engine(self) -> TorchEngine:
        need("torch", extra="torch")
        need("sentence_transformers", extra="torch")
        with self._files.reading() as folder:
            return TorchEngine(folder, self)

    @load_once
    def _runtime(self) -> tuple[TorchEngine, WorkerPool]:
        """The loaded model, and its workers."""
        engine = self._engine
        run = partial(run_batches, cast(PruningEngine, engine))
        return engine, WorkerPool(run, workers=engine.workers, limit=self.max_queue, target_tokens=TARGET_TOKENS)

    def _task(self, query: str, texts: Sequence[str], batch_tokens: int | None = None) -> Task[Scores]:
        engine, _ = self._runtime
        if not (spans_wanted() and isinstance(engine.model, PruningModel)):
            return super()._task(query, texts, batch_tokens)
        tokens = batch_tokens or self.batch_tokens or engine.batch_tokens
        return PruningTask(self, cast(PruningEngine, engine), query, texts, tokens)


class TorchEngine:
    """A loaded tokenizer and model; one forward pass at a time."""

    equal_lengths = False
    workers = 1

    def __init__(self, folder: ModelFolder, reranker: TorchReranker) -> None:
        import torch

        self.name = folder.name
        self.device = usable_device(reranker.device)
        dtype = dtype_named(reranker.dtype)
        shipped = ShippedPrompt.of(folder) if reranker.template is None and ships_prompt(folder) else None
        template = shipped.template if shipped else prompt_templates.template_of(folder, reranker.template)
        kind = folder.config.get("model_type")
        self.tokenizer: PromptTokenizer | PairTokenizer
        self.model: CausalModel | CrossEncoderModel | BidirectionalModel
        if template is None and reranker.instruction is not None:
            raise ConfigError("a cross-encoder takes no instruction", path="instruction")
        if template is None and kind == llama_bidirectional.MODEL_TYPE:
            self.model = BidirectionalModel(folder, self.device, dtype)
            window = folder.max_length(reranker.max_length)
            self.tokenizer = llama_bidirectional.prompt_tokenizer(folder, window, reranker.on_long_query)
        elif template is None:
            self.model = (PruningModel if kind == open_provence.MODEL_TYPE else CrossEncoderModel)(
                folder, self.device, dtype, max_length=reranker.max_length, on_long_query=reranker.on_long_query
            )
            self.tokenizer = self.model.pairs
            self.equal_lengths = self.model.equal_lengths
        else:
            window = folder.max_length(reranker.max_length)
            prompts = PromptTokenizer(
                folder,
                template,
                reranker.instruction,
                window,
                on_long_query=reranker.on_long_query,
                answers=shipped.answers if shipped else None,
            )
            if shipped:
                shipped.check(folder, lambda query, text: [*map(int, prompts.encode(query, [text], "error").ids[0])])
            self.tokenizer = prompts
            self.model = CausalModel(folder, template, prompts.answers, self.device, dtype)
        on_cpu = torch.device(self.device).type == "cpu"
        plain = on_cpu and self.model.dtype == torch.float32
        self.notes = (*folder.unpinned_note(reranker.revision), *(() if plain else (self._device_note(),)))
        self.batch_tokens = 2048 if on_cpu else 16384
        if not on_cpu:
            self._run_once()

    def logits(self, arrays: Mapping[str, Any], notes: list[str]) -> list[float]:
        """Run one batch; in halves where the GPU has no memory for the whole."""
        return self._run(lambda part: self.model.logits(part).tolist(), arrays, notes)

    def logits_and_keep(self, arrays: Mapping[str, Any], notes: list[str]) -> list[Any]:
        """Run one batch with the head that says which tokens to keep."""
        return self._run(cast(PruningModel, self.model).logits_and_keep, arrays, notes)

    def _run(
        self, compute: Callable[[Mapping[str, Any]], list[Any]], arrays: Mapping[str, Any], notes: list[str]
    ) -> list[Any]:
        """Return what is computed for each row."""
        import torch

        rows, width = arrays["input_ids"].shape
        try:
            with torch.inference_mode():
                return compute(arrays)
        except Exception as error:  # torch raises RuntimeError, IndexError and others
            if not is_out_of_memory(error):
                raise self._error(f"PyTorch failed on {self.name}: {error}") from error
            if rows == 1:
                raise self._error(f"the GPU has no memory for one input of {width} tokens; lower max_length") from error
        notes.append(f"a batch of {rows} inputs of {width} tokens was halved: the GPU has no memory for it")
        release_gpu_memory()
        halves = ({name: array[part] for name, array in arrays.items()} for part in _halves(rows))
        return [row for half in halves for row in self._run(compute, half, notes)]

    def _device_note(self) -> str:
        """Return the note on device, precision and layout."""
        import torch

        device = torch.device(self.device)
        card = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
        return f"computed on {self.device}{card} in {str(self.model.dtype).removeprefix('torch.')}; {self.model.layout}"

    def _run_once(self) -> None:
        """Let the GPU set up its libraries and kernels while the model is loaded, and not in the first call."""
        import numpy as np

        ids = np.ones((1, 8), dtype=np.int64)
        self.logits({"input_ids": ids, "attention_mask": ids, "token_type_ids": np.zeros_like(ids)}, [])

    def _error(self, message: str) -> BackendError:
        return BackendError(message, backend="torch", model=self.name)


def _halves(rows: int) -> tuple[slice, slice]:
    return slice(0, rows // 2), slice(rows // 2, rows)

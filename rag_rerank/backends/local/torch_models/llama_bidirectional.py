"""Nemotron's rerankers: a Llama whose tokens attend to all others, the mean of its vectors, and a linear layer.

What is computed is read from NVIDIA's training code (NVIDIA-NeMo/Automodel at 36044ad,
``nemo_automodel/components/models/llama_bidirectional/model.py`` and ``CrossEncoderCollator``) and vLLM's
``LlamaBidirectionalForSequenceClassification``: no causal mask, ``pooling`` of the config over the tokens of the
input, ``score`` without bias, divided by ``temperature``. The prompt is one string, tokenised in one go with the
special tokens of the tokenizer. No code of a repository is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.pair_encoding import OnLongQuery
from rag_rerank.backends.local.torch_models.causal import PromptTokenizer
from rag_rerank.backends.local.torch_models.checkpoint import check_weights, quiet
from rag_rerank.backends.local.torch_models.prompt_templates import PromptTemplate
from rag_rerank.errors import ModelLoadError

if TYPE_CHECKING:
    import torch

__all__ = ["ARCHITECTURE", "LEAD", "MODEL_TYPE", "BidirectionalModel", "prompt_tokenizer"]

MODEL_TYPE = "llama_bidirec"
"""``model_type`` in the config of such a model."""

ARCHITECTURE = "LlamaBidirectionalForSequenceClassification"
"""The name in ``architectures`` of those that are rerankers; the others are embedding models."""

LEAD = "question:{query} \n \n passage:"
"""What comes before the text: ``prompt_template`` of NVIDIA's ``CrossEncoderCollator``, and the file
``examples/pooling/score/template/nemotron-rerank.jinja`` of vLLM at 42fa4c0, character for character."""

_POOLING = ("avg", "cls", "last")

_PROBES = (("  who? ", " It was {he}. \n"), ("x", "a"), ("what is <b>?", "\n\n1. one\n2. two 🙂"))
"""Queries and texts by which the ids are compared with those of the whole string."""


def prompt_tokenizer(folder: ModelFolder, max_length: int, on_long_query: OnLongQuery) -> PromptTokenizer:
    """Return the maker of prompts, with the special tokens that transformers puts around a string.

    Raises:
        ModelLoadError: The tokenizer cannot be loaded, or makes other ids of a prompt that is in parts.
    """
    from transformers import AutoConfig, AutoTokenizer

    AutoConfig.register(MODEL_TYPE, architecture().config_class, exist_ok=True)  # read by AutoTokenizer
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds of errors for broken files
        raise ModelLoadError(f"{folder.name}: its tokenizer cannot be loaded: {error}") from error
    words = tokenizer.tokenize("x", add_special_tokens=True)
    inner = tokenizer.tokenize("x", add_special_tokens=False)
    first = next((i for i in range(len(words)) if words[i : i + len(inner)] == inner), 0)
    before, after = words[:first], words[first + len(inner) :]
    template = PromptTemplate(
        architecture=ARCHITECTURE,
        before=tuple(token.replace("{", "{{").replace("}", "}}") for token in before),
        lead=LEAD,
        after=tuple(after),
        positive="",
    )
    prompts = PromptTokenizer(folder, template, None, max_length, on_long_query, answers=())
    unlimited = PromptTokenizer(folder, template, None, 10**6, answers=())
    for query, text in _PROBES:
        whole = tokenizer(LEAD.format(query=query) + text)["input_ids"]
        if [*map(int, unlimited.encode(query, [text], "error").ids[0])] != whole:
            raise ModelLoadError(f"{folder.name}: its tokenizer reads the prompt in a way that is not known here")
    return prompts


class BidirectionalModel:
    """A Llama without a causal mask, and the linear layer that gives the score; both pool and layer compute in fp32.

    Inputs are padded on the right, and no token attends to padding.

    Raises:
        ModelLoadError: It is no reranker of this kind, or lacks trained weights.
    """

    layout = "inputs padded: no packed layout for Llama"

    def __init__(self, folder: ModelFolder, device: str, dtype: Any) -> None:
        import torch

        config = folder.config
        architectures = config.get("architectures") or []
        if ARCHITECTURE not in architectures:
            raise ModelLoadError(
                f"{folder.name} holds {', '.join(architectures) or 'no named architecture'}; a reranker of this kind "
                f"is {ARCHITECTURE}"
            )
        self._pooling, self._temperature = config.get("pooling", "avg"), config.get("temperature", 1.0)
        if self._pooling not in _POOLING:
            raise ModelLoadError(f"{folder.name}: the pooling {self._pooling!r:.40} in config.json is not known here")
        if isinstance(self._temperature, bool) or not isinstance(self._temperature, (int, float)):
            raise ModelLoadError(f"{folder.name}: the temperature in config.json is no number")
        if not self._temperature > 0:
            raise ModelLoadError(f"{folder.name}: the temperature in config.json must be above 0")
        check_weights(folder)
        try:
            with quiet():
                model, report = architecture().from_pretrained(
                    folder.path,
                    dtype=dtype,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                    attn_implementation="sdpa",
                )
        except Exception as error:  # transformers raises many kinds of errors for broken files
            raise ModelLoadError(f"{folder.name} cannot be loaded: {error}") from error
        if report["missing_keys"]:
            raise ModelLoadError(
                f"{folder.name} lacks trained weights, which would be random: "
                f"{', '.join(sorted(report['missing_keys'])[:5])}"
            )
        if model.num_labels != 1:
            raise ModelLoadError(f"{folder.name} gives {model.num_labels} numbers a pair, not one relevance logit")
        self.dtype = model.dtype
        self._encoder = model.model.eval().to(device)
        self._direction = model.score.weight[0].detach().float().to(device)
        self._device = torch.device(device)

    def logits(self, arrays: Mapping[str, Any]) -> torch.Tensor:
        """Return one fp32 logit a row."""
        import torch

        ids, mask = (torch.from_numpy(arrays[name]).to(self._device) for name in ("input_ids", "attention_mask"))
        hidden_from = torch.zeros(mask.shape, dtype=self.dtype, device=self._device)
        hidden_from.masked_fill_(mask == 0, torch.finfo(self.dtype).min)
        everywhere = hidden_from[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
        vectors = self._encoder(input_ids=ids, attention_mask=everywhere, use_cache=False).last_hidden_state.float()
        if self._pooling == "cls":
            pooled = vectors[:, 0]
        elif self._pooling == "last":
            pooled = vectors[torch.arange(len(ids), device=self._device), mask.sum(dim=1) - 1]
        else:
            pooled = (vectors * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return pooled @ self._direction / self._temperature


@lru_cache
def architecture() -> Any:
    """Return the model class; it is defined here because importing torch takes seconds."""
    import torch
    from transformers import LlamaConfig, LlamaModel, LlamaPreTrainedModel

    class LlamaBidirectionalConfig(LlamaConfig):  # type: ignore[misc]
        """A Llama config under the name that such models have."""

        model_type = MODEL_TYPE

    class LlamaBidirectionalForSequenceClassification(LlamaPreTrainedModel):  # type: ignore[misc]
        """The parts of the model under the names of its weights; `BidirectionalModel` runs them."""

        config_class = LlamaBidirectionalConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.num_labels = config.num_labels
            self.score = torch.nn.Linear(config.hidden_size, config.num_labels, bias=False)
            self.model = LlamaModel(config)
            self.post_init()

    return LlamaBidirectionalForSequenceClassification

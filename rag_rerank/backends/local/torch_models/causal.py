"""Causal language models as rerankers: the prompt around a text, and the logits of the answer words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.pair_encoding import EncodedPairs, OnOverflow, apply_overflow, load_tokenizer
from rag_rerank.backends.local.torch_models.checkpoint import check_weights, quiet
from rag_rerank.backends.local.torch_models.prompt_templates import PromptTemplate
from rag_rerank.errors import ModelLoadError
from rag_rerank.text.tokenizers import HuggingFaceTokens, TextLimit, Tokens

if TYPE_CHECKING:
    import torch

__all__ = ["CausalModel", "PromptTokenizer"]


class PromptTokenizer:
    """A tokenizer that puts a query and a text into a template; never changed after loading."""

    def __init__(self, folder: ModelFolder, template: PromptTemplate, instruction: str | None, max_length: int) -> None:
        self._tokenizer = self.text_tokenizer = load_tokenizer(folder)
        self._tokens = HuggingFaceTokens(self._tokenizer)
        self._template = template
        self._instruction = template.instruction_clause(instruction)
        self.window = max_length
        self._name = folder.name
        self._after = [id for part in template.after for id in self._ids(part)]
        words = (template.positive, template.negative) if template.negative else (template.positive,)
        self.answers = [self._answer(word) for word in words]

    def encode(self, query: str, texts: Sequence[str], on_overflow: OnOverflow) -> EncodedPairs:
        """Put the query and each text into the template; cut texts that do not fit, and nothing else.

        Raises:
            InputTooLong: The query leaves no room for a text; or a text does not fit and ``on_overflow="error"``.
        """
        before, lead = self._start(query)
        bodies = self._tokenizer.encode_batch([lead + text for text in texts], add_special_tokens=False)
        heads = [_tokens_within(body.offsets, len(lead)) for body in bodies]
        room = self.window - len(before) - len(self._after)
        lengths = [(len(body.ids) - head, room - head) for body, head in zip(bodies, heads, strict=True)]
        coverage = apply_overflow(lengths, len(self._ids(query)), self.window, self._name, on_overflow)
        ids = [
            [*before, *body.ids[: head + c.seen], *self._after]
            for body, head, c in zip(bodies, heads, coverage, strict=True)
        ]
        return EncodedPairs(ids=ids, types=[[0] * len(row) for row in ids], coverage=coverage, pad=0)

    def text_limit(self, query: str) -> TextLimit:
        """Return how long a text may be beside the query; its tokens are counted together with the template's lead.

        Raises:
            InputTooLong: The query leaves no room for a text.
        """
        before, lead = self._start(query)
        tokens = self.window - len(before) - self._tokens.count(lead) - len(self._after)
        apply_overflow([(0, tokens)], self._tokens.count(query), self.window, self._name, "truncate")
        return TextLimit(tokens, _WithPrefix(self._tokens, lead))

    def _start(self, query: str) -> tuple[list[int], str]:
        """Return the ids before the part of the template with the text, and the beginning of that part."""
        fields = {"query": query, "instruction": self._instruction}
        before = [id for part in self._template.before for id in self._ids(part.format(**fields))]
        return before, self._template.lead.format(**fields)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _answer(self, word: str) -> int:
        ids = self._ids(word)
        if len(ids) != 1:
            raise ModelLoadError(
                f"{self._name}: its tokenizer makes {len(ids)} tokens of {word!r}, the word whose logit is the score; "
                "this template belongs to another model"
            )
        return ids[0]


@dataclass(frozen=True)
class _WithPrefix(Tokens):
    """A tokenizer that counts the tokens of a text together with the words before it."""

    tokens: HuggingFaceTokens
    lead: str

    def count(self, text: str) -> int:
        return self.tokens.count(self.lead + text) - self.tokens.count(self.lead)

    def spans(self, text: str) -> list[tuple[int, int]]:
        behind = len(self.lead)
        both = self.tokens.spans(self.lead + text)
        return [(max(0, first - behind), last - behind) for first, last in both if last > behind]


class CausalModel:
    """The decoder of a causal language model, and the one direction of its output layer that the score needs.

    The score is ``h · (w_positive - w_negative)``: ``h`` is the hidden state at the last position, ``w`` a row of the
    output layer; they are multiplied in fp32 whatever the model computes in. Inputs are padded on the right, so that
    positions count from the first token and no token attends to padding.
    """

    layout = "inputs padded: no packed layout for causal models"

    def __init__(
        self, folder: ModelFolder, template: PromptTemplate, answers: Sequence[int], device: str, dtype: Any
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        architectures = folder.config.get("architectures") or []
        if template.architecture not in architectures:
            raise ModelLoadError(
                f"{folder.name} holds {', '.join(architectures) or 'no named architecture'}; this template is for "
                f"{template.architecture}"
            )
        check_weights(folder)
        try:
            with quiet():
                model, report = AutoModelForCausalLM.from_pretrained(
                    folder.path,
                    dtype=dtype,
                    use_safetensors=True,
                    trust_remote_code=False,
                    local_files_only=True,
                    output_loading_info=True,
                )
        except Exception as error:  # transformers raises many kinds of errors for broken files
            raise ModelLoadError(f"{folder.name} cannot be loaded: {error}") from error
        if report["missing_keys"]:
            raise ModelLoadError(
                f"{folder.name} lacks trained weights, which would be random: "
                f"{', '.join(sorted(report['missing_keys'])[:5])}"
            )
        rows = model.get_output_embeddings().weight[list(answers)].detach().float()
        self.dtype = model.dtype
        self._decoder = model.base_model.eval().to(device)
        self._direction = (rows[0] - rows[1] if len(rows) > 1 else rows[0]).to(device)
        self._device = torch.device(device)

    def logits(self, arrays: Mapping[str, Any]) -> torch.Tensor:
        """Return one fp32 score a row."""
        import torch

        ids, mask = (torch.from_numpy(arrays[name]).to(self._device) for name in ("input_ids", "attention_mask"))
        hidden = self._decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(ids), device=self._device), mask.sum(dim=1) - 1]
        return last.float() @ self._direction


def _tokens_within(offsets: Sequence[tuple[int, int]], end: int) -> int:
    """Return how many tokens are wholly within the first ``end`` characters."""
    return next((i for i, (_, stop) in enumerate(offsets) if stop > end), len(offsets))

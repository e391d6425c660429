"""Causal language models as rerankers: the prompt around a text, and the logits of the answer words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.model_tokenizer import load_core
from rag_rerank.backends.local.pair_encoding import (
    EncodedPairs,
    OnLongQuery,
    OnOverflow,
    apply_overflow,
    no_room,
    query_share,
    refuse_query,
    shares,
)
from rag_rerank.backends.local.torch_models.checkpoint import check_weights, quiet
from rag_rerank.backends.local.torch_models.prompt_templates import PromptTemplate
from rag_rerank.errors import ModelLoadError
from rag_rerank.execution.instruction import instruction_or
from rag_rerank.text.tokenizers import HuggingFaceTokens, TextLimit, Tokens
from rag_rerank.trace import Coverage

if TYPE_CHECKING:
    import torch

__all__ = ["CausalModel", "PromptTokenizer"]


class PromptTokenizer:
    """A tokenizer that puts a query and a text into a template; never changed after loading.

    Args:
        folder: The model.
        template: The prompt.
        instruction: What relevance means; by default the template's own instruction.
        max_length: The window in tokens.
        on_long_query: What to do with a query that is longer than its share.
        answers: Ids of the positive and the negative answer word; by default those of the template's words.
    """

    def __init__(
        self,
        folder: ModelFolder,
        template: PromptTemplate,
        instruction: str | None,
        max_length: int,
        on_long_query: OnLongQuery = "truncate",
        answers: Sequence[int] | None = None,
    ) -> None:
        self._tokenizer = self.text_tokenizer = load_core(folder)
        self._tokens = HuggingFaceTokens(self._tokenizer)
        self._template = template
        self._instruction = instruction
        template.instruction_clause(instruction)  # raises where the model takes none
        self._on_long_query = on_long_query
        self.window = max_length
        self._name = folder.name
        self._after = [id for part in template.after for id in self._ids(part)]
        words = (template.positive, template.negative) if template.negative else (template.positive,)
        self.answers = [self._answer(word) for word in words] if answers is None else [*answers]

    def encode(self, query: str, texts: Sequence[str], on_overflow: OnOverflow) -> EncodedPairs:
        """Put the query and each text into the template; both get their `shares` where they do not fit.

        The template is never cut.

        Raises:
            InputTooLong: The window has no room for a text; a query does not fit and ``on_long_query="error"``; or a
                text does not fit and ``on_overflow="error"``.
        """
        prompts = _Prompts(self, query)
        inputs = prompts.inputs(texts)
        query_coverage = Coverage(prompts.query_tokens, min((i.query for i in inputs), default=prompts.query_tokens))
        if query_coverage.truncated and self._on_long_query == "error":
            raise refuse_query(query_coverage, self.window, self._name)
        lengths = [(i.length, i.room) for i in inputs]
        coverage = apply_overflow(lengths, prompts.query_tokens, self.window, self._name, on_overflow)
        ids = [[*i.before, *i.body[: i.head + c.seen], *self._after] for i, c in zip(inputs, coverage, strict=True)]
        return EncodedPairs(
            ids=ids, types=[[0] * len(row) for row in ids], coverage=coverage, pad=0, query=query_coverage
        )

    def text_limit(self, query: str) -> TextLimit:
        """Return how long a text may be beside the query; its tokens are counted together with the template's lead.

        Raises:
            InputTooLong: The window has no room for a text, or the query leaves none and may not be cut.
        """
        prompts = _Prompts(self, query)
        share = query_share(prompts.query_tokens, prompts.room, self._on_long_query)
        start = prompts.start(share)
        tokens = self.window - len(start.ids) - self._tokens.count(start.lead) - len(self._after)
        apply_overflow([(0, tokens)], prompts.query_tokens, self.window, self._name, "truncate")
        return TextLimit(tokens, _WithPrefix(self._tokens, start.lead))

    def start(self, query: str) -> _Start:
        """Return what comes before a text."""
        instruction = self._instruction if self._template.clause is None else instruction_or(self._instruction)
        fields = {"query": query, "instruction": self._template.instruction_clause(instruction)}
        before = [id for part in self._template.before for id in self._ids(part.format(**fields))]
        return _Start(before, self._template.lead.format(**fields))

    def query_spans(self, query: str) -> list[tuple[int, int]]:
        """Return the characters of each token of the query."""
        return self._tokens.spans(query)

    def bodies(self, lead: str, texts: Sequence[str]) -> list[tuple[list[int], int]]:
        """Return, for each text, the ids of lead and text together, and how many of them belong to the lead alone."""
        encodings = self._tokenizer.encode_batch([lead + text for text in texts], add_special_tokens=False)
        return [(encoding.ids, _tokens_within(encoding.offsets, len(lead))) for encoding in encodings]

    def room(self, start: _Start) -> int:
        """Return how many tokens fit behind what comes before the lead."""
        return self.window - len(start.ids) - len(self._after)

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


class _Start(NamedTuple):
    """What comes before a text: ids, and the beginning of the part that ends with the text."""

    ids: list[int]
    lead: str


class _Input(NamedTuple):
    """The prompt of one text.

    Args:
        before: Ids before the lead.
        body: Ids of lead and text.
        head: How many of them belong to the lead.
        length: Tokens of the text.
        room: How many of them fit.
        query: How many tokens of the query are in it.
    """

    before: list[int]
    body: list[int]
    head: int
    length: int
    room: int
    query: int


class _Prompts:
    """The prompts of one query; where a text and the query do not fit, the query is rendered shorter.

    Args:
        tokenizer: The tokenizer.
        query: The query.

    Attributes:
        query_tokens: Tokens of the query.
        room: Tokens of the window for query and text together.
    """

    def __init__(self, tokenizer: PromptTokenizer, query: str) -> None:
        self._tokenizer = tokenizer
        self._query = query
        self._spans = tokenizer.query_spans(query)
        self._starts: dict[int, _Start] = {}
        self.query_tokens = len(self._spans)
        empty = self.start(0)
        self.room = tokenizer.room(empty) - tokenizer.bodies(empty.lead, ["x"])[0][1]
        if self.room < 2:
            raise no_room(self.query_tokens, tokenizer.window, tokenizer._name)

    def start(self, count: int) -> _Start:
        """Return what comes before a text, with the first tokens of the query."""
        start = self._starts.get(count)
        if start is None:
            whole = count >= self.query_tokens
            words = self._query if whole else self._query[: self._spans[count - 1][1] if count else 0]
            start = self._starts[count] = self._tokenizer.start(words)
        return start

    def inputs(self, texts: Sequence[str]) -> list[_Input]:
        """Return the prompt of each text."""
        longest = min(self.query_tokens, self.room)
        whole = self._with_query(longest, texts)
        if 2 * longest <= self.room:
            return whole
        return [self._shorten(text, prompt) for text, prompt in zip(texts, whole, strict=True)]

    def _shorten(self, text: str, prompt: _Input) -> _Input:
        """Return the prompt of a text, with as much of the query as is its share."""
        query, _ = shares(self.query_tokens, prompt.length, self.room)
        return prompt if query >= prompt.query else self._with_query(query, [text])[0]

    def _with_query(self, count: int, texts: Sequence[str]) -> list[_Input]:
        start = self.start(count)
        room = self._tokenizer.room(start)
        return [
            _Input(start.ids, body, head, len(body) - head, room - head, count)
            for body, head in self._tokenizer.bodies(start.lead, texts)
        ]


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

"""Prompts of causal rerankers, and the words whose logits give their score, as data.

Each constant is the upstream one, character for character; the file it comes from is named beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.errors import ConfigError, ModelLoadError, did_you_mean

__all__ = ["TEMPLATES", "PromptTemplate", "causal_architecture", "template", "template_of"]


@dataclass(frozen=True, kw_only=True)
class PromptTemplate:
    """The prompt that asks a causal language model whether a text is relevant.

    The input is ``before``, then ``lead`` with the text, then ``after``. Each part is tokenised on its own, without
    added special tokens, and the ids are joined; only ``lead`` and the text are tokenised as one string. Fields in
    braces are ``{query}`` and ``{instruction}``.

    Args:
        architecture: The only transformers architecture that this prompt was trained with.
        before: Parts that come before the text.
        lead: The beginning of the part that ends with the text.
        after: Parts that come after the text; never cut.
        positive: The score is this word's logit at the last position ...
        negative: ... less this word's logit, where there is one.
        clause: Replaces ``{instruction}``, with the instruction in it; ``None`` for models that take none.
        instruction: The default instruction; ``None`` for none, and then the clause is empty.
    """

    architecture: str
    before: tuple[str, ...]
    lead: str
    after: tuple[str, ...]
    positive: str
    negative: str | None = None
    clause: str | None = None
    instruction: str | None = None

    def instruction_clause(self, instruction: str | None) -> str:
        """Return the text for ``{instruction}``.

        Raises:
            ConfigError: An instruction for a model that takes none.
        """
        if self.clause is None:
            if instruction is not None:
                raise ConfigError("this model takes no instruction", path="instruction")
            return ""
        words = instruction or self.instruction
        return self.clause.format(instruction=words) if words else ""


TEMPLATES: Mapping[str, PromptTemplate] = MappingProxyType(
    {
        # mixedbread-ai/mxbai-rerank, mxbai_rerank/mxbai_rerank_v2.py. Padding to multiples of 8 there changes nothing.
        "mxbai-v2": PromptTemplate(
            architecture="Qwen2ForCausalLM",
            before=(
                "<|im_start|>system\n"
                "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
                "{instruction}query: {query}",
                "\n",
            ),
            lead="document: ",
            after=(
                "\n",
                "You are a search relevance expert who evaluates how well documents match search queries. For each "
                "query-document pair, carefully analyze the semantic relationship between them, then provide your "
                "binary relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:",
                "<|im_end|>\n<|im_start|>assistant\n",
            ),
            positive="1",
            negative="0",
            clause="instruction: {instruction}\n",
        ),
        # QwenLM/Qwen3-Embedding, examples/qwen3_reranker_transformers.py and the model cards: one newline between the
        # fields, and the cards' default instruction. MTEB's runner joins the fields in the same way. Qwen's own
        # benchmark script and the vLLM example have two newlines; scores differ a little.
        "qwen3": PromptTemplate(
            architecture="Qwen3ForCausalLM",
            before=(
                "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
                'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n',
            ),
            lead="{instruction}<Query>: {query}\n<Document>: ",
            after=("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",),
            positive="yes",
            negative="no",
            clause="<Instruct>: {instruction}\n",
            instruction="Given a web search query, retrieve relevant passages that answer the query",
        ),
        # FlagOpen/FlagEmbedding, FlagEmbedding/inference/reranker/decoder_only/base.py: "No" is never read.
        "bge-gemma": PromptTemplate(
            architecture="GemmaForCausalLM",
            before=("<bos>", "A: {query}", "\n"),
            lead="B: ",
            after=(
                "\n",
                "Given a query A and a passage B, determine whether the passage contains an answer to the query by "
                "providing a prediction of either 'Yes' or 'No'.",
            ),
            positive="Yes",
        ),
    }
)
"""Name -> template."""


def template(name: str) -> PromptTemplate:
    """Return the template of a name.

    Raises:
        ConfigError: No such template; the message names the nearest one.
    """
    if name not in TEMPLATES:
        raise ConfigError(f"unknown template {name!r}{did_you_mean(name, TEMPLATES)}", path="template")
    return TEMPLATES[name]


def template_of(folder: ModelFolder, template_name: str | None) -> PromptTemplate | None:
    """Return the template of a causal model; ``None`` for a cross-encoder.

    Args:
        folder: The model.
        template_name: The template that the user names; by default the catalogue's.

    Raises:
        ModelLoadError: A causal model without a template: its score would mean nothing.
    """
    name = template_name or (folder.row.template if folder.row else None)
    if name:
        return template(name)
    causal = causal_architecture(folder)
    if causal is None:
        return None
    choices = ", ".join(f"template={name!r}" for name in TEMPLATES)
    raise ModelLoadError(
        f"{folder.name} is a causal language model ({causal}) that is not in the catalogue: which prompt it was "
        f"trained with, and which words give its score, is not known. If it is one of these, say so: {choices}"
    )


def causal_architecture(folder: ModelFolder) -> str | None:
    """Return the name of a causal language model's architecture; ``None`` for other models."""
    architectures: list[str] = folder.config.get("architectures") or []
    return next((name for name in architectures if name.endswith("ForCausalLM")), None)

"""Causal rerankers against a rewrite of the upstream scoring code: its ids, and its logits at the last position.

Upstream pads on the left, computes all logits of the vocabulary and picks one or two; the backend does neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
import pytest
import torch
from support import tiny_checkpoints
from support.tiny_checkpoints import DOCUMENTS, LINES, QUERIES
from transformers import AutoModelForCausalLM, AutoTokenizer

from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.torch_models.causal import PromptTokenizer
from rag_rerank.backends.local.torch_models.prompt_templates import TEMPLATES
from rag_rerank.backends.torch import TorchReranker
from rag_rerank.execution.instruction import call_instruction

FAMILIES = tuple(tiny_checkpoints.CAUSAL)
INSTRUCTED = ("mxbai-v2", "qwen3")
LONG = tuple(" ".join((*LINES[start:], *LINES[:start])) for start in range(0, len(LINES), 4))
WINDOW = 400

Ids = Callable[[str], list[int]]


def mxbai(ids: Ids, query: str, text: str, instruction: str | None, window: int) -> list[int]:
    """mxbai_rerank: each part on its own, the document cut to what is left."""
    query_part = f"query: {query}"
    if instruction:
        query_part = f"instruction: {instruction}\n{query_part}"
    prefix = ids(
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n"
    )
    task = ids(
        "You are a search relevance expert who evaluates how well documents match search queries. For each "
        "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
        "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
    )
    end = ids("\n") + task + ids("<|im_end|>\n<|im_start|>assistant\n")
    start = prefix + ids(query_part) + ids("\n")
    return start + ids(f"document: {text}")[: window - len(start) - len(end)] + end


def qwen3(ids: Ids, query: str, text: str, instruction: str | None, window: int) -> list[int]:
    """Qwen3-Reranker's transformers example: one body, cut at its end."""
    task = instruction or "Given a web search query, retrieve relevant passages that answer the query"
    start = ids(
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    )
    end = ids("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
    body = ids(f"<Instruct>: {task}\n<Query>: {query}\n<Document>: {text}")
    return start + body[: window - len(start) - len(end)] + end


def bge_gemma(ids: Ids, query: str, text: str, instruction: str | None, window: int) -> list[int]:
    """FlagEmbedding's decoder-only reranker: A is the query, B the passage, then the question."""
    prompt = (
        "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing "
        "a prediction of either 'Yes' or 'No'."
    )
    start = ids("<bos>") + ids(f"A: {query}") + ids("\n")
    end = ids("\n") + ids(prompt)
    return start + ids(f"B: {text}")[: window - len(start) - len(end)] + end


UPSTREAM: dict[str, tuple[Callable[..., list[int]], tuple[str, ...]]] = {
    "mxbai-v2": (mxbai, ("1", "0")),
    "qwen3": (qwen3, ("yes", "no")),
    "bge-gemma": (bge_gemma, ("Yes",)),
}


def upstream_ids(
    family: str, query: str, texts: Sequence[str], instruction: str | None = None, window: int = 2048
) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoints.checkpoint(family), local_files_only=True)

    def ids(text: str) -> list[int]:
        token_ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return token_ids

    make, _ = UPSTREAM[family]
    return [make(ids, query, text, instruction, window) for text in texts]


def upstream_logits(family: str, rows: Sequence[Sequence[int]], **options: Any) -> np.ndarray:
    folder = tiny_checkpoints.checkpoint(family, **options)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    padded = tokenizer.pad({"input_ids": list(rows)}, padding=True, pad_to_multiple_of=8, return_tensors="pt")
    words = [tokenizer.convert_tokens_to_ids(word) for word in UPSTREAM[family][1]]
    with torch.inference_mode():
        last = model(**padded).logits[:, -1]
    positive, *negative = (last[:, word] for word in words)
    return (positive - negative[0] if negative else positive).numpy()


def test_every_template_is_checked_here() -> None:
    assert set(TEMPLATES) == set(UPSTREAM) == set(FAMILIES)


@pytest.mark.parametrize("window", [2048, WINDOW])
@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_the_upstream_code(family: str, window: int) -> None:
    folder = ModelFolder(tiny_checkpoints.checkpoint(family), family, None, None)
    instructions = (None, "Find passages about animals: {query}") if family in INSTRUCTED else (None,)
    for instruction in instructions:
        tokenizer = PromptTokenizer(folder, TEMPLATES[family], instruction, window)
        for query in (*QUERIES, "what is {instruction} or <|im_end|>?"):
            texts = (*DOCUMENTS, *LONG, " leading space", "\nleading line", "{text} }{ <|im_start|><bos>")
            inputs = tokenizer.encode(query, texts, "truncate")
            assert inputs.ids == upstream_ids(family, query, texts, instruction, window)
            assert any(coverage.truncated for coverage in inputs.coverage) == (window == WINDOW)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_text_is_cut_and_coverage_counts_its_tokens(family: str) -> None:
    folder = ModelFolder(tiny_checkpoints.checkpoint(family), family, None, None)
    whole = PromptTokenizer(folder, TEMPLATES[family], None, 2048).encode(QUERIES[0], LONG, "error")
    cut = PromptTokenizer(folder, TEMPLATES[family], None, WINDOW).encode(QUERIES[0], LONG, "truncate")
    for full, short, coverage in zip(whole.ids, cut.ids, cut.coverage, strict=True):
        assert len(short) == WINDOW
        assert coverage.total - coverage.seen == len(full) - WINDOW
        end = len(short)
        while short[end - 1] == full[end - 1 - WINDOW]:
            end -= 1
        assert short[:end] == full[:end]
    tokenizer = AutoTokenizer.from_pretrained(folder.path, local_files_only=True)
    lead = TEMPLATES[family].lead.rpartition("\n")[2]
    for text, coverage in zip(LONG, whole.coverage, strict=True):
        both, with_space, without = (
            len(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in (lead + text, lead, lead.rstrip())
        )
        assert coverage.total in (both - with_space, both - without)  # the space may belong to the text's first token


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_upstream_code(family: str) -> None:
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint(family)), template=family)
    for query in QUERIES:
        expected = upstream_logits(family, upstream_ids(family, query, DOCUMENTS))
        assert expected.std() > 1
        np.testing.assert_allclose(reranker.score(query, DOCUMENTS).values, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_cut_texts_are_those_of_the_upstream_code(family: str) -> None:
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint(family)), template=family, max_length=WINDOW)
    expected = upstream_logits(family, upstream_ids(family, QUERIES[0], LONG, None, WINDOW))
    scores = reranker.score(QUERIES[0], LONG)
    np.testing.assert_allclose(scores.values, expected, rtol=0, atol=1e-4)
    assert all(coverage.truncated for coverage in scores.coverage)


@pytest.mark.parametrize("family", INSTRUCTED)
def test_an_instruction_is_read(family: str) -> None:
    instruction = "Find passages about animals"
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint(family)), template=family, instruction=instruction)
    expected = upstream_logits(family, upstream_ids(family, QUERIES[0], DOCUMENTS, instruction))
    np.testing.assert_allclose(reranker.score(QUERIES[0], DOCUMENTS).values, expected, rtol=0, atol=1e-4)
    plain = TorchReranker(model=str(tiny_checkpoints.checkpoint(family)), template=family)
    assert np.abs(np.array(plain.score(QUERIES[0], DOCUMENTS).values) - expected).max() > 0.1


@pytest.mark.parametrize("family", INSTRUCTED)
def test_calls_side_by_side_follow_their_own_instructions(family: str) -> None:
    instructions = ["Find passages about animals", None, "Find {places}", "Find passages about animals"]
    model = str(tiny_checkpoints.checkpoint(family))
    with TorchReranker(model=model, template=family, instruction="Find {places}") as reranker, ThreadPool(4) as pool:
        reranker.warm_up()

        def ask(instruction: str | None) -> list[float | None]:
            ranking = reranker.rerank(QUERIES[0], DOCUMENTS, instruction=instruction)
            scores = {hit.id: hit.raw_score for hit in ranking}
            return [scores[str(i)] for i in range(len(DOCUMENTS))]

        for instruction, values in zip(instructions, pool.map(ask, instructions), strict=True):
            ids = upstream_ids(family, QUERIES[0], DOCUMENTS, instruction or "Find {places}")
            np.testing.assert_allclose(values, upstream_logits(family, ids), rtol=0, atol=1e-4)


def test_an_instruction_of_the_call_passes_by_a_prompt_without_one() -> None:
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint("bge-gemma")), template="bge-gemma")
    before = reranker.score(QUERIES[0], DOCUMENTS).values
    with call_instruction("Find passages about animals"):
        assert reranker.score(QUERIES[0], DOCUMENTS).values == before


@pytest.mark.parametrize("family", INSTRUCTED)
def test_an_instruction_of_the_call_takes_room_from_the_text(family: str) -> None:
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint(family)), template=family, max_length=WINDOW)
    (plain,) = reranker.text_limits(QUERIES[0])
    with call_instruction("Find passages about all kinds of animals. " * 3):
        (limit,) = reranker.text_limits(QUERIES[0])
    assert limit.tokens < plain.tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_a_logit_does_not_depend_on_what_else_is_in_the_batch(family: str) -> None:
    model = str(tiny_checkpoints.checkpoint(family))
    together = TorchReranker(model=model, template=family).score(QUERIES[0], DOCUMENTS).values
    alone = TorchReranker(model=model, template=family, batch_tokens=1).score(QUERIES[0], DOCUMENTS).values
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("options", [{"tied": False}, {"tied": False, "shard": "100KB"}, {"dtype": "bfloat16"}])
@pytest.mark.parametrize("family", ["mxbai-v2", "qwen3"])
def test_untied_heads_shards_and_half_precision_files_change_nothing(family: str, options: dict[str, Any]) -> None:
    folder = tiny_checkpoints.checkpoint(family, **options)
    assert ("shard" in options) == (folder / "model.safetensors.index.json").is_file()
    expected = upstream_logits(family, upstream_ids(family, QUERIES[0], DOCUMENTS), **options)
    values = TorchReranker(model=str(folder), template=family).score(QUERIES[0], DOCUMENTS).values
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_computes_in_bf16_still_gives_fp32_logits(family: str) -> None:
    texts = [f"{line} {number}" for line in LINES for number in (1, 2, 3, 4, 5, 6)]
    model = str(tiny_checkpoints.checkpoint(family, dtype="bfloat16"))
    half = TorchReranker(model=model, template=family, dtype="auto").score(QUERIES[0], texts).values
    logits = torch.tensor(half)
    assert len(set(half)) > 0.9 * len(texts)
    assert len(set(logits.bfloat16().tolist())) < len(set(half))
    exact = TorchReranker(model=model, template=family).score(QUERIES[0], texts).values
    assert np.corrcoef(half, exact)[0, 1] > 0.98

"""Packed tokens give the model's own logits with each kind of attention; and which kind a device gets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.attention.varlen as varlen
import transformers
from support import tiny_checkpoints
from support.tiny_checkpoints import DOCUMENTS, LINES, QUERIES

from rag_rerank.backends.local.torch_models import packed_attention
from rag_rerank.backends.local.torch_models.packed_attention import (
    PackedBatch,
    PackedModel,
    choose_attention,
    kernel_works,
    padded_attention,
    rowwise_attention,
)
from rag_rerank.backends.torch import TorchReranker

PACKED = ("bert", "xlm-roberta")
CPU = torch.device("cpu")


def flash(q: Any, k: Any, v: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int) -> Any:
    """A plain version of what torch documents for `varlen_attn`, with the same restrictions as the kernel."""
    assert cu_q.dtype == cu_k.dtype == torch.int32
    queries, there = cu_q.diff(), cu_k.diff()
    assert max_q == queries.max() and max_k == there.max()
    rows = []
    for row in range(len(queries)):
        ours, theirs = slice(cu_q[row], cu_q[row + 1]), slice(cu_k[row], cu_k[row + 1])
        weights = torch.einsum("qhd,khd->hqk", q[ours], k[theirs]).div(q.shape[-1] ** 0.5).softmax(-1)
        rows.append(torch.einsum("hqk,khd->qhd", weights, v[theirs]))
    return torch.cat(rows)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Stand in for the CUDA kernel, and count its calls."""
    calls = []

    def counted(*arguments: Any) -> Any:
        calls.append("varlen")
        return flash(*arguments)

    monkeypatch.setattr(varlen, "varlen_attn", counted)
    yield calls


@pytest.mark.parametrize("attention", ["rowwise_attention", "padded_attention", "unpadded_attention"])
@pytest.mark.parametrize("family", PACKED)
def test_packed_logits_are_those_of_the_models_own_forward_pass(
    family: str, attention: str, kernel: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint(family)), device="cpu")
    model: Any = reranker._engine.model
    monkeypatch.setattr(model._packed, "_attend", getattr(packed_attention, attention))
    texts = (*DOCUMENTS, *LINES)
    for query in QUERIES:
        ours = reranker.score(query, texts).values
        inputs = reranker._engine.tokenizer.encode(query, texts, "error")
        for rows, arrays in inputs.batch_arrays(10_000):
            with torch.inference_mode():
                theirs = model.module({k: torch.from_numpy(arrays[k]) for k in model.inputs})["scores"].flatten()
            np.testing.assert_allclose([ours[row] for row in rows], theirs.numpy(), rtol=0, atol=1e-4)
    assert bool(kernel) == (attention == "unpadded_attention")


@pytest.mark.parametrize("architecture", packed_attention.ARCHITECTURES)
def test_every_architecture_that_is_listed_gives_the_models_own_logits(architecture: str) -> None:
    model_class = getattr(transformers, architecture)
    config = model_class.config_class(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=1,
        initializer_range=0.3,
        num_labels=1,
    )
    torch.manual_seed(0)
    model = model_class(config).eval()
    assert PackedModel.knows(model)
    lengths = torch.tensor([40, 3, 17, 1])
    mask = (torch.arange(40) < lengths[:, None]).long()
    ids = torch.where(mask == 1, torch.randint(2, 50, (4, 40)), 1)
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).logits
        ours = PackedModel(model).logits({"input_ids": ids}, lengths)
    assert expected.std() > 0.05
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", [[1], [1, 1], [5], [9, 1, 4, 9], [3] * 7])
@pytest.mark.parametrize("attention", [padded_attention, rowwise_attention])
def test_each_row_attends_to_its_own_tokens_only(attention: Any, lengths: list[int]) -> None:
    sizes = torch.tensor(lengths)
    every = PackedBatch.of(sizes, max(lengths), CPU)
    first = PackedBatch.of(sizes.clamp(max=1), 1, CPU)
    q, k, v = torch.randn(3, sum(lengths), 4, 8, generator=torch.Generator().manual_seed(1))
    for queries, askers in ((q, every), (q[every.ends[:-1]], first)):
        expected = flash(queries, k, v, askers.ends, every.ends, askers.width, every.width)
        torch.testing.assert_close(attention(queries, k, v, askers, every), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("device", "dtype", "works", "name"),
    [
        ("cpu", torch.float32, True, "attention row by row"),
        ("cpu", torch.bfloat16, True, "attention row by row"),
        ("mps", torch.float16, True, "padded inside the attention only"),
        ("cuda", torch.float32, True, "padded inside the attention only"),
        ("cuda", torch.bfloat16, False, "padded inside the attention only"),
        ("cuda", torch.bfloat16, True, "attention without padding"),
        ("cuda:1", torch.float16, True, "attention without padding"),
    ],
)
def test_the_attention_of_a_device(
    device: str, dtype: torch.dtype, works: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_attention, "kernel_works", lambda *_: works)
    attention, note = choose_attention(torch.device(device), dtype, 32)
    assert note == name
    assert (attention is packed_attention.unpadded_attention) == (name == "attention without padding")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_kernel_that_runs_and_agrees_works(kernel: list[str], dtype: torch.dtype) -> None:
    assert kernel_works(CPU, dtype, 32)
    assert kernel == ["varlen", "varlen"]


def refuses(*_: Any) -> Any:
    raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")


@pytest.mark.parametrize("wrong_kernel", [refuses, lambda q, *_: q, lambda q, *_: q * float("nan")])
def test_a_kernel_that_fails_or_disagrees_does_not_work(wrong_kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", wrong_kernel)
    assert not kernel_works(CPU, torch.float16, 32)


def test_a_kernel_that_this_torch_has_not_on_this_device_does_not_work() -> None:
    assert not kernel_works(CPU, torch.bfloat16, 32)


def test_a_torch_that_has_no_such_kernel_yet_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", None)
    assert not kernel_works(CPU, torch.bfloat16, 32)


@pytest.mark.parametrize(
    ("family", "layout"),
    [
        ("bert", "tokens packed, attention row by row"),
        ("xlm-roberta", "tokens packed, attention row by row"),
        ("deberta", "inputs padded: no packed layout for DebertaV2ForSequenceClassification"),
        ("modernbert", "inputs padded: no packed layout for ModernBertForSequenceClassification"),
        ("ettin", "inputs padded: no packed layout for ModernBertModel"),
    ],
)
def test_what_is_not_known_stays_padded_and_the_trace_says_so(family: str, layout: str) -> None:
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint(family)), device="cpu", dtype="bfloat16")
    assert reranker.rerank(QUERIES[0], DOCUMENTS[:2]).trace.notes == (f"computed on cpu in bfloat16; {layout}",)


def test_the_last_layer_runs_for_one_token_a_row() -> None:
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint("bert")), device="cpu", batch_tokens=10_000)
    model: Any = reranker._engine.model
    token_counts = []
    for layer in model._packed._layers:
        layer.intermediate.register_forward_pre_hook(lambda _, inputs: token_counts.append(len(inputs[0])))
    tokens = reranker.rerank(QUERIES[0], DOCUMENTS).usage.tokens
    assert token_counts == [*[tokens] * (len(token_counts) - 1), len(DOCUMENTS)]


def test_a_model_whose_parts_have_other_names_is_not_run_packed() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=50)
    model = BertForSequenceClassification(config)
    assert PackedModel.knows(model)
    model.bert.encoder.layer[0].attention.renamed = model.bert.encoder.layer[0].attention.output
    del model.bert.encoder.layer[0].attention.output
    assert not PackedModel.knows(model)

"""Encoder cross-encoders of every family, on torch and on ONNX Runtime, against sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from support import tiny_checkpoints
from support.tiny_checkpoints import DOCUMENTS, LINES, PAIRS, QUERIES
from transformers import AutoTokenizer

from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.pair_encoding import PairTokenizer
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.backends.torch import TorchReranker

FAMILIES = tuple(tiny_checkpoints.ENCODERS)
LONG = tuple(" ".join(LINES[start:] + LINES[:start]) for start in range(0, len(LINES), 3))
BACKENDS = ("torch", "onnx")


@cache
def reference(family: str, **options: Any) -> CrossEncoder:
    return CrossEncoder(
        str(tiny_checkpoints.checkpoint(family, **options)),
        device="cpu",
        activation_fn=torch.nn.Identity(),
        local_files_only=True,
    ).eval()


def ours(backend: str, family: str, stored: Mapping[str, Any] | None = None, **options: Any) -> Any:
    if backend == "onnx":
        return OnnxReranker(model=str(tiny_checkpoints.onnx_export(family, **(stored or {}))), threads=1, **options)
    return TorchReranker(model=str(tiny_checkpoints.checkpoint(family, **(stored or {}))), **options)


def logits_of(reranker: Any, texts: Sequence[str] = DOCUMENTS) -> np.ndarray:
    return np.array([reranker.score(query, texts).values for query in QUERIES])


def tokenizers(family: str, window: int, **stored: Any) -> tuple[Any, PairTokenizer]:
    folder = tiny_checkpoints.checkpoint(family, **stored)
    theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return theirs, PairTokenizer(ModelFolder(folder, family, None, None), window)


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_and_types_are_those_of_the_models_own_tokenizer(family: str) -> None:
    theirs, tokenizer = tokenizers(family, 512)
    for query in QUERIES:
        inputs = tokenizer.encode(query, DOCUMENTS, "error")
        for document, ids, types in zip(DOCUMENTS, inputs.ids, inputs.types, strict=True):
            expected = theirs(query, document)
            assert ids.tolist() == expected["input_ids"]
            assert types.tolist() == expected.get("token_type_ids", [0] * len(ids))


@pytest.mark.parametrize("window", [24, 33, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_cut_ids_are_those_of_truncating_only_the_second_text(family: str, window: int) -> None:
    theirs, tokenizer = tokenizers(family, window, positions=64)
    query, texts = "how deep?", (*LONG, *DOCUMENTS)
    inputs = tokenizer.encode(query, texts, "truncate")
    cut = 0
    for text, ids, types, coverage in zip(texts, inputs.ids, inputs.types, inputs.coverage, strict=True):
        expected = theirs(query, text, truncation="only_second", max_length=window)
        assert ids.tolist() == expected["input_ids"]
        assert types.tolist() == expected.get("token_type_ids", [0] * len(ids))
        assert coverage.total == len(theirs(text, add_special_tokens=False)["input_ids"])
        assert coverage.truncated == (len(theirs(query, text)["input_ids"]) > window)
        cut += coverage.truncated
    assert cut >= len(LONG)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_sentence_transformers(backend: str, family: str) -> None:
    expected = reference(family).predict(list(PAIRS), show_progress_bar=False).reshape(len(QUERIES), -1)
    assert expected.std() > 1
    np.testing.assert_allclose(logits_of(ours(backend, family)), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("window", ["the model's own", "a shorter one"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_cut_texts_are_those_of_the_model_on_the_cut_ids(window: str, family: str) -> None:
    stored = {"positions": 64} if window == "the model's own" else {}
    model = reference(family, **stored)
    expected = []
    for query in QUERIES:
        ids = model.tokenizer(
            [query] * len(LONG), list(LONG), truncation="only_second", max_length=64, padding=True, return_tensors="pt"
        )
        assert ids["input_ids"].shape[1] == 64
        with torch.inference_mode():
            expected.append(model(dict(ids))["scores"].flatten().numpy())
    rerankers = (
        [ours("torch", family, stored)] if stored else [ours(backend, family, max_length=64) for backend in BACKENDS]
    )
    for reranker in rerankers:
        np.testing.assert_allclose(logits_of(reranker, LONG), np.array(expected), rtol=0, atol=1e-4)
        assert all(coverage.truncated for coverage in reranker.score(QUERIES[0], LONG).coverage)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_logit_does_not_depend_on_what_else_is_in_the_batch(backend: str, family: str) -> None:
    together = ours(backend, family)
    alone = ours(backend, family, batch_tokens=1)
    np.testing.assert_allclose(logits_of(together), logits_of(alone), rtol=0, atol=1e-4)
    backwards = np.flip(logits_of(together, DOCUMENTS[::-1]), axis=1)
    np.testing.assert_allclose(logits_of(together), backwards, rtol=0, atol=1e-4)


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_files_are_computed_in_fp32(family: str, stored: str) -> None:
    folder = tiny_checkpoints.checkpoint(family, dtype=stored)
    model = CrossEncoder(
        str(folder),
        device="cpu",
        activation_fn=torch.nn.Identity(),
        local_files_only=True,
        model_kwargs={"dtype": torch.float32},
    )
    expected = model.predict(list(PAIRS), show_progress_bar=False).reshape(len(QUERIES), -1)
    for backend in BACKENDS if (family, stored) == ("bert", "float16") else ("torch",):
        logits = logits_of(ours(backend, family, {"dtype": stored}))
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_computes_in_bf16_still_gives_fp32_logits(family: str) -> None:
    texts = [f"{line} {number}" for line in LINES for number in (1, 2, 3, 4, 5, 6)]
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint(family, dtype="bfloat16")), dtype="bfloat16")
    logits = torch.tensor(reranker.score(QUERIES[0], texts).values, dtype=torch.float32)
    assert (logits != logits.bfloat16().float()).float().mean() > 0.99  # hardly one of them is a number of bf16
    assert len(set(logits.bfloat16().tolist())) < len(set(logits.tolist()))
    exact = np.array(TorchReranker(model=reranker.model).score(QUERIES[0], texts).values)
    assert np.corrcoef(exact, logits.numpy())[0, 1] > 0.98


def test_saturated_sigmoids_do_not_tie_the_ranking(tmp_path: Path) -> None:
    folder = tiny_checkpoints.bert(tmp_path, dtype="bfloat16")
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] += 60
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    ranking = TorchReranker(model=str(folder)).rerank(QUERIES[0], DOCUMENTS)
    assert {hit.score for hit in ranking} == {1.0}
    raw = [hit.raw_score for hit in ranking]
    assert len(set(raw)) == len(raw) and raw == sorted(raw, reverse=True)

"""Nemotron's reranker against transformers' Llama layers, one input at a time, without any mask or padding."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_checkpoints import DOCUMENTS, LINES, QUERIES
from support.tiny_nemotron import PROMPT, nemotron
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from rag_rerank import ConfigError, ModelLoadError, build
from rag_rerank.backends.torch import TorchReranker

STRANGE = (" leading space", "trailing space ", "\nleading line", "{text} }{ <|begin_of_text|>", "The end")
TEXTS = (*DOCUMENTS, *STRANGE)
LONG = tuple(" ".join((*LINES[start:], *LINES[:start])) for start in range(0, len(LINES), 4))
WINDOW = 120

pytestmark = pytest.mark.filterwarnings("ignore:.*read only the beginning:rag_rerank.TruncationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return nemotron(tmp_path_factory.mktemp("nemotron") / "model")


@cache
def library(folder: Path) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Return the tokenizer, the Llama, the row of the linear layer, and the config."""
    config = json.loads((folder / "config.json").read_text())
    own = {"model_type", "auto_map", "architectures", "pooling", "temperature"}
    llama = LlamaConfig(**{key: value for key, value in config.items() if key not in own}, attn_implementation="eager")
    weights = load_file(folder / "model.safetensors")
    row = weights.pop("score.weight")
    model = LlamaModel(llama).eval()
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in weights.items()})
    return PreTrainedTokenizerFast.from_pretrained(folder), model, row, config


@torch.inference_mode()
def expected(folder: Path, query: str, text: str, window: int = 2048, *, causal: bool = False) -> float:
    tokenizer, model, row, config = library(folder)
    prompt = PROMPT.replace("{query}", query, 1).replace("{text}", text, 1)
    ids = tokenizer(prompt, truncation=True, max_length=window, return_tensors="pt")["input_ids"]
    vectors = model.embed_tokens(ids)
    places = model.rotary_emb(vectors, torch.arange(ids.shape[1])[None])
    mask = torch.full((ids.shape[1],) * 2, -torch.inf).triu(1)[None, None] if causal else None
    for layer in model.layers:
        vectors = layer(vectors, attention_mask=mask, position_embeddings=places)
    vectors = model.norm(vectors)[0]
    pooled = {"avg": vectors.mean(dim=0), "cls": vectors[0], "last": vectors[-1]}[config["pooling"]]
    return float(row[0] @ pooled) / float(config["temperature"])


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("pooling", ["avg", "cls", "last"])
def test_logits_are_those_of_layers_without_a_mask(pooling: str, ends: bool, tmp_path: Path) -> None:
    folder = nemotron(tmp_path / "model", pooling=pooling, ends=ends)
    reranker = TorchReranker(model=str(folder))
    for query in (*QUERIES, " what is {query} or <|end_of_text|>? "):
        logits = [expected(folder, query, text) for text in TEXTS]
        assert np.std(logits) > (0.5 if pooling == "avg" else 0.05)
        np.testing.assert_allclose(reranker.score(query, TEXTS).values, logits, rtol=1e-4, atol=1e-4)


def test_with_a_causal_mask_the_logits_would_be_others(folder: Path) -> None:
    values = TorchReranker(model=str(folder)).score(QUERIES[0], TEXTS).values
    causal = [expected(folder, QUERIES[0], text, causal=True) for text in TEXTS]
    assert np.abs(np.array(values) - causal).max() > 0.5


def test_a_text_that_is_too_long_is_cut_at_its_end(folder: Path) -> None:
    scores = TorchReranker(model=str(folder), max_length=WINDOW).score(QUERIES[0], LONG)
    assert all(coverage.truncated for coverage in scores.coverage)
    logits = [expected(folder, QUERIES[0], text, WINDOW) for text in LONG]
    np.testing.assert_allclose(scores.values, logits, rtol=1e-4, atol=1e-4)


def test_a_logit_does_not_depend_on_what_else_is_in_the_batch(folder: Path) -> None:
    reranker = TorchReranker(model=str(folder))
    together = reranker.score(QUERIES[0], (*TEXTS, *LONG)).values
    alone = [reranker.score(QUERIES[0], [text]).values[0] for text in (*TEXTS, *LONG)]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


def test_auto_means_torch_and_the_code_beside_the_weights_never_runs(folder: Path) -> None:
    ranking = build({"type": "auto", "model": str(folder)}).rerank(QUERIES[0], DOCUMENTS)
    assert [hit.raw_score for hit in ranking] == pytest.approx(
        sorted((expected(folder, QUERIES[0], text) for text in DOCUMENTS), reverse=True), rel=1e-4, abs=1e-4
    )
    assert not (folder.parent / "ran").exists()


def test_a_model_in_bf16_gives_fp32_logits(folder: Path) -> None:
    values = TorchReranker(model=str(folder), dtype="bfloat16").score(QUERIES[0], TEXTS).values
    exact = [expected(folder, QUERIES[0], text) for text in TEXTS]
    assert np.corrcoef(values, exact)[0, 1] > 0.99
    assert all(value != float(torch.tensor(value).bfloat16()) for value in values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["LlamaBidirectionalModel"]}, "holds LlamaBidirectionalModel"),
        ({"pooling": "weighted_avg"}, "the pooling 'weighted_avg' in config.json is not known"),
        ({"temperature": 0}, "temperature in config.json must be above 0"),
        ({"temperature": "low"}, "temperature in config.json is no number"),
    ],
)
def test_a_config_that_is_not_known_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=message):
        TorchReranker(model=str(nemotron(tmp_path / "model", **changes))).warm_up()


def test_a_head_without_trained_weights_is_refused(tmp_path: Path) -> None:
    folder = nemotron(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"lacks trained weights.*score\.weight"):
        TorchReranker(model=str(folder)).warm_up()


def test_it_takes_no_instruction(folder: Path) -> None:
    assert not TorchReranker(model=str(folder)).takes_instruction
    with pytest.raises(ConfigError, match="takes no instruction"):
        TorchReranker(model=str(folder), instruction="judge it").warm_up()


def test_it_is_neither_exported_nor_trained(folder: Path, tmp_path: Path) -> None:
    from rag_rerank.export import export
    from rag_rerank.training.base_model import find_base

    with pytest.raises(ModelLoadError, match="reads a prompt of its own, which an export cannot hold"):
        export(str(folder), tmp_path / "out")
    with pytest.raises(ModelLoadError, match="reads a prompt of its own; only encoders"):
        find_base(str(folder))

"""Embedding models against sentence-transformers: vectors of queries and texts, and their similarity."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from support.tiny_checkpoints import DOCUMENTS, LINES, QUERIES
from support.tiny_embeddings import MODELS, embedding_model

from rag_rerank.backends.embedding import EmbeddingReranker

pytestmark = [
    pytest.mark.filterwarnings("ignore::rag_rerank.errors.TruncationWarning"),
    pytest.mark.filterwarnings("ignore::rag_rerank.errors.QueryTruncationWarning"),
]

ASKED = (*QUERIES, "yes", "[MASK] the lake", " ".join(LINES[:3]))
TEXTS = (*DOCUMENTS, "[MASK] lake", "!?.", " ".join(LINES), "K2, the lake.")
MINILM = Path("/work/shared/models/all-MiniLM-L6-v2")

CASES = [(name, "auto") for name in MODELS if not name.startswith("wide")] + [
    ("mean", "torch"),
    ("joined", "torch"),
    ("weighted", "torch"),
]


@cache
def reference(folder: Path, dimensions: int | None = None) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu", truncate_dim=dimensions)


@cache
def reranker(folder: Path, **settings: Any) -> EmbeddingReranker:
    return EmbeddingReranker(model=str(folder), on_unreadable="score", **settings)


def similarities(model: SentenceTransformer, queries: tuple[str, ...], texts: tuple[str, ...]) -> np.ndarray:
    return model.similarity(model.encode_query(list(queries)), model.encode_document(list(texts))).numpy()


@pytest.mark.parametrize(("name", "runtime"), CASES)
def test_scores_are_those_of_sentence_transformers(name: str, runtime: str) -> None:
    folder = embedding_model(name)
    ours = reranker(folder, runtime=runtime)
    expected = similarities(reference(folder), ASKED, TEXTS)
    assert np.std(expected) > 0.01
    for query, row in zip(ASKED, expected, strict=True):
        first, again = ours.score(query, TEXTS), ours.score(query, TEXTS)
        assert first.values == pytest.approx(row.tolist(), rel=1e-4, abs=2e-5)
        assert again.values == first.values, "a score does not depend on whether the text was kept"
        assert f"{len(TEXTS)} of {len(TEXTS)} texts from the store" in again.notes


@pytest.mark.parametrize(("name", "torch_runs_it"), [("mean", False), ("joined", False), ("last", True)])
def test_the_trace_says_where_torch_runs_the_encoder(name: str, torch_runs_it: bool) -> None:
    notes = reranker(embedding_model(name), runtime="auto").score(QUERIES[0], TEXTS[:1]).notes
    assert any(note.startswith("auto means torch here") for note in notes) == torch_runs_it


@pytest.mark.parametrize("name", ["mean", "cls"])
def test_fewer_dimensions_are_those_of_sentence_transformers(name: str) -> None:
    folder = embedding_model(name)
    expected = similarities(reference(folder, 8), QUERIES, TEXTS)
    ours = reranker(folder, dimensions=8)
    assert not np.allclose(expected, similarities(reference(folder), QUERIES, TEXTS), atol=1e-3)
    for query, row in zip(QUERIES, expected, strict=True):
        assert ours.score(query, TEXTS).values == pytest.approx(row.tolist(), abs=2e-5)


@pytest.mark.parametrize(("precision", "largest"), [("fp16", 1e-3), ("int8", 0.01), ("int4", 0.1)])
def test_rounded_vectors_move_scores_little_and_take_fewer_bytes(precision: str, largest: float) -> None:
    folder = embedding_model("mean")
    exact, rounded = reranker(folder), reranker(folder, precision=precision)
    before, after = (one.score(QUERIES[0], TEXTS).values for one in (exact, rounded))
    assert after == pytest.approx(before, abs=largest) and after != before
    assert rounded.store_stats.bytes_per_text < exact.store_stats.bytes_per_text


def test_an_instruction_stands_where_the_prompt_of_the_checkpoint_has_one() -> None:
    folder = embedding_model("last")
    model, ours = reference(folder), reranker(folder)
    assert ours.takes_instruction
    prompt = "Instruct: name a deep lake\nQuery:"
    texts = model.encode_document(list(TEXTS))
    expected = model.similarity(model.encode(QUERIES[0], prompt=prompt), texts)[0].tolist()
    ranking = ours.rerank(QUERIES[0], TEXTS, instruction="name a deep lake")
    values = [hit.raw_score for hit in sorted(ranking, key=lambda hit: int(hit.id))]
    assert values == pytest.approx(expected, abs=2e-5)
    configured = EmbeddingReranker(model=str(folder), instruction="name a deep lake", on_unreadable="score")
    assert configured.score(QUERIES[0], TEXTS).values == pytest.approx(expected, abs=2e-5)
    assert ours.score(QUERIES[0], TEXTS).values != pytest.approx(expected, abs=1e-3)


def test_prompts_of_the_user_replace_those_of_the_checkpoint_and_the_trace_says_so() -> None:
    folder = embedding_model("weighted")
    model, ours = reference(folder), reranker(folder, query_prompt="", text_prompt="tall ")
    texts = model.encode(list(TEXTS), prompt="tall ")
    expected = model.similarity(model.encode(QUERIES[0], prompt=""), texts)[0].tolist()
    scores = ours.score(QUERIES[0], TEXTS)
    assert scores.values == pytest.approx(expected, abs=2e-5)
    assert any("was trained with other prompts: 'the lake: ' before a query" in note for note in scores.notes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_an_onnx_file_alone_gives_the_same_vectors(tmp_path: Path) -> None:
    """Of an architecture for which no graph is written: the file itself runs, without torch."""
    import torch
    from transformers import AutoModel

    source = embedding_model("xlm")
    folder = tmp_path / "model"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    model = AutoModel.from_pretrained(source, attn_implementation="eager").eval()

    class Encoder(torch.nn.Module):
        def forward(self, ids: Any, mask: Any) -> Any:
            return model(input_ids=ids, attention_mask=mask).last_hidden_state

    ids = torch.ones((2, 5), dtype=torch.int64)
    axes = {0: "batch", 1: "sequence"}
    (folder / "onnx").mkdir()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    torch.onnx.export(
        Encoder(),
        (ids, ids),
        str(folder / "onnx" / "model.onnx"),
        input_names=["input_ids", "attention_mask"],
        output_names=["last_hidden_state"],
        dynamic_axes=dict.fromkeys(("input_ids", "attention_mask", "last_hidden_state"), axes),
        dynamo=False,
    )
    ours = reranker(folder, runtime="onnx")
    for query, row in zip(QUERIES, similarities(reference(source), QUERIES, TEXTS), strict=True):
        assert ours.score(query, TEXTS).values == pytest.approx(row.tolist(), abs=2e-5)
    assert any(note.startswith("runs its own graph") for note in ours.score(QUERIES[0], TEXTS).notes)


def test_an_encoder_without_modules_is_read_as_sentence_transformers_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(embedding_model("mean"), folder)
    shutil.rmtree(folder / "1_Pooling")
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    expected = similarities(SentenceTransformer(str(folder), device="cpu"), QUERIES[:1], TEXTS)[0]
    scores = reranker(folder).score(QUERIES[0], TEXTS)
    assert scores.values == pytest.approx(expected.tolist(), abs=2e-5)
    assert "it has no modules.json, so a text's vector is the mean of its tokens' vectors" in scores.notes


@pytest.mark.skipif(not MINILM.is_dir(), reason="all-MiniLM-L6-v2 is not on this machine")
def test_minilm_scores_as_in_sentence_transformers() -> None:
    model = reference(MINILM)
    expected = model.similarity(model.encode(list(QUERIES)), model.encode(list(TEXTS))).numpy()
    for query, row in zip(QUERIES, expected, strict=True):
        assert reranker(MINILM).score(query, TEXTS).values == pytest.approx(row.tolist(), abs=1e-5)


def test_settings_that_are_written_by_an_older_release_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(embedding_model("cls"), folder)
    place = folder / "1_Pooling" / "config.json"
    old = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    place.write_text(json.dumps(old))
    expected = similarities(reference(embedding_model("cls")), QUERIES[:1], TEXTS)[0]
    assert reranker(folder).score(QUERIES[0], TEXTS).values == pytest.approx(expected.tolist(), abs=2e-5)

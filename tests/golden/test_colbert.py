"""ColBERT checkpoints against sentence-transformers' MultiVectorEncoder: vectors, MaxSim, and pooled vectors."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling
from support.tiny_checkpoints import DOCUMENTS, LINES, QUERIES
from support.tiny_colbert import CHECKPOINTS, colbert

from rag_rerank import build
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.local.late_interaction.engine import LateInteractionEngine, Runtime
from rag_rerank.backends.local.late_interaction.precision import restore
from rag_rerank.backends.local.late_interaction.token_pooling import pool_tokens
from rag_rerank.backends.local.model_files import ModelFiles, ModelFolder
from rag_rerank.backends.local.readability import Readability

ASKED = (*QUERIES, "yes", "[MASK] [Q] the lake", " ".join(LINES[:3]), "[unused0] K2?")
TEXTS = (*DOCUMENTS, "[MASK] [D] lake", "!?.", " ".join(LINES), "[unused1] K2, the lake.")
RUNTIMES: list[tuple[str, Runtime]] = [(name, runtime) for name in CHECKPOINTS for runtime in ("onnx", "torch")]


@cache
def reference(name: str) -> Any:
    return MultiVectorEncoder(str(colbert(name)), device="cpu")


@cache
def reranker(name: str, **settings: Any) -> LateInteractionReranker:
    made: LateInteractionReranker = build(
        {
            "type": "late_interaction",
            "model": str(colbert(name)),
            "on_unreadable": "score",
            "precision": "fp32",
            **settings,
        }
    )
    return made


def engine_of(name: str, runtime: Runtime) -> LateInteractionEngine:
    folder = ModelFolder(colbert(name), name, None, None)
    settings = LateInteractionReranker(model=str(colbert(name)), precision="fp32", runtime=runtime)
    return LateInteractionEngine(ModelFiles(folder, LateInteractionReranker.files), folder, settings)


@pytest.mark.filterwarnings("ignore::rag_rerank.errors.TruncationWarning")
@pytest.mark.filterwarnings("ignore::rag_rerank.errors.QueryTruncationWarning")
@pytest.mark.parametrize(("name", "runtime"), RUNTIMES)
def test_scores_are_those_of_sentence_transformers(name: str, runtime: str) -> None:
    model, ours = reference(name), reranker(name, runtime=runtime)
    expected = model.similarity(model.encode_query(list(ASKED)), model.encode_document(list(TEXTS))).numpy()
    assert np.std(expected) > 0.01
    for query, row in zip(ASKED, expected, strict=True):
        assert ours.score(query, TEXTS).values == pytest.approx(row.tolist(), abs=1e-4)
        assert ours.score(query, TEXTS).values == pytest.approx(row.tolist(), abs=1e-4), "from the store"


@pytest.mark.parametrize(("name", "runtime"), RUNTIMES)
def test_vectors_are_those_of_sentence_transformers(name: str, runtime: Runtime) -> None:
    engine = engine_of(name, runtime)
    for text, expected in zip(TEXTS, reference(name).encode_document(list(TEXTS)), strict=True):
        inputs = engine.tokenizer.encode_texts([text], "truncate")
        (vectors,) = engine.token_vectors(inputs.arrays([0]))
        row = engine.row(np.asarray(inputs.ids[0]), vectors, inputs.coverage[0], Readability(1.0, None, True))
        facts = engine.layout.facts(row)
        assert facts is not None and facts.coverage == inputs.coverage[0]
        joined = engine.layout.join([row], [facts.count])
        vectors, _ = restore(joined.factors, joined.numbers, engine.layout.width, "fp32")
        np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-4)
    for query, expected in zip(ASKED, reference(name).encode_query(list(ASKED)), strict=True):
        encoded = engine.tokenizer.encode_query(query)
        (vectors,) = engine.token_vectors(encoded.arrays())
        np.testing.assert_allclose(engine.query_side(encoded, vectors), expected.numpy(), atol=1e-4)


def test_onnx_runtime_as_the_normal_choice_needs_no_note() -> None:
    notes = reranker("colbertv2").score(QUERIES[0], TEXTS[:1]).notes
    assert not any(note.startswith("auto means") for note in notes)


@pytest.mark.parametrize("factor", [2, 4])
def test_pooled_vectors_are_those_of_sentence_transformers(factor: int) -> None:
    pooling = HierarchicalTokenPooling(factor)
    for vectors in reference("colbertv2").encode_document(list(TEXTS)):
        expected = pooling.pool([vectors])[0].numpy()
        ours = pool_tokens(vectors.numpy(), factor)
        assert len(ours) == len(expected)
        order, theirs = np.lexsort(ours.round(4).T), np.lexsort(expected.round(4).T)
        np.testing.assert_allclose(ours[order], expected[theirs], atol=1e-4)


@pytest.mark.filterwarnings("ignore::rag_rerank.errors.TruncationWarning")
@pytest.mark.parametrize("settings", [{"pool": 2}, {"precision": "fp16"}, {"precision": "int8"}, {"precision": "int4"}])
def test_pooled_and_rounded_vectors_keep_about_the_same_scores_in_fewer_bytes(settings: dict[str, Any]) -> None:
    exact, rounded = reranker("colbertv2"), reranker("colbertv2", **settings)
    before = exact.score(QUERIES[0], DOCUMENTS).values
    after = rounded.score(QUERIES[0], DOCUMENTS).values
    assert after != before
    assert np.corrcoef(before, after)[0, 1] > 0.9
    assert rounded.store_stats.bytes < 0.8 * exact.store_stats.bytes


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_similarities_of_an_explanation_are_those_of_sentence_transformers(name: str) -> None:
    model, ours = reference(name), reranker(name)
    for query, text in itertools.product(ASKED, TEXTS):
        (of_query,), (of_text,) = model.encode_query([query]), model.encode_document([text])
        expected = (of_query @ of_text.T).numpy()
        explanation = ours.explain(query, text)
        assert np.array(explanation.similarities).shape == expected.shape
        np.testing.assert_allclose(explanation.similarities, expected, atol=1e-4)
        assert [match.similarity for match in explanation.matches] == pytest.approx(expected.max(axis=1), abs=1e-4)

"""Learned sparse checkpoints against sentence-transformers' SparseEncoder: inputs, weights, and scores."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SparseEncoder
from support.tiny_checkpoints import DOCUMENTS, LINES, QUERIES
from support.tiny_sparse import CHECKPOINTS, sparse

from rag_rerank import build
from rag_rerank.backends.sparse import SparseReranker

ASKED = (*QUERIES, "yes", "[MASK] the [SEP] lake", " ".join(LINES[:3]), "the lake the lake")
TEXTS = (*DOCUMENTS, "[MASK] [CLS] lake", "!?.", " ".join(LINES), "a lake, a lake")

pytestmark = [
    pytest.mark.filterwarnings("ignore::rag_rerank.errors.TruncationWarning"),
    pytest.mark.filterwarnings("ignore::rag_rerank.errors.QueryTruncationWarning"),
]


@cache
def reference(name: str) -> Any:
    return SparseEncoder(str(sparse(name)), device="cpu", model_kwargs={"dtype": "float32"})


@cache
def reranker(name: str, **settings: Any) -> SparseReranker:
    made: SparseReranker = build(
        {"type": "sparse", "model": str(sparse(name)), "on_unreadable": "score", "device": "cpu", **settings}
    )
    return made


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_scores_are_those_of_sentence_transformers(name: str) -> None:
    model, ours = reference(name), reranker(name)
    queries = model.encode_query(list(ASKED), convert_to_sparse_tensor=False)
    texts = model.encode_document(list(TEXTS), convert_to_sparse_tensor=False)
    expected = model.similarity(queries, texts).numpy()
    assert np.std(expected) > 0.01
    noise = 2e-3 if name in ("splade-euclidean", "splade-manhattan") else 1e-4  # of the library: roots and long sums
    for query, row in zip(ASKED, expected, strict=True):
        first, again = ours.score(query, TEXTS), ours.score(query, TEXTS)
        assert first.values == pytest.approx(row.tolist(), rel=1e-4, abs=noise)
        assert again.values == first.values, "from the store"
        assert f"{len(TEXTS)} of {len(TEXTS)} texts from the store" in again.notes


@pytest.mark.parametrize("name", ["splade", "splade-distil", "inference-free", "static"])
def test_weights_of_an_explanation_are_those_of_sentence_transformers(name: str) -> None:
    model, ours = reference(name), reranker(name)
    for query in ASKED[:3]:
        for text in TEXTS[:3]:
            of_query = model.encode_query([query], convert_to_sparse_tensor=False)[0]
            of_text = model.encode_document([text], convert_to_sparse_tensor=False)[0]
            shared = ((of_query != 0) & (of_text != 0)).nonzero()[:, 0].tolist()
            expected = {
                model.tokenizer.convert_ids_to_tokens(id) or f"term {id}": (of_query[id].item(), of_text[id].item())
                for id in shared
            }
            explanation = ours.explain(query, text)
            found = {match.term: (match.query_weight, match.text_weight) for match in explanation.terms}
            assert found.keys() == expected.keys()
            for term, weights in expected.items():
                assert found[term] == pytest.approx(weights, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("name", ["splade", "inference-free"])
def test_max_active_dims_keeps_the_terms_that_sentence_transformers_keeps(name: str, count: int) -> None:
    model, ours = reference(name), reranker(name, max_active_dims=count)
    queries = model.encode_query(list(ASKED[:2]), convert_to_sparse_tensor=False, max_active_dims=count)
    texts = model.encode_document(list(TEXTS), convert_to_sparse_tensor=False, max_active_dims=count)
    expected = model.similarity(queries, texts).numpy()
    for query, row in zip(ASKED, expected, strict=False):
        assert ours.score(query, TEXTS).values == pytest.approx(row.tolist(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", ["splade", "splade-modern", "inference-free"])
def test_inputs_are_cut_where_sentence_transformers_cuts_them(name: str) -> None:
    model, ours = reference(name), reranker(name)
    long = " ".join(LINES)
    inputs = model.preprocess([long], task="document")
    (coverage,) = ours.score(QUERIES[0], [long]).coverage
    special = 2
    assert coverage.truncated and coverage.seen + special == int(inputs["attention_mask"].sum())

"""The fast graphs against the models' own graphs, which run one pair at a time."""

from __future__ import annotations

import random
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny_checkpoints
from support.tiny_checkpoints import DOCUMENTS, LINES, QUERIES

from rag_rerank.backends.onnx import OnnxReranker

FUSED = ("bert", "xlm-roberta", "roberta", "late-interaction")
OTHERS = ("deberta", "modernbert")
STORED = ("fp32", "int8")
LONG = " ".join(LINES * 3)


@cache
def reranker(family: str, stored: Literal["fp32", "int8"] = "fp32", **options: Any) -> OnnxReranker:
    """Return one reranker for all tests: it is never closed, and its graph is loaded once."""
    return OnnxReranker(model=str(tiny_checkpoints.onnx_export(family, stored)), **options)


@cache
def simple(family: str, stored: Literal["fp32", "int8"] = "fp32") -> OnnxReranker:
    return reranker(family, stored, optimize=False, batch_tokens=1)


@cache
def passages(count: int) -> tuple[str, ...]:
    """Return passages of 1 to some 90 words, some of them twice."""
    chance = random.Random(count)
    words = " ".join(LINES).split()
    texts = [" ".join(chance.choices(words, k=min(90, int(chance.lognormvariate(2, 1)) + 1))) for _ in range(count)]
    return tuple(chance.choice(texts) if position % 10 == 9 else text for position, text in enumerate(texts))


def assert_close(fast: list[float], own: list[float]) -> None:
    np.testing.assert_array_less(np.abs(np.subtract(fast, own)), 1e-4 * np.maximum(1, np.abs(own)) + 1e-12)


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("family", FUSED)
def test_the_made_graph_gives_the_logits_of_the_models_own(family: str, stored: Literal["fp32", "int8"]) -> None:
    texts = [*DOCUMENTS, "a", LONG, LONG * 9]
    for query in QUERIES:
        fast, own = (r.score(query, texts) for r in (reranker(family, stored), simple(family, stored)))
        assert fast.notes == () and reranker(family, stored)._engine.equal_lengths
        assert own.coverage == fast.coverage and fast.coverage[-1].truncated
        assert np.std(own.values) > 1
        assert_close(fast.values, own.values)


@pytest.mark.parametrize("family", FUSED)
def test_special_tokens_that_a_text_spells_out_are_read_as_the_model_reads_them(family: str) -> None:
    texts = ["a <pad> token", "<pad><pad> keep warm <pad>", "a [PAD] token", "</s> or [SEP] in the lake"]
    fast, own = (r.score("which <pad> lake?", texts) for r in (reranker(family), simple(family)))
    assert fast.notes == ()
    assert_close(fast.values, own.values)


@pytest.mark.parametrize("window", [20, 21, 64, 511, 512])
@pytest.mark.parametrize("family", FUSED)
def test_cut_texts_are_scored_alike_at_every_window(family: str, window: int) -> None:
    """512 is all positions that these models have."""
    ours = OnnxReranker(model=reranker(family).model, max_length=window)
    own = OnnxReranker(model=reranker(family).model, max_length=window, optimize=False, batch_tokens=1)
    with ours, own:
        fast, own = (r.score("how?", [LONG * 9, "a"]) for r in (ours, own))
    assert fast.notes == () and fast.coverage[0].truncated
    assert_close(fast.values, own.values)


@pytest.mark.parametrize("family", OTHERS)
def test_other_models_run_their_own_graph_and_say_so(family: str) -> None:
    ours = reranker(family).score(QUERIES[0], DOCUMENTS)
    (note,) = ours.notes
    assert note.startswith("runs its own graph: no faster graph is known for ")
    assert_close(ours.values, simple(family).score(QUERIES[0], DOCUMENTS).values)


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1000])
def test_the_ranking_is_that_of_the_simple_path_for_any_number_of_candidates(count: int) -> None:
    texts = passages(count)
    own = simple("bert").rerank(QUERIES[0], texts)
    fast = reranker("bert").rerank(QUERIES[0], texts)
    by_id = {hit.id: hit.raw_score for hit in own}
    assert_close([hit.raw_score for hit in fast], [by_id[hit.id] for hit in fast])
    assert len(set(texts)) == count or count > 2
    order = [by_id[hit.id] for hit in fast]
    # the same order, but for pairs whose logits are the same to the last digits of fp32
    assert all(a >= b - 2e-5 for a, b in pairwise(order))


@pytest.mark.parametrize("family", [*FUSED, *OTHERS])
def test_the_ranking_is_that_of_the_simple_path_for_any_order_of_the_candidates(family: str) -> None:
    texts = list(passages(100))
    own = simple(family).score(QUERIES[0], texts).values
    for seed in range(3):
        order = random.Random(seed).sample(range(100), 100)
        fast = reranker(family).score(QUERIES[0], [texts[i] for i in order]).values
        assert_close(fast, [own[i] for i in order])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("family", FUSED)
def test_a_logit_of_the_made_graph_is_the_same_number_whatever_it_is_computed_with(
    family: str, precision: Literal["fp32", "int8"]
) -> None:
    texts = passages(60)
    alone = {text: reranker(family, precision=precision).score(QUERIES[0], [text]).values[0] for text in texts}
    layouts = [
        reranker(family, precision=precision, batch_tokens=tokens, workers=workers, threads=threads)
        for tokens, workers, threads in ((1, 1, 1), (97, 3, 1), (512, 1, 2), (100_000, 2, 1))
    ]

    @settings(max_examples=40)
    @given(st.lists(st.sampled_from(texts), min_size=1, max_size=60), st.sampled_from(layouts))
    def same(sample: list[str], layout: OnnxReranker) -> None:
        assert layout.score(QUERIES[0], sample).values == [alone[text] for text in sample]

    same()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_texts_that_are_the_same_tie(precision: Literal["fp32", "int8"]) -> None:
    texts = [text for text in passages(20) for _ in range(17)]
    values = reranker("bert", precision=precision, batch_tokens=97).score(QUERIES[0], texts).values
    assert all(len(set(values[start : start + 17])) == 1 for start in range(0, len(values), 17))


@pytest.mark.parametrize("family", OTHERS)
def test_int8_by_token_does_not_depend_on_the_batch_but_for_padding(family: str) -> None:
    """Own graphs pad, and what is padded is fp32 attention: the same to fp32's rounding, magnified by 8-bit steps."""
    texts = passages(40)
    ours = reranker(family, precision="int8")
    alone = [ours.score(QUERIES[0], [text]).values[0] for text in texts]
    together = ours.score(QUERIES[0], texts).values
    assert np.abs(np.subtract(alone, together)).max() < 0.05 * np.std(alone)

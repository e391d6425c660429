"""What a server cuts, and what its numbers mean.

The answers are those of Infinity 0.0.78 and vLLM 0.32.0; llama.cpp's are from its source.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.api.providers import QUERY, Ask
from support.api.rerank_server import Answer, RerankServer
from support.api.wire_formats import logit

import rag_rerank
from rag_rerank import (
    BadResponse,
    Cached,
    ScaleWarning,
    Windows,
)
from rag_rerank.backends.http import HttpReranker

Make = Callable[..., HttpReranker]
LONG = "warm dragon " * 400  # 1,200 tokens by estimate


def texts(count: int) -> tuple[str, ...]:
    return tuple(f"text {i} of a {'warm ' * (i % 5)}dragon" for i in range(count))


def rows(*values: float) -> Answer:
    return Answer(body={"results": [{"index": i, "relevance_score": v} for i, v in enumerate(values)]})


# what is cut


def estimated(text: str, most: int) -> tuple[int, int, bool]:
    total, query = (-(-len(part.encode()) // 4) for part in (text, QUERY))
    return total, min(total, most - query), True


@pytest.mark.parametrize(
    ("dialect", "options", "most", "title"),
    [
        ("infinity", {"window": 512}, 512, "Infinity"),
        ("infinity", {"window": 300}, 300, "Infinity"),
        ("vllm", {"extra_body": {"truncate_prompt_tokens": -1}}, 512, "vLLM"),
        ("vllm", {"extra_body": {"truncate_prompt_tokens": 100}}, 100, "vLLM"),
        ("vllm", {"extra_body": {"truncate_prompt_tokens": -1}, "window": 256}, 256, "vLLM"),
        ("tei", {}, 512, "TEI"),
        ("nim", {"extra_body": {"truncate": "END"}, "window": 400}, 400, "NIM"),
        ("mixedbread", {"window": 512}, 512, "Mixedbread"),
    ],
)
def test_texts_that_a_server_cuts_have_a_note_and_an_estimated_coverage(
    dialect: str, options: Any, most: int, title: str, make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    ranking = ask(make(dialect, **options), (LONG, "dragon"))
    note = f"by estimate 1 texts with the query are longer than {most} tokens, and {title} cuts them"
    assert ranking.trace.notes == (note,)
    for hit in ranking:
        coverage = hit.coverage
        assert coverage is not None
        assert (coverage.total, coverage.seen, coverage.estimated) == estimated(hit.text, most)
        assert coverage.to_dict()["estimated"] is True
        assert type(coverage).from_dict(coverage.to_dict()) == coverage
        assert coverage.truncated == (hit.text == LONG)


@pytest.mark.parametrize(
    ("dialect", "options"),
    [
        ("vllm", {}),
        ("vllm", {"window": 100}),
        ("vllm", {"extra_body": {"truncate_prompt_tokens": None}}),
        ("nim", {"window": 100}),
        ("tei", {"extra_body": {"truncate": False}}),
        ("llamacpp", {"window": 100}),
        ("jina", {"window": 100, "extra_body": {"truncation": False}}),
        ("jina", {}),
    ],
)
def test_a_server_that_refuses_long_texts_has_neither(
    dialect: str, options: Any, make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    ranking = ask(make(dialect, **options), (LONG, "dragon"))
    assert (ranking.trace.notes, [hit.coverage for hit in ranking]) == ((), [None, None])


def test_infinity_without_a_window_has_a_note_that_asks_for_it(
    make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    (note,) = ask(make("infinity"), (LONG, "dragon")).trace.notes
    assert "1 texts with the query are longer than 512 tokens" in note and "give window" in note
    assert ask(make("infinity"), ("dragon",)).trace.notes == ()


def test_a_cache_keeps_that_a_coverage_is_an_estimate(
    make: Make, ask: Ask, rerank_server: RerankServer, tmp_path: Path
) -> None:
    for count in (0, 1):
        with Cached(reranker=make("infinity", window=64), path=tmp_path / "scores") as reranker:
            ranking = ask(reranker, (LONG,))
        assert ranking.usage.cached == count
        assert ranking[0].coverage is not None
        assert (ranking[0].coverage.estimated, ranking[0].coverage.truncated) == (True, True)


def test_windows_of_a_text_keep_that_a_coverage_is_an_estimate(make: Make, rerank_server: RerankServer) -> None:
    tokenizer = str(Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1" / "tokenizer.json")
    reranker = Windows(reranker=make("infinity", window=2000), tokens=60, overlap=5, tokenizer=tokenizer)
    (hit,) = reranker.rerank(QUERY, [LONG])
    assert hit.coverage is not None and hit.coverage.estimated and not hit.coverage.truncated


# what the numbers mean


def test_a_failure_in_place_of_a_logit_leaves_the_text_unscored(
    make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    def fail_on_some(found: Any) -> Any:
        return [{**row, "relevance_score": -1e6} if row["index"] in (1, 3) else row for row in found]

    rerank_server.rule = lambda request: Answer(rows=fail_on_some)
    ranking = ask(make("llamacpp"), texts(5))
    assert [hit.id for hit in ranking][3:] == ["1", "3"]
    for hit in ranking:
        assert (hit.score is None) == (hit.id in "13")
        assert (hit.unscored or "").startswith("llama.cpp failed on it" if hit.id in "13" else "")
        assert hit.id in "13" or hit.raw_score == logit(QUERY, hit.text)
    ranking = ask(make("llamacpp", max_texts=2), texts(5))
    assert [hit.id for hit in ranking if hit.unscored] == ["1", "3"]


def test_failures_alone_are_no_answer(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.then(rows(-1e6, -1e6))
    with pytest.raises(BadResponse, match=r"llama\.cpp failed on every text"):
        ask(make("llamacpp"))


@pytest.mark.parametrize("rows_of", [None, [7], [{"index": "x", "relevance_score": -1e6}, {"index": 0}], {"a": 1}])
def test_damaged_rows_are_refused_there_too(rows_of: Any, make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.then(Answer(body={"results": rows_of}))
    with pytest.raises(BadResponse):
        ask(make("llamacpp"))


@pytest.mark.parametrize(
    ("dialect", "options"), [("infinity", {}), ("llamacpp", {}), ("vllm", {"answers_on": "sigmoid"})]
)
def test_probabilities_taken_for_logits_are_noticed(
    dialect: str, options: Any, make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.rule = lambda request: rows(0.98, 0.11, 0.002, 0.51)
    reranker = make(dialect, **options)
    with pytest.warns(ScaleWarning, match='answers_on="relevance"'):
        ranking = ask(reranker, texts(4))
    assert any("all in 0..1, as probabilities are" in note for note in ranking.trace.notes)
    assert [hit.id for hit in ranking] == ["0", "3", "1", "2"]
    assert len(ask(reranker, texts(4))) == 4  # one warning a reranker
    assert ask(make(dialect, answers_on="relevance"), texts(4)).trace.notes == ()


@pytest.mark.parametrize("values", [(0.9, 0.2, 0.1), (0.5,) * 4, (0.98, 0.11, 0.002, -0.5), (0.98, 0.11, 0.002, 1.5)])
def test_logits_that_happen_to_be_small_are_left_alone(
    values: tuple[float, ...], make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.then(rows(*values))
    assert ask(make("infinity"), texts(len(values))).trace.notes == ()


@pytest.mark.parametrize("values", [(3.2, 0.4), (-0.1, 0.4)])
def test_logits_taken_for_probabilities_are_an_error_that_names_the_setting(
    values: tuple[float, float], make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.then(rows(*values))
    with pytest.raises(BadResponse, match=r'outside 0\.\.1; if they are logits, give answers_on="sigmoid"'):
        ask(make("vllm"))

"""Metrics: what is counted, and with which attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.slow_rerankers import Flaky, Timed

from rag_rerank import (
    Cached,
    Cascade,
    Fallback,
    RateLimited,
    Scores,
    Shadow,
    Stage,
    Usage,
    tagged,
)
from rag_rerank.testing import ScriptedReranker


class Billed(ScriptedReranker):
    """Returns a usage: counted tokens, and an estimated cost."""

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        scores = super().score(query, texts)
        usage = Usage(texts=len(texts), tokens=10 * len(texts), cost=0.5, estimated=("cost",))
        return Scores(scores.values, scores.scale, usage)


def test_a_call_is_counted_once_with_what_ran_inside_it(observed: Any) -> None:
    observed.instrument()
    tree = Cascade(stages=(Stage(reranker=Billed(name="a")), Stage(reranker=Billed(name="b"), depth=2)))
    tree.rerank("q", ["x", "y", "z"])
    tree.rerank("q", ["x", "y"])
    assert observed.values("rag_rerank.candidates", "reranker") == {("cascade",): 5}
    assert observed.values("rag_rerank.texts", "reranker", "cached") == {("cascade", False): 9, ("cascade", True): 0}
    assert observed.values("rag_rerank.tokens", "estimated") == {(False,): 90}
    assert observed.values("rag_rerank.cost", "estimated") == {(True,): 2.0}
    assert {
        (p.attributes["rag_rerank.reranker"], p.attributes["rag_rerank.inner"]): p.count for p in durations(observed)
    } == {
        ("cascade", False): 2,
        ("a", True): 2,
        ("b", True): 2,
    }
    assert observed.points("rag_rerank.degraded") == []


def durations(observed: Any) -> list[Any]:
    return observed.points("rag_rerank.duration")


def test_time_is_in_seconds_by_the_clock_in_place_in_buckets_that_fit(observed: Any, world: Any) -> None:
    observed.instrument()
    world.rank(Timed(name="t", seconds=2.0))
    [point] = durations(observed)
    assert (point.sum, point.count) == (2.0, 1)
    assert point.explicit_bounds[0] == 0.001 and point.explicit_bounds[-1] == 10.0


def test_failures_and_substitutes_are_counted_by_class(observed: Any) -> None:
    observed.instrument()
    limited = ScriptedReranker(name="limited", error=RateLimited("no"))
    Fallback(members=(limited, ScriptedReranker(name="spare"))).rerank("q", ["x"])
    with pytest.raises(RateLimited):
        limited.rerank("q", ["x"])
    failed = {
        (p.attributes["rag_rerank.reranker"], p.attributes["rag_rerank.inner"]): p.attributes["error.type"]
        for p in durations(observed)
        if "error.type" in p.attributes
    }
    assert failed == {("limited", True): "RateLimited", ("limited", False): "RateLimited"}
    assert observed.values("rag_rerank.degraded", "reranker", "substituted") == {("fallback", True): 1}


def test_what_a_failed_call_had_sent_is_counted(observed: Any, world: Any) -> None:
    observed.instrument()
    flaky = Flaky(script=((0.1, None), (0.1, RateLimited("no", retry_after=1e6))))
    with pytest.raises(RateLimited):
        world.rank(flaky, [f"t{i}" for i in range(150)])
    assert observed.values("rag_rerank.texts", "cached")[(False,)] == 100


def test_scores_from_a_cache_are_counted_apart(observed: Any) -> None:
    observed.instrument()
    cached = Cached(reranker=ScriptedReranker(name="r"))
    cached.rerank("q", ["x", "y"])
    cached.rerank("q", ["x", "y", "z"])
    assert observed.values("rag_rerank.texts", "cached") == {(False,): 3, (True,): 2}


def test_a_shadow_counts_for_itself(observed: Any) -> None:
    observed.instrument()
    with Shadow(reranker=Billed(name="live"), other=Billed(name="new"), share=1.0) as shadow:
        shadow.rerank("q", ["x"])
    assert observed.values("rag_rerank.tokens", "reranker") == {("shadow(live)",): 10, ("new",): 10}


def test_attributes_are_few_and_tags_are_those_that_were_named(observed: Any) -> None:
    observed.instrument(tags=("tenant", "absent"))
    with tagged(tenant="acme", user="u-1"):
        Billed(name="r").rerank("secret query", ["secret text"])
    names = {
        name
        for metric in ("duration", "candidates", "texts", "tokens", "cost")
        for point in observed.points(f"rag_rerank.{metric}")
        for name in point.attributes
    }
    assert names == {
        f"rag_rerank.{name}" for name in ("reranker", "kind", "scale", "inner", "cached", "estimated", "tag.tenant")
    }
    assert "u-1" not in observed.everything and "secret" not in observed.everything
    assert observed.values("rag_rerank.tokens", "tag.tenant") == {("acme",): 10}

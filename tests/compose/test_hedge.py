"""Hedge: a second request when the first is slow, and the first answer wins."""

from __future__ import annotations

from typing import Any

import pytest
from support.slow_rerankers import Flaky, Timed

from rag_rerank import (
    AllFailed,
    AuthenticationError,
    BackendTimeout,
    BackendUnavailable,
    BadResponse,
    Cached,
    ConfigError,
    DeadlineExceeded,
    Fallback,
    Hedge,
    RateLimited,
    build,
    to_config,
)
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.http import HttpReranker
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.compose.hedge import _same_model
from rag_rerank.testing import ScriptedReranker

BY_TEXT = {"b": 2.0, "a": 1.0}


def quick(**options: Any) -> Timed:
    return Timed(**{"name": "quick", "seconds": 1.0, "by_text": BY_TEXT, **options})


def slow(**options: Any) -> Timed:
    return Timed(**{"name": "slow", "seconds": 60.0, **options})


def test_a_first_member_that_answers_soon_is_the_only_one_asked(world: Any) -> None:
    spare = quick(name="spare")
    ranking, took = world.timed(world.rank, Hedge(members=(quick(), spare), after=2))
    assert took == 1 and spare.calls == []
    assert (ranking.degraded, ranking.substituted) == ((), False)
    assert [hit.text for hit in ranking] == ["b", "a"]


def test_the_second_member_is_asked_when_the_first_is_slow(world: Any) -> None:
    ranking, took = world.timed(world.rank, Hedge(members=(slow(), quick(answers_on="sigmoid")), after=2))
    assert took == 3
    assert ranking.degraded == (
        "quick answered in place of slow, which had not answered after 2 s; scores are on the scale 'sigmoid', not "
        "'unbounded'",
    )
    assert ranking.substituted and ranking.scale == "sigmoid"
    abandoned, winner = ranking.trace.children
    assert abandoned.error == "abandoned: others had answered; a provider may bill what it was sent"
    assert winner.error is None


def test_a_first_member_that_answers_before_the_second_wins(world: Any) -> None:
    first = slow(name="first", seconds=5, by_text=BY_TEXT)
    ranking, took = world.timed(world.rank, Hedge(members=(first, slow()), after=2))
    assert took == 5
    assert (ranking.degraded, ranking.substituted) == ((), False)
    assert [child.error is None for child in ranking.trace.children] == [True, False]


def test_the_same_model_elsewhere_is_no_substitute(world: Any) -> None:
    here = Flaky(model="m", script=((60.0, None),), timeout=50)
    there = Flaky(model="m", script=((1.0, None),), base_url="http://other:1")
    ranking, took = world.timed(world.rank, Hedge(members=(here, there), after=2))
    assert took == 3 and (ranking.degraded, ranking.substituted) == ((), False)
    other = Flaky(model="n", script=((1.0, None),))
    assert world.rank(Hedge(members=(here, other), after=2)).substituted


def test_the_same_name_with_other_settings_is_a_substitute() -> None:
    def http(**options: Any) -> HttpReranker:
        return HttpReranker(**{"dialect": "vllm", "model": "m", "base_url": "http://one:1", **options})

    assert _same_model(http(), http(base_url="http://two:2", timeout=3.0, name="two", path="/v1/rerank"))
    assert not _same_model(http(), http(dialect="llamacpp"))
    assert not _same_model(http(), http(answers_on="similarity"))
    assert not _same_model(http(), http(model="n"))
    assert _same_model(Cached(reranker=http()), Cached(reranker=http(base_url="http://two:2")))
    assert not _same_model(Cached(reranker=http()), Cached(reranker=http(dialect="llamacpp")))


def test_a_passing_failure_is_replaced_at_once(world: Any) -> None:
    ranking, took = world.timed(
        world.rank, Hedge(members=(quick(name="down", error=RateLimited("x")), quick()), after=30)
    )
    assert took == 2
    assert "which failed" in ranking.degraded[0] and ranking.substituted


def test_a_permanent_failure_of_the_first_is_raised_even_if_another_answers(world: Any) -> None:
    wrong = slow(name="wrong", seconds=5, error=AuthenticationError("key"))
    error, took = world.timed(world.rank, Hedge(members=(wrong, slow()), after=2))
    assert type(error) is AuthenticationError and took == 5  # and waits for nobody
    assert [child.error.partition(";")[0] for child in error.trace.children] == [
        "AuthenticationError: key",
        "abandoned: another had failed",
    ]
    alone = quick(name="wrong", error=AuthenticationError("key"))
    spare = quick()
    error, _ = world.timed(world.rank, Hedge(members=(alone, spare), after=2))
    assert type(error) is AuthenticationError and spare.calls == []


def test_a_lasting_failure_of_the_second_is_marked(world: Any) -> None:
    wrong = quick(name="wrong", error=AuthenticationError("key"))
    first = slow(name="first", seconds=5)
    ranking, took = world.timed(world.rank, Hedge(members=(first, wrong), after=2))
    assert took == 5
    assert ranking.degraded == ("wrong cannot answer (AuthenticationError), so it is no hedge",)
    assert not ranking.substituted


def test_a_permanent_failure_of_the_second_is_raised_if_none_answers(world: Any) -> None:
    wrong = quick(name="wrong", seconds=1, error=BadResponse("nan"))
    first = slow(name="first", seconds=5, error=BackendTimeout("late"))
    error, _ = world.timed(world.rank, Hedge(members=(first, wrong), after=2))
    assert type(error) is BadResponse


def test_when_all_fail_every_error_is_kept_and_a_fallback_moves_on(world: Any) -> None:
    members = (quick(name="one", error=RateLimited("x")), quick(name="two", error=BackendUnavailable("y")))
    error, took = world.timed(world.rank, Hedge(members=members, after=2))
    assert type(error) is AllFailed and took == 2
    assert [type(inner) for inner in error.errors] == [RateLimited, BackendUnavailable]
    assert str(error) == "all 2 members failed (one: RateLimited; two: BackendUnavailable)"
    assert [child.step for child in error.trace.children] == ["one", "two"]

    ranking = world.rank(Fallback(members=(Hedge(members=members, after=2), quick(name="spare"))))
    assert ranking.degraded == ("spare answered in place of hedge (AllFailed)",)


def test_the_abandoned_member_begins_no_retry(world: Any) -> None:
    first = Flaky(
        name="first",
        script=((1.0, BackendUnavailable("gone")),),
        retry=RetryPolicy(attempts=9, first_wait=10, max_wait=10, jitter=0),
    )
    ranking, took = world.timed(world.rank, Hedge(members=(first, quick()), after=3))
    assert took == 4 and len(first.sent) == 1
    world.settle()
    assert len(first.sent) == 1
    assert ranking.trace.children[0].failures == ("BackendUnavailable: gone",)
    assert ranking.usage.requests == 1


def test_three_members_begin_one_after_the_other(world: Any) -> None:
    ranking, took = world.timed(world.rank, Hedge(members=(slow(name="a"), slow(name="b"), quick()), after=2))
    assert took == 5
    assert [child.step for child in ranking.trace.children] == ["a", "b", "quick"]


def test_the_time_of_the_call_ends_a_hedge_too(world: Any) -> None:
    error, took = world.timed(world.rank, Hedge(members=(slow(name="a"), slow(name="b")), after=2), timeout=5)
    assert type(error) is DeadlineExceeded and 5 <= took <= 5.55
    assert [child.step for child in error.trace.children] == ["a", "b"]


def test_a_degraded_member_degrades_the_hedge(world: Any) -> None:
    fallback = Fallback(members=(quick(error=RateLimited("x")), quick(name="spare")))
    assert fallback.remote
    ranking = world.rank(Hedge(members=(fallback, quick()), after=9))
    assert ranking.degraded == ("spare answered in place of quick (RateLimited)",) and ranking.substituted


def test_members_that_work_on_this_machine_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"members\[1\]: lexical works on this machine"):
        Hedge(members=(Timed(), LexicalReranker()), after=1)
    mixed = Fallback(members=(Timed(), ScriptedReranker()))
    with pytest.raises(ConfigError, match=r"members\[0\]: fallback works on this machine"):
        Hedge(members=(mixed, Timed()), after=1)


@pytest.mark.parametrize("after", [0, -1.0, float("nan"), float("inf")])
def test_an_after_that_is_no_time_is_refused(after: float) -> None:
    with pytest.raises(ConfigError, match=r"^after: after must be a finite number of more than 0"):
        Hedge(members=(Timed(), Timed()), after=after)
    with pytest.raises(ConfigError, match=r"^reranker\.after: "):
        node = {"type": "hedge", "members": ["cohere", "voyage"], "after": after}
        build({"type": "deadline", "reranker": node, "seconds": 3})


@pytest.mark.parametrize("count", [0, 1])
def test_a_hedge_of_one_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"^members: a hedge needs at least two members, got {count}"):
        Hedge(members=(Timed(),) * count, after=1)


def test_it_comes_from_config_and_goes_back() -> None:
    node = {"type": "hedge", "members": ["cohere", {"type": "voyage", "model": "rerank-2.5"}], "after": 0.25}
    hedge = build(node)
    assert build(to_config(hedge)) == hedge and isinstance(hedge, Hedge) and hedge.after == 0.25

"""Fallback: the next member when one is unavailable, always marked as degraded."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from rag_rerank import (
    AllFailed,
    AuthenticationError,
    BackendTimeout,
    BackendUnavailable,
    BadResponse,
    Cascade,
    ConfigError,
    Fallback,
    Ranking,
    RateLimited,
    RequestRejected,
    Reranker,
    Stage,
)
from rag_rerank.testing import ScriptedReranker

Ask = Callable[[Reranker], Ranking]
TEXTS = ["a", "b"]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    if request.param == "sync":
        return lambda reranker: reranker.rerank("q", TEXTS)
    return lambda reranker: asyncio.run(reranker.arerank("q", TEXTS))


def down(error: Exception, name: str = "down") -> ScriptedReranker:
    return ScriptedReranker(name=name, error=error, answers_on="relevance")


@pytest.mark.parametrize("error", [BackendTimeout("late"), RateLimited("slow"), BackendUnavailable("gone")])
def test_a_transient_error_moves_on_and_is_named(ask: Ask, error: Exception) -> None:
    spare = ScriptedReranker(name="spare", by_text={"b": 1.0}, answers_on="sigmoid")
    ranking = ask(Fallback(members=(down(error), spare)))
    assert [hit.text for hit in ranking] == ["b", "a"]
    assert ranking.scale == "sigmoid"
    assert ranking.degraded == (
        f"spare answered in place of down ({type(error).__name__}); scores are on the scale 'sigmoid', not 'relevance'",
    )
    assert [(child.step, child.error) for child in ranking.trace.children] == [
        ("down", f"{type(error).__name__}: {error}"),
        ("spare", None),
    ]


def test_the_first_member_answers_when_it_can(ask: Ask) -> None:
    spare = ScriptedReranker()
    ranking = ask(Fallback(members=(ScriptedReranker(name="first"), spare)))
    assert ranking.degraded == ()
    assert [child.step for child in ranking.trace.children] == ["first"]
    assert spare.calls == []


@pytest.mark.parametrize("error", [AuthenticationError("key"), RequestRejected("no"), BadResponse("nan"), ValueError()])
def test_a_mistake_is_not_hidden_by_the_spare(ask: Ask, error: Exception) -> None:
    spare = ScriptedReranker()
    with pytest.raises(type(error)):
        ask(Fallback(members=(down(error), spare)))
    assert spare.calls == []


def test_when_all_fail_every_error_is_kept(ask: Ask) -> None:
    whole = Fallback(members=(down(RateLimited("slow"), "one"), down(BackendTimeout("late"), "two")))
    with pytest.raises(AllFailed, match=r"one: RateLimited; two: BackendTimeout") as caught:
        ask(whole)
    assert [type(error) for error in caught.value.errors] == [RateLimited, BackendTimeout]
    assert [child.step for child in caught.value.trace.children] == ["one", "two"]


def test_a_fallback_inside_a_fallback_falls_through(ask: Ask) -> None:
    inner = Fallback(members=(down(RateLimited("slow")), down(BackendTimeout("late"))))
    ranking = ask(Fallback(members=(inner, ScriptedReranker(name="spare"))))
    assert "fallback (AllFailed)" in ranking.degraded[0]
    assert len(ranking.trace.children[0].children) == 2


def test_a_degraded_stage_degrades_the_cascade(ask: Ask) -> None:
    stage = Fallback(members=(down(RateLimited("slow")), ScriptedReranker(name="spare")))
    ranking = ask(Cascade(stages=(Stage(reranker=stage), Stage(reranker=ScriptedReranker()))))
    assert len(ranking.degraded) == 1


def test_a_fallback_to_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="members: a fallback needs at least two members, got 1"):
        Fallback(members=(ScriptedReranker(),))


def test_a_name_in_place_of_a_reranker_is_refused_when_the_fallback_is_made() -> None:
    with pytest.raises(ConfigError, match=r"members\[1\]: expected a Reranker, got str; rag_rerank.build makes one"):
        Fallback(members=(ScriptedReranker(), "minilm"))


@pytest.mark.parametrize("way", ["sync", "async"])
def test_all_members_are_closed_also_when_one_cannot_be(way: str) -> None:
    closed = []

    @dataclass(frozen=True, kw_only=True)
    class Closing(ScriptedReranker):
        def close(self) -> None:
            closed.append(self.name)
            raise OSError(self.name)

    whole = Fallback(members=(Closing(name="one"), Closing(name="two")))
    with pytest.raises(OSError):
        whole.close() if way == "sync" else asyncio.run(whole.aclose())
    assert sorted(closed) == ["one", "two"]

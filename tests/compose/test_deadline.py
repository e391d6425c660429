"""Deadline: a limit for the total time, and the three ways to end when it is over."""

from __future__ import annotations

from typing import Any

import pytest
from support.slow_rerankers import Flaky, Timed

from rag_rerank import (
    AuthenticationError,
    BackendUnavailable,
    Candidate,
    ConfigError,
    Deadline,
    DeadlineExceeded,
    Fallback,
    RateLimited,
    Scores,
    Usage,
    build,
    load,
    to_config,
)
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.execution import clock
from rag_rerank.testing import ScriptedReranker

TEXTS = [f"text {i}" for i in range(12)]
BY_TEXT = {text: float(i % 5) for i, text in enumerate(TEXTS)}


def in_time(took: float, seconds: float) -> bool:
    return took <= seconds * 1.1 + 0.05


@pytest.mark.parametrize("on_late", ["error", "first_stage", "partial"])
def test_an_answer_in_time_is_the_rerankers_own(world: Any, on_late: Any) -> None:
    reranker = Timed(seconds=1, by_text=BY_TEXT, answers_on="sigmoid")
    ranking = world.rank(Deadline(reranker=reranker, seconds=3, on_late=on_late), TEXTS)
    assert ranking.hits == world.rank(reranker, TEXTS).hits
    assert (ranking.scale, ranking.degraded, ranking.substituted) == ("sigmoid", (), False)


def test_first_stage_keeps_the_incoming_order_and_says_so(world: Any) -> None:
    whole = Deadline(reranker=Timed(name="slow", seconds=60, answers_on="sigmoid"), seconds=2)
    ranking, took = world.timed(world.rank, whole, TEXTS)
    assert in_time(took, 2)
    assert [hit.text for hit in ranking] == TEXTS
    assert {(hit.score, hit.raw_score, hit.unscored) for hit in ranking} == {(None, None, "late for 2 s")}
    assert ranking.degraded == ("not reranked, in the order of the first stage: slow was late for 2 s",)
    assert ranking.substituted and ranking.scale == "sigmoid"
    assert ranking.trace.children[0].error.startswith("DeadlineExceeded: slow has not answered")


def test_error_raises_what_a_fallback_takes_as_a_reason_to_move_on(world: Any) -> None:
    strict = Deadline(reranker=Timed(name="slow", seconds=60), seconds=2, on_late="error")
    error, took = world.timed(world.rank, strict, TEXTS)
    assert type(error) is DeadlineExceeded and in_time(took, 2)
    ranking, took = world.timed(world.rank, Fallback(members=(strict, Timed(name="spare", seconds=1))), TEXTS)
    assert in_time(took, 3)
    assert ranking.degraded == ("spare answered in place of deadline(slow) (DeadlineExceeded)",)
    assert [child.step for child in ranking.trace.children] == ["deadline(slow)", "spare"]


@pytest.mark.parametrize("on_late", ["error", "first_stage", "partial"])
def test_other_failures_are_not_hidden(world: Any, on_late: Any) -> None:
    for error in (AuthenticationError("key"), RateLimited("slow down")):
        whole = Deadline(reranker=Timed(seconds=1, error=error), seconds=3, on_late=on_late)
        ranking, _ = world.timed(world.rank, whole, TEXTS)
        assert type(ranking) is type(error)


def test_retries_stay_inside_the_time(world: Any) -> None:
    down = Flaky(script=((0.7, BackendUnavailable("gone")),), retry=RetryPolicy(attempts=50, first_wait=0.1, jitter=0))
    _, took = world.timed(world.rank, Deadline(reranker=down, seconds=5, on_late="error"), TEXTS)
    assert in_time(took, 5) and 2 < len(down.sent) < 8


def test_the_shorter_of_two_deadlines_counts(world: Any) -> None:
    slow = Timed(seconds=60)
    inner_first = Deadline(reranker=Deadline(reranker=slow, seconds=2), seconds=9, on_late="error")
    ranking, took = world.timed(world.rank, inner_first, TEXTS)
    assert in_time(took, 2) and len(ranking.degraded) == 1
    outer_first = Deadline(reranker=Deadline(reranker=slow, seconds=9), seconds=2, on_late="error")
    error, took = world.timed(world.rank, outer_first, TEXTS)
    assert in_time(took, 2) and type(error) is DeadlineExceeded


@pytest.mark.parametrize("on_late", ["first_stage", "partial"])
def test_a_deadline_further_in_is_no_reason_while_there_is_time(world: Any, on_late: Any) -> None:
    inner = Deadline(name="inner", reranker=Timed(seconds=60), seconds=2, on_late="error")
    error, took = world.timed(world.rank, Deadline(reranker=inner, seconds=9, on_late=on_late), TEXTS)
    assert type(error) is DeadlineExceeded and in_time(took, 2)
    assert "2 s" in str(error)


def test_failures_teach_no_pace(world: Any) -> None:
    failing = Timed(each=1.0, by_text=BY_TEXT)
    whole = Deadline(reranker=failing, seconds=6, on_late="partial")
    world.rank(whole, TEXTS[:3])
    refusing = Timed(error=RateLimited("later"))
    object.__setattr__(whole, "reranker", refusing)
    for _ in range(5):
        error, _ = world.timed(world.rank, whole, TEXTS)
        assert type(error) is RateLimited
    object.__setattr__(whole, "reranker", failing)
    assert sum(hit.score is not None for hit in world.rank(whole, TEXTS)) >= 4


def test_a_late_members_score_reaches_no_other_call(world: Any) -> None:
    slow = Timed(seconds=5, by_text=BY_TEXT)
    whole = Deadline(reranker=slow, seconds=2)
    assert world.rank(whole, TEXTS).degraded
    world.settle()
    assert world.rank(whole, TEXTS[:3]).hits[0].unscored == "late for 2 s"


def test_partial_scores_in_rounds_what_fits_and_lets_the_others_follow(world: Any) -> None:
    reranker = Timed(name="steady", each=1.0, by_text=BY_TEXT)
    whole = Deadline(reranker=reranker, seconds=6, on_late="partial")
    world.rank(whole, TEXTS[:3])  # learns that a text takes a second
    ranking, took = world.timed(world.rank, whole, TEXTS)
    assert in_time(took, 6)
    reached = [hit for hit in ranking if hit.raw_score is not None]
    assert 4 <= len(reached) < 12
    first = [Candidate(str(i), text) for i, text in enumerate(TEXTS[: len(reached)])]
    assert sorted(hit.id for hit in reached) == sorted(c.id for c in first)  # in first-stage order
    assert [(h.id, h.raw_score) for h in reached] == [(h.id, h.raw_score) for h in reranker.rerank("q", first)]
    assert [hit.text for hit in ranking][len(reached) :] == TEXTS[len(reached) :]
    assert {hit.unscored for hit in ranking[len(reached) :]} == {"not reached in 6 s"}
    assert ranking.degraded == (f"{len(reached)} of 12 candidates were scored in 6 s; the others follow",)
    assert not ranking.substituted
    assert [hit.rank for hit in ranking] == list(range(1, 13))


def test_partial_fits_into_a_shorter_time_of_the_call(world: Any) -> None:
    whole = Deadline(reranker=Timed(each=1.0, by_text=BY_TEXT), seconds=60, on_late="partial")
    world.rank(whole, TEXTS[:3])
    ranking, took = world.timed(world.rank, whole, TEXTS, timeout=6)
    assert in_time(took, 6)
    reached = sum(hit.raw_score is not None for hit in ranking)
    assert 4 <= reached < 12
    assert ranking.degraded == (f"{reached} of 12 candidates were scored in 6 s; the others follow",)


def test_partial_keeps_the_rounds_before_one_that_is_late(world: Any) -> None:
    reranker = Sudden(slow_from=2)
    whole = Deadline(reranker=reranker, seconds=6, on_late="partial")
    world.rank(whole, TEXTS[:2])
    ranking, took = world.timed(world.rank, whole, TEXTS)
    assert in_time(took, 6)
    scored = [hit for hit in ranking if hit.raw_score is not None]
    assert scored and len(scored) < 12 and sorted(h.id for h in ranking) == sorted(str(i) for i in range(12))
    assert len(ranking.degraded) == 1


def test_partial_keeps_the_rounds_before_a_failure_that_may_pass(world: Any) -> None:
    reranker = Failing(slow_from=2)
    whole = Deadline(reranker=reranker, seconds=6, on_late="partial")
    world.rank(whole, TEXTS[:2])
    ranking = world.rank(whole, TEXTS)
    reached = sum(hit.raw_score is not None for hit in ranking)
    assert 0 < reached < 12
    assert ranking.degraded == (
        f"{reached} of 12 candidates were scored before a failure (RateLimited); the others follow",
    )
    assert {hit.unscored for hit in ranking[reached:]} == {"not reached before a failure (RateLimited)"}


def test_partial_tries_half_as_much_after_a_call_that_was_late(world: Any) -> None:
    reranker = Timed(each=1.0, by_text=BY_TEXT)
    whole = Deadline(reranker=reranker, seconds=6, on_late="partial")
    ranking, took = world.timed(world.rank, whole, TEXTS)
    assert in_time(took, 6) and {hit.unscored for hit in ranking} == {"not reached in 6 s"}
    assert [hit.text for hit in ranking] == TEXTS and len(ranking.degraded) == 1
    again, took = world.timed(world.rank, whole, TEXTS)
    assert in_time(took, 6) and sum(hit.score is not None for hit in again) >= 4


def test_partial_comes_back_after_a_bad_hour(world: Any) -> None:
    reranker = Sudden(slow_from=0)
    whole = Deadline(reranker=reranker, seconds=6, on_late="partial")
    for _ in range(8):
        ranking, took = world.timed(world.rank, whole, TEXTS)
        assert in_time(took, 6) and all(hit.score is None for hit in ranking)
    reranker.__dict__["slow_from"] = 10**6
    reached = [sum(hit.score is not None for hit in world.rank(whole, TEXTS)) for _ in range(30)]
    assert reached[0] >= 1 and reached[-1] >= 4


def test_partial_asks_a_reranker_that_reads_all_together_only_once(world: Any) -> None:
    whole = Deadline(reranker=LexicalReranker(), seconds=6, on_late="partial")
    ranking = world.rank(whole, TEXTS)
    assert len(ranking.trace.children) == 1 and ranking.degraded == ()


def test_partial_of_a_composite_is_marked_as_its_answer_is(world: Any) -> None:
    fallback = Fallback(members=(Timed(error=RateLimited("later")), Timed(name="spare", by_text=BY_TEXT)))
    ranking = world.rank(Deadline(reranker=fallback, seconds=6, on_late="partial"), TEXTS)
    assert ranking.substituted and len(ranking.degraded) == 1


@pytest.mark.parametrize("on_late", ["error", "first_stage", "partial"])
def test_no_candidates_need_no_time(world: Any, on_late: Any) -> None:
    ranking = world.rank(Deadline(reranker=Timed(seconds=1), seconds=2, on_late=on_late), [])
    assert len(ranking) == 0 and ranking.degraded == ()


@pytest.mark.parametrize("on_late", ["first_stage", "partial"])
def test_blank_texts_stay_last(world: Any, on_late: Any) -> None:
    whole = Deadline(reranker=Timed(each=0.1, default=1.0), seconds=5, on_late=on_late)
    ranking = world.rank(whole, ["", "a", " ", "b"])
    assert [hit.id for hit in ranking] == ["1", "3", "0", "2"]


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused_with_its_path(seconds: float) -> None:
    with pytest.raises(ConfigError, match=r"^seconds: seconds must be a finite number of more than 0"):
        Deadline(reranker=LexicalReranker(), seconds=seconds)
    inner = {"type": "deadline", "reranker": "lexical", "seconds": seconds}
    with pytest.raises(ConfigError, match=r"^members\[1\]\.seconds: "):
        build({"type": "fallback", "members": ["lexical", inner]})


def test_unknown_words_and_missing_parts_are_refused() -> None:
    with pytest.raises(ConfigError, match="on_late: unknown on_late 'parial'; did you mean 'partial'"):
        Deadline(reranker=LexicalReranker(), seconds=1, on_late="parial")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="reranker: expected a Reranker, got str"):
        Deadline(reranker="lexical", seconds=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs 'seconds'"):
        build({"type": "deadline", "reranker": "lexical"})


def test_it_comes_from_config_and_goes_back(tmp_path: Any) -> None:
    node = {"type": "deadline", "reranker": {"type": "lexical"}, "seconds": 0.5, "on_late": "partial"}
    assert to_config(build(node)) == node
    file = tmp_path / "r.yaml"
    file.write_text("type: deadline\nreranker: lexical\nseconds: 0.5\non_late: partial\n", encoding="utf-8")
    assert load(file) == build(node)


def test_a_config_within_itself_is_an_error_with_its_file(tmp_path: Any) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("&top\ntype: deadline\nseconds: 1\nreranker: *top\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"r\.yaml: .*within itself"):
        load(file)


class Sudden(ScriptedReranker):
    """Takes a second a text, and an hour from some call on."""

    def __init__(self, slow_from: int) -> None:
        super().__init__(name="sudden", by_text=BY_TEXT)
        self.__dict__["slow_from"] = slow_from

    def _seconds(self, texts: Any) -> float:
        return 3600.0 if len(self.calls) >= self.__dict__["slow_from"] else float(len(texts))

    def score(self, query: str, texts: Any) -> Scores:
        clock.sleep(self._seconds(texts))
        return super().score(query, texts)

    async def ascore(self, query: str, texts: Any) -> Scores:
        await clock.asleep(self._seconds(texts))
        return Scores(super().score(query, texts).values, self.scale, Usage(texts=len(texts)))


class Failing(Sudden):
    """Takes a second a text, and fails from some call on."""

    def _seconds(self, texts: Any) -> float:
        if len(self.calls) >= self.__dict__["slow_from"]:
            raise RateLimited("slow down")
        return float(len(texts))

"""Cached: the same ranking for less work, and never a score of another reranker."""

import asyncio
import math
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_rerank import (
    BackendUnavailable,
    BadResponse,
    Cached,
    Candidate,
    Cascade,
    ConfigError,
    Coverage,
    Fallback,
    InputTooLong,
    Ranking,
    Reranker,
    Scale,
    Scores,
    Stage,
    Trace,
    TruncationWarning,
    Usage,
    build,
    to_config,
)
from rag_rerank.base import PointwiseReranker
from rag_rerank.compose.cache import cache_stores
from rag_rerank.compose.cache.cached import _keys
from rag_rerank.testing import ScriptedReranker

Ask = Callable[..., Ranking]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    if request.param == "sync":
        return lambda reranker, texts, query="q": reranker.rerank(query, texts)
    return lambda reranker, texts, query="q": asyncio.run(reranker.arerank(query, texts))


@pytest.fixture(params=["memory", "file"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    return None if request.param == "memory" else str(tmp_path / "scores.db")


@dataclass(frozen=True, kw_only=True)
class ProviderLike(PointwiseReranker):
    """Scores a text by its length, reads ten characters of it, and returns what a provider returns."""

    kind: ClassVar[str] = "telling"

    answers_on: Scale = "unbounded"
    on_overflow: str = "truncate"
    answer: Scores | None = field(default=None, metadata={"live": True})
    requests: list[tuple[str, ...]] = field(default_factory=list, init=False, compare=False, metadata={"live": True})

    @property
    def why_not_cacheable(self) -> None:
        return None

    @property
    def scale(self) -> Scale:
        return "unbounded"

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        self.requests.append(tuple(texts))
        if self.answer is not None:
            return self.answer
        if self.on_overflow == "error":
            for position, text in enumerate(texts):
                if len(text) > 10:
                    raise InputTooLong(f"{len(text)} characters", position=position)
        return Scores(
            [float(len(text)) for text in texts],
            self.answers_on,
            Usage(texts=len(texts), requests=2, tokens=7 * len(texts), estimated=("tokens",)),
            [Coverage(len(text), min(10, len(text))) for text in texts],
            (Trace(step="one", attempts=2, failures=("503",)), Trace(step="two", attempts=1)),
            ("by estimate",),
        )


def test_a_second_call_asks_for_nothing_and_ranks_the_same(ask: Ask, path: str | None) -> None:
    inner = ScriptedReranker(by_text={"a": 1.5, "b": -2.0}, answers_on="sigmoid")
    with Cached(reranker=inner, path=path) as cached:
        first, second = ask(cached, ["a", "b", "c"]), ask(cached, ["a", "b", "c"])
    assert inner.calls == [("q", ("a", "b", "c"))]
    assert second.hits == first.hits == inner.rerank("q", ["a", "b", "c"]).hits
    assert (first.usage.texts, first.usage.cached) == (3, 0)
    assert (second.usage.texts, second.usage.cached) == (0, 3)
    assert second.usage == second.trace.usage == Usage(cached=3)
    assert second.trace.notes == ("3 of 3 scores came from the cache",)
    assert second.scale == "sigmoid"


def test_only_missing_texts_are_scored(ask: Ask, path: str | None) -> None:
    inner = ScriptedReranker(by_text={"a": 1.0, "b": 2.0, "c": 3.0})
    with Cached(reranker=inner, path=path) as cached:
        ask(cached, ["a", "b"])
        ranking = ask(cached, ["a", "c", "b", "d", " "])
    assert inner.calls[1:] == [("q", ("c", "d"))]
    assert [hit.text for hit in ranking] == ["c", "b", "a", "d", " "]
    assert (ranking.usage.texts, ranking.usage.cached) == (2, 2)


def test_copies_of_a_text_in_one_call_are_scored_once(ask: Ask, path: str | None) -> None:
    inner = ScriptedReranker(by_text={"a": 1.0})
    with Cached(reranker=inner, path=path) as cached:
        ranking = ask(cached, ["b", "a", "b", "a", "b"])
    assert inner.calls == [("q", ("b", "a"))]
    assert [hit.id for hit in ranking] == ["1", "3", "0", "2", "4"]
    assert (ranking.usage.texts, ranking.usage.cached) == (2, 3)


def test_another_query_is_another_score(path: str | None) -> None:
    inner = ScriptedReranker()
    with Cached(reranker=inner, path=path) as cached:
        cached.rerank("q", ["a"])
        cached.rerank("r", ["a"])
    assert inner.calls == [("q", ("a",)), ("r", ("a",))]


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "é", "e\u0301", " "]), max_size=8), max_size=5))
@settings(max_examples=60)
def test_the_ranking_is_the_one_without_a_cache_with_ties_and_copies(calls: list[list[str]]) -> None:
    inner = ScriptedReranker(by_text={"a": 1.0, "b": 1.0, "c": -0.0, "é": 2.0})
    cached = Cached(reranker=inner, max_entries=3)
    for texts in calls:
        plain, cached_ranking = inner.rerank("q", texts), cached.rerank("q", texts)
        assert [(h.id, h.score, h.raw_score, h.unscored) for h in cached_ranking] == [
            (h.id, h.score, h.raw_score, h.unscored) for h in plain
        ]
        assert cached_ranking.usage.texts + cached_ranking.usage.cached == plain.usage.texts


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3), st.text(max_size=3)), min_size=2, unique=True))
def test_no_two_pairs_share_a_key(parts: list[tuple[str, str, str]]) -> None:
    assert len({_keys(fingerprint, query, [text])[0] for fingerprint, query, text in parts}) == len(parts)


def test_the_border_between_query_and_text_counts() -> None:
    assert _keys("f", "ab", ["c"]) != _keys("f", "a", ["bc"])
    assert _keys("f", "a", ["b", "c"]) == _keys("f", "a", ["b"]) + _keys("f", "a", ["c"])


def test_coverage_requests_failures_and_notes_of_the_reranker_are_kept(ask: Ask, path: str | None) -> None:
    with Cached(reranker=ProviderLike(), path=path) as cached:
        with pytest.warns(TruncationWarning, match="only the beginning"):
            first = ask(cached, ["short", "much too long"])
        assert first.trace.coverage == {"0": Coverage(5, 5), "1": Coverage(13, 10)}
        assert (first.trace.attempts, first.trace.failures) == (3, ("503",))
        assert [child.step for child in first.trace.children] == ["one", "two"]
        assert first.trace.notes == ("by estimate",)
        assert (first.usage.requests, first.usage.tokens, first.usage.estimated) == (2, 14, ("tokens",))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # one warning a reranker
            second = ask(cached, ["new", "much too long", "short"])
        assert {hit.text: hit.coverage for hit in second} == {
            "new": Coverage(3, 3),
            "much too long": Coverage(13, 10),
            "short": Coverage(5, 5),
        }
        assert second.trace.notes == ("by estimate", "2 of 3 scores came from the cache")


def test_a_too_long_text_is_named_by_its_own_id_also_beside_cached_ones(ask: Ask, path: str | None) -> None:
    cutting, refusing = ProviderLike(), ProviderLike(on_overflow="error")
    with Cached(reranker=cutting, path=path) as lenient, pytest.warns(TruncationWarning):
        ask(lenient, ["much too long"])
    with Cached(reranker=refusing, path=path) as strict:
        ask(strict, ["a", "b"])
        candidates = [Candidate("1", "a"), Candidate("2", " "), Candidate("3", "c"), Candidate("4", "much too long")]
        with pytest.raises(InputTooLong, match="candidate '4': 13 characters") as caught:
            ask(strict, candidates)
        assert caught.value.trace is not None and caught.value.trace.step == "cached(telling)"
        ask(strict, ["a", "b"])
    assert refusing.requests == [("a", "b"), ("c", "much too long")]


def test_a_failure_keeps_its_trace_and_loses_nothing(ask: Ask, tmp_path: Path) -> None:
    file = str(tmp_path / "scores.db")
    down = ScriptedReranker(error=BackendUnavailable("down"))
    with Cached(reranker=ScriptedReranker(), path=file) as up, Cached(reranker=down, path=file) as cached:
        ask(up, ["a", "b"])
        with pytest.raises(BackendUnavailable, match="down") as caught:
            ask(cached, ["a", "c"])
        assert caught.value.trace is not None
        assert caught.value.trace.error == "BackendUnavailable: down"
        assert ask(cached, ["b", "a"]).usage == Usage(cached=2)  # the error is no part of what the scores depend on
    assert down.calls == [("q", ("c",))]


def test_a_fallback_moves_on_from_a_cached_member(ask: Ask) -> None:
    down = Cached(reranker=ScriptedReranker(name="first", error=BackendUnavailable("down")))
    ranking = ask(Fallback(members=(down, ScriptedReranker(name="spare"))), ["a"])
    assert [child.step for child in ranking.trace.children] == ["cached(first)", "spare"]
    assert ranking.degraded


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Scores([1.0], "unbounded"), "gave 1 scores"),
        (Scores([1.0, math.nan], "unbounded"), "score 1 must be finite"),
        (Scores([1.0, 2.0], "sigmoid"), "declares the scale 'unbounded' and answered on 'sigmoid'"),
        (None, "gave NoneType instead of Scores"),
    ],
)
def test_an_invalid_answer_is_never_stored(answer: Scores | None, message: str) -> None:
    class InvalidScores(ProviderLike):
        def score(self, query: str, texts: Sequence[str]) -> Scores:
            return answer if len(self.requests) == 0 else super().score(query, texts)

    inner = InvalidScores()
    cached = Cached(reranker=inner)
    with pytest.raises(BadResponse, match=message):
        cached.rerank("q", ["a", "bb"])
    inner.requests.append(())
    assert cached.rerank("q", ["a", "bb"]).usage.texts == 2


def test_coverage_of_some_texts_only_is_refused_rather_than_lost() -> None:
    inner = ProviderLike()
    cached = Cached(reranker=inner)
    cached.rerank("q", ["a"])
    object.__setattr__(inner, "answer", Scores([1.0], "unbounded"))
    with pytest.raises(BadResponse, match="the coverage of some texts only"):
        cached.rerank("q", ["a", "b"])


@pytest.mark.parametrize(
    ("reranker", "message"),
    [
        ("lexical", "lexical cannot be cached: BM25 counts words over the candidates"),
        (Cascade(stages=(Stage(reranker=ScriptedReranker()),)), "cache its members instead"),
        ({"type": "fallback", "members": ["lexical", "embedded"]}, "cache its members instead"),
    ],
)
def test_what_depends_on_the_other_candidates_is_refused_with_its_path(reranker: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Cached(reranker=build(reranker))
    assert caught.value.path == "reranker"


def test_refusals_in_a_config_have_their_whole_path() -> None:
    with pytest.raises(ConfigError, match=r"^members\[1\]\.reranker: lexical cannot be cached"):
        build({"type": "fallback", "members": ["embedded", {"type": "cached", "reranker": "lexical"}]})


def test_a_class_that_promises_nothing_and_a_listwise_reranker_are_refused() -> None:
    class Silent(ProviderLike):
        why_not_cacheable = PointwiseReranker.why_not_cacheable  # type: ignore[assignment]

    with pytest.raises(ConfigError, match="does not promise that a score depends on the query and its text alone"):
        Cached(reranker=Silent())

    class Listwise(Reranker):
        kind = "listwise"
        scale = "unbounded"  # type: ignore[assignment]

        def _rank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
            raise NotImplementedError

        async def _arank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
            raise NotImplementedError

    with pytest.raises(ConfigError, match="its answer depends on all candidates"):
        Cached(reranker=Listwise())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected a Reranker, got str"):
        Cached(reranker="minilm")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": " "}, "path: the path is blank"),
        ({"max_entries": 0}, "max_entries: max_entries must be at least 1"),
        ({"ttl": 0.0}, "ttl: ttl must be a finite number of more than 0"),
        ({"ttl": math.inf}, "ttl: ttl must be a finite number of more than 0"),
    ],
)
def test_values_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Cached(reranker=ScriptedReranker(), **options)


def test_config_goes_round(tmp_path: Path) -> None:
    node = {"type": "cached", "reranker": "cohere:rerank-v3.5", "path": "~/c.db", "max_entries": 5, "ttl": 60}
    cached = build(node)
    assert build(to_config(cached)) == cached
    assert cached.children == (build("cohere:rerank-v3.5"),)
    assert cached.label == "cached(cohere:rerank-v3.5)"
    assert build({**node, "name": "mine"}).label == "mine"


def test_building_one_makes_no_file(tmp_path: Path) -> None:
    Cached(reranker=ScriptedReranker(), path=str(tmp_path / "scores.db")).close()
    assert not list(tmp_path.iterdir())


def test_the_least_recently_used_go_first(path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(cache_stores, "clock", lambda: now[0])
    inner = ScriptedReranker()
    with Cached(reranker=inner, path=path, max_entries=3) as cached:

        def hits(texts: str) -> int:
            now[0] += 100
            return cached.rerank("q", list(texts)).usage.cached

        assert [hits(text) for text in ("a", "b", "c", "a", "d")] == [0, 0, 0, 1, 0]  # "b" made room for "d"
        assert hits("acd") == 3
        assert hits("b") == 0
        assert hits("efghijkl") == 0  # more in one call than there is room for
        assert hits("efghijkl") == 3
        assert hits("a") == 0


def test_scores_older_than_the_ttl_are_not_used(path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(cache_stores, "clock", lambda: now[0])
    with Cached(reranker=ScriptedReranker(), path=path, ttl=60.0) as cached:
        cached.rerank("q", ["a"])
        counts = []
        for moment in (1060.0, 1061.0, 1120.0, 900.0):  # just fresh, too old, fresh since then, from the future
            now[0] = moment
            counts.append(cached.rerank("q", ["a"]).usage.cached)
    assert counts == [1, 0, 1, 0]


def test_memory_may_stand_before_a_file(tmp_path: Path) -> None:
    inner = ScriptedReranker()
    with Cached(reranker=inner, path=str(tmp_path / "scores.db")) as file:
        file.rerank("q", ["a"])
        both = Cached(reranker=file)
        assert [both.rerank("q", ["a", "b"]).usage for _ in range(2)] == [Usage(texts=1, cached=1), Usage(cached=2)]
    assert inner.calls == [("q", ("a",)), ("q", ("b",))]


def test_closing_forgets_memory_and_keeps_a_file(path: str | None) -> None:
    cached = Cached(reranker=ScriptedReranker(), path=path)
    cached.rerank("q", ["a"])
    cached.close()
    assert cached.rerank("q", ["a"]).usage.cached == (0 if path is None else 1)
    asyncio.run(cached.aclose())
    assert cached.rerank("q", ["a"]).usage.cached == (0 if path is None else 1)
    cached.close()


def test_the_reranker_is_warmed_up_and_closed_with_its_cache() -> None:
    happened = []

    class Noting(ScriptedReranker):
        def warm_up(self) -> None:
            happened.append("warm")

        def close(self) -> None:
            happened.append("close")

    with Cached(reranker=Noting()) as cached:
        cached.warm_up()
    asyncio.run(cached.aclose())
    assert happened == ["warm", "close", "close"]


def test_threads_share_a_cache_and_meeting_at_a_miss_does_no_harm(path: str | None) -> None:
    texts = [f"text {i}" for i in range(40)]
    meeting = threading.Barrier(8, timeout=30)

    class Meeting(ScriptedReranker):
        def score(self, query: str, texts: Sequence[str]) -> Scores:
            if query == "all":
                meeting.wait()
            return super().score(query, texts)

    inner = Meeting(by_text={text: float(i % 7) for i, text in enumerate(texts)})
    expected = [hit.id for hit in ScriptedReranker(by_text=inner.by_text).rerank("q", texts)]
    with Cached(reranker=inner, path=path) as cached, ThreadPoolExecutor(8) as pool:
        for query in ("all", "q", "q"):
            rankings = list(pool.map(lambda _, query=query: cached.rerank(query, texts), range(8)))
            assert all([hit.id for hit in ranking] == expected for ranking in rankings)
        assert cached.rerank("all", texts).usage == Usage(cached=40)
    assert [query for query, _ in inner.calls].count("all") == 8


def test_closing_during_other_calls_disturbs_none_of_them(path: str | None) -> None:
    inner = ScriptedReranker(by_text={"b": 1.0})
    cached = Cached(reranker=inner, path=path)

    class Closing(ScriptedReranker):
        def score(self, query: str, texts: Sequence[str]) -> Scores:
            whole.close()
            return super().score(query, texts)

    whole = Cached(reranker=Closing(by_text={"b": 1.0}), path=path)
    assert [hit.text for hit in whole.rerank("q", ["a", "b"])] == ["b", "a"]
    with ThreadPoolExecutor(4) as pool:
        rankings = list(pool.map(lambda i: cached.close() if i % 3 else cached.rerank("q", ["a", "b"]), range(60)))
    assert all([hit.text for hit in ranking] == ["b", "a"] for ranking in rankings if ranking is not None)
    cached.close()


def test_hashing_and_files_never_run_on_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rag_rerank.compose.cache import cached as module
    from rag_rerank.compose.cache.cache_stores import FileStore

    loops: list[int] = []
    worked: list[tuple[str, int]] = []

    def logged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            worked.append((name, threading.get_ident()))
            return function(*arguments)

        return run

    class Native(ScriptedReranker):
        async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
            loops.append(threading.get_ident())
            return self.score(query, texts)

    for name in ("__init__", "_open", "find", "put", "close"):
        monkeypatch.setattr(FileStore, name, logged(name, getattr(FileStore, name)))
    monkeypatch.setattr(module, "_keys", logged("keys", module._keys))

    async def ask() -> None:
        async with Cached(reranker=Native(), path=str(tmp_path / "scores.db")) as cached:
            await cached.arerank("q", ["a", "b"])
            await cached.arerank("q", ["a", "c"])

    asyncio.run(ask())
    assert {name for name, _ in worked} == {"__init__", "_open", "keys", "find", "put", "close"}
    assert loops == [threading.get_ident()] * 2
    assert threading.get_ident() not in {thread for _, thread in worked}


def test_a_text_without_a_score_is_not_kept(ask: Ask, path: str | None) -> None:
    answer = Scores([2.0, 1.0], "unbounded", unscored={0: "refused"})
    inner = ProviderLike(answer=answer)
    with Cached(reranker=inner, path=path) as cached:
        first = ask(cached, ["a", "b", "a"])
        assert [(hit.id, hit.unscored) for hit in first] == [("1", None), ("0", "refused"), ("2", "refused")]
        object.__setattr__(inner, "answer", Scores([3.0], "unbounded"))
        again = ask(cached, ["a", "b", "a"])
        assert [(hit.id, hit.raw_score) for hit in again] == [("0", 3.0), ("2", 3.0), ("1", 1.0)]
        assert inner.requests == [("a", "b"), ("a",)]


def test_scores_that_are_not_quite_what_was_asked_for_are_not_kept(ask: Ask, path: str | None) -> None:
    inner = ProviderLike(answer=Scores([2.0], "unbounded", degraded=("another model answered",)))
    with Cached(reranker=inner, path=path) as cached:
        assert [ask(cached, ["a"]).degraded for _ in range(2)] == [("another model answered",)] * 2
        assert inner.requests == [("a",)] * 2

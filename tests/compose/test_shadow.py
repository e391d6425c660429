"""Shadow: the answer is the same as without it, and reports compare the other reranker with it."""

import asyncio
import json
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from rag_rerank import (
    BackendUnavailable,
    ConfigError,
    DeadlineExceeded,
    Fallback,
    Ranking,
    Reranker,
    Scores,
    Shadow,
    ShadowReport,
    build,
    to_config,
)
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.compose import shadow as module
from rag_rerank.execution import background
from rag_rerank.execution.clock import wait_for_any
from rag_rerank.testing import RerankerContract, ScriptedReranker

Ask = Callable[..., Ranking]
TEXTS = ["a", "b", "c", "d"]
UP = ScriptedReranker(by_text={"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}, name="up")
DOWN = ScriptedReranker(by_text={"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}, name="down", answers_on="similarity")


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    if request.param == "sync":
        return lambda reranker, texts=TEXTS, **options: reranker.rerank("q", texts, **options)
    return lambda reranker, texts=TEXTS, **options: asyncio.run(reranker.arerank("q", texts, **options))


@dataclass(frozen=True, kw_only=True)
class GatedReranker(ScriptedReranker):
    """Signals that a call has started, and answers when its gate opens."""

    started: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(0), compare=False, metadata={"live": True}
    )
    gate: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(0), compare=False, metadata={"live": True}
    )

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        self.started.release()
        assert self.gate.acquire(timeout=30)
        return super().score(query, texts)


@pytest.fixture
def gated() -> Iterator[GatedReranker]:
    gated = GatedReranker(by_text=dict(UP.by_text), name="gated")
    yield gated
    gated.gate.release(100)


class ReportLog:
    """Takes reports, and waits for them."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.reports: list[ShadowReport] = []
        self.threads: list[threading.Thread] = []
        self._error = error
        self._arrived = threading.Semaphore(0)

    def __call__(self, report: ShadowReport) -> None:
        self.reports.append(report)
        self.threads.append(threading.current_thread())
        self._arrived.release()
        if self._error is not None:
            raise self._error

    def wait(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._arrived.acquire(timeout=30)


def test_the_answer_is_the_rerankers_own_and_the_report_compares_both(ask: Ask) -> None:
    log = ReportLog()
    shadow = Shadow(reranker=UP, other=DOWN, share=1.0, on_report=log)
    ranking = ask(shadow)
    assert [hit.text for hit in ranking] == TEXTS
    assert (ranking.scale, ranking.degraded, ranking.substituted) == ("unbounded", (), False)
    assert [child.step for child in ranking.trace.children] == ["up"]
    assert ranking.usage.texts == 4
    assert ranking.trace.notes == ("down ranks this too",)
    log.wait()
    (report,) = log.reports
    assert shadow.reports() == (report,)
    assert report.rbo == pytest.approx(0.1 / 0.9 * (2 / 3 * 0.9**3 + 0.9**4) + 0.9**4)
    assert (report.tau, report.top_10, report.candidates) == (-1.0, 1.0, 4)
    assert (report.answer.step, report.answer.scale, report.answer.usage) == ("up", "unbounded", ranking.usage)
    assert (report.other.step, report.other.scale, report.other.usage.texts) == ("down", "similarity", 4)
    assert (report.answer.seconds, report.other.error) == (ranking.trace.children[0].seconds, None)
    assert log.threads[0] is not threading.main_thread() and log.threads[0].daemon


def test_all_candidates_are_compared_whatever_the_cutoff(ask: Ask) -> None:
    log = ReportLog()
    assert len(ask(Shadow(reranker=UP, other=DOWN, share=1.0, on_report=log), top_k=1)) == 1
    log.wait()
    assert log.reports[0].candidates == 4


def test_the_answer_does_not_wait(ask: Ask, gated: GatedReranker) -> None:
    shadow = Shadow(reranker=UP, other=gated, share=1.0)
    assert len(ask(shadow)) == 4
    assert gated.started.acquire(timeout=30)
    assert shadow.reports() == ()
    gated.gate.release()
    shadow.close()
    assert len(shadow.reports()) == 1


def test_the_callers_time_does_not_limit_the_shadow_but_its_own_does(ask: Ask, gated: GatedReranker) -> None:
    limits: list[float] = []

    @dataclass(frozen=True, kw_only=True)
    class Asking(ScriptedReranker):
        enforces_deadline = True

        def score(self, query: str, texts: Sequence[str]) -> Scores:
            from rag_rerank.execution.deadline import seconds_left

            limits.append(seconds_left())
            return super().score(query, texts)

    log = ReportLog()
    shadow = Shadow(reranker=UP, other=Asking(), share=1.0, timeout=5000.0, on_report=log)
    ask(shadow, timeout=50.0)
    log.wait()
    assert 50 < limits[0] <= 5000
    late = Shadow(reranker=UP, other=gated, share=1.0, timeout=0.01, on_report=log)
    assert len(ask(late)) == 4
    log.wait()
    assert "DeadlineExceeded" in (log.reports[-1].other.error or "")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BackendUnavailable("gone"), "BackendUnavailable: gone"),
        (ValueError("the text was: secret"), "ValueError"),
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_a_failure_of_any_class_is_in_the_report_only(ask: Ask, error: Exception, text: str) -> None:
    log = ReportLog()
    shadow = Shadow(reranker=UP, other=ScriptedReranker(error=error), share=1.0, on_report=log)
    for _ in range(2):
        assert [hit.text for hit in ask(shadow)] == TEXTS
        log.wait()
    for report in log.reports:
        assert (report.other.error, report.rbo, report.tau, report.top_10) == (text, None, None, None)
        assert report.other.scale is None
    summary = shadow.summary()
    assert (summary.reports, summary.failures, summary.rbo, summary.other_seconds) == (2, 2, None, None)


def test_an_answer_that_failed_is_not_compared(ask: Ask) -> None:
    other = ScriptedReranker()
    shadow = Shadow(reranker=ScriptedReranker(error=BackendUnavailable("gone")), other=other, share=1.0)
    with pytest.raises(BackendUnavailable):
        ask(shadow)
    shadow.close()
    assert other.calls == []
    assert shadow.summary().reports == 0


def test_a_callback_that_raises_is_logged_and_counted(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    log = ReportLog(SystemExit("no"))
    shadow = Shadow(reranker=UP, other=DOWN, share=1.0, on_report=log)
    ask(shadow)
    ask(shadow)
    shadow.close()
    log.wait(len(log.reports))
    assert shadow.summary().unheard == len(log.reports) >= 1
    assert "on_report of shadow(up) raised" in caplog.text


def test_the_callback_may_close_the_shadow(ask: Ask) -> None:
    done = threading.Event()

    def enough(report: ShadowReport) -> None:
        shadow.close()
        done.set()

    shadow = Shadow(reranker=UP, other=DOWN, share=1.0, on_report=enough)
    ask(shadow)
    assert done.wait(30)
    shadow.close()
    assert shadow.summary().unheard == 0


def test_only_a_share_is_compared(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    rolled = iter([0.3, 0.1, 0.25, 0.0])
    monkeypatch.setattr(module, "random", lambda: next(rolled))
    log = ReportLog()
    shadow = Shadow(reranker=UP, other=DOWN, share=0.25, on_report=log)
    notes = []
    for sampled in (False, True, False, True):
        notes.append(bool(ask(shadow).trace.notes))
        if sampled:
            log.wait()
    assert notes == [False, True, False, True]
    assert shadow.summary().reports == 2


def test_what_is_too_much_is_skipped_and_counted_and_what_waits_at_the_end_is_dropped(
    ask: Ask, gated: GatedReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    shadow = Shadow(reranker=UP, other=gated, share=1.0, max_waiting=2)
    notes = [ask(shadow).trace.notes for _ in range(5)]
    assert notes == [("gated ranks this too",)] * 3 + [("gated is too busy to rank this too",)] * 2
    assert shadow.summary().skipped == 2
    assert gated.started.acquire(timeout=30)

    def released(futures: Any) -> None:  # what runs is waited for, and here it may end
        gated.gate.release()
        wait_for_any(futures)

    with monkeypatch.context() as patch:
        patch.setattr(background, "wait_for_any", released)
        shadow.close()
    summary = shadow.summary()
    assert (summary.reports, summary.skipped, summary.dropped) == (1, 2, 2)
    assert len(gated.calls) == 1
    gated.gate.release()
    ask(shadow)
    shadow.close()
    assert shadow.summary().reports == 2


def test_only_the_newest_reports_are_kept(ask: Ask) -> None:
    log = ReportLog()
    shadow = Shadow(reranker=UP, other=DOWN, share=1.0, keep=2, on_report=log)
    for count in (2, 3, 4):
        ask(shadow, TEXTS[:count])
        log.wait()
    assert [report.candidates for report in shadow.reports()] == [3, 4]


def test_no_thread_to_be_had_is_a_skip(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(work: Any) -> Any:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(background, "start_thread", none)
    shadow = Shadow(reranker=UP, other=DOWN, share=1.0)
    assert len(ask(shadow)) == 4
    assert len(ask(shadow)) == 4
    assert shadow.summary().skipped == 2


def test_a_summary_has_means_and_percentiles(ask: Ask) -> None:
    log = ReportLog()
    shadow = Shadow(reranker=UP, other=UP, share=1.0, on_report=log)
    for _ in range(3):
        ask(shadow)
        log.wait()
    summary = shadow.summary()
    assert summary.rbo is not None and (summary.rbo.mean, summary.rbo.p5, summary.rbo.p95) == (1.0, 1.0, 1.0)
    assert summary.tau is not None and summary.tau.p50 == 1.0
    assert (summary.usage.texts, summary.other_usage.texts) == (12, 12)
    assert json.loads(json.dumps(summary.to_dict()))["top_10"]["mean"] == 1.0


def test_percentiles_are_nearest_ranks() -> None:
    from rag_rerank.compose.shadow_report import Spread

    spread = Spread.of([float(i) for i in range(1, 101)])
    assert spread == Spread(mean=50.5, p5=5.0, p50=50.0, p95=95.0)
    assert Spread.of([3.0, None]) == Spread(mean=3.0, p5=3.0, p50=3.0, p95=3.0)
    assert Spread.of([None]) is None


def test_ties_and_candidates_without_a_score(ask: Ask) -> None:
    log = ReportLog()
    tied = ScriptedReranker(by_text={"a": 1.0, "b": 1.0, "c": 0.5})
    ask(Shadow(reranker=UP, other=tied, share=1.0, on_report=log), ["a", "b", " ", "c"])
    log.wait()
    (report,) = log.reports
    assert (report.candidates, report.rbo) == (4, 1.0)
    assert report.tau == pytest.approx(2 / 6**0.5)
    nothing = Shadow(reranker=UP, other=tied, share=1.0, on_report=log)
    ask(nothing, [" "])
    log.wait()
    assert (log.reports[1].rbo, log.reports[1].tau) == (None, None)
    ask(nothing, [])
    assert nothing.summary().reports == 1


def test_degraded_answers_of_either_side_are_in_the_report(ask: Ask) -> None:
    log = ReportLog()
    down = ScriptedReranker(error=BackendUnavailable("gone"))
    fallback = Fallback(members=(down, ScriptedReranker()))
    ranking = ask(Shadow(reranker=UP, other=fallback, share=1.0, on_report=log))
    log.wait()
    assert not ranking.degraded
    assert log.reports[0].other.degraded and log.reports[0].other.substituted
    assert not log.reports[0].answer.degraded


def test_a_report_goes_through_json_and_holds_no_text(ask: Ask) -> None:
    log = ReportLog()
    ask(Shadow(reranker=UP, other=DOWN, share=1.0, on_report=log), ["a secret text", "another one"])
    log.wait()
    line = json.dumps(log.reports[0].to_dict())
    assert ShadowReport.from_dict(json.loads(line)) == log.reports[0]
    assert "secret" not in line


def test_the_callers_time_limits_the_answer(gated: GatedReranker) -> None:
    with pytest.raises(DeadlineExceeded):
        Shadow(reranker=gated, other=DOWN, share=1.0).rerank("q", TEXTS, timeout=0.01)


def test_it_pickles_as_its_config(ask: Ask) -> None:
    shadow = Shadow(reranker=LexicalReranker(), other=LexicalReranker(b=0.5), share=1.0)
    ask(shadow)
    shadow.close()
    twin = pickle.loads(pickle.dumps(shadow))
    assert twin == shadow
    assert (len(shadow.reports()), twin.reports()) == (1, ())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_a_shadow_of_its_own(gated: GatedReranker) -> None:
    import multiprocessing
    import warnings

    shadow = Shadow(reranker=UP, other=gated, share=1.0)
    shadow.rerank("q", TEXTS)
    assert gated.started.acquire(timeout=30)

    def child(answers: Any) -> None:
        gated.gate.release()
        shadow.rerank("q", TEXTS)
        shadow.close()
        answers.put(len(shadow.reports()))

    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside threads
        process = context.Process(target=child, args=(answers,))
        process.start()
    process.join(30)
    assert process.exitcode == 0 and answers.get() == 1
    gated.gate.release()
    shadow.close()
    assert len(shadow.reports()) == 1


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"share": 0}, "share"),
        ({"share": 1.5}, "share"),
        ({"share": float("nan")}, "share"),
        ({"share": 0.5, "timeout": 0}, "timeout"),
        ({"share": 0.5, "timeout": float("inf")}, "timeout"),
        ({"share": 0.5, "max_waiting": -1}, "max_waiting"),
        ({"share": 0.5, "keep": 0}, "keep"),
        ({"share": 0.5, "other": "embedded"}, "other"),
        ({"share": 0.5, "reranker": None}, "reranker"),
    ],
)
def test_what_makes_no_sense_is_a_config_error(options: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Shadow(**{"reranker": UP, "other": DOWN, **options})
    assert caught.value.path == path


def test_it_is_built_from_a_config() -> None:
    node = {"type": "shadow", "reranker": "embedded", "other": "lexical", "share": 0.1}
    shadow = build(node)
    assert build(json.loads(json.dumps(to_config(shadow)))) == shadow
    assert (shadow.scale, shadow.knows_text_limit) == ("sigmoid", True)


class TestShadow(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Iterator[Reranker]:
        with Shadow(reranker=LexicalReranker(), other=LexicalReranker(b=0.75), share=1.0) as shadow:
            yield shadow

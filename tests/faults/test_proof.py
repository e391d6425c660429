"""The fault proof as a test: some hundred cases keep the laws, and each law can be broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from faults.oracle import Violation
from faults.proof import Tally, run, smallest
from faults.trees import made, smaller
from faults.wire import FAULTS, Wire

from rag_rerank import base
from rag_rerank.backends.api import attempts as api_attempts
from rag_rerank.backends.api import breaker, exchange, limiter
from rag_rerank.compose import ensemble, fallback, hedge, windows
from rag_rerank.errors import AuthenticationError, BackendError, TransientError
from rag_rerank.execution import calls, deadline

SEED = 20
CASES = 300


@pytest.fixture(scope="module", autouse=True)
def no_world_outside() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CO_API_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire() as wire:
        yield wire


def test_the_laws_hold_for_random_trees_over_random_faults(wire: Wire) -> None:
    tally = Tally()
    for number in range(CASES):
        try:
            run(made(SEED, number), wire, tally)
        except Violation as violation:
            case, words = smallest(made(SEED, number), wire)
            pytest.fail(
                f"python tests/faults/run.py --seed {SEED} --case {number}\n{violation}\nsmallest: {case}\n{words}"
            )
    assert sum(tally.cases.values()) == CASES and min(tally.cases.values()) > CASES / 3
    assert len(set(tally.faults) & set(FAULTS)) >= len(FAULTS) - 3  # nearly each kind has been met
    assert tally.outcomes["ranking, degraded"] > CASES / 20 and len(tally.outcomes) >= 8


def test_a_case_runs_the_same_way_again(wire: Wire) -> None:
    def told(number: int) -> Any:
        for slot in wire.slots:
            slot.log = []
        began = wire.clock.now()
        run(made(SEED, number), wire, Tally())
        return [[(a.fault, round(a.began - began, 6), a.kind, a.texts) for a in slot.log] for slot in wire.slots]

    for number in range(40):
        assert told(number) == told(number)


def test_smaller_cases_are_cases(wire: Wire) -> None:
    for number in range(6):
        for case in smaller(made(SEED, number)):
            run(case, wire, Tally())


def _reversed(rows: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, given: rows(self, given)[::-1]


def _without_the_last(ranked: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: ranked(*given)[:-1]


def _rules(change: Callable[[Any, dict[str, Any]], dict[str, Any]]) -> Callable[..., Any]:
    original = api_attempts.Attempts._rules
    return lambda self: {**original(self), **change(self, original(self))}


async def _patient(what: str, work: Any) -> Any:
    return await work


def _once_more(attempts: Any, rules: Any) -> dict[str, Any]:
    def stop(state: Any) -> bool:
        return attempts.count > attempts._policy.attempts or state.upcoming_sleep >= attempts._left()

    return {"stop": stop}


def _keys_too(attempts: Any, rules: Any) -> dict[str, Any]:
    from tenacity import retry_if_exception_type

    return {"retry": retry_if_exception_type((TransientError, AuthenticationError))}


def _following(client: Any, request: Any, send: Any = httpx.Client.send, **options: Any) -> Any:
    return send(client, request, **{**options, "follow_redirects": True})


MISTAKES: dict[str, list[Any]] = {
    "scores of other texts": [
        "each score is the server's for that text",
        (exchange.Exchange, "scores", _reversed(exchange.Exchange.scores)),
    ],
    "a candidate is lost": ["each", (calls, "ranked_hits", _without_the_last(calls.ranked_hits))],
    "one attempt too many": [
        "no more attempts than the policy allows",
        (api_attempts.Attempts, "_rules", _rules(_once_more)),
    ],
    "a wrong key is tried again": [
        "only what may pass is tried again",
        (api_attempts.Attempts, "_rules", _rules(_keys_too)),
    ],
    "a wrong key is hidden": ["a step fails as its parts did", (fallback, "TransientError", BackendError)],
    "a wish is not kept": ["a provider's wish is kept", (exchange, "seconds_to_wait", lambda headers: None)],
    "time is not kept": [
        "no deadline is overrun",
        (base, "run_with_deadline", lambda what, work: work()),
        (base, "arun_with_deadline", _patient),
        (api_attempts, "seconds_left", lambda: math.inf),
    ],
    "a substitute is not told": ["degraded exactly when", (fallback.Fallback, "_degraded", lambda self, *given: ())],
    "another model passes for the first": ["degraded exactly when", (hedge, "_same_model", lambda one, other: True)],
    "an attempt is not told": [
        "each failed attempt is told",
        (api_attempts.Attempts, "_failed", lambda self, state: None),
    ],
    "an abandoned call is not told": ["every request is in the trace", (deadline.PartialTrace, "trace", None)],
    "an abandoned call goes on": ["every request is in the trace", (deadline.Limit, "revoke", lambda self: None)],
    "a key is shown": ["no key is shown", (exchange.Exchange, "safe", lambda self, words: words)],
    "a redirect is followed": ["a step fails as its parts did", (httpx.Client, "send", _following)],
    "ranks count from two": [
        "fused scores are those of the formula",
        (
            ensemble,
            "_reciprocal_ranks",
            lambda hits, k: {hit.id: 1 / (k + rank) for rank, hit in enumerate(hits, start=2)},
        ),
    ],
    "the best two windows count": ["a text's score is that of its windows", (windows, "_TOP_M", 2)],
    "a limit is passed": ["no limit is passed", (limiter.Limits, "admit", lambda self, *given: True)],
    "an open circuit lets through": ["an open circuit", (breaker.Circuit, "_shut", lambda self, *given: None)],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Wire() as wire:  # of its own, because a mistake may leave something behind
        broken, *places = MISTAKES[mistake]
        for owner, name, wrong in places:
            monkeypatch.setattr(owner, name, wrong)
        found: list[str] = []
        for number in range(1000):
            try:
                run(made(SEED, number), wire, Tally())
            except Violation as violation:
                found.append(str(violation))
                if found[-1].startswith(broken):
                    break
        monkeypatch.undo()
    assert found and found[-1].startswith(broken)

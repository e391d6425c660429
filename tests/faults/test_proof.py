"""The fault proof as a test: some hundred cases keep the laws, and each law can be broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from faults.oracle import Violation
from faults.proof import Tally, run, smallest
from faults.trees import random_case, smaller
from faults.wire import FAULTS, Wire

from rag_rerank import base
from rag_rerank.backends.api import breaker, call, exchange, limiter
from rag_rerank.backends.api.llm import judgment
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
            run(random_case(SEED, number), wire, tally)
        except Violation as violation:
            case, words = smallest(random_case(SEED, number), wire)
            pytest.fail(
                f"python tests/faults/run.py --seed {SEED} --case {number}\n{violation}\nsmallest: {case}\n{words}"
            )
    assert sum(tally.cases.values()) == CASES and min(tally.cases.values()) > CASES / 3
    assert len(set(tally.faults) & set(FAULTS)) >= len(FAULTS) - 3  # nearly each kind has been met
    assert tally.outcomes["ranking, degraded"] > CASES / 20 and len(tally.outcomes) >= 8


def test_a_case_runs_in_the_same_way_again(wire: Wire) -> None:
    def attempts_of(number: int) -> Any:
        for slot in wire.slots:
            slot.log = []
        began = wire.clock.now()
        run(random_case(SEED, number), wire, Tally())
        return [[(a.fault, round(a.start - began, 6), a.kind, a.texts) for a in slot.log] for slot in wire.slots]

    for number in range(40):
        assert attempts_of(number) == attempts_of(number)


def test_smaller_cases_are_cases(wire: Wire) -> None:
    for number in range(6):
        for case in smaller(random_case(SEED, number)):
            run(case, wire, Tally())


def _reversed(rows: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, args: rows(self, args)[::-1]


def _without_the_last(ranked: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: ranked(*args)[:-1]


def _retrying(**rules: Any) -> Callable[..., Any]:
    original = call.ApiCall._retrying
    return lambda self, request, pause: original(self, request, pause).copy(
        **{name: rule(self, request) for name, rule in rules.items()}
    )


async def _patient(what: str, work: Any) -> Any:
    return await work


def _once_more(api_call: Any, request: Any) -> Callable[[Any], bool]:
    def stop(state: Any) -> bool:
        return request.attempts > api_call._policy.retry.attempts or state.upcoming_sleep >= request.seconds_left()

    return stop


def _keys_too(api_call: Any, request: Any) -> Any:
    from tenacity import retry_if_exception_type

    return retry_if_exception_type((TransientError, AuthenticationError))


def _busy_ones_too(api_call: Any, request: Any) -> Any:
    from tenacity import retry_if_exception_type

    return retry_if_exception_type(TransientError)


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
        (call.ApiCall, "_retrying", _retrying(stop=_once_more)),
    ],
    "a wrong key is tried again": [
        "only what may pass is tried again",
        (call.ApiCall, "_retrying", _retrying(retry=_keys_too)),
    ],
    "the same work is sent twice": [
        "a server that goes on with a request gets it once",
        (call.ApiCall, "_retrying", _retrying(retry=_busy_ones_too)),
    ],
    "a wrong key is hidden": ["a step fails as its parts did", (fallback, "TransientError", BackendError)],
    "a provider's wait is not kept": ["a provider's wait is kept", (exchange, "seconds_to_wait", lambda headers: None)],
    "time is not kept": [
        "no deadline is overrun",
        (base, "run_with_deadline", lambda what, work: work()),
        (base, "arun_with_deadline", _patient),
        (call, "seconds_left", lambda: math.inf),
    ],
    "a substitute is not reported": [
        "degraded exactly when",
        (fallback.Fallback, "_degraded_reasons", lambda self, *args: ()),
    ],
    "another model counts as the first": ["degraded exactly when", (hedge, "_same_model", lambda one, other: True)],
    "an attempt is missing from the trace": [
        "each failed attempt is in the trace",
        (call.ApiRequest, "add_failure", lambda self: None),
    ],
    "an abandoned call is missing from the trace": [
        "every request is in the trace",
        (deadline.PartialTrace, "trace", None),
    ],
    "an abandoned call goes on": ["every request is in the trace", (deadline.Limit, "revoke", lambda self: None)],
    "a key is shown": ["no key is shown", (exchange.Exchange, "redact", lambda self, text: text)],
    "a redirect is followed": ["a step fails as its parts did", (httpx.Client, "send", _following)],
    "a language model's order is turned around": [
        "each score is the server's for that text",
        (judgment, "_values", lambda order: [order.index(i) / len(order) for i in range(len(order))]),
    ],
    "ranks count from two": [
        "fused scores are those of the formula",
        (
            ensemble,
            "reciprocal_ranks",
            lambda ids, k: {id: 1 / (k + rank) for rank, id in enumerate(ids, start=2)},
        ),
    ],
    "the best two windows count": ["a text's score is that of its windows", (windows, "_TOP_M", 2)],
    "a limit is passed": ["no limit is passed", (limiter.Limits, "admit", lambda self, *args: True)],
    "an open circuit lets through": ["an open circuit", (breaker.Circuit, "_open_for", lambda self, *args: None)],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Wire() as wire:  # its own, because a mistake may leave state behind
        law, *places = MISTAKES[mistake]
        for owner, name, wrong in places:
            monkeypatch.setattr(owner, name, wrong)
        violations: list[str] = []
        for number in range(1000):
            try:
                run(random_case(SEED, number), wire, Tally())
            except Violation as violation:
                violations.append(str(violation))
                if violations[-1].startswith(law):
                    break
        monkeypatch.undo()
    assert violations and violations[-1].startswith(law)

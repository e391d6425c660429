"""One case: built, driven, and held against the laws."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from faults.oracle import PASSING, Failed, Oracle, Violation, law
from faults.trees import KEY, Case, built, smaller, walk
from faults.wire import Wire

from rag_rerank import Ranking, RerankError, TransientError


@dataclass
class Tally:
    """What was done, counted."""

    cases: Counter[str] = field(default_factory=Counter)
    rerankers: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)


def run(case: Case, wire: Wire, tally: Tally) -> None:
    """Run a case.

    Raises:
        Violation: A law does not hold.
    """
    tree = case["tree"]
    texts = {str(i): text for i, text in enumerate(case["texts"])}
    clock = wire.clock
    clock._random = random.Random(case["order"])
    random.seed(case["order"])  # the jitter of retries
    elsewhere = len(wire.elsewhere.received)
    wire.server.received.clear()
    with _watched() as records, clock.running():
        wire.cases += 1
        reranker = built(tree, wire)
        leaves = [node for node in walk(tree) if node["type"] == "leaf"]
        logs = {leaf["name"]: wire.slots[leaf["slot"]].log for leaf in leaves}
        of = {leaf["name"]: wire.slots[leaf["slot"]] for leaf in leaves}
        oracle = Oracle(tree, logs, lambda name, query, text: of[name].score(query, text), case["query"], texts)
        for _ in range(case["calls"]):
            came, seconds = _asked(case, reranker, wire)
            if case["timeout"] is not None:
                law(seconds <= case["timeout"] * 1.1 + 0.05, "no timeout is overrun", seconds, case["timeout"])
            if not isinstance(came, (Ranking, RerankError)):
                raise Violation(f"an error of ours, or a ranking: {came!r}") from came
            _judged(case, oracle, came)
            _silent(_shown(came, reranker))
            tally.outcomes[type(came).__name__ if isinstance(came, Exception) else _summed(came)] += 1
        oracle.counted()
        oracle.limited()
    _silent(records)
    law(not [r for r in records if r.startswith("rag_rerank") or " ERROR " in r], "nothing is logged", records[-1:])
    law(len(wire.elsewhere.received) == elsewhere, "no redirect is followed")
    attempts = [attempt for log in logs.values() for attempt in log]
    posted = len(wire.server.received)
    law(posted <= len(attempts), "nothing but the attempts arrives", posted, len(attempts))
    tally.requests += posted
    tally.cases["asyncio" if case["asyncio"] else "threads"] += 1
    tally.faults.update(attempt.fault for attempt in attempts if attempt.fault)
    tally.rerankers.update(node["type"] for node in walk(tree))
    tally.faults.update(
        "slower than the wait" for attempt in attempts if attempt.kind == "BackendTimeout" and attempt.fault != "hang"
    )


def _asked(case: Case, reranker: Any, wire: Wire) -> tuple[Any, float]:
    options = {"top_k": case["top_k"], "timeout": case["timeout"]}
    ended = wire.clock.now()

    async def ask() -> Any:
        nonlocal ended
        try:
            return await reranker.arerank(case["query"], list(case["texts"]), **options)
        finally:
            ended = wire.clock.now()

    began = wire.clock.now()
    try:
        if case["asyncio"]:
            came = wire.loop.settled(ask())
        else:
            came = reranker.rerank(case["query"], list(case["texts"]), **options)
    except Exception as error:
        came = error
    if not case["asyncio"]:
        ended = wire.clock.now()
    wire.clock.drain()
    return came, ended - began


def _judged(case: Case, oracle: Oracle, came: Ranking | RerankError) -> None:
    law(came.trace is not None, "an error has its trace", repr(came))
    expected = oracle.judged(came.trace, case["timeout"] is not None)
    if isinstance(came, RerankError):
        law(expected == Failed(type(came).__name__), "the error is that of the trace", repr(came), expected)
        law(isinstance(came, TransientError) == (type(came).__name__ in PASSING), "its class tells whether it may pass")
        return
    law(not isinstance(expected, Failed) and expected is not None, "no failure is hidden", expected)
    assert not isinstance(expected, Failed) and expected is not None
    found = tuple((hit.id, hit.raw_score) for hit in came)
    law([hit.rank for hit in came] == list(range(1, len(came) + 1)), "ranks count from one")
    law(all(hit.text == case["texts"][int(hit.id)] for hit in came), "a hit is the caller's candidate")
    law(all((hit.raw_score is None) == (hit.unscored is not None) for hit in came), "no score has a reason")
    blank = {hit.id for hit in came if hit.unscored == "blank text"}
    alike = [
        a
        for a in expected
        if a.hits[: case["top_k"]] == found and a.scale == came.scale and a.blank & {i for i, _ in found} == blank
    ]
    law(bool(alike), "each candidate has its own score, and none is lost or doubled", found, expected)
    law(
        any(a.degraded == bool(came.degraded) and a.substituted == came.substituted for a in alike),
        "degraded exactly when the answer is not what was asked",
        came.degraded,
        came.substituted,
        alike,
    )
    law(bool(came.degraded) or not came.substituted, "what is substituted is degraded")


def _shown(came: Any, reranker: Any) -> list[str]:
    """Everything that a user might print."""
    shown = [repr(reranker), came.trace.render(), json.dumps(came.trace.to_dict()), repr(came.trace)]
    if isinstance(came, Ranking):
        return [*shown, repr(came), json.dumps(came.to_dict())]
    shown += traceback.format_exception(came)
    seen: list[BaseException] = []
    pending: list[BaseException | None] = [came, *getattr(came, "errors", ())]
    while pending:
        error = pending.pop()
        if error is None or error in seen:
            continue
        seen.append(error)
        shown += [str(error), repr(error), repr(error.args), repr(vars(error))]
        pending += [error.__cause__, error.__context__, *getattr(error, "errors", ())]
    return shown


def _silent(shown: list[str]) -> None:
    for words in shown:
        law(KEY not in words, "no key is shown", words[:2000])


def _summed(ranking: Ranking) -> str:
    return "ranking, degraded" if ranking.degraded else "ranking"


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.shown: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        words = f"{record.name} {record.levelname} {record.getMessage()} {record.args!r}"
        if record.exc_info:
            words += "".join(traceback.format_exception(*record.exc_info))
        self.shown.append(words)


@contextlib.contextmanager
def _watched() -> Iterator[list[str]]:
    """Keep all that is logged and warned."""
    handler, root = _Records(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield handler.shown
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
    handler.shown += [f"warning {warning.message}" for warning in caught]


def smallest(case: Case, wire: Wire, tries: int = 300) -> tuple[Case, str]:
    """Return the smallest case found that still violates a law, and what it violates."""
    words = ""
    while tries > 0:
        for candidate in smaller(case):
            tries -= 1
            try:
                run(candidate, wire, Tally())
            except Violation as violation:
                case, words = candidate, str(violation)
                break
            except Exception:  # it fails in another way, which is another search
                continue
            if tries <= 0:
                break
        else:
            break
    return case, words

"""One case: build its tree, run its calls, check the laws."""

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

from faults.oracle import PASSING, ExpectedError, Oracle, Violation, law
from faults.trees import KEY, Case, build_tree, smaller, walk
from faults.wire import Wire

from rag_rerank import Ranking, RerankError, TransientError


@dataclass
class Tally:
    """Counts of what was run."""

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
    with _captured_records() as records, clock.running():
        wire.cases += 1
        reranker = build_tree(tree, wire)
        leaves = [node for node in walk(tree) if node["type"] == "leaf"]
        logs = {leaf["name"]: wire.slots[leaf["slot"]].log for leaf in leaves}
        of = {leaf["name"]: wire.slots[leaf["slot"]] for leaf in leaves}
        oracle = Oracle(tree, logs, lambda name, query, text: of[name].score(query, text), case["query"], texts)
        for _ in range(case["calls"]):
            outcome, seconds = _run_call(case, reranker, wire)
            if case["timeout"] is not None:
                law(seconds <= case["timeout"] * 1.1 + 0.05, "no timeout is overrun", seconds, case["timeout"])
            if not isinstance(outcome, (Ranking, RerankError)):
                raise Violation(f"an error of ours, or a ranking: {outcome!r}") from outcome
            _check_outcome(case, oracle, outcome)
            _check_no_key(_all_outputs(outcome, reranker))
            tally.outcomes[type(outcome).__name__ if isinstance(outcome, Exception) else _outcome_name(outcome)] += 1
        oracle.check_counts()
        oracle.check_limits()
    _check_no_key(records)
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


def _run_call(case: Case, reranker: Any, wire: Wire) -> tuple[Any, float]:
    options = {"top_k": case["top_k"], "timeout": case["timeout"]}
    end = wire.clock.now()

    async def ask() -> Any:
        nonlocal end
        try:
            return await reranker.arerank(case["query"], list(case["texts"]), **options)
        finally:
            end = wire.clock.now()

    start = wire.clock.now()
    try:
        if case["asyncio"]:
            outcome = wire.loop.settled(ask())
        else:
            outcome = reranker.rerank(case["query"], list(case["texts"]), **options)
    except Exception as error:
        outcome = error
    if not case["asyncio"]:
        end = wire.clock.now()
    wire.clock.drain()
    return outcome, end - start


def _check_outcome(case: Case, oracle: Oracle, outcome: Ranking | RerankError) -> None:
    law(outcome.trace is not None, "an error has its trace", repr(outcome))
    expected = oracle.judge(outcome.trace, case["timeout"] is not None)
    if isinstance(outcome, RerankError):
        law(
            expected == ExpectedError(type(outcome).__name__), "the error is that of the trace", repr(outcome), expected
        )
        law(
            isinstance(outcome, TransientError) == (type(outcome).__name__ in PASSING),
            "its class tells whether it may pass",
        )
        return
    law(not isinstance(expected, ExpectedError) and expected is not None, "no failure is hidden", expected)
    assert not isinstance(expected, ExpectedError) and expected is not None
    hits = tuple((hit.id, hit.raw_score) for hit in outcome)
    law([hit.rank for hit in outcome] == list(range(1, len(outcome) + 1)), "ranks count from one")
    law(all(hit.text == case["texts"][int(hit.id)] for hit in outcome), "a hit is the caller's candidate")
    law(all((hit.raw_score is None) == (hit.unscored is not None) for hit in outcome), "no score has a reason")
    blank = {hit.id for hit in outcome if hit.unscored == "blank text"}
    matching = [
        a
        for a in expected
        if a.hits[: case["top_k"]] == hits and a.scale == outcome.scale and a.blank & {i for i, _ in hits} == blank
    ]
    law(bool(matching), "each candidate has its own score, and none is lost or doubled", hits, expected)
    law(
        any(a.degraded == bool(outcome.degraded) and a.substituted == outcome.substituted for a in matching),
        "degraded exactly when the answer is not what was asked",
        outcome.degraded,
        outcome.substituted,
        matching,
    )
    law(bool(outcome.degraded) or not outcome.substituted, "a substituted ranking is degraded")


def _all_outputs(outcome: Any, reranker: Any) -> list[str]:
    """Everything that a user might print."""
    outputs = [repr(reranker), outcome.trace.render(), json.dumps(outcome.trace.to_dict()), repr(outcome.trace)]
    if isinstance(outcome, Ranking):
        return [*outputs, repr(outcome), json.dumps(outcome.to_dict())]
    outputs += traceback.format_exception(outcome)
    visited: list[BaseException] = []
    pending: list[BaseException | None] = [outcome, *getattr(outcome, "errors", ())]
    while pending:
        error = pending.pop()
        if error is None or error in visited:
            continue
        visited.append(error)
        outputs += [str(error), repr(error), repr(error.args), repr(vars(error))]
        pending += [error.__cause__, error.__context__, *getattr(error, "errors", ())]
    return outputs


def _check_no_key(outputs: list[str]) -> None:
    for words in outputs:
        law(KEY not in words, "no key is shown", words[:2000])


def _outcome_name(ranking: Ranking) -> str:
    return "ranking, degraded" if ranking.degraded else "ranking"


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        words = f"{record.name} {record.levelname} {record.getMessage()} {record.args!r}"
        if record.exc_info:
            words += "".join(traceback.format_exception(*record.exc_info))
        self.texts.append(words)


@contextlib.contextmanager
def _captured_records() -> Iterator[list[str]]:
    """Capture all log records and warnings."""
    handler, root = _Records(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield handler.texts
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
    handler.texts += [f"warning {warning.message}" for warning in caught]


def smallest(case: Case, wire: Wire, tries: int = 300) -> tuple[Case, str]:
    """Return a smallest case that still violates a law, and the violation."""
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

"""The possible outcomes of a call, derived from the tree, the server's scores and the attempts on the wire.

Nothing here uses the code under test. Of a trace it reads which rerankers were called, in which order, and what each
step says of itself; every statement is checked against the wire, or derived anew from the steps below.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import mean, pstdev
from typing import Any

import lightgbm
from faults.trees import DECAYING, FLOOR, PREFIX, Node, model_of, scale_of, walk
from faults.wire import FAULTS, GIVEN_UP, Attempt
from support.ltr_models import trees

OURS = {"RateLimited": "limits", "RequestTooLarge": "limits", "CircuitOpen": "breaker"}
"""The errors that a leaf may raise before anything is sent, and the option that each needs."""

FAILURES = ("BackendTimeout", "BackendUnavailable")
PASSING = {*FAILURES, "RateLimited", "CircuitOpen", "DeadlineExceeded", "AllFailed", "Overloaded"}
PASSING_ON = ("cascade", "deadline", "windows", "shadow", "spans", "template", "decay", "guarded")
"""Composites that fail as a single part of them does; of ``spans`` the first part alone, which ranks."""

TINY = 1e-6


class Violation(AssertionError):
    """A law does not hold."""


def law(holds: bool, what: str, *facts: object) -> None:
    """Raise `Violation` unless a law holds."""
    if not holds:
        raise Violation(f"{what}: {facts!r}" if facts else what)


@dataclass(frozen=True)
class ExpectedRanking:
    """A ranking, as far as the laws need it; ``blank`` are the ids without a score because their text is blank."""

    hits: tuple[tuple[str, float | None], ...]
    scale: str
    blank: frozenset[str] = frozenset()
    degraded: bool = False
    substituted: bool = False


@dataclass(frozen=True)
class ExpectedError:
    """An error, by its class."""

    kind: str


Outcomes = Sequence[ExpectedRanking] | ExpectedError | None
"""The possible outcomes of a call: one of these rankings, or this error; ``None`` where it was abandoned."""


def late(trace: Any) -> bool:
    return _kind(trace) == "DeadlineExceeded"


def _kind(trace: Any) -> str | None:
    return trace.error and str(trace.error).partition(":")[0]


class Oracle:
    """Judges the traces of the calls of one case, in their order.

    Args:
        tree: The case's tree.
        logs: The attempts on the wire, by leaf name.
        score: The server's score: leaf name, query and text.
        query: The query of all calls.
        texts: The texts by id, in incoming order.
    """

    def __init__(
        self,
        tree: Node,
        logs: Mapping[str, Sequence[Attempt]],
        score: Callable[[str, str, str], float],
        query: str,
        texts: Mapping[str, str],
    ) -> None:
        self.tree = tree
        self.nodes = {node["name"]: node for node in walk(tree)}
        self.logs = logs
        self.score = score
        self.query = query
        self.ids = list(texts)
        self.texts = dict(texts)  # and windows of them
        self.blank = frozenset(i for i, text in texts.items() if not text.strip(" \u200b"))
        self.read: Counter[str] = Counter()

    def judge(self, trace: Any, limited: bool) -> Outcomes:
        """Return the possible outcomes of a call with this trace."""
        return self._judge(self.tree, trace, self.ids, limited)

    def check_counts(self) -> None:
        """Check the counts of the traces against the requests that arrived."""
        shadowed = {node["name"] for tree in walk(self.tree) if "other" in tree for node in walk(tree["other"])}
        for name in self.logs.keys() - shadowed:
            log = self.logs[name]
            law(self.read[name] == len(log), "every request is in the trace, and nothing else", name, self.read[name])

    def check_limits(self) -> None:
        """Check the requests against the limits and breakers of all leaves that share a key and a server."""
        leaves = [node for node in self.nodes.values() if node["type"] == "leaf"]
        for leaf in leaves:
            shared = [
                one for other in leaves if _key_group(other) == _key_group(leaf) for one in self.logs[other["name"]]
            ]
            for attempt in self.logs[leaf["name"]]:
                self._within(leaf["limits"] or {}, attempt, shared)
                if leaf["breaker"]:
                    _check_circuit(leaf, attempt, shared)

    def _within(self, limits: Mapping[str, int], attempt: Attempt, shared: Sequence[Attempt]) -> None:
        before = [a for a in shared if attempt.start - 60 + TINY < a.start < attempt.start - TINY]
        requests, words = len(before) + 1, sum(a.words for a in before) + attempt.words
        flying = sum(a.start < attempt.start - TINY < attempt.start + TINY < (a.end or 0) for a in shared) + 1
        counts = {"requests_per_minute": requests, "tokens_per_minute": words, "concurrency": flying}
        for name, count in counts.items():
            law(count <= limits.get(name, count), "no limit is passed", name, count, limits)

    # the outcomes of each kind of reranker, from those of its members

    def _judge(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        law(trace.step == node["name"], "a step in the trace is the member that was asked", trace.step, node["name"])
        own = node["type"] == "deadline"
        if own:
            law(trace.seconds <= node["seconds"] * 1.1 + 0.05, "no deadline is overrun", node["name"], trace.seconds)
        if _kind(trace) == "abandoned":
            self._skip(trace)
            return None
        if late(trace):
            children = trace.children[:1] if node["type"] == "spans" else trace.children
            below = node["type"] in PASSING_ON and any(map(late, children))
            law(limited or below or (own and node["on_late"] == "error"), "nothing is late without a limit", trace.step)
            self._skip(trace)
            return ExpectedError("DeadlineExceeded")
        outcomes: Outcomes = getattr(self, f"_{node['type']}")(node, trace, ids, limited or own)
        expected = outcomes.kind if isinstance(outcomes, ExpectedError) else None
        law(_kind(trace) == expected, "a step fails as its parts did, and only then", trace.step, trace.error, expected)
        return outcomes

    def _skip(self, trace: Any) -> None:
        """Count the requests below a step that was abandoned."""
        for step in trace.walk():
            node = self.nodes.get(step.step)
            if node is not None and node["type"] in ("leaf", "cached"):
                self._requests(node, step, complete=False)

    def _leaf(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        error = self._requests(node, trace, complete=True)
        if error is not None:
            return ExpectedError(error)
        leaf = node if node["type"] == "leaf" else node["reranker"]
        readable = [i for i in ids if i not in self.blank]
        expected = {i: self.score(leaf["name"], self.query, self.texts[i]) for i in readable}
        if leaf["kind"] == "chat-sdk":  # it says an order, and no scores
            order = sorted(readable, key=lambda i: -expected[i])
            expected = {i: 1 - place / len(order) for place, i in enumerate(order)}
        law(dict(trace.scores) == expected, "each score is the server's for that text", trace.scores, expected)
        law(set(trace.unscored) == set(ids) - set(readable), "blank texts alone have no score", trace.unscored)
        best = sorted(readable, key=lambda i: -expected[i])
        law(list(trace.scores) == best, "best first, ties as they came", list(trace.scores), best)
        hits = [(i, expected[i]) for i in best] + [(i, None) for i in ids if i not in expected]
        return [ExpectedRanking(tuple(hits), scale_of(leaf), self.blank & set(ids))]

    _cached = _leaf

    def _fallback(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        failed = 0
        for member, child in zip(node["members"], trace.children, strict=False):
            outcomes = self._judge(member, child, ids, limited)
            if isinstance(outcomes, ExpectedError):
                if outcomes.kind not in PASSING:
                    return outcomes
                failed += 1
                continue
            law(
                outcomes is not None and failed == len(trace.children) - 1, "the first that answers ends it", trace.step
            )
            return [
                replace(a, degraded=a.degraded or failed > 0, substituted=a.substituted or failed > 0)
                for a in outcomes or ()
            ]
        law(failed == len(node["members"]), "a fallback gives up only when all have failed", trace.step)
        if node["on_failure"] == "first_stage":
            return [self._unranked(ids, scale_of(node))]
        return ExpectedError("AllFailed")

    def _hedge(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        members = node["members"]
        results = [self._judge(m, child, ids, limited) for m, child in zip(members, trace.children, strict=False)]
        lasting = [o.kind for o in results if isinstance(o, ExpectedError) and o.kind not in PASSING]
        if results and isinstance(results[0], ExpectedError) and results[0].kind not in PASSING:
            return results[0]
        answers: list[ExpectedRanking] = []
        for member, outcomes in zip(members, results, strict=False):
            if isinstance(outcomes, ExpectedError) or outcomes is None:
                continue
            other = not _alike(member, members[0])
            answers += [
                replace(a, degraded=a.degraded or other or bool(lasting), substituted=a.substituted or other)
                for a in outcomes
            ]
        if answers:
            return answers
        if lasting:
            return ExpectedError(lasting[0])
        law(len(results) == len(members), "a hedge gives up only when all have failed", trace.step)
        return ExpectedError("AllFailed")

    def _ensemble(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        law(len(trace.children) == len(node["members"]), "all members of an ensemble are asked", trace.step)
        results = [
            self._judge(m, child, ids, limited) for m, child in zip(node["members"], trace.children, strict=True)
        ]
        errors = [outcome.kind for outcome in results if isinstance(outcome, ExpectedError)]
        lasting = [kind for kind in errors if kind not in PASSING]
        if lasting:
            return ExpectedError(lasting[0])
        weights = node["weights"] or [1.0] * len(results)
        weighted = [(w, o) for w, o in zip(weights, results, strict=True) if not isinstance(o, ExpectedError)]
        if not weighted:
            return ExpectedError("AllFailed")
        matching = []
        for answers in _choices([outcomes or () for _, outcomes in weighted]):
            values = _fused(node, [(w, a) for (w, _), a in zip(weighted, answers, strict=True)], ids)
            if _has_scores(values, trace):
                scored = list(trace.scores.items())
                without = sorted((i for i in ids if i not in values), key=lambda i: i in answers[0].blank)
                unscored = [(i, None) for i in without]
                matching.append(
                    ExpectedRanking(
                        (*scored, *unscored),
                        "unbounded",
                        frozenset(i for i, _ in unscored) & answers[0].blank,
                        bool(errors) or any(a.degraded for a in answers),
                        bool(errors) or any(a.substituted for a in answers),
                    )
                )
        law(bool(matching), "fused scores are those of the formula", trace.step, trace.scores)
        return matching

    def _ltr(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        members = node["members"]
        law(len(trace.children) == len(members), "all rerankers inside are asked", trace.step)
        results = [self._judge(m, child, ids, limited) for m, child in zip(members, trace.children, strict=True)]
        errors = [outcome.kind for outcome in results if isinstance(outcome, ExpectedError)]
        lasting = [kind for kind in errors if kind not in PASSING]
        if lasting:
            return ExpectedError(lasting[0])
        blank = self.blank & set(ids)
        readable = [i for i in ids if i not in blank]
        matching = []
        for answers in _choices([[None] if isinstance(o, ExpectedError) else o or () for o in results]):
            missing = [
                one is None or one.substituted or one.scale != scale_of(member)
                for one, member in zip(answers, members, strict=True)
            ]
            known = [
                {} if gone or one is None else {i: raw for i, raw in one.hits if raw is not None}
                for one, gone in zip(answers, missing, strict=True)
            ]
            if _has_scores(_predicted(known, readable), trace):
                hits = (*trace.scores.items(), *((i, None) for i in ids if i in blank))
                degraded = any(missing) or any(one is not None and one.degraded for one in answers)
                matching.append(ExpectedRanking(hits, "unbounded", blank, degraded, any(missing)))
        law(bool(matching), "scores are LightGBM's for the scores and ranks of the members", trace.step, trace.scores)
        return matching

    def _cascade(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        paths: list[tuple[list[str], list[str], ExpectedRanking | None, bool]] = [(list(ids), [], None, False)]
        blank: frozenset[str] = frozenset()
        stages = node["stages"]
        for number, (stage, child) in enumerate(zip(stages, trace.children, strict=False)):
            later = []
            failures: list[ExpectedError] = []
            for entering, stopped, _, degraded in paths:
                depth = node["depths"][number]
                inside, outside = entering[:depth], entering[depth:] if depth is not None else []
                before = Counter(self.read)
                try:
                    outcomes = self._judge(stage, child, inside, limited)
                except Violation:
                    if len(paths) == 1:
                        raise
                    self.read = before
                    continue
                if isinstance(outcomes, ExpectedError):
                    failures.append(outcomes)
                    continue
                for answer in outcomes or ():
                    on = [i for i, raw in answer.hits if raw is not None]
                    on = on or [i for i, _ in answer.hits if i not in answer.blank]
                    off = [i for i, _ in answer.hits if i not in on] if number < len(stages) - 1 else []
                    blank |= answer.blank
                    later.append((on, [*off, *outside, *stopped], answer, degraded or answer.degraded))
            if failures:
                return failures[0]
            paths = later
        law(len(trace.children) == len(stages), "all stages of a cascade are asked", trace.step)
        law(bool(paths), "a stage gives the scores of its trace", trace.step)
        return [
            ExpectedRanking((*last.hits, *((i, None) for i in stopped)), last.scale, blank, degraded, last.substituted)
            for _, stopped, last, degraded in paths
            if last is not None
        ]

    def _shadow(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        (child,) = trace.children
        return self._judge(node["reranker"], child, ids, limited)

    def _template(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        (child,) = trace.children
        texts = dict(self.texts)
        self.texts |= {i: PREFIX + self.texts[i] for i in ids}
        try:
            return self._judge(node["reranker"], child, ids, limited)
        finally:
            self.texts = texts

    def _decay(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        (child,) = trace.children
        outcomes = self._judge(node["reranker"], child, ids, limited)
        if isinstance(outcomes, ExpectedError):
            return outcomes
        matching = []
        for answer in outcomes or ():
            raw = {i: value for i, value in answer.hits if value is not None}
            if not raw:
                matching.append(answer)
            elif answer.scale not in DECAYING:
                matching.append(replace(answer, degraded=True))
            else:
                is_odds = answer.scale == "sigmoid"
                values = {i: value + math.log(FLOOR) if is_odds else value * FLOOR for i, value in raw.items()}
                if _has_scores(values, trace):
                    unscored = [(i, value) for i, value in answer.hits if value is None]
                    matching.append(replace(answer, hits=(*trace.scores.items(), *unscored)))
        law(bool(matching), "each score has the factor of its age", trace.step, trace.scores)
        return matching

    def _guarded(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        (child,) = trace.children
        outcomes = self._judge(node["reranker"], child, ids, limited)
        if isinstance(outcomes, ExpectedError):
            return outcomes
        results = []
        for answer in outcomes or ():
            by_id = dict(answer.hits)
            values = [raw for i in ids if (raw := by_id.get(i)) is not None]
            kept = tuple((i, None) for i in sorted(ids, key=lambda i: i in self.blank))
            same = [i for i, _ in answer.hits] == [i for i, _ in kept]
            if not values or same or _steps_beyond_chance(values) >= node["margin"]:
                results.append(answer)
                continue
            results.append(
                replace(answer, hits=kept, blank=self.blank & frozenset(ids), degraded=True, substituted=True)
            )
        return results

    def _spans(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        outcomes = self._judge(node["reranker"], trace.children[0], ids, limited)
        if isinstance(outcomes, ExpectedError):
            return outcomes
        mark = "#"
        while any(mark in i for i in ids):
            mark += "#"
        matching, failures, before = [], [], Counter(self.read)
        after: Counter[str] | None = None
        for answer in outcomes or ():
            best = [i for i, raw in answer.hits if raw is not None][: node["top_k"]]
            if not best:
                law(len(trace.children) == 1, "without a scored hit no sentence is asked for", trace.step)
                matching.append(answer)
                continue
            law(len(trace.children) == 2, "the sentences of the best hits are asked for", trace.step)
            sentences = [f"{i}{mark}1" for i in best]  # no text has a full stop
            self.texts |= {f"{i}{mark}1": self.texts[i].strip() for i in best}
            self.read = Counter(before)
            try:
                by = self._judge(node["by"], trace.children[1], sentences, limited)
            except Violation:
                if len(outcomes or ()) == 1:
                    raise
                continue
            after = self.read
            if isinstance(by, ExpectedError):
                if by.kind not in PASSING:
                    failures.append(by)
                else:
                    matching.append(replace(answer, degraded=True))
            else:
                degraded = any(one.degraded for one in by or ())
                matching.append(replace(answer, degraded=answer.degraded or degraded))
        self.read = after or before
        law(bool(matching or failures), "the sentences are those of the best hits", trace.step)
        return failures[0] if failures else matching

    def _windows(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        windows = self._divided(node, ids)
        (child,) = trace.children
        outcomes = self._judge(node["reranker"], child, [w for of in windows.values() for w in of], limited)
        if isinstance(outcomes, ExpectedError):
            return outcomes
        matching = []
        for answer in outcomes or ():
            raw, place = dict(answer.hits), {w: i for i, (w, _) in enumerate(answer.hits)}
            values = {}
            for i, of in windows.items():
                best = sorted((value for w in of if (value := raw[w]) is not None), reverse=True)
                if best:
                    best = best[: {"max": 1, "mean": None, "top": 3}[node["pool"]]]
                    values[i] = mean(best)
            if not _has_scores(values, trace):
                continue
            first = {i: min(of, key=lambda w: place[w]) for i, of in windows.items()}
            without = sorted((i for i in ids if i not in values), key=lambda i: place[first[i]])
            hits = (*trace.scores.items(), *((i, None) for i in without))
            blank = frozenset(i for i in without if first[i] in answer.blank)
            matching.append(replace(answer, hits=hits, blank=blank))
        law(bool(matching), "a text's score is that of its windows", trace.step, trace.scores)
        return matching

    def _divided(self, node: Node, ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the windows of each text, and store their texts; each word is a token."""
        mark = "#"
        while any(mark in i for i in ids):
            mark += "#"
        windows = {}
        for i in ids:
            text, starts = self.texts[i], [word.start() for word in re.finditer(r"\S+", self.texts[i])]
            windows[i] = [i]
            if i in self.blank or len(starts) <= node["tokens"]:
                continue
            windows[i], begin, end = [], 0, 0
            while end < len(starts):
                end = min(begin + node["tokens"], len(starts))
                window = f"{i}{mark}{len(windows[i]) + 1}"
                self.texts[window] = text[starts[begin] : starts[end] if end < len(starts) else None]
                windows[i].append(window)
                begin = end - min(node["overlap"], node["tokens"] // 2, (end - begin) // 2)
        return windows

    def _deadline(self, node: Node, trace: Any, ids: Sequence[str], limited: bool) -> Outcomes:
        if node["on_late"] == "partial":
            return self._partial(node, trace, list(ids))
        (child,) = trace.children
        outcomes = self._judge(node["reranker"], child, ids, True)
        over = trace.seconds >= node["seconds"] - 0.002
        if outcomes == ExpectedError("DeadlineExceeded") and node["on_late"] == "first_stage" and over:
            return [self._unranked(ids, scale_of(node))]
        return outcomes

    def _partial(self, node: Node, trace: Any, ids: list[str]) -> Outcomes:
        inner = node["reranker"]
        waiting = ids
        rounds: list[ExpectedRanking] = []
        for child in trace.children:
            if late(child):
                outcome = self._judge(inner, child, waiting, True)
                if trace.seconds < node["seconds"] - 0.002:
                    return outcome
                break
            alternatives = self._round(inner, child, waiting)
            if isinstance(alternatives, ExpectedError):
                if rounds and alternatives.kind in PASSING:
                    break
                return alternatives
            if len(trace.children) == 1:
                return [self._join([answer], waiting[len(answer.hits) :], node) for answer in alternatives]
            law(len(alternatives) == 1, "a round of single texts has one answer", trace.step)
            rounds += alternatives
            waiting = waiting[len(alternatives[0].hits) :]
        return [self._join(rounds, waiting, node)]

    def _round(self, inner: Node, trace: Any, waiting: list[str]) -> list[ExpectedRanking] | ExpectedError:
        """Return the possible outcomes of a round; the trace does not say how many texts were in it."""
        rankings: list[ExpectedRanking] = []
        before, after, wrong = Counter(self.read), None, None
        for count in range(len(waiting) + 1):
            self.read = Counter(before)
            try:
                outcomes = self._judge(inner, trace, waiting[:count], True)
            except Violation as violation:
                wrong = violation
                continue
            after = self.read
            if isinstance(outcomes, ExpectedError):
                return outcomes
            rankings += outcomes or ()
        if after is None:
            raise wrong or Violation("a round without texts")
        self.read = after
        return rankings

    def _unranked(self, ids: Sequence[str], scale: str) -> ExpectedRanking:
        order = sorted(ids, key=lambda i: i in self.blank)
        return ExpectedRanking(
            tuple((i, None) for i in order), scale, self.blank & set(ids), degraded=True, substituted=True
        )

    def _join(self, rounds: list[ExpectedRanking], waiting: list[str], node: Node) -> ExpectedRanking:
        hits = [hit for answer in rounds for hit in answer.hits]
        blank = frozenset[str]().union(*(answer.blank for answer in rounds))
        if len(rounds) > 1:
            scored = sorted((hit for hit in hits if hit[1] is not None), key=lambda hit: -(hit[1] or 0.0))
            hits = [*scored, *(hit for hit in hits if hit[1] is None)]
        scale = rounds[0].scale if rounds else scale_of(node)
        if waiting:
            blank |= self.blank & set(waiting)
            hits = sorted([*hits, *((i, None) for i in waiting)], key=lambda hit: hit[0] in blank)
        return ExpectedRanking(
            tuple(hits),
            scale,
            blank,
            bool(waiting) or any(a.degraded for a in rounds),
            not rounds or any(a.substituted for a in rounds),
        )

    # the attempts on the wire

    def _requests(self, node: Node, trace: Any, complete: bool) -> str | None:
        """Check the attempts of a leaf against the wire; return the class of error that they end in."""
        leaf = node if node["type"] == "leaf" else node["reranker"]
        policy, name = leaf["retry"], leaf["name"]
        requests = trace.children or ((trace,) if trace.attempts else ())
        law(trace.attempts == trace.usage.requests, "usage counts the requests", trace.step)
        law(trace.attempts == sum(r.attempts for r in requests), "a call counts its requests' attempts", trace.step)
        traces_failures = "each failed attempt is in the trace"
        error, refusal = None, _local_refusal(leaf, trace)
        for request in requests:
            start = self.read[name]
            log = self.logs[name][start : start + request.attempts]
            self.read[name] += len(log)
            cut_off = not complete and request is requests[-1]  # given up between its beginning and the wire
            missing = request.attempts - len(log)
            law(missing <= cut_off, "no attempt is in the trace that did not happen", trace.step, request.attempts)
            law(len(log) <= policy["attempts"], "no more attempts than the policy allows", trace.step, len(log))
            for one, following in pairwise(log):
                law(one.kind in PASSING, "only what may pass is tried again", trace.step, one.fault)
                goes_on = leaf["kind"] == "infinity" and one.kind == "BackendTimeout"
                law(not goes_on, "a server that goes on with a request gets it once", trace.step)
                retry_after = FAULTS[one.fault].retry_after if one.fault and one.kind == FAULTS[one.fault].kind else 0.0
                law(following.start >= (one.end or 0) + retry_after - TINY, "a provider's wait is kept", trace.step)
                law(following.start <= log[0].start + policy["budget"] + TINY, "no wait beyond the budget", trace.step)
            kinds = [attempt.kind for attempt in log]
            traced = [failure.partition(":")[0] for failure in request.failures]
            law(traced == kinds[: len(traced)], traces_failures, trace.step, traced, kinds)
            last = request is requests[-1]
            if refusal and last:
                law(len(traced) == len(log), traces_failures, trace.step, traced, kinds)
            elif complete or not last:
                law(len(traced) == max(0, len(log) - 1), traces_failures, trace.step, traced, kinds)
                error = kinds[-1] if kinds else None
                if error == "RequestTooLarge" and log[-1].texts > 1:
                    error = None
        error = refusal or error
        most = 2 * max(1, len(self.texts))
        law(not complete or len(requests) <= most, "a call is split no more often than it can be", trace.step)
        return error


def _local_refusal(leaf: Node, trace: Any) -> str | None:
    """Return the error of a call that was refused here, without asking the provider."""
    if not trace.error or "was not called" not in trace.error:
        return None
    kind = str(_kind(trace))
    law(bool(leaf.get(OURS.get(kind, ""))), "nothing is refused without a limit", trace.step, trace.error)
    return kind


def _key_group(leaf: Node) -> tuple[str, int]:
    """Return what leaves that share a key at a server have in common."""
    return leaf["kind"].removesuffix("-pair"), leaf["key_group"]


def _check_circuit(leaf: Node, attempt: Attempt, shared: Sequence[Attempt]) -> None:
    """Check that nothing was sent while the circuit had to be open.

    Answers of any kind are taken to close it; timeouts after less than half of the leaf's own do not count.
    """
    breaker = leaf["breaker"]
    row: list[Attempt] = []
    before = [
        a
        for a in shared
        if a.kind != GIVEN_UP and a.end is not None and a.end < attempt.start + (-TINY if a.kind in FAILURES else TINY)
    ]
    for one in sorted(before, key=lambda a: a.end or 0.0):
        if one.kind == "BackendTimeout" and 2 * ((one.end or 0.0) - one.start) < leaf["timeout"] + TINY:
            continue
        row = [*row, one] if one.kind in FAILURES else []
    if len(row) >= breaker["failures"]:
        law(attempt.start >= (row[-1].end or 0) + breaker["seconds"] - TINY, "an open circuit lets nothing through")


def _alike(one: Node, other: Node) -> bool:
    """Whether two members are the same model."""
    if one is other:
        return True
    leaves = [node["reranker"] if node["type"] == "cached" else node for node in (one, other)]
    if one["type"] != other["type"] or any(leaf["type"] != "leaf" for leaf in leaves):
        return False
    same_company = leaves[0]["kind"] not in ("openai", "systemone") or leaves[0]["most"] == leaves[1]["most"]
    return same_company and leaves[0]["kind"] == leaves[1]["kind"] and model_of(leaves[0]) == model_of(leaves[1])


def _predicted(members: Sequence[Mapping[str, float]], ids: Sequence[str]) -> dict[str, float]:
    """Scores of LightGBM itself, for score, distance from the best and rank by each member."""
    if not ids:
        return {}
    rows = []
    for i in ids:
        row: list[float] = []
        for raw in members:
            score = raw.get(i, math.nan)
            rank = 1 + sum(other > score for other in raw.values()) if i in raw else math.nan
            row += [score, score - max(raw.values(), default=0.0), rank]
        rows.append(row)
    booster = lightgbm.Booster(model_str=trees(3 * len(members)))
    return {i: float(value) for i, value in zip(ids, booster.predict(rows), strict=True)}


def _choices(options: Sequence[Sequence[Any]]) -> list[list[Any]]:
    choices: list[list[Any]] = [[]]
    for option in options:
        choices = [[*before, one] for before in choices for one in option]
    return choices


def _has_scores(values: Mapping[str, float], trace: Any) -> bool:
    """Whether a step's trace has these scores, best first."""
    scores = list(trace.scores.values())
    return (
        values.keys() == trace.scores.keys()
        and scores == sorted(scores, reverse=True)
        and all(math.isclose(values[i], score, rel_tol=1e-9, abs_tol=1e-9) for i, score in trace.scores.items())
    )


def _fused(node: Node, weighted: Sequence[tuple[float, ExpectedRanking]], ids: Sequence[str]) -> dict[str, float]:
    """Fused scores by the textbook."""
    total: dict[str, float] = {}
    count: Counter[str] = Counter()
    for weight, answer in weighted:
        raw = {i: value for i, value in answer.hits if value is not None}
        if not raw:
            continue
        count.update(raw.keys())
        low, high = min(raw.values()), max(raw.values())
        middle, spread = mean(raw.values()), pstdev(raw.values())
        for i in ids:
            value = raw.get(i, low)
            if node["fusion"] == "rrf":
                vote = 1 / (60 + 1 + list(raw).index(i)) if i in raw else 0.0
            elif node["normalise"] == "min-max":
                vote = 0.5 if low == high else (value - low) / (high - low)
            else:
                vote = 0.0 if low == high else (value - middle) / spread
            total[i] = total.get(i, 0.0) + weight * vote
    return {i: total[i] * (count[i] if node["fusion"] == "combmnz" else 1) for i in ids if count[i]}


def _steps_beyond_chance(values: Sequence[float]) -> float:
    """Return Spearman's rho with the incoming order, by pairs of places, over its standard deviation for chance.

    The rank of a value is how many are below it, plus half of those that are equal: another way than in the package.
    """
    count = len(values)
    ranks = [sum((other < value) + (other == value) / 2 for other in values) for value in values]
    spread = pstdev(ranks) * pstdev(range(count))
    rho = mean(-i * rank for i, rank in enumerate(ranks)) - mean(-i for i in range(count)) * mean(ranks)
    return rho / spread * math.sqrt(count - 1) if spread else 0.0

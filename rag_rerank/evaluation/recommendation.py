"""What to do, from what was found: rerank with this system, or do not rerank here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, log2, log10

from rag_rerank.evaluation.depth_curve import TOLERANCE
from rag_rerank.evaluation.measures import TOP_3
from rag_rerank.evaluation.report import (
    FIRST_STAGE,
    Comparison,
    Data,
    EvaluationSettings,
    MeanEstimate,
    Outcome,
    Slice,
    System,
    Verdict,
)
from rag_rerank.evaluation.slices import FEWEST, FIRST_RANK
from rag_rerank.evaluation.statistics import ALPHA, compare

__all__ = ["verdict"]

_LIGHTER = 2.0
"""How many times as fast or as cheap a system must be to be preferred to a better one."""

_POWER = 0.8
"""How surely the queries that a reason asks for would show the difference."""

_LOST = 0.2
"""Share of the queries without a relevant candidate from which on the verdict points at the retrieval."""

_CUT = 0.2
"""Share of the texts not read to their end above which the verdict says so."""


def verdict(
    *,
    data: Data,
    settings: EvaluationSettings,
    systems: Sequence[System],
    comparisons: Sequence[Comparison],
    slices: Sequence[Slice],
    outcomes: Sequence[Outcome],
    depths: Mapping[str, int] | None = None,
    top_ks: Mapping[str, int] | None = None,
) -> Verdict:
    """Recommend a system, or none.

    A system is recommended only if it is better than the first stage in the first measure with a corrected p-value
    below 0.05. Of those the best one is taken; but one that takes at most half the time or half the money, and no more
    of the other, is preferred if its loss against the best is at most 0.01 and not significant.

    Slices that fall significantly are named, but for those of `FIRST_RANK`: where the first stage was already right,
    every reranker can only lose, which says nothing of a kind of query. Where more than a fifth of the texts was not
    read to its end, a reason says so.

    Args:
        data: What was evaluated on.
        settings: How it was evaluated.
        systems: All systems, the first stage among them.
        comparisons: Each reranker with the first stage, `adjusted`.
        slices: The slices, with their comparisons.
        outcomes: The queries.
        depths: System -> smallest depth that is enough, where one is known (`depths.curve`).
        top_ks: System -> how few hits find as much as the first stage's ``top_k`` (`depths.smallest_top_k`).
    """
    measure = settings.measures[0]
    found = {one.system: one for one in comparisons if one.measure == measure and one.baseline == FIRST_STAGE}
    by_name = {system.name: system for system in systems}
    proven = [one for one in found.values() if one.difference.mean > 0 and one.p_adjusted < ALPHA]
    if not proven:
        return Verdict(
            rerank=False,
            words=_against(list(found.values()), data),
            reasons=(
                *_failed(list(found.values()), outcomes),
                *_unread([by_name[one] for one in found]),
                *_few(data),
                *_retrieval(data, by_name, measure),
            ),
        )
    best = max(proven, key=lambda one: one.difference.mean)
    lost = {one.system: _versus(best.system, one.system, measure, outcomes, settings) for one in proven}
    light = [
        one
        for one in proven
        if _lighter(by_name[one.system], by_name[best.system])
        if lost[one.system].difference.mean <= TOLERANCE and lost[one.system].p >= ALPHA
    ]
    chosen = min(light, key=lambda one: by_name[one.system].p50 or 0.0, default=best)
    name, before = chosen.system, by_name[FIRST_STAGE].measures[measure].mean
    depth, top_k = (depths or {}).get(name, settings.depth), (top_ks or {}).get(name, settings.top_k)
    hurt = [
        (part, one)
        for part in slices
        for one in part.comparisons
        if part.field != FIRST_RANK and one.system == name and _falls(one, measure)
    ]
    but = ", but it hurts where " + " and where ".join(_named(part) for part, _ in hurt) if hurt else ""
    return Verdict(
        rerank=True,
        system=name,
        depth=depth,
        top_k=top_k,
        words=(
            f"Rerank with {name}, {_many(depth, 'candidate')} in and {_many(top_k, 'hit')} kept: {measure} rises from "
            f"{before:.3f} to {by_name[name].measures[measure].mean:.3f} ({_change(chosen.difference)}){but}."
        ),
        reasons=(
            *_gains(chosen, comparisons),
            *_rival(lost[chosen.system], by_name),
            *_sizes(by_name[name], settings, depth, top_k),
            *_unread([by_name[name]]),
            *(f"Where {_named(part)} ({part.queries} queries) it hurts: {_told(one)}." for part, one in hurt),
            *_few(data),
            *_retrieval(data, by_name, measure),
        ),
    )


def _against(found: Sequence[Comparison], data: Data) -> str:
    if not found:
        return "Do not rerank here: there is no reranker among the systems."
    if all(one.difference.mean < 0 and one.p_adjusted < ALPHA for one in found):
        worse = f"{found[0].system} is" if len(found) == 1 else "all systems are"
        return f"Do not rerank here: {worse} significantly worse than the first stage."
    proven = f"{found[0].system} has no" if len(found) == 1 else "no system has a"
    return f"Do not rerank here: {proven} proven gain over the first stage on {_these(data.queries)}."


def _failed(found: Sequence[Comparison], outcomes: Sequence[Outcome]) -> Iterator[str]:
    for one in found:
        if one.difference.mean < 0 and one.p_adjusted < ALPHA:
            yield f"{one.system} makes it worse: {_told(one)}."
        elif one.difference.mean <= 0:
            yield f"{one.system} shows no gain: {_told(one)}."
        else:
            more = "One query shows nothing."
            if len(outcomes) > 1:
                needed = _needed(one, outcomes, len(found))
                more = f"If the difference is real, it would take about {needed:,} queries to show it."
            yield f"{one.system} may be better by chance: {_told(one)}. {more}"


def _gains(chosen: Comparison, comparisons: Sequence[Comparison]) -> Iterator[str]:
    yield (
        f"{chosen.helped} queries get better, {chosen.hurt} worse, {chosen.unchanged} stay as they are "
        f"({chosen.measure}, {_p(chosen.p_adjusted)})."
    )
    for one in comparisons:
        if one.system == chosen.system and one.baseline == FIRST_STAGE and one.measure == TOP_3 != chosen.measure:
            yield f"Lift at top-3: {_told(one)}."


def _rival(lost: Comparison, systems: Mapping[str, System]) -> Iterator[str]:
    if lost.system != lost.baseline:
        light, heavy = systems[lost.baseline], systems[lost.system]
        money = f" and ${heavy.cost:.2g} in all against ${light.cost:.2g}" if heavy.cost and light.cost else ""
        yield (
            f"{heavy.name} is better by {lost.difference.mean:.3f}, which may be chance ({_p(lost.p)}), and takes "
            f"{_seconds(heavy.p50 or 0.0)} a query against {_seconds(light.p50 or 0.0)}{money}."
        )


def _sizes(system: System, settings: EvaluationSettings, depth: int, top_k: int) -> Iterator[str]:
    if system.p50 is not None and system.p95 is not None:
        yield f"A query takes {_seconds(system.p50)} (median), {_seconds(system.p95)} at the 95th percentile."
    if depth < settings.depth:
        yield f"{depth} candidates lose surely less than {TOLERANCE:g} against {settings.depth}."
    if top_k < settings.top_k:
        few = "hit holds" if top_k == 1 else f"{top_k} hits hold"
        yield f"Its first {few} what {settings.top_k} of the first stage hold, within {TOLERANCE:g} of recall."
    if system.errors:
        yield f"It failed on {_many(system.errors, 'query')}, counted with the first stage's order."


def _few(data: Data) -> Iterator[str]:
    if data.queries < FEWEST:
        yield f"Intervals of fewer than {FEWEST} queries mean little: judge more."


def _unread(systems: Sequence[System]) -> Iterator[str]:
    for system in systems:
        if system.truncated is not None and system.truncated > _CUT:
            yield (
                f"{system.name} did not read {system.truncated:.0%} of the texts to their end, and judged them all the "
                "same; a config of type windows reads long texts whole."
            )


def _retrieval(data: Data, systems: Mapping[str, System], measure: str) -> Iterator[str]:
    lost = systems[FIRST_STAGE].failures.get("candidates", 0)
    if lost and lost >= _LOST * data.queries:
        ceiling = (
            f"; a perfect order would give {measure} {data.ceiling[measure]:.3f}" if measure in data.ceiling else ""
        )
        yield (
            f"{lost} of {data.queries} queries have no relevant candidate, which no reranker can mend{ceiling}: "
            "look at the retrieval first."
        )


def _lighter(rival: System, best: System) -> bool:
    """Whether a system takes at most half of the other's time or money, and no more of the other of the two."""
    slow = rival.p50 is None or best.p50 is None or rival.p50 > best.p50
    dear = rival.cost is not None and best.cost is not None and rival.cost > best.cost
    faster = not dear and not slow and (rival.p50 or 0.0) * _LIGHTER <= (best.p50 or 0.0)
    known = rival.cost is not None and best.cost is not None
    cheaper = known and not slow and (rival.cost or 0.0) * _LIGHTER <= (best.cost or 0.0) != 0.0
    return faster or cheaper


def _versus(a: str, b: str, measure: str, outcomes: Sequence[Outcome], settings: EvaluationSettings) -> Comparison:
    left, right = (_values(name, measure, outcomes) for name in (a, b))
    return compare(a, b, measure, left, right, samples=settings.samples, seed=settings.seed)


def _values(system: str, measure: str, outcomes: Sequence[Outcome]) -> dict[str, float]:
    return {outcome.id: outcome.measures[system][measure] for outcome in outcomes}


def _needed(one: Comparison, outcomes: Sequence[Outcome], family: int) -> int:
    """Return how many queries would show the observed difference at the level of its family, to two digits.

    ``((z(1 - alpha / 2) + z(power)) * deviation / difference) ** 2``, the normal approximation; at least as many as
    the randomisation test needs for such a p at all, ``2 / 2 ** n`` being its least.
    """
    from statistics import NormalDist, stdev

    left, right = (_values(name, one.measure, outcomes) for name in (one.system, one.baseline))
    differences = [left[query] - right[query] for query in left]
    z = NormalDist().inv_cdf(1 - ALPHA / family / 2) + NormalDist().inv_cdf(_POWER)
    needed = max((z * stdev(differences) / one.difference.mean) ** 2, len(differences) + 1, log2(2 * family / ALPHA))
    digit = int(10 ** max(0, int(log10(needed)) - 1))
    return ceil(needed / digit) * digit


def _these(queries: int) -> str:
    return "this one query" if queries == 1 else f"these {queries} queries"


def _many(count: int, what: str) -> str:
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count} {what if count == 1 else plural}"


def _falls(one: Comparison, measure: str) -> bool:
    return one.measure == measure and one.difference.mean < 0 and one.p_adjusted < ALPHA


def _named(part: Slice) -> str:
    return f"{part.field} is {part.value}"


def _told(one: Comparison) -> str:
    return f"{one.measure} {_change(one.difference)}, {_p(one.p_adjusted)}"


def _change(difference: MeanEstimate) -> str:
    return f"{difference.mean:+.3f}, 95 % interval {difference.low:+.3f} to {difference.high:+.3f}"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"

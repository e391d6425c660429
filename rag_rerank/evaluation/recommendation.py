"""The recommendation: rerank with this system, do not rerank, or judge more queries; and why, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, log2, log10

from rag_rerank.evaluation.depth_curve import MEAN_LOSS, TOLERANCE
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
"""A system that is this many times as fast or as cheap may be preferred to a better one."""

_POWER = 0.8
"""Probability with which the number of queries in a reason would show the difference."""

_MANY_WITHOUT_RELEVANT = 0.2
"""With at least this share of queries without a relevant candidate, a reason points at the retrieval."""

_MANY_TRUNCATED = 0.2
"""Share of truncated texts above which a reason says so."""


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
    """Recommend a system, or none, or to judge more queries first.

    A system is recommended only if it is better than the first stage in the first measure with a corrected p-value
    below 0.05. Of several, the best is recommended; but one that takes at most half the time or half the money, and no
    more of the other, is preferred if its loss against the best is at most 0.01 and not significant.

    Without such a system, the verdict is not to rerank if each one is significantly worse, or cannot gain 0.01: on at
    least ten queries, the upper end of its interval is below that. Else the queries do not decide it, and the verdict
    says about how many more would. Where the interval and the test seem to contradict each other, a reason says why.

    Slices that fall significantly are named, except those of `FIRST_RANK`: where the first stage was already right,
    every reranker can only lose, which says nothing about a kind of query. Where more than a fifth of the texts were
    truncated, a reason says so.

    Args:
        data: The judged queries.
        settings: The settings of the evaluation.
        systems: All systems, the first stage among them.
        comparisons: Each reranker with the first stage, with `adjusted_p`.
        slices: The slices, with their comparisons.
        outcomes: The results by query.
        depths: System -> smallest depth that is enough, where one is known (`depth_curve.curve`).
        top_ks: System -> number of hits with the recall of the first stage's ``top_k`` (`depth_curve.smallest_top_k`).
    """
    measure = settings.measures[0]
    gains = [
        comparison for comparison in comparisons if comparison.measure == measure and comparison.baseline == FIRST_STAGE
    ]
    by_name = {system.name: system for system in systems}
    proven = [gain for gain in gains if gain.difference.mean > 0 and gain.p_adjusted < ALPHA]
    if not proven:
        return _without_gain(gains, data, outcomes, by_name, measure)
    best = max(proven, key=lambda gain: gain.difference.mean)
    losses = {gain.system: _compare(best.system, gain.system, measure, outcomes, settings) for gain in proven}
    light = [
        gain
        for gain in proven
        if _is_lighter(by_name[gain.system], by_name[best.system])
        if losses[gain.system].difference.mean <= TOLERANCE and losses[gain.system].p >= ALPHA
    ]
    choice = min(light, key=lambda gain: by_name[gain.system].p50 or 0.0, default=best)
    name, before = choice.system, by_name[FIRST_STAGE].measures[measure].mean
    depth, top_k = (depths or {}).get(name, settings.depth), (top_ks or {}).get(name, settings.top_k)
    falls = [
        (part, comparison)
        for part in slices
        for comparison in part.comparisons
        if part.field != FIRST_RANK
        and comparison.system == name
        and comparison.measure == measure
        and _is_worse(comparison)
    ]
    but = ", but it hurts where " + " and where ".join(_condition(part) for part, _ in falls) if falls else ""
    return Verdict(
        rerank=True,
        system=name,
        depth=depth,
        top_k=top_k,
        words=(
            f"Rerank with {name}, {_plural(depth, 'candidate')} in and {_plural(top_k, 'hit')} kept: {measure} rises "
            f"from {before:.3f} to {by_name[name].measures[measure].mean:.3f} ({_change(choice.difference)}){but}."
        ),
        reasons=(
            *_gain(choice, comparisons),
            *_disagreement(choice, gains),
            *_headroom(choice, data, before),
            *_rival(losses[choice.system], by_name),
            *_sizes(by_name[name], settings, depth, top_k),
            *_truncation_reasons([by_name[name]]),
            *(
                f"Where {_condition(part)} ({part.queries} queries) it hurts: {_result(comparison)}."
                for part, comparison in falls
            ),
            *_few_queries(data),
            *_retrieval(data, by_name, measure),
        ),
    )


def _without_gain(
    gains: Sequence[Comparison],
    data: Data,
    outcomes: Sequence[Outcome],
    by_name: Mapping[str, System],
    measure: str,
) -> Verdict:
    """Return the verdict where no gain is proven: not to rerank, or to judge more queries."""
    needed = {gain.system: _queries_needed(gain, outcomes, len(gains)) for gain in gains if not _is_settled(gain, data)}
    more = _round_up(max(1, min(needed.values()) - len(outcomes))) if needed else None
    return Verdict(
        rerank=None if needed else False,
        more_queries=more,
        words=_do_not_rerank(gains) if more is None else _not_decided(more, gains, data),
        reasons=(
            *_no_gains(gains, needed),
            *_truncation_reasons([by_name[gain.system] for gain in gains]),
            *_few_queries(data),
            *_retrieval(data, by_name, measure),
        ),
    )


def _is_settled(gain: Comparison, data: Data) -> bool:
    """Whether a system without a proven gain surely has none that matters."""
    return _is_worse(gain) or (data.queries >= FEWEST and gain.difference.high < TOLERANCE)


def _is_worse(comparison: Comparison) -> bool:
    return comparison.difference.mean < 0 and comparison.p_adjusted < ALPHA


def _is_lighter(rival: System, best: System) -> bool:
    """Whether a system takes at most half of the other's time or money, and no more of the other."""
    slower = rival.p50 is None or best.p50 is None or rival.p50 > best.p50
    dearer = rival.cost is not None and best.cost is not None and rival.cost > best.cost
    much_faster = not dearer and not slower and (rival.p50 or 0.0) * _LIGHTER <= (best.p50 or 0.0)
    priced = rival.cost is not None and best.cost is not None
    much_cheaper = priced and not slower and (rival.cost or 0.0) * _LIGHTER <= (best.cost or 0.0) != 0.0
    return much_faster or much_cheaper


def _compare(a: str, b: str, measure: str, outcomes: Sequence[Outcome], settings: EvaluationSettings) -> Comparison:
    values_a, values_b = (_values(name, measure, outcomes) for name in (a, b))
    return compare(a, b, measure, values_a, values_b, samples=settings.samples, seed=settings.seed)


def _values(system: str, measure: str, outcomes: Sequence[Outcome]) -> dict[str, float]:
    return {outcome.id: outcome.measures[system][measure] for outcome in outcomes}


def _queries_needed(comparison: Comparison, outcomes: Sequence[Outcome], family: int) -> int:
    """Return how many queries would decide about a system, if the differences go on as they are.

    ``(z * deviation / distance) ** 2``, the normal approximation, for the nearer of two decisions: that the mean
    difference is above 0 at the level of its family (``distance`` is the mean, ``z`` is z(1 - alpha / 2) + z(power)),
    or that it is below `TOLERANCE` (``distance`` is what lies between, ``z`` is z(1 - alpha / 2)). At least as many as
    the randomisation test needs for such a p at all: its smallest is ``2 / 2 ** n``.
    """
    from statistics import NormalDist, stdev

    values, base = (_values(name, comparison.measure, outcomes) for name in (comparison.system, comparison.baseline))
    differences = [values[query] - base[query] for query in values]
    least = max(FEWEST, len(differences) + 1, log2(2 * family / ALPHA))
    mean, deviation = comparison.difference.mean, stdev(differences) if len(differences) > 1 else 0.0
    z, z_power = NormalDist().inv_cdf(1 - ALPHA / family / 2), NormalDist().inv_cdf(_POWER)
    z_interval = NormalDist().inv_cdf(1 - ALPHA / 2)
    ways = [
        *([((z + z_power) * deviation / mean) ** 2] if mean > 0 else []),
        *([(z_interval * deviation / (TOLERANCE - mean)) ** 2] if mean < TOLERANCE else []),
    ]
    return _round_up(max(min(ways), least))


def _round_up(number: float) -> int:
    """Return a number rounded up: to tens from 20 on, to hundreds from 200 on, and so on."""
    digit = int(10 ** int(log10(number / 2)))
    return ceil(number / digit) * digit


def _do_not_rerank(gains: Sequence[Comparison]) -> str:
    if not gains:
        return "Do not rerank here: there is no reranker among the systems."
    if all(map(_is_worse, gains)):
        worse = f"{gains[0].system} is" if len(gains) == 1 else "all systems are"
        return f"Do not rerank here: {worse} significantly worse than the first stage."
    gain = f"{gains[0].system} gains" if len(gains) == 1 else "every system gains"
    return f"Do not rerank here: {gain} less than {TOLERANCE:g} in {gains[0].measure}, if anything."


def _not_decided(more: int, gains: Sequence[Comparison], data: Data) -> str:
    unproven = f"{gains[0].system} has no" if len(gains) == 1 else "no system has a"
    queries = "this one query" if data.queries == 1 else f"these {data.queries} queries"
    several = f"about {more:,} more queries" if more > 1 else "one more query"
    return f"Not decided: judge {several}. So far {unproven} proven gain over the first stage on {queries}."


def _no_gains(gains: Sequence[Comparison], needed: Mapping[str, int]) -> Iterator[str]:
    for gain in gains:
        if _is_worse(gain):
            yield f"{gain.system} makes it worse: {_result(gain)}."
        elif gain.system not in needed:
            yield f"{gain.system} gains less than {TOLERANCE:g}, if anything: {_result(gain)}."
        else:
            unclear = "may be better by chance" if gain.difference.mean > 0 else "shows no gain yet"
            yield (
                f"{gain.system} {unclear}: {_result(gain)}. If it goes on like this, about "
                f"{needed[gain.system]:,} queries in all decide it."
            )
        yield from _disagreement(gain, gains)


def _disagreement(gain: Comparison, family: Sequence[Comparison]) -> Iterator[str]:
    """Yield why the interval and the test of a difference do not say the same, where they do not."""
    excludes_zero, significant = gain.difference.low > 0 or gain.difference.high < 0, gain.p_adjusted < ALPHA
    changes = gain.helped + gain.hurt
    if excludes_zero == significant or changes + gain.unchanged < FEWEST:
        return  # of fewer queries, another reason says that intervals mean little
    if significant:
        yield (
            "Its interval includes 0 although the test is significant: the interval is widened for few queries. The "
            "test decides."
        )
    elif gain.p < ALPHA:
        yield (
            f"Its interval excludes 0 although it is not proven: alone its p is {gain.p:.3f}, but the test is "
            f"corrected for {len(family)} systems, and the interval is not. The test decides."
        )
    else:
        only = f"only {changes} of {changes + gain.unchanged} queries" if gain.unchanged else f"{changes} queries"
        smallest = f" (with {changes}, the smallest p is {2 / 2**changes:.3f})" if 2 / 2**changes >= ALPHA else ""
        yield (
            f"Its interval excludes 0 although it is not proven: {only} change{smallest}. An interval computed from so "
            "few changes is too narrow, and the test decides."
        )


def _gain(choice: Comparison, comparisons: Sequence[Comparison]) -> Iterator[str]:
    yield (
        f"{choice.helped} queries get better, {choice.hurt} worse, {choice.unchanged} stay the same "
        f"({choice.measure}, {_p(choice.p_adjusted)})."
    )
    for comparison in comparisons:
        if (
            comparison.system == choice.system
            and comparison.baseline == FIRST_STAGE
            and comparison.measure == TOP_3 != choice.measure
        ):
            yield f"Lift at top-3: {_result(comparison)}."


def _headroom(choice: Comparison, data: Data, before: float) -> Iterator[str]:
    """Yield what a perfect order of the same candidates would gain."""
    ceiling, measure = data.ceiling.get(choice.measure), choice.measure
    if ceiling is not None and (room := ceiling - before) > 0:
        yield (
            f"A perfect order of the same candidates would give {measure} {ceiling:.3f}: {choice.system} gains "
            f"{choice.difference.mean / room:.0%} of what reranking can."
        )


def _rival(loss: Comparison, systems: Mapping[str, System]) -> Iterator[str]:
    """Yield what the best system would give and take, where a lighter one is recommended."""
    if loss.system != loss.baseline:
        light, heavy = systems[loss.baseline], systems[loss.system]
        money = f", and ${heavy.cost:.2g} in all instead of ${light.cost:.2g}" if heavy.cost and light.cost else ""
        yield (
            f"{heavy.name} is better by {loss.difference.mean:.3f}, which may be chance ({_p(loss.p)}), but takes "
            f"{_seconds(heavy.p50 or 0.0)} a query instead of {_seconds(light.p50 or 0.0)}{money}."
        )


def _sizes(system: System, settings: EvaluationSettings, depth: int, top_k: int) -> Iterator[str]:
    if system.p50 is not None and system.p95 is not None:
        yield f"A query takes {_seconds(system.p50)} (median), {_seconds(system.p95)} at the 95th percentile."
    if depth < settings.depth:
        measure, means = settings.measures[0], {point.depth: point.measures for point in system.depths}
        best = max(means, key=lambda step: means[step][measure].mean, default=settings.depth)
        yield (
            f"Reranking {depth} candidates loses less than {TOLERANCE:g} in {measure} against the best depth, {best} "
            "(upper end of the 95 % interval)."
        )
        if best < settings.depth and (fall := means[best][measure].mean - means[max(means)][measure].mean) > MEAN_LOSS:
            yield f"Beyond {best} candidates it gets worse: {measure} falls by {fall:.3f} up to {settings.depth}."
    if top_k < settings.top_k:
        few = "hit has" if top_k == 1 else f"{top_k} hits have"
        yield f"Its first {few} the recall of the first stage's first {settings.top_k}, within {TOLERANCE:g}."
    if system.errors:
        yield f"It failed on {_plural(system.errors, 'query')}; there, the first stage's order counts."


def _few_queries(data: Data) -> Iterator[str]:
    if data.queries < FEWEST:
        yield f"With fewer than {FEWEST} queries, intervals mean little: judge more queries."


def _truncation_reasons(systems: Sequence[System]) -> Iterator[str]:
    for system in systems:
        if system.truncated is not None and system.truncated > _MANY_TRUNCATED:
            yield (
                f"{system.name} read only the beginning of {system.truncated:.0%} of the texts; a config of type "
                "windows reads long texts whole."
            )


def _retrieval(data: Data, systems: Mapping[str, System], measure: str) -> Iterator[str]:
    without = systems[FIRST_STAGE].failures.get("candidates", 0)
    if without and without >= _MANY_WITHOUT_RELEVANT * data.queries:
        ceiling = (
            f" (a perfect order would give {measure} {data.ceiling[measure]:.3f})" if measure in data.ceiling else ""
        )
        yield (
            f"{without} of {data.queries} queries have no relevant candidate, and no reranker can change that"
            f"{ceiling}: improve the retrieval first."
        )


def _plural(count: int, what: str) -> str:
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count} {what if count == 1 else plural}"


def _condition(part: Slice) -> str:
    return f"{part.field} is {part.value}"


def _result(comparison: Comparison) -> str:
    return f"{comparison.measure} {_change(comparison.difference)}, {_p(comparison.p_adjusted)}"


def _change(difference: MeanEstimate) -> str:
    return f"{difference.mean:+.3f}, 95 % interval {difference.low:+.3f} to {difference.high:+.3f}"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"

"""Find systems that are worse than in an earlier evaluation: over all queries and in every slice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rag_rerank.errors import InputError
from rag_rerank.evaluation.report import Evaluation, MeanEstimate, Outcome
from rag_rerank.evaluation.slices import FEWEST
from rag_rerank.evaluation.statistics import ALPHA, estimate, holm, randomisation
from rag_rerank.text.short_repr import short_repr

__all__ = ["Drift", "Regression", "compare_with_baseline"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Regression:
    """A system that is significantly worse than it was.

    Args:
        system: The name of the system.
        field: Field of the slice; ``None`` for all queries.
        value: Value of the slice; ``None`` for all queries.
        measure: The measure.
        queries: How many queries were compared.
        before: Mean in the baseline.
        now: Mean now.
        difference: Mean of the paired differences, now minus before.
        p_adjusted: One-sided p-value of the paired randomisation test, corrected for all tests (Holm).
    """

    system: str
    field: str | None
    value: str | None
    measure: str
    queries: int
    before: float
    now: float
    difference: MeanEstimate
    p_adjusted: float

    def __str__(self) -> str:
        where = "" if self.field is None else f" where {self.field} is {self.value}"
        return (
            f"{self.system}{where}: {self.measure} fell from {self.before:.3f} to {self.now:.3f} "
            f"(95 % interval {self.difference.low:+.3f} to {self.difference.high:+.3f}, {self.queries} queries, "
            f"p = {self.p_adjusted:.2g})"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """The result of a comparison with a baseline.

    Args:
        falls: What fell significantly, the largest fall first; empty if nothing did.
        tested: How many tests were made: systems times slices, and each system as a whole.
        queries: Queries in both evaluations.
        notes: What could not be compared, one sentence each.
    """

    falls: tuple[Regression, ...]
    tested: int
    queries: int
    notes: tuple[str, ...] = ()

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        """Return a table of the falls for notebooks."""
        from rag_rerank.text.html import section, table

        rows = (
            (
                fall.system,
                "" if fall.field is None else f"{fall.field}: {fall.value}",
                fall.measure,
                f"{fall.before:.3f}",
                f"{fall.now:.3f}",
                f"{fall.difference.mean:+.3f} [{fall.difference.low:+.3f}, {fall.difference.high:+.3f}]",
                f"{fall.p_adjusted:.2g}",
                f"{fall.queries:,}",
            )
            for fall in self.falls
        )
        heading = ("system", "slice", "measure", "#before", "#now", "#difference", "#p", "#queries")
        title = f"{len(self.falls):,} significant falls in {self.tested:,} tests on {self.queries:,} queries"
        return section(title, self.notes, table(heading, rows, len(self.falls), "falls"))


def compare_with_baseline(evaluation: Evaluation, baseline: Evaluation) -> Drift:
    """Return what fell significantly in the baseline's first measure.

    Every system with a name in both evaluations is compared, the first stage included, on the queries in both (same
    id and text), paired: over all queries, and in each slice of ``evaluation`` with at least ten such queries. The
    test is one-sided, since only falls matter, and corrected for all systems and slices together, so that a run in
    which nothing got worse fails in at most 5 % of the cases.

    Args:
        evaluation: The evaluation now.
        baseline: The evaluation before.

    Raises:
        InputError: The two have no query, no system, or not the baseline's first measure in common.
    """
    measure, (samples, seed) = baseline.settings.measures[0], (evaluation.settings.samples, evaluation.settings.seed)
    if measure not in evaluation.settings.measures:
        raise InputError(f"the baseline uses {measure}, which this evaluation did not measure; add it to measures")
    names = [system.name for system in evaluation.systems if system.name in _names(baseline)]
    if not names:
        raise InputError("this evaluation and the baseline have no system in common; compare the same configs")
    before = {outcome.id: outcome for outcome in baseline.outcomes}
    common = [now for now in evaluation.outcomes if now.id in before and before[now.id].text == now.text]
    if not common:
        raise InputError("this evaluation and the baseline have no query in common; a baseline needs the same queries")
    tests = [
        (name, field, value, [(before[now.id].measures[name][measure], now.measures[name][measure]) for now in part])
        for name in names
        for (field, value), part in _parts(common).items()
    ]
    changes = [[now - was for was, now in pairs] for *_, pairs in tests]
    corrected = holm([randomisation(change, fall=True, samples=samples, seed=seed) for change in changes])
    falls = [
        Regression(
            system=name,
            field=field,
            value=value,
            measure=measure,
            queries=len(pairs),
            before=sum(was for was, _ in pairs) / len(pairs),
            now=sum(now for _, now in pairs) / len(pairs),
            difference=estimate(change, samples=samples, seed=seed),
            p_adjusted=p,
        )
        for (name, field, value, pairs), change, p in zip(tests, changes, corrected, strict=True)
        if p < ALPHA
    ]
    return Drift(
        falls=tuple(sorted(falls, key=lambda fall: fall.difference.mean)),
        tested=len(tests),
        queries=len(common),
        notes=tuple(_notes(evaluation, baseline, len(common))),
    )


def _names(evaluation: Evaluation) -> set[str]:
    return {system.name for system in evaluation.systems}


def _parts(outcomes: Sequence[Outcome]) -> Mapping[tuple[str | None, str | None], Sequence[Outcome]]:
    parts: dict[tuple[str | None, str | None], list[Outcome]] = {(None, None): list(outcomes)}
    for outcome in outcomes:
        for field, value in outcome.slices.items():
            parts.setdefault((field, value), []).append(outcome)
    return {key: part for key, part in parts.items() if key == (None, None) or len(part) >= FEWEST}


def _notes(evaluation: Evaluation, baseline: Evaluation, common: int) -> Iterator[str]:
    if evaluation.data.fingerprint != baseline.data.fingerprint:
        yield (
            f"The data are not those of the baseline: {common} of {len(evaluation.outcomes)} queries are in both "
            f"(the baseline has {len(baseline.outcomes)}), and their candidates or judgments may differ."
        )
    new, old = _names(evaluation), _names(baseline)
    if new - old:
        yield f"Not in the baseline, so not compared: {', '.join(sorted(new - old))}."
    if old - new:
        yield f"Only in the baseline, so not compared: {', '.join(sorted(old - new))}."
    for name in ("depth", "top_k"):
        was, now = getattr(baseline.settings, name), getattr(evaluation.settings, name)
        if was != now:
            yield f"The baseline was made with {name} {was}, this evaluation with {now}."

"""An evaluation on the terminal: tables, what is wrong with the data, and the verdict where the prompt will stand."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from textwrap import wrap

from rag_rerank.cli.output import one_line, table
from rag_rerank.evaluation.data.judged import Problem
from rag_rerank.evaluation.measures import TOP_3
from rag_rerank.evaluation.regression import Drift
from rag_rerank.evaluation.report import FAILURES, FIRST_STAGE, Comparison, Evaluation, MeanEstimate, System
from rag_rerank.evaluation.slices import FIRST_RANK
from rag_rerank.evaluation.statistics import ALPHA

__all__ = ["page", "regression_page"]

_NONE = "–"

_WIDEST = 120
"""Signs of a line at most, where tables can help it."""


def page(found: Evaluation) -> str:
    """Return the whole of an evaluation that fits a terminal; the rest is in the JSON and the HTML page."""
    parts = (_data, _quality, _changes, _rivals, _cost, _failures, _slices, _problems, _verdict)
    return "\n\n".join(text for part in parts if (text := "\n".join(part(found))))


def regression_page(drift: Drift) -> str:
    """Return what fell against a baseline, or that nothing did."""
    lines = [f"note: {one_line(note)}" for note in drift.notes]
    lines += [f"FELL: {one_line(str(fall))}" for fall in drift.falls]
    if not drift.falls:
        lines.append(
            f"Nothing fell significantly against the baseline: {drift.tested} tests on {drift.queries} queries."
        )
    return "\n".join(lines)


def _data(found: Evaluation) -> Iterator[str]:
    data, settings = found.data, found.settings
    yield from _wrapped(
        f"{data.name}: {data.queries:,} queries, {data.candidates:.1f} candidates each on average, "
        f"{data.judged:.0%} of them judged; relevant from grade {data.relevant} on"
    )
    yield from (one_line(source) for source in data.sources)
    yield f"the first {settings.depth} candidates enter, {settings.top_k} hits are kept; means with 95 % intervals"


def _quality(found: Evaluation) -> Iterator[str]:
    first, *others = found.settings.measures
    rows = [("system", first, "", *others)]
    for system in found.systems:
        means = (f"{system.measures[measure].mean:.4f}" for measure in others)
        rows.append((system.name, f"{system.measures[first].mean:.4f}", _interval(system.measures[first]), *means))
    ceiling = found.data.ceiling
    rows.append(("perfect order", f"{ceiling[first]:.4f}", "", *(f"{ceiling[measure]:.4f}" for measure in others)))
    yield from _fitting(rows, "<><" + ">" * len(others), 3)


def _changes(found: Evaluation) -> Iterator[str]:
    measure = found.settings.measures[0]
    lift = "lift at top-3" if measure != TOP_3 else ""
    heading = ("against the first stage", measure, "", "p", "helped", "hurt", "same", lift, "")
    rows: list[tuple[str, ...]] = [heading]
    by = {(one.system, one.measure): one for one in found.comparisons if one.baseline == FIRST_STAGE}
    for system in found.systems[1:]:
        one, top = by[system.name, measure], by[system.name, TOP_3]
        counts = (str(one.helped), str(one.hurt), str(one.unchanged))
        at_top = (f"{top.difference.mean:+.4f}", _interval(top.difference, "+")) if lift else ("", "")
        rows.append((system.name, *_change(one), *counts, *at_top))
    yield from _fitting(rows, "<><>>>>><", 7)
    if len(found.systems) > 2:
        yield f"p is corrected for {len(found.systems) - 1} systems (Holm); the lift at top-3 is the change of {TOP_3}"
    else:
        yield f"the lift at top-3 is the change of {TOP_3}"


def _rivals(found: Evaluation) -> Iterator[str]:
    rivals = [one for one in found.comparisons if one.baseline != FIRST_STAGE]
    if rivals:
        rows = [("against each other", rivals[0].measure, "", "p", "helped", "hurt", "same")]
        for one in rivals:
            counts = (str(one.helped), str(one.hurt), str(one.unchanged))
            rows.append((f"{one.system} – {one.baseline}", *_change(one), *counts))
        yield table(rows, align="<><>>>>")


def _cost(found: Evaluation) -> Iterator[str]:
    rows = [("a query takes", "p50", "p95", "texts", "tokens", "cost", "cut", "errors", "degraded")]
    for system in found.systems[1:]:
        figures = (_known(system, "texts", ","), _known(system, "tokens", ","), _known(system, "cost", ".4f", "$"))
        cut = _NONE if system.truncated is None else f"{system.truncated:.1%}"
        counts = (str(system.errors), str(system.degraded))
        rows.append((system.name, _seconds(system.p50), _seconds(system.p95), *figures, cut, *counts))
    yield from _fitting(rows, "<>>>>>>>>", 6)
    if any(system.truncated for system in found.systems):
        yield "cut: texts that were not read to their end"
    if any(system.estimated for system in found.systems):
        yield "~ is our estimate"
    for system in found.systems:
        if system.workers > 1:
            yield f"{one_line(system.name)}: times under load, {system.workers} queries at a time"


def _failures(found: Evaluation) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [(f"nothing relevant in the top {found.settings.top_k}", "all", *FAILURES)]
    for system in found.systems:
        counts = [system.failures.get(kind, 0) for kind in FAILURES]
        rows.append((system.name, str(sum(counts)), *map(str, counts)))
    if all(row[1] == "0" for row in rows[1:]):
        yield f"every system has something relevant in the top {found.settings.top_k} of every query"
        return
    yield table(rows, align="<" + ">" * (1 + len(FAILURES)))
    yield from _wrapped(
        "candidates: not retrieved, so no reranker can help; truncation: not read to its end; tie: the same score "
        "as one above; scoring: scored too low"
    )


def _slices(found: Evaluation) -> Iterator[str]:
    rows = [
        (f"{part.field}: {part.value}", str(part.queries), one.system, one.measure, *_change(one))
        for part in found.slices
        for one in part.comparisons
        if one.p_adjusted < ALPHA and part.field != FIRST_RANK  # where all was right, a reranker can only lose
    ]
    tested = sum(len(part.comparisons) for part in found.slices)
    if rows:
        heading = ("slices that move", "queries", "system", "measure", "change", "", "p")
        yield table([heading, *rows], align="<><<><>")
        yield f"of {len(found.slices)} slices; p is corrected for all of them"
    elif tested:
        yield f"of {len(found.slices)} slices, none moves significantly on its own"


def _problems(found: Evaluation) -> Iterator[str]:
    told: list[tuple[str, Problem]] = [("data", problem) for problem in found.data.problems]
    told += [(system.name, problem) for system in found.systems for problem in system.problems]
    for whose, problem in told:
        yield f"{one_line(whose)}: {problem.count:,} × {one_line(problem.kind)}"
        yield from (f"    {one_line(example)}" for example in problem.examples[:3])
        if problem.examples and problem.count > len(problem.examples[:3]):
            yield "    ..."


def _verdict(found: Evaluation) -> Iterator[str]:
    yield from (f"NOT EVALUATED: {one_line(name)}: {one_line(why)}" for name, why in found.stopped.items())
    yield from _wrapped(found.verdict.words)
    for reason in found.verdict.reasons:
        yield from _wrapped(reason, "- ")


def _fitting(rows: Sequence[Sequence[str]], align: str, first: int) -> Iterator[str]:
    """Yield a table, or, where a line is too short for it, one of its first columns and one of the others."""
    whole = table(rows, align=align)
    if max(map(len, whole.split("\n"))) <= _width():
        yield whole
        return
    yield table([row[:first] for row in rows], align=align[:first])
    if any(any(row[first:]) for row in rows):
        yield ""
        yield table([(row[0], *row[first:]) for row in rows], align=align[0] + align[first:])


def _width() -> int:
    return min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)


def _wrapped(text: str, bullet: str = "") -> list[str]:
    return wrap(one_line(text), _width(), initial_indent=bullet, subsequent_indent=" " * len(bullet))


def _change(one: Comparison) -> tuple[str, str, str]:
    p = "<0.001" if one.p_adjusted < 0.001 else f"{one.p_adjusted:.3f}"
    return f"{one.difference.mean:+.4f}", _interval(one.difference, "+"), p


def _interval(estimate: MeanEstimate, sign: str = "") -> str:
    return f"[{estimate.low:{sign}.4f}, {estimate.high:{sign}.4f}]"


def _known(system: System, figure: str, form: str, unit: str = "") -> str:
    value = getattr(system, figure)
    if value is None:
        return _NONE
    return f"{'~' if figure in system.estimated else ''}{unit}{value:{form}}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"

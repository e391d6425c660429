"""An evaluation on the terminal: tables, problems of the data, and last the verdict."""

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

_LINE_WIDTH = 120
"""Maximum width of a line in characters; a wider table is split."""


def page(evaluation: Evaluation) -> str:
    """Return the parts of an evaluation that fit a terminal; the rest is in the JSON object and the HTML page."""
    parts = (_data, _quality, _changes, _rivals, _cost, _failures, _slices, _problems, _verdict)
    return "\n\n".join(text for part in parts if (text := "\n".join(part(evaluation))))


def regression_page(drift: Drift) -> str:
    """Return the regressions against a baseline, or that there is none."""
    lines = [f"note: {one_line(note)}" for note in drift.notes]
    lines += [f"FELL: {one_line(str(fall))}" for fall in drift.falls]
    if not drift.falls:
        lines.append(
            f"Nothing fell significantly against the baseline: {drift.tested} tests on {drift.queries} queries."
        )
    return "\n".join(lines)


def _data(evaluation: Evaluation) -> Iterator[str]:
    data, settings = evaluation.data, evaluation.settings
    yield from _wrap(
        f"{data.name}: {data.queries:,} queries, {data.candidates:.1f} candidates each on average, "
        f"{data.judged:.0%} of them judged; relevant from grade {data.relevant} on"
    )
    yield from (one_line(source) for source in data.sources)
    yield f"the first {settings.depth} candidates enter, {settings.top_k} hits are kept; means with 95 % intervals"


def _quality(evaluation: Evaluation) -> Iterator[str]:
    first, *others = evaluation.settings.measures
    rows = [("system", first, "", *others)]
    for system in evaluation.systems:
        means = (f"{system.measures[measure].mean:.4f}" for measure in others)
        rows.append((system.name, f"{system.measures[first].mean:.4f}", _interval(system.measures[first]), *means))
    ceiling = evaluation.data.ceiling
    rows.append(("perfect order", f"{ceiling[first]:.4f}", "", *(f"{ceiling[measure]:.4f}" for measure in others)))
    yield from _table_that_fits(rows, "<><" + ">" * len(others), 3)


def _changes(evaluation: Evaluation) -> Iterator[str]:
    measure = evaluation.settings.measures[0]
    lift = "lift at top-3" if measure != TOP_3 else ""
    heading = ("against the first stage", measure, "", "p", "helped", "hurt", "same", lift, "")
    rows: list[tuple[str, ...]] = [heading]
    comparisons = {
        (comparison.system, comparison.measure): comparison
        for comparison in evaluation.comparisons
        if comparison.baseline == FIRST_STAGE
    }
    for system in evaluation.systems[1:]:
        comparison, top = comparisons[system.name, measure], comparisons[system.name, TOP_3]
        counts = (str(comparison.helped), str(comparison.hurt), str(comparison.unchanged))
        at_top = (f"{top.difference.mean:+.4f}", _interval(top.difference, "+")) if lift else ("", "")
        rows.append((system.name, *_change(comparison), *counts, *at_top))
    yield from _table_that_fits(rows, "<><>>>>><", 7)
    rerankers = len(evaluation.systems) - 1
    correction = f"p is corrected for {rerankers} systems (Holm); " if rerankers > 1 else ""
    yield f"{correction}the lift at top-3 is the change of {TOP_3}"


def _rivals(evaluation: Evaluation) -> Iterator[str]:
    rivals = [comparison for comparison in evaluation.comparisons if comparison.baseline != FIRST_STAGE]
    if rivals:
        rows = [("against each other", rivals[0].measure, "", "p", "helped", "hurt", "same")]
        for comparison in rivals:
            counts = (str(comparison.helped), str(comparison.hurt), str(comparison.unchanged))
            rows.append((f"{comparison.system} – {comparison.baseline}", *_change(comparison), *counts))
        yield table(rows, align="<><>>>>")


def _cost(evaluation: Evaluation) -> Iterator[str]:
    rows = [("a query takes", "p50", "p95", "texts", "tokens", "cost", "cut", "errors", "degraded")]
    for system in evaluation.systems[1:]:
        figures = (_figure(system, "texts", ","), _figure(system, "tokens", ","), _figure(system, "cost", ".4f", "$"))
        cut = _NONE if system.truncated is None else f"{system.truncated:.1%}"
        counts = (str(system.errors), str(system.degraded))
        rows.append((system.name, _seconds(system.p50), _seconds(system.p95), *figures, cut, *counts))
    yield from _table_that_fits(rows, "<>>>>>>>>", 6)
    if any(system.truncated for system in evaluation.systems):
        yield "cut: texts that were not read to their end"
    if any(system.estimated for system in evaluation.systems):
        yield "~ is our estimate"
    for system in evaluation.systems:
        if system.workers > 1:
            yield f"{one_line(system.name)}: times under load, {system.workers} queries at a time"


def _failures(evaluation: Evaluation) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [(f"nothing relevant in the top {evaluation.settings.top_k}", "all", *FAILURES)]
    for system in evaluation.systems:
        counts = [system.failures.get(kind, 0) for kind in FAILURES]
        rows.append((system.name, str(sum(counts)), *map(str, counts)))
    if all(row[1] == "0" for row in rows[1:]):
        yield f"every system has something relevant in the top {evaluation.settings.top_k} of every query"
        return
    yield table(rows, align="<" + ">" * (1 + len(FAILURES)))
    yield from _wrap(
        "candidates: not retrieved, so no reranker can help; truncation: not read to its end; tie: the same score "
        "as one above; scoring: scored too low"
    )


def _slices(evaluation: Evaluation) -> Iterator[str]:
    rows = [
        (f"{part.field}: {part.value}", str(part.queries), comparison.system, comparison.measure, *_change(comparison))
        for part in evaluation.slices
        for comparison in part.comparisons
        if comparison.p_adjusted < ALPHA and part.field != FIRST_RANK  # where all was right, a reranker can only lose
    ]
    tested = sum(len(part.comparisons) for part in evaluation.slices)
    if rows:
        heading = ("slices that move", "queries", "system", "measure", "change", "", "p")
        yield table([heading, *rows], align="<><<><>")
        yield f"of {len(evaluation.slices)} slices; p is corrected for all of them"
    elif tested:
        yield f"of {len(evaluation.slices)} slices, none moves significantly on its own"


def _problems(evaluation: Evaluation) -> Iterator[str]:
    problems: list[tuple[str, Problem]] = [("data", problem) for problem in evaluation.data.problems]
    problems += [(system.name, problem) for system in evaluation.systems for problem in system.problems]
    for owner, problem in problems:
        yield f"{one_line(owner)}: {problem.count:,} × {one_line(problem.kind)}"
        yield from (f"    {one_line(example)}" for example in problem.examples[:3])
        if problem.examples and problem.count > len(problem.examples[:3]):
            yield "    ..."


def _verdict(evaluation: Evaluation) -> Iterator[str]:
    yield from (f"NOT EVALUATED: {one_line(name)}: {one_line(why)}" for name, why in evaluation.stopped.items())
    yield from _wrap(evaluation.verdict.words)
    for reason in evaluation.verdict.reasons:
        yield from _wrap(reason, "- ")


def _table_that_fits(rows: Sequence[Sequence[str]], align: str, first: int) -> Iterator[str]:
    """Yield a table; if it is too wide, split it into a table of the first columns and a table of the others."""
    whole = table(rows, align=align)
    if max(map(len, whole.split("\n"))) <= _width():
        yield whole
        return
    yield table([row[:first] for row in rows], align=align[:first])
    if any(any(row[first:]) for row in rows):
        yield ""
        yield table([(row[0], *row[first:]) for row in rows], align=align[0] + align[first:])


def _width() -> int:
    return min(_LINE_WIDTH, shutil.get_terminal_size((_LINE_WIDTH, 24)).columns)


def _wrap(text: str, bullet: str = "") -> list[str]:
    return wrap(one_line(text), _width(), initial_indent=bullet, subsequent_indent=" " * len(bullet))


def _change(comparison: Comparison) -> tuple[str, str, str]:
    p = "<0.001" if comparison.p_adjusted < 0.001 else f"{comparison.p_adjusted:.3f}"
    return f"{comparison.difference.mean:+.4f}", _interval(comparison.difference, "+"), p


def _interval(estimate: MeanEstimate, sign: str = "") -> str:
    return f"[{estimate.low:{sign}.4f}, {estimate.high:{sign}.4f}]"


def _figure(system: System, figure: str, form: str, unit: str = "") -> str:
    value = getattr(system, figure)
    if value is None:
        return _NONE
    return f"{'~' if figure in system.estimated else ''}{unit}{value:{form}}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"

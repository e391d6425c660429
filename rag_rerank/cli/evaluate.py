"""``rag-rerank eval``: measure whether reranking helps on judged queries, and which config to use."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

import click

from rag_rerank._files import cache_folder, check_folder, parse_json, write
from rag_rerank.cli.options import (
    COUNT,
    PATH,
    depth_option,
    grade_option,
    json_option,
    max_queries_option,
    qrels_option,
    rerankers_option,
    run_option,
    workers_option,
)
from rag_rerank.cli.output import bar, example, one_line, table
from rag_rerank.errors import InputError
from rag_rerank.evaluation.data.judged import Problem
from rag_rerank.evaluation.measures import TOP_3
from rag_rerank.evaluation.regression import Drift
from rag_rerank.evaluation.report import FAILURES, FIRST_STAGE, Comparison, Evaluation, MeanEstimate, System
from rag_rerank.evaluation.slices import FIRST_RANK
from rag_rerank.evaluation.statistics import ALPHA

__all__ = ["evaluate_configs", "page"]

_REGRESSION, _NOT_EVALUATED = 1, 2
"""Exit codes: a slice is significantly worse than in the baseline; a config could not be evaluated."""

_NONE = "–"

_LINE_WIDTH = 120
"""Maximum width of a line in characters; a wider table is split."""


@click.command(
    "eval",
    short_help="Find out on judged queries whether reranking helps you.",
    epilog=example(
        "eval judged.jsonl -c embedded",
        "eval judged.jsonl -c embedded -c lexical --html report.html",
    ),
)
@rerankers_option
@run_option
@qrels_option
@depth_option
@click.option(
    "--top-k",
    type=COUNT,
    metavar="K",
    default=10,
    show_default=True,
    help="How many hits you would pass to the LLM.",
)
@click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="MEASURE",
    show_default="nDCG@10 and five others",
    help="A measure in the notation of ir-measures, such as nDCG@10. Repeatable; the first one decides the verdict.",
)
@click.option(
    "--slice",
    "slices",
    multiple=True,
    metavar="FIELD",
    show_default="all suitable fields",
    help="Report groups of queries by this metadata field of queries or documents. Repeatable.",
)
@max_queries_option
@grade_option
@click.option(
    "--records",
    metavar="FOLDER",
    show_default="in your cache",
    help="Folder of stored answers; an answer that is there is not computed again.",
)
@workers_option
@click.option(
    "--seed", type=int, metavar="N", default=0, show_default=True, help="Random seed of intervals and p values."
)
@click.option("--html", type=PATH, metavar="OUT", help="Also write the report as an HTML page.")
@click.option("--out", type=PATH, metavar="OUT", help="Also write the JSON object to this file, for --against.")
@click.option(
    "--against",
    metavar="FILE",
    help="Compare with an earlier --out file; exit with code 1 if something got significantly worse.",
)
@json_option
@click.argument("source", metavar="SOURCE")
def evaluate_configs(
    source: str,
    specs: Sequence[str],
    run: str | None,
    qrels: str | None,
    depth: int,
    top_k: int,
    measures: Sequence[str],
    slices: Sequence[str],
    queries: int | None,
    relevant: int,
    records: str | None,
    workers: int,
    seed: int,
    html: Path | None,
    out: Path | None,
    against: str | None,
    as_json: bool,
) -> None:
    """Find out on judged queries whether reranking helps you, by how much, and at what cost.

    Compares each reranker with the order of your first stage. The last lines of the report are the verdict: which
    reranker to use, with how many candidates and hits, or not to rerank.

    SOURCE is one of these:

    \b
    - a JSONL file, one query per line:
      {"query": "...", "candidates": ["...", {"id": "k2", "text": "..."}],
       "relevant": ["k2"]}
    - a folder in BEIR's format, optionally with a TREC run
    - a file of recorded calls with texts; needs --qrels
    - ir_datasets:NAME

    Every answer of a reranker is stored. If the run is interrupted, run the same command again to continue.

    Exit code: 0; 1 if --against finds something significantly worse; 2 for an error, or if a reranker could not be
    evaluated.

    Needs: pip install "rag-rerank[eval]"
    """  # noqa: D301 - click keeps the lines after a backspace as they are
    from rag_rerank import evaluation  # slow to import; other commands do not need it

    for file in filter(None, (html, out)):
        check_folder(file)
    baseline = None if against is None else _baseline(against)
    judged = evaluation.read(source, run=run, qrels=qrels, depth=depth, queries=queries, relevant=relevant)
    folder = Path(records) if records else _answers_folder(judged.name)
    click.echo(f"answers are stored in {folder}; if interrupted, run the same command again to continue", err=True)
    with bar(f"evaluating on {judged.name}") as progress:
        result = evaluation.evaluate(
            judged,
            specs,
            measures=measures or None,
            depth=depth,
            top_k=top_k,
            slices=slices or None,
            records=folder,
            progress=progress,
            workers=workers,
            seed=seed,
        )
    as_dict = result.to_dict()
    if out is not None:
        write(out, (json.dumps(as_dict) + "\n").encode())
    if html is not None:
        from rag_rerank.pages.page import evaluation_page

        write(html, evaluation_page(as_dict).encode())
    click.echo(json.dumps(as_dict) if as_json else page(result))
    # after the results are printed, because it raises if there is nothing to compare
    drift = None if baseline is None else evaluation.compare_with_baseline(result, baseline)
    if drift is not None:
        click.echo(f"\n{regression_page(drift)}", err=as_json)
    if result.stopped:
        click.get_current_context().exit(_NOT_EVALUATED)
    if drift is not None and drift.falls:
        click.get_current_context().exit(_REGRESSION)


def _answers_folder(name: str) -> Path:
    """Return the default folder of a collection's answers, beside the cache of ONNX graphs."""
    folder = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "collection"
    return cache_folder("evaluations") / folder


def _baseline(file: str) -> Evaluation:
    from rag_rerank.evaluation import Evaluation

    try:
        return Evaluation.from_dict(parse_json(Path(file).read_bytes()))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    except ValueError as error:
        raise InputError(f"{file}: not the JSON object of an evaluation: {error}; write one with eval --out") from error


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

"""``rag-rerank calibrate``: fit a map from scores to probabilities, of relevance or of an answer, and write it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import click

from rag_rerank._files import check_folder
from rag_rerank.cli.config_edit import check_new_config, config_text
from rag_rerank.cli.config_edit import write_config as write_new_config
from rag_rerank.cli.options import (
    PATH,
    depth_option,
    grade_option,
    max_queries_option,
    print_note,
    qrels_option,
    reranker_option,
    run_option,
    unjudged_option,
)
from rag_rerank.cli.output import bar, example, one_line, table
from rag_rerank.compose import AnswerabilityMap, Answerable, Calibrated, CalibrationMap, FitQuality
from rag_rerank.compose.calibration.calibration_map import Method, Unjudged
from rag_rerank.config import build
from rag_rerank.errors import ConfigError
from rag_rerank.types import present

__all__ = ["calibrate"]

_PROBABILITIES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
"""Probabilities in the table, each with the lowest score to which the map gives it."""

_BISECTIONS = 200
"""Steps of the binary search for a score."""


@click.command(
    short_help="Turn scores into probabilities of relevance, for a threshold.",
    epilog=example(
        "calibrate judged.jsonl -c embedded --unjudged 'not relevant' \\\n-o map.json --write-config calibrated.yaml",
        "calibrate judged.jsonl -c embedded --answerable \\\n--false-accept 0.1 -o answerable.json",
    ),
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@reranker_option
@click.option("-o", "--out", type=PATH, required=True, metavar="OUT", help="Write the map to this JSON file.")
@click.option("--write-config", type=PATH, metavar="OUT", help="Also write a new config file that uses the map.")
@run_option
@qrels_option
@depth_option
@max_queries_option
@grade_option
@click.option(
    "--method",
    type=click.Choice(("auto", *get_args(Method))),
    default="auto",
    show_default=True,
    help="Shape of the map: a smooth curve (platt) or steps (isotonic). auto takes steps only if they are "
    "significantly better.",
)
@unjudged_option
@click.option(
    "--answerable",
    is_flag=True,
    help="Fit the probability that at least one candidate answers, on each list and the same list without its relevant "
    "texts.",
)
@click.option(
    "--false-accept",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="RATE",
    help="With --answerable: find the threshold that accepts at most this share of lists without an answer, on one "
    "half of the queries; the map is fitted on the other half.",
)
def calibrate(
    sources: Sequence[str],
    spec: str,
    out: Path,
    write_config: Path | None,
    run: str | None,
    qrels: str | None,
    depth: int,
    queries: int | None,
    relevant: int,
    method: Method | Literal["auto"],
    unjudged: Unjudged,
    answerable: bool,
    false_accept: float | None,
) -> None:
    """Turn a reranker's scores into probabilities of relevance, so that a threshold means the same for every model.

    Scores the candidates of judged queries, fits a map from scores to probabilities, and writes it to a file. Use the
    candidates that the reranker gets in production: those of your first stage, at your depth.

    SOURCE holds judged queries, in any form that `eval` reads. Several are fitted together; --run and --qrels work with
    one only.

    If your data lists only the relevant texts, add --unjudged "not relevant".

    With --answerable it fits the probability that at least one of the candidates answers the query.

    An existing map file is replaced. A reranker that is already calibrated gets a new map.

    Needs: pip install "rag-rerank[eval]" (not for --method platt)
    """
    from rag_rerank import evaluation  # slow to import; other commands do not need it

    if len(sources) > 1 and (run is not None or qrels is not None):
        raise ConfigError("--run and --qrels belong to one SOURCE, and there are several; name one SOURCE with them")
    if false_accept is not None and not answerable:
        raise ConfigError("--false-accept goes with --answerable")
    if answerable and method != "auto":
        raise ConfigError("--answerable fits a map of its own kind; leave --method out")
    kind: type[Calibrated | Answerable] = Answerable if answerable else Calibrated
    reranker = build(spec)
    if isinstance(reranker, kind):
        reranker = reranker.reranker
    check_folder(out)
    if write_config is not None:
        check_new_config(reranker, spec, write_config)
    judged = [
        evaluation.read(s, run=run, qrels=qrels, depth=depth, queries=queries, relevant=relevant) for s in sources
    ]
    for problem in (problem for collection in judged for problem in collection.problems):
        print_note(f"{problem.count} {problem.kind}")
    score_map: AnswerabilityMap | CalibrationMap
    with reranker, bar(f"scoring with {reranker.label}") as progress:
        if answerable:
            score_map = evaluation.calibrate_answerable(reranker, judged, false_accept=false_accept, progress=progress)
        else:
            score_map = evaluation.calibrate(reranker, judged, method=method, unjudged=unjudged, progress=progress)
    score_map.save(out)
    wrapped = kind(reranker=reranker, map=str(out))
    if write_config is not None:
        write_new_config(write_config, config_text(wrapped, write_config), wrapped)
    click.echo("\n".join(_answerable_page(score_map) if isinstance(score_map, AnswerabilityMap) else _page(score_map)))
    click.echo(f"\n{out}: written\n")
    click.echo(f"{write_config}: written" if write_config is not None else config_text(wrapped).rstrip("\n"))


def _answerable_page(score_map: AnswerabilityMap) -> Iterator[str]:
    fit, limit = score_map.fitted, score_map.false_accepts
    terms = "".join(f" {weight:+.3f} {name}" for name, weight in score_map.weights.items())
    yield f"data  {one_line(fit.data)}: {fit.queries:,} lists with an answer, and the same ones without"
    yield f"map   {score_map.intercept:+.3f}{terms}"
    yield ""
    yield "On lists that were not fitted:"
    figures = (f"{score_map.auroc:.4f}", *_figures(fit.after))
    yield table([("AUROC", "ECE", "Brier", "log loss"), figures], align=">>>>")
    if limit is not None:
        least = math.ceil(limit.threshold * 1e4) / 1e4
        yield ""
        yield f"P(answerable) from {least:.4f} accepts at most {limit.rate:.0%} of lists without an answer,"
        yield f"and accepted {limit.accepted:.0%} of those with one ({limit.lists:,} held-out lists of each kind)."


def _page(score_map: CalibrationMap) -> Iterator[str]:
    fit = score_map.fitted
    yield (
        f"data    {one_line(fit.data)}: {fit.queries:,} queries, {fit.pairs:,} candidates, {fit.prior:.1%} "
        f"relevant; without a judgment: {fit.unjudged}"
    )
    yield f"method  {score_map.method}"
    yield ""
    rows = [("scores as they are", fit.before)] if fit.before is not None else []
    rows.append(("calibrated, out of fold", fit.after))
    yield table([("", "ECE", "Brier", "log loss"), *(_row(name, quality) for name, quality in rows)], align="<>>>")
    yield ""
    heading = ("P(relevant) from", "raw score", f"score ({fit.scale})")
    yield table([heading, *((f"{p:g}", *_scores_from(score_map, p)) for p in _PROBABILITIES)], align=">>>")


def _row(name: str, quality: FitQuality) -> tuple[str, ...]:
    return name, *_figures(quality)


def _figures(quality: FitQuality) -> tuple[str, ...]:
    return f"{quality.ece:.4f}", f"{quality.brier:.4f}", f"{quality.log_loss:.4f}"


def _scores_from(score_map: CalibrationMap, probability: float) -> tuple[str, str]:
    """Return the lowest raw score with at least this probability, and the same score as it is presented."""
    low, high = (score_map.scores[0], score_map.scores[-1]) if score_map.scores else (-1e9, 1e9)
    if score_map.probability(low) >= probability:
        return "all", "all"
    if score_map.probability(high) < probability:
        return "none", "none"
    for _ in range(_BISECTIONS):
        middle = low + (high - low) / 2
        low, high = (low, middle) if score_map.probability(middle) >= probability else (middle, high)
    return f"{high:.4g}", f"{present(high, score_map.fitted.scale):.4g}"

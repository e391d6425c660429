"""``rag-rerank calibrate``: fit a map from scores to probabilities of relevance, and write it to a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import click

from rag_rerank._files import check_folder
from rag_rerank.cli.config_edit import check_new_config, config_text, write_config
from rag_rerank.cli.options import depth_option, grade_option, print_note, reranker_option, unjudged_option
from rag_rerank.cli.output import bar, example, one_line, table
from rag_rerank.compose import Calibrated, CalibrationMap, FitQuality
from rag_rerank.compose.calibration_map import Method, Unjudged
from rag_rerank.config import build
from rag_rerank.errors import ConfigError
from rag_rerank.types import present

__all__ = ["calibrate"]

_PROBABILITIES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
"""Probabilities in the table, each with the lowest score to which the map gives it."""

_BISECTIONS = 200
"""Steps of the binary search for a score."""


@click.command(
    short_help="Fit a map from scores to probabilities.",
    epilog=example("calibrate judged.jsonl --config minilm -o map.json --write calibrated.yaml"),
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@reranker_option
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Write the map to this JSON file.",
)
@click.option(
    "--write", type=click.Path(path_type=Path), metavar="FILE", help="Also write a new config file with the map."
)
@click.option("--run", metavar="FILE", help="TREC run of the first stage; for one SOURCE.")
@click.option("--qrels", metavar="FILE", help="Use these judgments instead of the SOURCE's own; for one SOURCE.")
@depth_option
@click.option("--queries", type=click.IntRange(min=1), metavar="N", help="Use only the first N queries of each SOURCE.")
@grade_option
@click.option(
    "--method",
    type=click.Choice(("auto", *get_args(Method))),
    default="auto",
    show_default=True,
    help="A sigmoid (platt), steps (isotonic), or steps only where they are significantly better (auto).",
)
@unjudged_option
def calibrate(
    sources: Sequence[str],
    spec: str,
    out: Path,
    write: Path | None,
    run: str | None,
    qrels: str | None,
    depth: int,
    queries: int | None,
    relevant: int,
    method: Method | Literal["auto"],
    unjudged: Unjudged,
) -> None:
    """Fit a map from a reranker's scores to probabilities of relevance, on judged queries.

    SOURCE is a BEIR folder, a JSONL file or ir_datasets:NAME, as for `eval`; several are fitted together. Use the
    candidates that the reranker will get in production: those of your first stage, at your depth.

    A config that is already calibrated is fitted again. Each query is scored once; to keep the scores for the next
    fit, put `type: cached` with a path around the reranker. An existing map file is replaced.
    """
    from rag_rerank import evaluation  # slow to import; other commands do not need it

    if len(sources) > 1 and (run is not None or qrels is not None):
        raise ConfigError("--run and --qrels belong to one SOURCE, and there are several; name one SOURCE with them")
    reranker = build(spec)
    if isinstance(reranker, Calibrated):
        reranker = reranker.reranker
    check_folder(out)
    if write is not None:
        check_new_config(reranker, spec, write)
    judged = [
        evaluation.read(s, run=run, qrels=qrels, depth=depth, queries=queries, relevant=relevant) for s in sources
    ]
    for problem in (problem for collection in judged for problem in collection.problems):
        print_note(f"{problem.count} {problem.kind}")
    with reranker, bar(f"scoring with {reranker.label}") as progress:
        score_map = evaluation.calibrate(reranker, judged, method=method, unjudged=unjudged, progress=progress)
    score_map.save(out)
    calibrated = Calibrated(reranker=reranker, map=str(out))
    if write is not None:
        write_config(write, config_text(calibrated, write), calibrated)
    click.echo("\n".join(_page(score_map)))
    click.echo(f"\n{out}: written\n")
    click.echo(f"{write}: written" if write is not None else config_text(calibrated).rstrip("\n"))


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
    return name, f"{quality.ece:.4f}", f"{quality.brier:.4f}", f"{quality.log_loss:.4f}"


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

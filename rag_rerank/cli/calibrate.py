"""``rag-rerank calibrate``: fit a map from scores to probabilities of relevance, and write it to a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import click

from rag_rerank._files import check_folder
from rag_rerank.base import Reranker
from rag_rerank.cli.config_edit import check_new_config, config_text, write_config
from rag_rerank.cli.options import grade_option, unjudged_option
from rag_rerank.cli.output import bar, one_line, table
from rag_rerank.compose import Calibrated, CalibrationMap, FitQuality
from rag_rerank.compose.calibration_map import Method, Unjudged
from rag_rerank.config import build
from rag_rerank.errors import ConfigError
from rag_rerank.types import present

__all__ = ["calibrate"]

_SHOWN = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
"""Probabilities whose scores are shown."""

_HALVINGS = 200


@click.command(short_help="Fit a map from scores to probabilities.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("-c", "--config", "spec", required=True, metavar="NAME|FILE", help="Whose scores to map.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The map: JSON.")
@click.option("--write", type=click.Path(path_type=Path), metavar="FILE", help="Write a new config with the map.")
@click.option("--run", metavar="FILE", help="TREC run that is the first stage; for one SOURCE.")
@click.option("--qrels", metavar="FILE", help="Judgments in place of the SOURCE's own; for one SOURCE.")
@click.option(
    "--depth", type=click.IntRange(min=1), default=100, show_default=True, help="Candidates of a query, at most."
)
@click.option("--queries", type=click.IntRange(min=1), metavar="N", help="Only the first N queries of each SOURCE.")
@grade_option
@click.option(
    "--method",
    type=click.Choice(("auto", *get_args(Method))),
    default="auto",
    show_default=True,
    help="A sigmoid (platt), steps (isotonic), or steps where they are surely better (auto).",
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

    SOURCE is a folder in BEIR's form, a JSONL file or ir_datasets:NAME, as for `eval`; several are fitted together. The
    candidates should be those that the reranker will meet: of your first stage, at your depth.

    A config that is calibrated already is fitted anew. Each query is scored once; put `type: cached` with a path around
    the reranker to keep scores for the next fit. A map file that exists is replaced.
    """
    from rag_rerank import evaluation  # which is slow to import, for the other commands

    if len(sources) > 1 and (run is not None or qrels is not None):
        raise ConfigError("--run and --qrels belong to one SOURCE, and there are several")
    reranker = build(spec)
    if isinstance(reranker, Calibrated):
        reranker = reranker.reranker
    check_folder(out)
    if write is not None:
        check_new_config(reranker, spec, write)
    judged = [
        evaluation.read(s, run=run, qrels=qrels, depth=depth, queries=queries, relevant=relevant) for s in sources
    ]
    for problem in (problem for one in judged for problem in one.problems):
        click.echo(f"Note: {problem.count} {one_line(problem.kind)}", err=True)
    with reranker, bar(f"scoring with {reranker.label}") as progress:
        made = evaluation.calibrate(reranker, judged, method=method, unjudged=unjudged, progress=progress)
    made.save(out)
    whole = Calibrated(reranker=reranker, map=str(out))
    if write is not None:
        write_config(write, config_text(whole, write.suffix), whole)
    click.echo("\n".join(_page(made)))
    click.echo(f"\n{out}: written\n")
    click.echo(f"{write}: written" if write is not None else _snippet(whole))


def _snippet(whole: Reranker) -> str:
    return config_text(whole).rstrip("\n")


def _page(made: CalibrationMap) -> Iterator[str]:
    fitted = made.fitted
    yield (
        f"data    {one_line(fitted.data)}: {fitted.queries:,} queries, {fitted.pairs:,} candidates, {fitted.prior:.1%} "
        f"relevant; without a judgment: {fitted.unjudged}"
    )
    yield f"method  {made.method}"
    yield ""
    rows = [("scores as they are", fitted.before)] if fitted.before is not None else []
    rows.append(("calibrated, out of fold", fitted.after))
    yield table([("", "ECE", "Brier", "log loss"), *(_row(name, fit) for name, fit in rows)], align="<>>>")
    yield ""
    heading = ("P(relevant) from", "raw score", f"score ({fitted.scale})")
    yield table([heading, *((f"{p:g}", *_reaching(made, p)) for p in _SHOWN)], align=">>>")


def _row(name: str, fit: FitQuality) -> tuple[str, ...]:
    return name, f"{fit.ece:.4f}", f"{fit.brier:.4f}", f"{fit.log_loss:.4f}"


def _reaching(made: CalibrationMap, probability: float) -> tuple[str, str]:
    """Return from which raw score on, and which presented score, the map gives a probability."""
    low, high = (made.scores[0], made.scores[-1]) if made.scores else (-1e9, 1e9)
    if made.probability(low) >= probability:
        return "all", "all"
    if made.probability(high) < probability:
        return "none", "none"
    for _ in range(_HALVINGS):
        middle = low + (high - low) / 2
        low, high = (low, middle) if made.probability(middle) >= probability else (middle, high)
    return f"{high:.4g}", f"{present(high, made.fitted.scale):.4g}"

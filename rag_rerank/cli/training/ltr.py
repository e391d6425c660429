"""``rag-rerank ltr train``: train a model of learning to rank on judged queries, and write it to a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rag_rerank._files import check_folder
from rag_rerank.cli.config_edit import config_text
from rag_rerank.cli.options import (
    PATH,
    RERANKER,
    CommandGroup,
    depth_option,
    grade_option,
    json_option,
    max_queries_option,
    print_note,
    qrels_option,
    run_option,
    workers_option,
)
from rag_rerank.cli.output import bar, example, one_line, table
from rag_rerank.compose import LearningToRank
from rag_rerank.config import build
from rag_rerank.errors import ConfigError

if TYPE_CHECKING:
    from rag_rerank.evaluation.report import MeanEstimate
    from rag_rerank.training.ltr.train import LtrTraining

__all__ = ["ltr", "train"]


@click.group(cls=CommandGroup, short_help="Train a model over scores, freshness and your own numbers.")
def ltr() -> None:
    """Train a model that orders candidates by many features: learning to rank, for a config of type ltr."""


@ltr.command(
    short_help="Train a model on judged queries.",
    epilog=example(
        "ltr train judged.jsonl -r embedded -o ltr.json",
        "ltr train judged.jsonl -r embedded --monotone words=0 \\\n--without first_match -o ltr.json",
    ),
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("-o", "--out", type=PATH, required=True, metavar="OUT", help="Write the model to this JSON file.")
@click.option(
    "-r",
    "--reranker",
    "-c",
    "--config",
    "specs",
    multiple=True,
    metavar=RERANKER,
    help="A reranker whose scores are features: a name or a config file. Repeat the option for several.",
)
@click.option("--date", metavar="FIELD", help="The metadata field with the date of a text, for age_days.")
@click.option("--source", metavar="FIELD", help="The metadata field with the source of a text.")
@click.option("--column", "columns", multiple=True, metavar="FIELD", help="A metadata field with numbers. Repeatable.")
@click.option("--without", multiple=True, metavar="NAME", help="Leave this feature out. Repeatable.")
@click.option(
    "--monotone",
    "constraints",
    multiple=True,
    metavar="NAME=N",
    help="Constraint of a feature. 1: a larger value is never worse; -1: a smaller one is never worse; 0: none. "
    "Repeatable.",
)
@click.option("--now", metavar="DATE", show_default="now", help="Count ages to this date, such as 2026-11-30.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of the split and the training.")
@click.option("--records", metavar="FOLDER", help="Keep the rerankers' answers here; a repeated training asks no more.")
@run_option
@qrels_option
@depth_option
@max_queries_option
@grade_option
@workers_option
@json_option
def train(
    sources: Sequence[str],
    out: Path,
    specs: Sequence[str],
    date: str | None,
    source: str | None,
    columns: Sequence[str],
    without: Sequence[str],
    constraints: Sequence[str],
    now: str | None,
    seed: int,
    records: str | None,
    run: str | None,
    qrels: str | None,
    depth: int,
    queries: int | None,
    relevant: int,
    workers: int,
    as_json: bool,
) -> None:
    """Train a model on judged queries, measure it on queries that it did not see, and write it to a file.

    Use the candidates that the model gets in production: those of your first stage, at your depth, with their metadata.

    SOURCE holds judged queries, in any form that `eval` reads. Several are joined; --run and --qrels work with one
    only. An existing model file is replaced.

    Needs: pip install "rag-rerank[ltr]"
    """
    from rag_rerank import evaluation  # slow to import; other commands do not need them
    from rag_rerank.training.ltr.settings import LtrSettings
    from rag_rerank.training.ltr.train import train_ltr

    if len(sources) > 1 and (run is not None or qrels is not None):
        raise ConfigError("--run and --qrels belong to one SOURCE, and there are several; name one SOURCE with them")
    settings = LtrSettings(monotone=dict(map(_constraint, constraints)), seed=seed)
    rerankers = [build(spec) for spec in specs]
    check_folder(out)
    judged = [
        evaluation.read(s, run=run, qrels=qrels, depth=depth, queries=queries, relevant=relevant) for s in sources
    ]
    for problem in (problem for collection in judged for problem in collection.problems):
        print_note(f"{problem.count} {problem.kind}")
    with bar(f"training {one_line(out.name)}") as progress:
        training = train_ltr(
            judged,
            rerankers,
            date=date,
            source=source,
            columns=columns,
            without=without,
            settings=settings,
            now=now,
            depth=depth,
            records=records,
            workers=workers,
            progress=progress,
        )
    for reranker in rerankers:
        reranker.close()
    training.model.save(out)
    if as_json:
        click.echo(json.dumps(training.to_dict()))
        return
    click.echo("\n".join(_page(training)))
    click.echo(f"\n{out}: written\n")
    click.echo(config_text(LearningToRank(model=str(out), rerankers=tuple(rerankers))).rstrip("\n"))


def _constraint(text: str) -> tuple[str, int]:
    name, equals, value = text.rpartition("=")
    if not equals or value not in ("-1", "0", "1", "+1"):
        raise ConfigError(f"--monotone {text!r:.80}: write FEATURE=1, FEATURE=0 or FEATURE=-1, as in age_days=-1")
    return name, int(value)


def _page(training: LtrTraining) -> Iterator[str]:
    fitted = training.model.fitted
    trees = "1 tree" if fitted.rounds == 1 else f"{fitted.rounds:,} trees"
    yield f"data     {one_line(fitted.data)}: {fitted.queries:,} queries to learn from, {fitted.pairs:,} candidates"
    yield f"model    {trees} over {len(training.model.features.names)} features"
    yield f"verdict  {one_line(training.verdict.words)}"
    yield ""
    rows = [("nDCG@10, out of fold", "mean", "95 % interval")]
    rows += [(name, f"{mean.mean:.3f}", _interval(mean)) for name, mean in training.ndcg.items()]
    yield table(rows, align="<><")
    yield ""
    single = {comparison.baseline: comparison for comparison in training.single}
    rows = [("feature", "contribution", "ltr against it alone")]
    for name, mean in training.importance.items():
        difference = single[name].difference if name in single else None
        against = "" if difference is None else f"{difference.mean:+.3f} {_interval(difference, '+')}"
        rows.append((name, f"{mean:.3f}", against))
    yield table(rows, align="<><")
    for note in training.notes:
        yield f"\nNote: {one_line(note)}"


def _interval(mean: MeanEstimate, sign: str = "") -> str:
    return f"[{mean.low:{sign}.3f}, {mean.high:{sign}.3f}]"

"""``rag-rerank batch``: rerank a file of queries."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from rag_rerank.cli.options import (
    COUNT,
    instruction_option,
    json_option,
    reranker_option,
    resume_hint,
    workers_option,
)
from rag_rerank.cli.output import example
from rag_rerank.execution.progress import Progress, progress_bar

__all__ = ["batch"]

SCHEMA = 1
"""Version of the JSON object; it grows when a field changes its meaning or is removed."""

_ROWS_FAILED = 1
"""Exit code: the output is there, and some of its rows hold an error."""

_LINES = 10
"""Lines of progress where stderr is no terminal, such as in the log of a job."""


@click.command(
    short_help="Rerank a file of queries, in parts that survive a crash.",
    epilog=example(
        "batch judged.jsonl ranked.jsonl -r lexical -k 3",
        "batch in.parquet out.parquet -c rerank.yaml \\\n--ray --actors 8",
    ),
)
@reranker_option
@click.option("-k", "--top-k", type=COUNT, metavar="K", show_default="all", help="Write only the best K hits of a row.")
@instruction_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    show_default="no limit",
    help="Time for each row; a row that takes longer fails.",
)
@click.option(
    "--keep-candidates", is_flag=True, help="Also write into each hit its candidate, as it stands in the input."
)
@click.option(
    "--query-column", default="query", show_default=True, metavar="NAME", help="The key or column with the query."
)
@click.option(
    "--candidates-column",
    default="candidates",
    show_default=True,
    metavar="NAME",
    help="The key or column with the list of candidates.",
)
@click.option(
    "--part-rows",
    type=COUNT,
    default=100,
    show_default=True,
    metavar="N",
    help="Rows in a part; after a crash, parts that were not finished are done again.",
)
@click.option("--stop-on-error", is_flag=True, help="Stop at the first row that fails; otherwise it gets an error.")
@workers_option
@click.option("--ray", "on_ray", is_flag=True, help="Use Ray: the cluster of RAY_ADDRESS, or else this machine.")
@click.option(
    "--actors",
    type=COUNT,
    metavar="N",
    show_default="1 for providers, else all that fit",
    help="With --ray: processes that rerank.",
)
@click.option(
    "--cpus",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="N",
    help="With --ray: CPU cores of each actor.",
)
@click.option(
    "--gpus",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="N",
    help="With --ray: GPUs of each actor.",
)
@json_option
@click.argument("source", metavar="FILE|-")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.pass_context
def batch(
    ctx: click.Context,
    spec: str,
    top_k: int | None,
    instruction: str | None,
    timeout: float | None,
    keep_candidates: bool,
    query_column: str,
    candidates_column: str,
    part_rows: int,
    stop_on_error: bool,
    workers: int,
    on_ray: bool,
    actors: int | None,
    cpus: float,
    gpus: float,
    as_json: bool,
    source: str,
    out: Path,
) -> None:
    """Rerank a file of queries, each with its candidates.

    FILE has one JSON object per line (.jsonl, .jsonl.gz), or is .parquet; - reads JSON lines from standard input. A row
    has "query" and "candidates": texts, or objects with "text" and optionally "id", "score" and "metadata". OUT has the
    same rows in the same order, with "hits" in place of the candidates, and a further format if its name says so.

    The answers are kept in parts, in OUT.parts, until all are there. After a crash or Ctrl-C, run the same command
    again: it continues, and tries rows that failed again.

    The exit code is 1 if rows failed; each holds its error.
    """
    from rag_rerank.batch import BatchReranker, RayActors, rerank_file

    parameters = {parameter.name: parameter for parameter in ctx.command.params}
    if not on_ray:
        for name in ("actors", "cpus", "gpus"):
            if ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
                raise click.UsageError(f"{parameters[name].opts[0]} needs --ray")
    reranker = BatchReranker(
        spec,
        top_k=top_k,
        instruction=instruction,
        timeout=timeout,
        keep_candidates=keep_candidates,
        query=query_column,
        candidates=candidates_column,
        on_error="raise" if stop_on_error else "keep",
        workers=workers,
    )
    part_workers = RayActors(actors=actors, cpus=cpus, gpus=gpus) if on_ray else None
    with resume_hint(out), _progress("reranking") as progress:
        summary = rerank_file(source, out, reranker, part_rows=part_rows, part_workers=part_workers, progress=progress)
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "out": str(out), **summary.to_dict()}))
    else:
        parts, resumed = summary.parts, summary.parts_resumed
        earlier = f", {resumed} of {parts} parts from an earlier run" if resumed else ""
        cost = "" if summary.usage.cost is None else f", ${summary.usage.cost:.4f}"
        click.echo(f"{summary.rows:,} rows, {summary.pairs:,} pairs in {summary.seconds:,.1f} s{cost}{earlier}: {out}")
    if summary.failures:
        reasons = ", ".join(f"{count:,} {name}" for name, count in sorted(summary.failures.items()))
        click.echo(f"Failed rows: {reasons}; run the same command again to try them again", err=True)
        ctx.exit(_ROWS_FAILED)


@contextmanager
def _progress(label: str) -> Iterator[Progress]:
    """Show a bar on a terminal, and otherwise a few lines."""
    if sys.stderr.isatty():
        with progress_bar(label) as show:
            yield show
        return
    tenths = {0}

    def print_tenth(share: float, words: str | None = None) -> None:
        tenth = int(share * _LINES)
        if tenth not in tenths:
            tenths.add(tenth)
            click.echo(f"{label}: {words}", err=True)

    yield print_tenth

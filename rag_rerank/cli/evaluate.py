"""``rag-rerank eval``: measure whether reranking helps on judged queries, and which config to use."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
from rag_rerank.cli.output import bar, example
from rag_rerank.errors import InputError

if TYPE_CHECKING:
    from rag_rerank.evaluation import Evaluation

__all__ = ["evaluate_configs"]

_REGRESSION, _NOT_EVALUATED = 1, 2
"""Exit codes: a slice is significantly worse than in the baseline; a config could not be evaluated."""


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
    from rag_rerank.cli.evaluation_tables import page, regression_page

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

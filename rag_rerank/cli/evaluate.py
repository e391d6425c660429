"""``rag-rerank eval``: measure whether reranking helps on judged queries, and which config to use."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rag_rerank._files import cache_folder, check_folder, parse_json, write
from rag_rerank.cli.options import depth_option, grade_option, rerankers_option
from rag_rerank.cli.output import bar, example
from rag_rerank.errors import InputError

if TYPE_CHECKING:
    from rag_rerank.evaluation import Evaluation

__all__ = ["evaluate_configs"]

_REGRESSION, _NOT_EVALUATED = 1, 2
"""Exit codes: a slice is significantly worse than in the baseline; a config could not be evaluated."""


@click.command(
    "eval",
    short_help="Measure whether reranking helps on judged queries.",
    epilog=example("eval judged.jsonl --config minilm --config cohere:rerank-v3.5 --html report.html"),
)
@rerankers_option
@click.option("--run", metavar="FILE", help="TREC run of the first stage over the corpus.")
@click.option("--qrels", metavar="FILE", help="Use these judgments instead of SOURCE's own.")
@depth_option
@click.option(
    "--top-k", type=click.IntRange(min=1), default=10, show_default=True, help="Hits that would go to the LLM."
)
@click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="NAME",
    help="Measure, as ir-measures writes it (nDCG@10); repeatable. The verdict is based on the first one.",
)
@click.option(
    "--slice",
    "slices",
    multiple=True,
    metavar="FIELD",
    help="Slice by this metadata field of queries or documents; repeatable. By default all suitable fields.",
)
@click.option("--queries", type=click.IntRange(min=1), metavar="N", help="Use only the first N judged queries.")
@grade_option
@click.option("--records", metavar="FOLDER", help="Folder of stored answers; by default in the user's cache.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Queries to run at the same time."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed of bootstrap and randomisation test.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Also write a self-contained HTML page.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write the JSON object to a file, as a baseline for --against.",
)
@click.option(
    "--against",
    metavar="FILE",
    help="Compare with the JSON object of an earlier run; exit code 1 if a slice got worse.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
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
    """Measure whether reranking helps on judged queries, by how much, at what cost, and with which config.

    SOURCE is a BEIR folder, optionally with a TREC run; a JSONL file of queries with candidates and relevant ids; a
    recording with texts, together with --qrels; or ir_datasets:NAME. A config is a name or a file, as for `rank`.

    All answers of rerankers are stored: an interrupted run continues when the same command runs again, and a repeated
    run calls no reranker. Needs: pip install "rag-rerank[eval]".

    Exit codes: 0; 1 if --against finds a slice that got significantly worse; 2 for errors, and if a config could not
    be evaluated.
    """
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

"""``rag-rerank eval``: whether reranking helps on judged queries, and which config to use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rag_rerank.cli.findings import fallen, page
from rag_rerank.cli.progress import bar
from rag_rerank.errors import ConfigError, InputError

__all__ = ["evaluate_configs"]

FELL, STOPPED = 1, 2
"""Exit codes: a slice is significantly worse than in the baseline; a config could not be evaluated."""


@click.command("eval")
@click.option(
    "-c", "--config", "specs", multiple=True, required=True, metavar="NAME|FILE", help="What to evaluate; repeatable."
)
@click.option("--run", metavar="FILE", help="First stage: a TREC run over the folder's corpus.")
@click.option("--qrels", metavar="FILE", help="Judgments, where they are not the folder's own.")
@click.option(
    "--depth", type=click.IntRange(min=1), default=100, show_default=True, help="Candidates that enter, of each query."
)
@click.option(
    "--top-k", type=click.IntRange(min=1), default=10, show_default=True, help="Hits that would reach the LLM."
)
@click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="NAME",
    help="As ir-measures writes them (nDCG@10); repeatable. The verdict goes by the first one.",
)
@click.option(
    "--slice",
    "slices",
    multiple=True,
    metavar="FIELD",
    help="Compare by this field of the queries' or documents' metadata; repeatable. By default by all that fit.",
)
@click.option("--queries", type=click.IntRange(min=1), metavar="N", help="Only the first N judged queries.")
@click.option(
    "--relevant",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="GRADE",
    help="Grade from which on a document is relevant.",
)
@click.option("--records", metavar="FOLDER", help="Where answers are kept; by default in the user's cache.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Queries asked at a time.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of bootstrap and randomisation.")
@click.option("--html", metavar="FILE", help="Also write a self-contained page.")
@click.option("--out", metavar="FILE", help="Also write the JSON object to a file: a baseline for --against.")
@click.option("--against", metavar="FILE", help="Compare with an earlier JSON object; exit code 1 if a slice fell.")
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
    html: str | None,
    out: str | None,
    against: str | None,
    as_json: bool,
) -> None:
    """Say whether reranking helps on judged queries, by how much, at what cost, and with which config.

    SOURCE is a folder in BEIR's form with a TREC run, one JSONL file of queries with candidates and relevant ids, or
    a name of ir_datasets. A config is a name or a file, as everywhere.

    What rerankers answer is kept, so a run that was interrupted goes on where it stopped, and one that is repeated
    asks nobody anything. Needs: pip install "rag-rerank[eval]".

    Exit codes: 0; 1 where --against finds a slice that fell significantly; 2 for errors, and where a config could not
    be evaluated.
    """
    from rag_rerank.evaluation.drift import drift
    from rag_rerank.evaluation.evaluating import evaluate
    from rag_rerank.evaluation.reading import read

    baseline = None if against is None else _read(against)
    judged = read(source, run=run, qrels=qrels, depth=depth, queries=queries, relevant=relevant)
    folder = Path(records) if records else _cache()
    click.echo(f"answers are kept in {folder}; run the same again to go on or to read them", err=True)
    with bar(f"evaluating on {judged.name}") as progress:
        found = evaluate(
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
    as_dict = found.to_dict()
    report = None if baseline is None else drift(as_dict, baseline)
    if out is not None:
        _write(out, json.dumps(as_dict) + "\n")
    if html is not None:
        from rag_rerank.pages import evaluation_page

        _write(html, evaluation_page(as_dict))
    click.echo(json.dumps(as_dict) if as_json else page(found))
    if report is not None:
        click.echo(fallen(report), err=as_json)
    if found.stopped:
        click.get_current_context().exit(STOPPED)
    if report is not None and report.fell:
        click.get_current_context().exit(FELL)


def _cache() -> Path:
    """Return the folder beside that of kept graphs."""
    from huggingface_hub.constants import HF_ASSETS_CACHE

    return Path(HF_ASSETS_CACHE).expanduser() / "rag-rerank" / "evaluations"


def _read(file: str) -> Any:
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{file}: not the JSON object of an evaluation: {error}") from error


def _write(file: str, content: str) -> None:
    try:
        Path(file).write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror or error}") from error

"""``rag-rerank eval``: whether reranking helps on judged queries, and which config to use."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rag_rerank._files import check_folder, parse_json, write
from rag_rerank.cli.options import grade_option
from rag_rerank.cli.output import bar
from rag_rerank.errors import InputError

if TYPE_CHECKING:
    from rag_rerank.evaluation import Evaluation

__all__ = ["evaluate_configs"]

FELL, STOPPED = 1, 2
"""Exit codes: a slice is significantly worse than in the baseline; a config could not be evaluated."""


@click.command("eval", short_help="Say whether reranking helps on judged queries.")
@click.option(
    "-c", "--config", "specs", multiple=True, required=True, metavar="NAME|FILE", help="What to evaluate; repeatable."
)
@click.option("--run", metavar="FILE", help="First stage: a TREC run over the corpus.")
@click.option("--qrels", metavar="FILE", help="Judgments in place of SOURCE's own.")
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
@grade_option
@click.option("--records", metavar="FOLDER", help="Where answers are kept; by default in the user's cache.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Queries asked at a time.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of bootstrap and randomisation.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Also write a self-contained page.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write the JSON object to a file: a baseline for --against.",
)
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
    html: Path | None,
    out: Path | None,
    against: str | None,
    as_json: bool,
) -> None:
    """Say whether reranking helps on judged queries, by how much, at what cost, and with which config.

    SOURCE is a folder in BEIR's form, perhaps with a TREC run; a JSONL file of queries with candidates and relevant
    ids; a recording with texts, and --qrels; or ir_datasets:NAME. A config is a name or a file, as everywhere.

    What rerankers answer is kept, so a run that was interrupted goes on where it stopped, and one that is repeated
    asks nobody anything. Needs: pip install "rag-rerank[eval]".

    Exit codes: 0; 1 where --against finds a slice that fell significantly; 2 for errors, and where a config could not
    be evaluated.
    """
    from rag_rerank import evaluation  # which is slow to import, for the other commands
    from rag_rerank.cli.evaluation_tables import page, regression_page

    for file in filter(None, (html, out)):
        check_folder(file)
    baseline = None if against is None else _baseline(against)
    judged = evaluation.read(source, run=run, qrels=qrels, depth=depth, queries=queries, relevant=relevant)
    folder = Path(records) if records else _cache(judged.name)
    click.echo(f"answers are kept in {folder}; the same command goes on where it stopped", err=True)
    with bar(f"evaluating on {judged.name}") as progress:
        found = evaluation.evaluate(
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
    if out is not None:
        write(out, (json.dumps(as_dict) + "\n").encode())
    if html is not None:
        from rag_rerank.pages.page import evaluation_page

        write(html, evaluation_page(as_dict).encode())
    click.echo(json.dumps(as_dict) if as_json else page(found))
    drift = (
        None if baseline is None else evaluation.compare_with_baseline(found, baseline)
    )  # last: it may find nothing to compare
    if drift is not None:
        click.echo(f"\n{regression_page(drift)}", err=as_json)
    if found.stopped:
        click.get_current_context().exit(STOPPED)
    if drift is not None and drift.falls:
        click.get_current_context().exit(FELL)


def _cache(name: str) -> Path:
    """Return a collection's folder, beside that of kept graphs."""
    from huggingface_hub.constants import HF_ASSETS_CACHE

    readable = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "collection"
    return Path(HF_ASSETS_CACHE).expanduser() / "rag-rerank" / "evaluations" / readable


def _baseline(file: str) -> Evaluation:
    from rag_rerank.evaluation import Evaluation

    try:
        return Evaluation.from_dict(parse_json(Path(file).read_bytes()))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    except ValueError as error:
        raise InputError(f"{file}: not the JSON object of an evaluation: {error}") from error

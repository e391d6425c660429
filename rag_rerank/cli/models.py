"""``rag-rerank models``, ``pull`` and ``export``: list, check, download and convert models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from rag_rerank.backends.local import catalogue
from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.cli.candidates import read_question
from rag_rerank.cli.config_edit import find_parts
from rag_rerank.cli.options import PATH, json_option, reranker_argument, texts_options
from rag_rerank.cli.output import bar, example, table
from rag_rerank.config import build
from rag_rerank.diagnostics.check import Check, check
from rag_rerank.diagnostics.sample_texts import SampleQuestion, questions
from rag_rerank.errors import ConfigError, ModelLoadError

__all__ = ["export", "models", "pull"]

SCHEMA = 1
"""Version of the JSON objects; it grows when a field changes its meaning or is removed."""


@click.command(
    short_help="List the known models, or check those on this machine.",
    epilog=example(
        "models", "models --check embedded", "models --check minilm --texts passages.jsonl -q 'Who voices Po?'"
    ),
)
@click.argument("names", metavar="[MODEL]...", nargs=-1)
@click.option("--check", "with_check", is_flag=True, help="Compare the optimised form of each MODEL with the original.")
@texts_options
@json_option
@click.pass_context
def models(
    ctx: click.Context, names: tuple[str, ...], with_check: bool, texts: str | None, query: str | None, as_json: bool
) -> None:
    """List the known models with their licence, size, languages and window (longest input in tokens).

    Other cross-encoders work too: name them by their id on the Hugging Face hub, or by their folder.

    With --check, real texts are scored with the optimised form of each MODEL, which is what runs by default, and with
    its original form. The table compares scores, order and speed; it also compares int8 with fp32. MODEL is a name, a
    hub id or a folder with ONNX files. Without MODEL, "embedded" and all known models in the local cache are checked.
    Nothing is downloaded. Exit code 1 if an optimised form gives other scores than its original.
    """
    if with_check:
        ctx.exit(0 if _check_models(names, read_question(texts, query), as_json=as_json) else 1)
    if names or texts is not None or query is not None:
        raise ConfigError("MODEL, --texts and --query go with --check; add it, or leave them out")
    rows = catalogue.models()
    if as_json:
        entries = [asdict(row) | {"commercial": row.commercial} for row in rows]
        click.echo(json.dumps({"schema": SCHEMA, "models": entries}, indent=2))
        return
    heading = ("name", "model", "backend", "weights", "window", "languages", "licence", "revision")
    click.echo(table([heading, *(_model_cells(row) for row in rows)], align="<<<>><<<"))
    click.echo()
    for row in rows:
        if row.note:
            click.echo(f"{row.alias or row.id}: {row.note}")


@click.command(
    short_help="Download a model, for use without a network.", epilog=example("pull minilm", "pull rerank.yaml")
)
@reranker_argument
def pull(spec: str) -> None:
    """Download a model's files, for use without a network.

    RERANKER is a name from `rag-rerank models`, a hub id (org/model or org/model@revision), or a config file. Of
    a config file, all local models are downloaded.

    The files go into the cache of the Hugging Face hub. Known models are downloaded at their pinned revision. Prints
    where the files are.
    """
    parts = find_parts(build(spec), LocalReranker)  # type: ignore[type-abstract]
    rerankers = [reranker for _, reranker in parts]
    if not rerankers:
        raise ConfigError(f"{spec} runs no local model, so there is nothing to download; name one, such as minilm")
    for reranker in rerankers:
        folder = reranker.fetch()
        click.echo(f"{reranker.label}  {folder.path}")


@click.command(
    short_help="Convert a model to ONNX, to run it without torch.",
    epilog=example("export BAAI/bge-reranker-base -o exported"),
)
@click.argument("source", metavar="MODEL")
@click.option("-o", "--out", required=True, type=PATH, metavar="OUT", help="Write the model to this new folder.")
@click.option(
    "--revision",
    metavar="NAME",
    show_default="the pinned one of a known model",
    help="Commit, branch or tag of the model on the hub.",
)
@click.option(
    "--weights",
    type=click.Choice(["fp32", "int8", "int4"]),
    default="fp32",
    show_default=True,
    help="How to store the weights. int8 needs a quarter of the space, int4 a seventh; both change scores slightly.",
)
def export(source: str, out: Path, revision: str | None, weights: Literal["fp32", "int8", "int4"]) -> None:
    """Convert a model to ONNX, to run it without torch.

    MODEL is a name from `rag-rerank models`, a hub id, or a folder with a safetensors cross-encoder. Before OUT is
    written, the scores of both forms are compared. To use the result, name it as onnx:OUT.

    Needs: pip install "rag-rerank[torch]"
    """
    from rag_rerank.export import export as export_model

    report = export_model(source, out, revision=revision, weights=weights)
    click.echo(
        f"{report.path}: {report.bytes / 1e6:.1f} MB; logits of {report.pairs} pairs differ from torch's by at most "
        f"{report.max_difference:.1e}"
    )


_MOST_CODES = 6
"""Codes of languages that a cell of the table lists; with ``--json`` all are listed."""


def _model_cells(row: catalogue.Model) -> tuple[str, ...]:
    weights = f"{row.parameters / 1000:.2f} B" if row.parameters >= 1000 else f"{row.parameters:.4g} M"
    licence = row.licence if row.commercial else f"{row.licence} (NON-COMMERCIAL)"
    place = f"extra {row.extra}" if row.extra else "in the package"
    revision = place if row.packaged else row.revision[:12] if row.revision else "not pinned"
    codes = row.languages.split(", ")
    languages = row.languages if len(codes) <= _MOST_CODES else f"{', '.join(codes[:3])} and {len(codes) - 3} more"
    return (row.alias or "", row.id, row.backend, weights, f"{row.max_length:,}", languages, licence, revision)


def _check_models(names: Sequence[str], user_question: SampleQuestion | None, *, as_json: bool) -> bool:
    """Check models and print the results; return whether all optimised fp32 graphs give their models' logits.

    Args:
        names: Models as a user names them; none for all models that need no download.
        user_question: The user's own query and texts; by default those that ship with the package.
        as_json: Print one JSON object instead of a table.

    Raises:
        ModelLoadError: A model's files are not on this machine.
        RerankError: Other errors of loading and scoring.
    """
    sample = (user_question,) if user_question else questions()
    rerankers = [_cached_model(name) for name in names] or list(_all_cached_models())
    checks = []
    for reranker in rerankers:
        with bar(f"checking {reranker.label}") as progress:
            checks.append(check(reranker, sample, progress=progress))
    if as_json:
        facts = {
            "queries": len(sample),
            "texts": sum(len(texts) for _, texts in sample),
            "own_text": user_question is not None,
        }
        click.echo(json.dumps({"schema": SCHEMA, **facts, "checks": [row.to_dict() for row in checks]}))
    else:
        click.echo(_check_page(checks, sample, is_own_text=user_question is not None))
    return all(row.passed for row in checks)


def _cached_model(name: str) -> OnnxReranker:
    part = build(name)
    if not isinstance(part, LocalReranker):
        raise ConfigError(f"{name} is no local model, so there is no graph to check; name one, such as minilm")
    reranker = OnnxReranker(model=part.model, revision=part.revision)
    if not reranker.is_cached():
        raise ModelLoadError(
            f"{reranker.model_id} has no complete ONNX files in the local cache, and a check downloads nothing; "
            f"download them with: rag-rerank pull {reranker.kind}:{reranker.model}, or make them with rag-rerank export"
        )
    return reranker


def _all_cached_models() -> Iterator[OnnxReranker]:
    rows = (row for row in catalogue.models() if row.backend == "onnx")
    rerankers = (OnnxReranker(model=row.alias or row.id) for row in rows)
    return (reranker for reranker in rerankers if reranker.is_cached())


def _check_page(checks: Sequence[Check], sample: Sequence[SampleQuestion], *, is_own_text: bool) -> str:
    heading = ("model", "graph", "Δ own", "spread", "int8 Δ", "tau", "top 10", "speed", "int8 speed")
    lines = [table([heading, *map(_check_cells, checks)], align="<<>>>>>>>"), ""]
    lines += [f"{row.model} {row.reason}" for row in checks if row.reason]
    lines += [
        f"{row.model} FAILED: its optimised graph's logits differ by {row.optimised.relative:.1g}, more than 1e-4; "
        "use optimize: false, and report this"
        for row in checks
        if not row.passed
    ]
    text = "your own text" if is_own_text else "text of Wikipedia that ships with the package"
    count = sum(len(texts) for _, texts in sample)
    lines += [
        f"{count} query-text pairs of {len(sample)} {'queries' if len(sample) > 1 else 'query'}; {text}",
        "Δ own       largest difference of a logit between the optimised graph and the model's own; up to 1e-4 passes",
        "spread      largest minus smallest logit",
        "int8 Δ      largest difference of a logit between int8 and fp32",
        "tau, top 10 order in int8 against order in fp32: Kendall's tau-b, shared part of the ten best; means",
        "speed       of the optimised graph, as a multiple of the model's own graph; int8: of the optimised fp32 graph",
    ]
    return "\n".join(lines)


def _check_cells(row: Check) -> tuple[str, ...]:
    speed = row.to_dict()["speed"]
    return (
        row.model,
        "written anew" if row.written_anew else "own",
        f"{row.optimised.moved:.1e}",
        f"{row.optimised.spread:.2f}",
        f"{row.int8.moved:.2g}",
        f"{row.int8.tau:.3f}",
        f"{row.int8.top_10:.0%}",
        f"{speed['optimised']:.2f}x",
        f"{speed['int8']:.2f}x",
    )

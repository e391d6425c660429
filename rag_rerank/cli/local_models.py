"""``rag-rerank models``, ``pull`` and ``export``: known models, their files, and ONNX files of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from rag_rerank.backends import catalogue
from rag_rerank.backends._local import LocalReranker
from rag_rerank.base import Reranker
from rag_rerank.cli.table import table
from rag_rerank.config import build
from rag_rerank.errors import ConfigError

__all__ = ["export", "models", "pull"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def models(as_json: bool) -> None:
    """List the known models.

    Any other cross-encoder works too: by its id on the hub ("onnx:org/name", "torch:org/name") or by its folder.
    "window" is the longest input in tokens, query and text together; "revision" is the commit that is loaded.
    """
    rows = catalogue.models()
    if as_json:
        listed = [asdict(row) | {"commercial": row.commercial} for row in rows]
        click.echo(json.dumps({"schema": 1, "models": listed}, indent=2))
        return
    heading = ("name", "model", "backend", "weights", "window", "languages", "licence", "revision")
    click.echo(table([heading, *(_cells(row) for row in rows)], align="<<<>><<<"))
    click.echo()
    for row in rows:
        if row.note:
            click.echo(f"{row.alias or row.id}: {row.note}")


def _cells(row: catalogue.Model) -> tuple[str, ...]:
    weights = f"{row.parameters / 1000:.2f} B" if row.parameters >= 1000 else f"{row.parameters:.4g} M"
    licence = row.licence if row.commercial else f"{row.licence} (NON-COMMERCIAL)"
    revision = "in the package" if row.packaged else row.revision[:12] if row.revision else "not pinned"
    return (row.alias or "", row.id, row.backend, weights, f"{row.max_length:,}", row.languages, licence, revision)


@click.command()
@click.argument("spec", metavar="MODEL|FILE")
def pull(spec: str) -> None:
    """Fetch a model's files for offline use.

    They go into the hub's cache, at the pinned revision. MODEL is a name or an id of `rag-rerank models`, or a backend
    with any id on the hub ("onnx:org/name", "torch:org/name"). For a config FILE, the files of all its local models
    are fetched. Progress is shown on stderr.
    """
    local = list(_local(build(_with_backend(spec))))
    if not local:
        raise ConfigError(f"{spec} runs no local model; there is nothing to fetch")
    for reranker in local:
        folder = reranker.fetch()
        click.echo(f"{reranker.label}  {folder.path}")


def _with_backend(spec: str) -> str:
    """Give a hub id the backend that the catalogue names for it; leave names and files alone."""
    if spec.count("/") != 1 or ":" in spec or Path(spec).exists():
        return spec
    row = catalogue.find(spec)
    if row is None:
        raise ConfigError(f"{spec} is not in the catalogue; name the backend as well: onnx:{spec} or torch:{spec}")
    return f"{row.backend}:{row.id}"


def _local(reranker: Reranker) -> Iterator[LocalReranker]:
    if isinstance(reranker, LocalReranker):
        yield reranker
    for part in reranker.parts:
        yield from _local(part)


@click.command()
@click.argument("source", metavar="MODEL|FOLDER")
@click.option("-o", "--out", required=True, metavar="DIR", type=click.Path(path_type=Path))
@click.option("--revision", help="Commit, branch or tag on the hub; by default the catalogue's pinned one.")
@click.option(
    "--weights",
    type=click.Choice(["fp32", "int8"]),
    default="fp32",
    show_default=True,
    help="How weight matrices are stored; int8 takes a fourth of the size and moves the logits a little.",
)
def export(source: str, out: Path, revision: str | None, weights: Literal["fp32", "int8"]) -> None:
    """Write a model as ONNX, for use without torch.

    DIR is made, and "rag-rerank rank --reranker onnx:DIR" runs it. Needs the torch extra. The ONNX logits are compared
    with the torch logits before anything is written to DIR.
    """
    from rag_rerank.export import export as write

    report = write(source, out, revision=revision, weights=weights)
    click.echo(
        f"{report.path}: {report.bytes / 1e6:.1f} MB; logits of {report.pairs} pairs differ from torch's by at most "
        f"{report.max_difference:.1e}"
    )

"""``rag-rerank pull`` and ``export``: download models, and convert them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.cli.config_edit import find_parts
from rag_rerank.cli.models.verify import verify_pulled
from rag_rerank.cli.options import PATH, reranker_argument
from rag_rerank.cli.output import example
from rag_rerank.config import build
from rag_rerank.errors import ConfigError

__all__ = ["export", "pull"]


@click.command(
    short_help="Download a model, for use without a network.", epilog=example("pull minilm", "pull rerank.yaml")
)
@reranker_argument
@click.option(
    "--verify/--no-verify",
    "with_verification",
    default=True,
    show_default=True,
    help="Load each model, and compare its scores with the published ones, as `verify` does.",
)
@click.pass_context
def pull(ctx: click.Context, spec: str, with_verification: bool) -> None:
    """Download a model's files, for use without a network.

    RERANKER is a name from `rag-rerank models`, a hub id (org/model or org/model@revision), or a config file. Of
    a config file, all local models are downloaded.

    The files go into the cache of the Hugging Face hub. Known models are downloaded at their pinned revision. Prints
    where the files are, and on stderr whether the model gives its published scores. Exit code 1 if one does not.
    """
    parts = find_parts(build(spec), LocalReranker)  # type: ignore[type-abstract]
    rerankers = [reranker for _, reranker in parts]
    if not rerankers:
        raise ConfigError(f"{spec} runs no local model, so there is nothing to download; name one, such as minilm")
    for reranker in rerankers:
        folder = reranker.fetch()
        click.echo(f"{reranker.label}  {folder.path}")
    if with_verification and False in [verify_pulled(reranker) for reranker in rerankers]:
        ctx.exit(1)


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

"""``rag-rerank config``: check a config file without running it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

from rag_rerank.base import Reranker
from rag_rerank.cli.config_edit import config_text
from rag_rerank.cli.options import CommandGroup, reranker_argument
from rag_rerank.cli.output import example
from rag_rerank.config import build, json_schema
from rag_rerank.config.fields import page_of
from rag_rerank.diagnostics.health.missing import find_missing, kind_of
from rag_rerank.documentation import page_url

__all__ = ["config"]


@click.group(cls=CommandGroup)
def config() -> None:
    """Check a config file, or print the JSON Schema of config files."""


@config.command(epilog=example("config check reranker.yaml"))
@reranker_argument
def check(spec: str) -> None:
    """Check a config file or a name, and show what it describes.

    No model is loaded, nothing is downloaded, no provider is called. It prints the tree of rerankers, with the
    languages of local models; the config without defaults and without keys; what this machine lacks (packages, keys,
    files of models); and for each type in the config the address of its section in the documentation.

    The exit code is 0 if nothing is missing, 1 if something is missing, and 2 if the config is wrong.
    """
    reranker = build(spec)
    click.echo("\n".join(_tree(reranker)))
    click.echo()
    click.echo(config_text(reranker), nl=False)
    missing = find_missing(reranker)
    if missing:
        click.echo("\nMissing on this machine:")
        click.echo("\n".join(f"- {row.where}: {'; '.join(filter(None, (row.what, row.advice)))}" for row in missing))
    if links := dict.fromkeys(_links(reranker)):
        click.echo("\nMore on each type:")
        click.echo("\n".join(f"- {link}" for link in links))
    sys.exit(1 if missing else 0)


@config.command(epilog=example("config schema > rerank.schema.json"))
def schema() -> None:
    """Print the JSON Schema of config files, with which an editor explains and completes keys.

    Write it to a file, and begin your YAML config with this line: # yaml-language-server: $schema=rerank.schema.json
    """
    click.echo(json.dumps(json_schema(), indent=2))


def _tree(reranker: Reranker, first: str = "", rest: str = "") -> Iterator[str]:
    yield first + reranker.label + "".join(f"  ({fact})" for fact in _facts(reranker))
    for i, child in enumerate(reranker.children, start=1):
        last = i == len(reranker.children)
        yield from _tree(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _facts(reranker: Reranker) -> Iterator[str]:
    """Yield what the tree says of a local model: the backend that its files choose, and its languages."""
    from rag_rerank.backends.auto import AutoReranker
    from rag_rerank.backends.local.base import LocalReranker

    if isinstance(reranker, AutoReranker) and (kind := kind_of(reranker)):
        yield f"by its files: {kind}"
    if isinstance(reranker, LocalReranker):
        yield f"languages: {', '.join(reranker.languages) or 'not known'}"


def _links(reranker: Reranker) -> Iterator[str]:
    """Yield the address of the section on each type in a tree; types of other distributions have none."""
    for part in reranker.walk():
        if page := page_of(type(part)):
            yield page_url(page)

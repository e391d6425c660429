"""``rag-rerank config``: look at a config file without running it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec

import click

from rag_rerank import registry
from rag_rerank.base import Reranker
from rag_rerank.config import json_schema, load, to_config
from rag_rerank.errors import AuthenticationError

__all__ = ["config"]


@click.group()
def config() -> None:
    """Check a config file, or print its schema."""


@config.command()
@click.argument("file")
def check(file: str) -> None:
    """Check a config file and show what it describes.

    Nothing is loaded, fetched or called. Prints the tree of rerankers, with what each still lacks here (an optional
    package, a key), and the config in its normal form, which holds no key.
    """
    import yaml

    reranker = load(file)
    click.echo("\n".join(_tree(reranker)))
    click.echo()
    click.echo(yaml.safe_dump(to_config(reranker), sort_keys=False, allow_unicode=True), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema of config files, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))


def _tree(reranker: Reranker, first: str = "", rest: str = "") -> Iterator[str]:
    lacks = "; ".join(_lacks(reranker))
    yield f"{first}{reranker.label}{f'  ({lacks})' if lacks else ''}"
    for i, part in enumerate(reranker.children, start=1):
        last = i == len(reranker.children)
        yield from _tree(part, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _lacks(reranker: Reranker) -> Iterator[str]:
    from rag_rerank.backends.api.base import ApiReranker

    package, extra = registry.EXTRAS.get(reranker.kind, (None, None))
    if package is not None and find_spec(package) is None:
        yield f'not installed here: pip install "rag-rerank[{extra}]"'
    if isinstance(reranker, ApiReranker):
        try:
            reranker.key()
        except AuthenticationError as error:
            yield str(error)

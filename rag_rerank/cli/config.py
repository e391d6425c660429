"""``rag-rerank config``: check a config file without running it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec

import click

from rag_rerank import registry
from rag_rerank.base import Reranker
from rag_rerank.cli.config_edit import config_text
from rag_rerank.cli.options import reranker_argument
from rag_rerank.cli.output import example
from rag_rerank.config import build, json_schema
from rag_rerank.errors import ModelLoadError, UnusableKey

__all__ = ["config"]


@click.group()
def config() -> None:
    """Check a config file, or print its schema."""


@config.command(epilog=example("config check reranker.yaml"))
@reranker_argument
def check(spec: str) -> None:
    """Check a config file or a name, and show what it describes.

    No model is loaded, nothing is downloaded, no provider is called. Prints the tree of rerankers, with what each one
    is missing on this machine (an optional package, a key), the languages of local models, and the config in its normal
    form, without keys.
    """
    reranker = build(spec)
    click.echo("\n".join(_tree(reranker)))
    click.echo()
    click.echo(config_text(reranker), nl=False)


@config.command(epilog=example("config schema > rerank.schema.json"))
def schema() -> None:
    """Print the JSON Schema of config files, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))


def _tree(reranker: Reranker, first: str = "", rest: str = "") -> Iterator[str]:
    missing = "; ".join(_missing(reranker))
    yield first + reranker.label + "".join(f"  ({fact})" for fact in (missing, _languages(reranker)) if fact)
    for i, child in enumerate(reranker.children, start=1):
        last = i == len(reranker.children)
        yield from _tree(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _languages(reranker: Reranker) -> str:
    """Return the languages that a local model was made for; nothing for other rerankers."""
    from rag_rerank.backends.local.base import LocalReranker

    if not isinstance(reranker, LocalReranker):
        return ""
    return f"languages: {', '.join(reranker.languages) or 'not known'}"


def _missing(reranker: Reranker) -> Iterator[str]:
    """Yield what a reranker needs and this machine does not have."""
    from rag_rerank.backends.api.base import ApiReranker
    from rag_rerank.backends.auto import AutoReranker

    kind = reranker.kind
    if isinstance(reranker, AutoReranker):
        try:
            kind = reranker.backend.kind if reranker.is_cached() else ""
        except ModelLoadError as error:
            yield str(error)
        else:
            yield f"by its files: {kind}" if kind else "its files are not here; they decide between onnx and torch"
    package, extra = registry.EXTRAS.get(kind, (None, None))
    if package is not None and find_spec(package) is None:
        yield f'not installed here: pip install "rag-rerank[{extra}]"'
    if isinstance(reranker, ApiReranker):
        try:
            reranker.key()
        except UnusableKey as error:
            yield str(error)

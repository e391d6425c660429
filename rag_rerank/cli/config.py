"""``rag-rerank config``: check a config file without running it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import click

from rag_rerank import registry
from rag_rerank.base import Reranker
from rag_rerank.cli.config_edit import config_text
from rag_rerank.cli.options import CommandGroup, reranker_argument
from rag_rerank.cli.output import example
from rag_rerank.compose import AnswerabilityMap, Answerable, Calibrated, CalibrationMap, Windows
from rag_rerank.config import build, json_schema
from rag_rerank.config.fields import page_of
from rag_rerank.documentation import page_url
from rag_rerank.errors import ConfigError, ModelLoadError, UnusableKey

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
    missing = list(dict.fromkeys(_all_missing(reranker)))
    if missing:
        click.echo("\nMissing on this machine:")
        click.echo("\n".join(f"- {problem}" for problem in missing))
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

    if isinstance(reranker, AutoReranker) and (kind := _kind(reranker)):
        yield f"by its files: {kind}"
    if isinstance(reranker, LocalReranker):
        yield f"languages: {', '.join(reranker.languages) or 'not known'}"


def _links(reranker: Reranker) -> Iterator[str]:
    """Yield the address of the section on each type in a tree; types of other distributions have none."""
    if page := page_of(type(reranker)):
        yield page_url(page)
    for child in reranker.children:
        yield from _links(child)


def _kind(reranker: Reranker) -> str:
    """Return the type of a reranker, and of ``auto`` the one that its files choose; empty if they are not here."""
    from rag_rerank.backends.auto import AutoReranker

    if not isinstance(reranker, AutoReranker):
        return reranker.kind
    try:
        return reranker.backend.kind if reranker.is_cached() else ""
    except ModelLoadError:
        return ""


def _all_missing(reranker: Reranker) -> Iterator[str]:
    """Yield what a reranker and those inside it need, and this machine does not have."""
    yield from (f"{reranker.label}: {problem}" for problem in _missing(reranker))
    for child in reranker.children:
        yield from _all_missing(child)


def _missing(reranker: Reranker) -> Iterator[str]:
    from rag_rerank.backends.api.base import ApiReranker
    from rag_rerank.backends.local.base import LocalReranker

    yield from _missing_files(reranker)
    package, extra = registry.EXTRAS.get(_kind(reranker), (None, None))
    if package is not None:
        yield from _missing_package(package, extra)
    if isinstance(reranker, ApiReranker):
        try:
            reranker.check_environment()
        except (ConfigError, UnusableKey) as error:
            yield str(error)
    if isinstance(reranker, LocalReranker):
        try:
            if not reranker.is_cached():
                yield f"its files are not here; rag-rerank pull {reranker.label}"
            elif not reranker.complete(reranker.fetch().path):  # a folder; no hub is asked
                yield f"its folder lacks files that {_kind(reranker)} reads"
        except ModelLoadError as error:
            yield str(error)


def _missing_files(reranker: Reranker) -> Iterator[str]:
    """Yield what is wrong with the calibration map, the tokenizer or the store that a reranker names."""
    from rag_rerank.backends.local.kept_vectors.base import VectorReranker
    from rag_rerank.backends.local.kept_vectors.opening import StoreSettings
    from rag_rerank.text.tokenizers import is_tokenizer_file, tokens

    try:
        if isinstance(reranker, Calibrated) and not isinstance(reranker.map, CalibrationMap):
            CalibrationMap.load(reranker.map)
        if isinstance(reranker, Answerable) and not isinstance(reranker.map, AnswerabilityMap):
            AnswerabilityMap.load(reranker.map)
        if isinstance(reranker, Windows) and reranker.tokenizer is not None:
            if is_tokenizer_file(reranker.tokenizer):
                tokens(reranker.tokenizer)
            else:
                yield from _missing_package("tiktoken", "tiktoken")
        store = reranker.store if isinstance(reranker, VectorReranker) else None
        if isinstance(store, StoreSettings) and store.path is not None:
            yield from _missing_package("lmdb", "store")
    except (ConfigError, ModelLoadError) as error:
        yield str(error)


def _missing_package(package: str, extra: str | None) -> Iterator[str]:
    if find_spec(package) is None:
        yield f'{package} is not installed; pip install "rag-rerank[{extra}]"'

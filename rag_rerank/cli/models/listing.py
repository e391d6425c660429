"""``rag-rerank models``: list the known models, and check the optimised form of those on this machine."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Literal, get_args

import click

from rag_rerank import registry
from rag_rerank.backends.api.pricing import ListedModel, listed_models
from rag_rerank.backends.auto import AutoReranker
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.local import catalogue
from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.backends.local.catalogue import measures
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.cli.candidates import read_question
from rag_rerank.cli.options import json_option, texts_options
from rag_rerank.cli.output import bar, example, table
from rag_rerank.config import build
from rag_rerank.diagnostics.check import Check, check
from rag_rerank.diagnostics.sample_texts import SampleQuestion, questions
from rag_rerank.errors import ConfigError, ModelLoadError

__all__ = ["models"]

SCHEMA = 1
_MOST_CODES = 4
"""Codes of languages that a cell of the table lists; with ``--json`` all are listed."""

"""Version of the JSON objects; it grows when a field changes its meaning or is removed."""

Use = Literal["cpu", "gpu", "api", "multilingual", "long", "commercial"]
"""What a model may be wanted for."""

_MANY = "multilingual"
_WIDTH = 120
_HEADING = ("name", "kind", "weights", "window", "languages", "licence", "GPU", "quality")
_API_HEADING = ("name", "window", "languages", "list price", "quality")
_LONG = 4096
"""Tokens of a window that is called long."""


@click.command(
    short_help="List the known models, or check those on this machine.",
    epilog=example(
        "models",
        "models --for cpu --for commercial",
        "models --check embedded",
        "models --check minilm --texts passages.jsonl -q 'Who voices Po?'",
    ),
)
@click.argument("names", metavar="[MODEL]...", nargs=-1)
@click.option(
    "--for",
    "uses",
    type=click.Choice(get_args(Use)),
    multiple=True,
    help="List only models for this use: a CPU, a GPU, a provider's API, many languages, texts of 4,096 tokens or "
    "more, commercial use. Repeat the option to combine several.",
)
@click.option("--check", "with_check", is_flag=True, help="Compare the optimised form of each MODEL with the original.")
@texts_options
@json_option
@click.pass_context
def models(
    ctx: click.Context,
    names: tuple[str, ...],
    uses: tuple[Use, ...],
    with_check: bool,
    texts: str | None,
    query: str | None,
    as_json: bool,
) -> None:
    """List the known models, and what helps to choose one.

    For models on this machine: how they read query and text, weights, window (longest input in tokens), languages,
    licence, whether a GPU is advised (GPU: yes), and published quality. For models of providers: window, languages,
    list price and published quality. Only figures with the same word can be compared. --json adds ids and revisions.

    Other cross-encoders work too: name them by their id on the Hugging Face hub, or by their folder.

    With --check, real texts are scored with the optimised form of each MODEL, which is what runs by default, and with
    its original form. The table compares scores, order and speed; it also compares int8 with fp32: of the linear
    layers, or of the vectors of late_interaction. MODEL is a name, a hub id or a folder with ONNX files. Without MODEL,
    "embedded" and all known models in the local cache are checked. Nothing is downloaded. Exit code 1 if an optimised
    form gives other scores than its original.
    """
    if with_check and uses:
        raise ConfigError("--for goes with the list; leave it out of --check, and name models instead")
    if with_check:
        ctx.exit(0 if _check_models(names, read_question(texts, query), as_json=as_json) else 1)
    if names or texts is not None or query is not None:
        raise ConfigError("MODEL, --texts and --query go with --check; add it, or leave them out")
    rows = [row for row in catalogue.models() if all(_suits(row, use) for use in uses)]
    api_rows = [row for row in listed_models() if all(_api_model_suits(row, use) for use in uses)]
    if as_json:
        click.echo(json.dumps(_as_dict(rows, api_rows), indent=2))
        return
    click.echo(_lists(rows, api_rows))


def _suits(row: catalogue.Model, use: Use) -> bool:
    """Whether a local model suits a use."""
    return {
        "cpu": not row.gpu_advised,
        "gpu": row.gpu_advised,
        "api": False,
        "multilingual": _is_multilingual(row.languages),
        "long": row.max_length >= _LONG,
        "commercial": row.commercial,
    }[use]


def _api_model_suits(row: ListedModel, use: Use) -> bool:
    """Whether a provider's model suits a use; the provider's terms allow commercial use."""
    return {
        "cpu": False,
        "gpu": False,
        "api": True,
        "multilingual": _is_multilingual(row.languages),
        "long": (row.window or 0) >= _LONG,
        "commercial": True,
    }[use]


def _is_multilingual(languages: str | None) -> bool:
    """Whether a model reads many languages, or more than a few that are listed."""
    return languages is not None and (languages == _MANY or languages.count(",") >= _MOST_CODES)


def _as_dict(rows: Sequence[catalogue.Model], api_rows: Sequence[ListedModel]) -> dict[str, object]:
    local = [
        asdict(row)
        | {"commercial": row.commercial, "kind": row.kind, "gpu_advised": row.gpu_advised, "quality": row.quality}
        for row in rows
    ]
    return {
        "schema": SCHEMA,
        "models": local,
        "api_models": [asdict(row) for row in api_rows],
        "providers": dict(registry.providers()),
        "measures": measures(),
    }


def _lists(rows: Sequence[catalogue.Model], api_rows: Sequence[ListedModel]) -> str:
    parts = list[str]()
    if rows:
        parts.append(table([_HEADING, *map(_model_cells, rows)], align="<<>><<<<"))
    if api_rows:
        parts.append(table([_API_HEADING, *map(_api_cells, api_rows)], align="<><<<"))
        all_providers = ", ".join(registry.providers())
        parts.append(_wrap(f"Names of providers and servers, with a model after a colon (jina:MODEL): {all_providers}"))
    if not parts:
        return "no known model suits all of these uses"
    figures = [row.quality for row in rows] + [row.quality for row in api_rows]
    measure_names = {next(iter(quality)) for quality in figures if quality}
    explained = {name: f"{row['title']} ({row['source']})" for name, row in measures().items() if name in measure_names}
    names_of: dict[str, list[str]] = {}
    for row in rows:
        names_of.setdefault(row.note, []).append(row.alias or row.id)
    notes = [f"{', '.join(names)}: {note}" for note, names in names_of.items() if note]
    words = [f"{name}: {text}" for name, text in explained.items()]
    return "\n\n".join([*parts, *("\n".join(map(_wrap, lines)) for lines in (notes, words) if lines)])


def _wrap(line: str) -> str:
    return textwrap.fill(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _model_cells(row: catalogue.Model) -> tuple[str, ...]:
    weights = f"{row.parameters / 1000:.2f} B" if row.parameters >= 1000 else f"{row.parameters:.4g} M"
    licence = row.licence if row.commercial else f"{row.licence} (NON-COMMERCIAL)"
    gpu = "yes" if row.gpu_advised else ""
    name = row.alias or row.id
    codes = row.languages.split(", ")
    languages = row.languages if len(codes) <= _MOST_CODES else f"{len(codes)} languages"
    return (name, row.kind, weights, f"{row.max_length:,}", languages, licence, gpu, _quality(row.quality))


def _api_cells(row: ListedModel) -> tuple[str, ...]:
    tokens, units = row.price.per_million_tokens, row.price.per_thousand_search_units
    price = f"${tokens:g} a million tokens" if tokens is not None else f"${units:g} a thousand searches"
    window = "" if row.window is None else f"{row.window:,}"
    return (f"{row.backend}:{row.model}", window, row.languages or "", price, _quality(row.quality))


def _quality(figures: Mapping[str, float]) -> str:
    """Return the first figure of a model with its measure."""
    return next((f"{value:.3f} {name}" for name, value in figures.items()), "")


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


def _cached_model(name: str) -> OnnxReranker | LateInteractionReranker:
    part = build(name)
    if not isinstance(part, LocalReranker):
        raise ConfigError(f"{name} is no local model, so there is no graph to check; name one, such as minilm")
    reranker = OnnxReranker(model=part.model, revision=part.revision)
    if not reranker.is_cached():
        raise ModelLoadError(
            f"{reranker.model_id} has no complete ONNX files in the local cache, and a check downloads nothing; "
            f"download them with: rag-rerank pull {reranker.kind}:{reranker.model}, or make them with rag-rerank export"
        )
    backend = part.backend if isinstance(part, AutoReranker) else part
    return backend if isinstance(backend, LateInteractionReranker) else reranker


def _all_cached_models() -> Iterator[OnnxReranker | LateInteractionReranker]:
    rows = (row for row in catalogue.models() if row.packaged or row.backend == "onnx")
    rerankers = (build(row.alias or row.id) for row in rows)
    return (
        reranker
        for reranker in rerankers
        if isinstance(reranker, (LateInteractionReranker, OnnxReranker)) and reranker.is_cached()
    )


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

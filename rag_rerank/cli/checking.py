"""``rag-rerank models --check``: the optimised graphs of models, compared with the models' own on real text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import click

from rag_rerank._passages import Asked, questions
from rag_rerank.backends import catalogue
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.checking import Check, check
from rag_rerank.cli.progress import bar
from rag_rerank.cli.table import table
from rag_rerank.errors import ModelLoadError

__all__ = ["check_models"]

SCHEMA = 1
"""Version of the JSON object; it grows when a field changes its meaning or goes."""


def check_models(names: Sequence[str], own: Asked | None, *, as_json: bool) -> bool:
    """Check models and print what was found; return whether all optimised fp32 graphs give their models' logits.

    Args:
        names: Models as a user names them; none for those that need no download.
        own: The user's own query and texts; by default what ships with the package.
        as_json: Print one JSON object instead of a table.

    Raises:
        ModelLoadError: A model's files are not here.
        RerankError: Whatever else loading and scoring raise.
    """
    asked = (own,) if own else questions()
    rerankers = [_at_hand(name) for name in names] or list(_all_at_hand())
    checks = []
    for reranker in rerankers:
        with bar(f"checking {reranker.label}") as progress:
            checks.append(check(reranker, asked, progress=progress))
    if as_json:
        found = {"queries": len(asked), "texts": sum(len(texts) for _, texts in asked), "own_text": own is not None}
        click.echo(json.dumps({"schema": SCHEMA, **found, "checks": [row.to_dict() for row in checks]}))
    else:
        click.echo(_page(checks, asked, own=own is not None))
    return all(row.passed for row in checks)


def _at_hand(name: str) -> OnnxReranker:
    reranker = OnnxReranker(model=name.removeprefix("onnx:"))
    if not reranker.at_hand():
        raise ModelLoadError(
            f"{reranker.model_id} has no complete ONNX files in the local cache, and a check downloads nothing; fetch "
            f"them with: rag-rerank pull {reranker.kind}:{reranker.model}, or make them with rag-rerank export"
        )
    return reranker


def _all_at_hand() -> Iterator[OnnxReranker]:
    rows = (row for row in catalogue.models() if row.backend == "onnx")
    named = (OnnxReranker(model=row.alias or row.id) for row in rows)
    return (reranker for reranker in named if reranker.at_hand())


def _page(checks: Sequence[Check], asked: Sequence[Asked], *, own: bool) -> str:
    heading = ("model", "graph", "Δ own", "spread", "int8 Δ", "tau", "top 10", "speed", "int8 speed")
    lines = [table([heading, *map(_row, checks)], align="<<>>>>>>>"), ""]
    lines += [f"{row.model} {row.reason}" for row in checks if row.reason]
    lines += [
        f"{row.model} FAILED: its optimised graph's logits differ by {row.optimised.relative:.1g}, more than 1e-4; "
        "use optimize: false, and tell us"
        for row in checks
        if not row.passed
    ]
    text = "your own text" if own else "text of Wikipedia that ships with the package"
    count = sum(len(texts) for _, texts in asked)
    lines += [
        f"{count} query-text pairs of {len(asked)} {'queries' if len(asked) > 1 else 'query'}; {text}",
        "Δ own       largest difference of a logit between the optimised graph and the model's own; up to 1e-4 passes",
        "spread      largest less smallest logit",
        "int8 Δ      largest difference of a logit between int8 and fp32",
        "tau, top 10 order in int8 against order in fp32: Kendall's tau-b, shared part of the ten best; means",
        "speed       of the optimised graph, as a multiple of the model's own graph; int8: of the optimised fp32 graph",
    ]
    return "\n".join(lines)


def _row(row: Check) -> tuple[str, ...]:
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

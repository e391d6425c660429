"""``rag-rerank verify``: compare the scores of models on this machine with those that were published for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.backends.local.verification.reference_scores import ReferenceScores, read_reference_scores
from rag_rerank.base import Reranker
from rag_rerank.cli.options import json_option, reranker_argument
from rag_rerank.cli.output import bar, example, one_line, table
from rag_rerank.config import build
from rag_rerank.diagnostics.verification import ScoreComparison, Verification, estimated_usage
from rag_rerank.diagnostics.verification import verify as verify_scores
from rag_rerank.errors import ConfigError, MissingExtraError, RerankError

__all__ = ["verify", "verify_pulled"]

SCHEMA = 1
"""Version of the JSON object; it grows when a field changes its meaning or is removed."""

_QUERY, _TEXT = 20, 30
"""Width of the two columns with text, so that a line has at most 120 characters."""


@click.command(
    short_help="Check that models give their published scores here.",
    epilog=example(
        "verify minilm", "verify rerank.yaml", "verify ./my-model --scores scores.json", "verify cohere --yes"
    ),
)
@reranker_argument
@click.option(
    "--scores",
    metavar="FILE",
    show_default="the published ones",
    help="Compare with the scores in this JSON file. Only for one model.",
)
@click.option("--yes", is_flag=True, help="Call a provider without asking you first.")
@json_option
@click.pass_context
def verify(ctx: click.Context, spec: str, scores: str | None, yes: bool, as_json: bool) -> None:
    """Check that models give their published scores on this machine.

    Each model of RERANKER is loaded by its normal path, and scores the pairs of query and text for which model cards
    and test suites print a score. The table shows both numbers, and what still agrees: the rounding of the print and
    the noise of the number formats are allowed. Traces of a model that passes say "verified", until a file, a setting
    or a release changes.

    Of late-interaction models and providers, only the order of the texts counts. A model without published scores is
    asked plain questions, each with one text that answers it.

    Exit code 1 if a model differs; the error names the likely causes.
    """
    leaves = _models_of(build(spec))
    if not leaves:
        raise ConfigError(f"{spec} runs no model, so there is nothing to verify; name one, such as minilm")
    references = None if scores is None else read_reference_scores(Path(scores))
    if references and len(leaves) > 1:
        raise ConfigError(f"--scores goes with one model, and {spec} has {len(leaves)}; name that model")
    if billed := [leaf for leaf in leaves if _may_be_billed(leaf)]:
        click.echo("\n".join(_cost(leaf, references) for leaf in billed), err=True)
        if not yes:
            click.confirm("Call it?" if len(billed) == 1 else "Call them?", abort=True, err=True)
    outcomes: list[Verification | tuple[Reranker, RerankError]] = []
    for leaf in leaves:
        try:
            with bar(f"verifying {leaf.label}"), leaf:
                outcomes.append(verify_scores(leaf, references))
        except RerankError as error:
            if len(leaves) == 1:
                raise
            outcomes.append((leaf, error))
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "models": [_to_dict(outcome) for outcome in outcomes]}))
    else:
        click.echo("\n\n".join(_page(outcome) for outcome in outcomes))
    for outcome in outcomes:
        _print_error(outcome)
    ctx.exit(0 if all(isinstance(outcome, Verification) and outcome.passed for outcome in outcomes) else 1)


def verify_pulled(reranker: LocalReranker) -> bool:
    """Verify a model that was just downloaded, and print the outcome on stderr; return whether nothing differs."""
    try:
        with bar(f"verifying {reranker.label}"), reranker:
            outcome = verify_scores(reranker)
    except MissingExtraError as error:
        click.echo(f"{reranker.label}: not verified: {error}", err=True)
        return True
    click.echo(_summary(outcome), err=True)
    _print_error(outcome)
    return outcome.passed


def _models_of(reranker: Reranker) -> list[Reranker]:
    """Return the rerankers inside that run or ask a model, each once."""
    return list(dict.fromkeys(part for part in reranker.walk() if not part.children and _has_model(part)))


def _has_model(leaf: Reranker) -> bool:
    return isinstance(leaf, LocalReranker) or leaf.remote or getattr(leaf, "model_id", None) is not None


def _may_be_billed(leaf: Reranker) -> bool:
    """Whether a call may cost money: all but local models, and servers that are called without a key.

    Raises:
        UnusableKey: A provider has no key.
    """
    key = getattr(leaf, "key", None)
    return not isinstance(leaf, LocalReranker) and (key is None or bool(key()))


def _cost(leaf: Reranker, references: Sequence[ReferenceScores] | None) -> str:
    usage = estimated_usage(leaf, references)
    price = "the price is not known here" if usage.cost is None else f"about ${usage.cost:.2g}"
    return f"{leaf.label} would score {usage.texts} texts in a few requests, which may be billed: {price}"


def _to_dict(outcome: Verification | tuple[Reranker, RerankError]) -> dict[str, object]:
    if isinstance(outcome, Verification):
        return outcome.to_dict()
    leaf, error = outcome
    return {"label": leaf.label, "model": getattr(leaf, "model_id", None), "status": "failed", "error": str(error)}


def _print_error(outcome: Verification | tuple[Reranker, RerankError]) -> None:
    error = outcome.error if isinstance(outcome, Verification) else outcome[1]
    if error is not None:
        click.echo(f"Error: {one_line(str(error))}", err=True)
        if error.url:
            click.echo(f"More: {error.url}", err=True)


def _summary(outcome: Verification) -> str:
    """Return one line on what was compared."""
    model = outcome.model or ""
    head = outcome.label if outcome.label.endswith(model) else f"{outcome.label} ({model})"
    orders = f"{outcome.orders - len(outcome.wrong_orders)} of {outcome.orders} orders are right"
    if outcome.status == "differs":
        return f"{head}: DIFFERS from the published scores"
    if outcome.status == "order" and not any(row.source for row in outcome.scores):
        return f"{head}: no published score is known; asked plain questions, {orders}"
    if outcome.status == "order":
        return f"{head}: verified by order; {orders}"
    within = "" if outcome.largest_difference is None else f", within {outcome.largest_difference:.2g}"
    return f"{head}: verified; {outcome.values} of {outcome.values} values agree{within}, {orders}"


def _page(outcome: Verification | tuple[Reranker, RerankError]) -> str:
    if not isinstance(outcome, Verification):
        leaf, error = outcome
        return f"{leaf.label}: FAILED, {type(error).__name__}"
    sources = list(dict.fromkeys(row.source for row in outcome.scores if row.source))
    heading = ("#", "query", "text", "published", "here", "allowed", "", "from")
    rows = [_cells(i, row, sources) for i, row in enumerate(outcome.scores, start=1)]
    lines = [_summary(outcome), table([heading, *rows], align="><<>><<<")]
    lines += [f"wrong order: {order}" for order in outcome.wrong_orders]
    lines += [
        f"published scores contradict each other for {pair}; one of them is enough" for pair in outcome.contradictions
    ]
    lines += [f"[{i}] {source}" for i, source in enumerate(sources, start=1)]
    if outcome.not_recorded:
        lines.append(f"traces will not say that it is verified: {outcome.not_recorded}")
    return "\n".join(lines)


def _cells(number: int, row: ScoreComparison, sources: Sequence[str]) -> tuple[str, ...]:
    verdict = {True: "agrees", False: "DIFFERS", None: "order only"}[row.agrees]
    return (
        str(number),
        _shorten(row.query, _QUERY),
        _shorten(row.text, _TEXT),
        "" if row.published is None else f"{row.published:.5g}",
        f"{row.here:.5g}",
        "" if row.range is None or row.agrees is None else f"{row.range.low:.4g} .. {row.range.high:.4g}",
        verdict,
        f"[{sources.index(row.source) + 1}]" if row.source else "",
    )


def _shorten(text: str, width: int) -> str:
    line = one_line(text)
    return line if len(line) <= width else line[: width - 1] + "…"

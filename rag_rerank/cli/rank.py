"""``rag-rerank rank``: order the candidates of a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence

import click

from rag_rerank.cli.candidates import Format, read_candidates
from rag_rerank.cli.options import COUNT, format_option, instruction_option, json_option, reranker_option
from rag_rerank.cli.output import example, one_line, table
from rag_rerank.config import build
from rag_rerank.context import Context, Packing
from rag_rerank.errors import RerankError
from rag_rerank.execution.progress import progress_bar, progress_listener
from rag_rerank.trace import Coverage
from rag_rerank.types import SCALE_MEANINGS, Candidate, Hit, Ranking

__all__ = ["rank"]

SCHEMA = 1
"""Version of the JSON object; it grows when a field changes its meaning or is removed."""


@click.command(
    epilog=example(
        "rank -r embedded -q 'Who voices Po?' -k 3 passages.jsonl",
        "rank -r embedded -q 'Who voices Po?' \\\n--max-tokens 500 passages.jsonl",
    )
)
@reranker_option
@click.option("-q", "--query", required=True, metavar="TEXT", help="The query to rank the texts for.")
@click.option("-k", "--top-k", type=COUNT, metavar="K", show_default="all", help="Print only the best K texts.")
@instruction_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    show_default="no limit",
    help="Stop with an error after this many seconds, loading included.",
)
@click.option(
    "--max-tokens",
    type=COUNT,
    metavar="N",
    help="Also choose the best texts that fit into N tokens, for the prompt of an LLM.",
)
@click.option(
    "--tokenizer",
    metavar="NAME|FILE",
    show_default="estimated",
    help="Count tokens with this tokenizer: a name of tiktoken (o200k_base), or a tokenizer.json.",
)
@format_option
@json_option
@click.option("--trace", "show_trace", is_flag=True, help="Also print to stderr what each step of the reranker did.")
@click.argument("file", metavar="FILE|-")
def rank(
    spec: str,
    query: str,
    top_k: int | None,
    instruction: str | None,
    timeout: float | None,
    max_tokens: int | None,
    tokenizer: str | None,
    layout: Format,
    as_json: bool,
    show_trace: bool,
    file: str,
) -> None:
    """Order texts by their relevance to a query.

    FILE holds the texts, plain or gzip; - reads standard input. It has one of these formats:

    \b
    - one text per line
    - one JSON object per line, with "text" and optionally "id", "title", "score"
      (of the first stage) and "metadata"
    - a JSON array of such objects, or of texts

    A text without an id gets its position as id, counted from 0.

    The table shows each text's new rank, its old rank, its score, and how much of it the model read. A score orders the
    texts of one call; it is not a probability.
    """  # noqa: D301 - click keeps the lines after a backspace as they are
    candidates = read_candidates(file, layout)
    packing = None
    if max_tokens is not None or tokenizer is not None:
        packing = Packing(max_tokens=max_tokens, tokenizer=tokenizer)
        packing.warm_up()
    with build(spec) as reranker:
        try:
            with progress_bar(f"ranking {len(candidates):,} texts") as progress, progress_listener(progress):
                ranking: Ranking = reranker.rerank(
                    query, candidates, top_k=top_k, timeout=timeout, instruction=instruction
                )
                progress(1.0)
        except RerankError as error:
            if show_trace and error.trace is not None:
                click.echo(error.trace.render(), err=True)
            raise
    context = None if packing is None else packing.pack(ranking)
    if as_json:
        context_fields = {} if context is None else {"context": context.to_dict()}
        click.echo(json.dumps({"schema": SCHEMA, **ranking.to_dict(), **context_fields}))
    else:
        click.echo("\n".join([_page(ranking, candidates), *_context_lines(context)]))
    if show_trace:
        click.echo(ranking.trace.render(), err=True)


def _page(ranking: Ranking, candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "no candidates"
    first_ranks = {candidate.id: position for position, candidate in enumerate(candidates, start=1)}
    heading = ("rank", "was", "", "score", "read", "id", "text")
    lines = [
        table(
            [heading, *(_row(hit, first_ranks[hit.id]) for hit in ranking)],
            align=">><>><<",
            width=shutil.get_terminal_size((110, 24)).columns,
        ),
        "",
        f"score  {SCALE_MEANINGS[ranking.scale]}",
        *_answerable_lines(ranking),
        f"cost   {_cost(ranking, len(candidates))}",
        *(f"note   degraded: {reason}" for reason in ranking.degraded),
    ]
    return "\n".join(lines)


def _answerable_lines(ranking: Ranking) -> Iterator[str]:
    if ranking.answerable is not None:
        yield f"answer {ranking.answerable:.0%} probable that at least one text answers the query"


def _context_lines(context: Context | None) -> Iterator[str]:
    """Yield the size of the context, and the ids of the dropped hits for each reason."""
    if context is None:
        return
    total = len(context) + len(context.dropped)
    tokens = "estimated tokens" if context.tokens_estimated else "tokens"
    yield f"fits   {len(context)} of {total} texts; {context.tokens:,} of {context.tokens_before:,} {tokens}"
    ids: dict[str, list[str]] = {}
    for dropped in context.dropped:
        ids.setdefault(dropped.reason, []).append(dropped.hit.id)
    for reason, dropped_ids in ids.items():
        yield f"out    {reason}: {one_line(', '.join(dropped_ids))}"
    yield from (f"note   {one_line(note)}" for note in context.notes)


def _row(hit: Hit, first_rank: int) -> tuple[str, ...]:
    gain = first_rank - hit.rank
    move = f"↑{gain}" if gain > 0 else f"↓{-gain}" if gain < 0 else "="
    text = f"[{hit.unscored}] {hit.text}" if hit.unscored else hit.text
    return (str(hit.rank), str(first_rank), move, _number(hit.score), _share(hit.coverage), hit.id, text)


def _share(coverage: Coverage | None) -> str:
    """Return the share of the tokens that was read, rounded down: 100% means all tokens, ``~`` an estimate."""
    sign = "~" if coverage and coverage.estimated else ""
    return f"{sign}{coverage.seen * 100 // coverage.total}%" if coverage and coverage.total else "–"


def _number(score: float | None) -> str:
    if score is None:
        return "–"
    return f"{score:.4f}" if score == 0 or abs(score) >= 0.00005 else f"{score:.0e}"


def _cost(ranking: Ranking, count: int) -> str:
    usage = ranking.usage
    facts = [f"{count} candidate{'s' if count > 1 else ''} in {ranking.trace.seconds * 1000:,.0f} ms, loading included"]
    if usage.tokens is not None:
        facts.append(f"{usage.tokens:,} tokens")
    if usage.requests:
        facts.append(f"{usage.requests} requests")
    if usage.search_units is not None:
        facts.append(f"{usage.search_units:g} search units")
    if usage.cost is not None:
        facts.append(f"${usage.cost:.6f}")
    if usage.estimated:
        facts.append(f"estimated: {', '.join(usage.estimated)}")
    return "; ".join(facts)

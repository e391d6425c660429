"""``rag-rerank trace show`` and ``trace report``: recorded calls on the terminal, or as an HTML page."""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from rag_rerank._files import check_folder, write
from rag_rerank.cli.options import COUNT, PATH, CommandGroup
from rag_rerank.cli.output import example, one_line, table, without_control_characters
from rag_rerank.errors import InputError
from rag_rerank.records.context_record import ContextRecord
from rag_rerank.records.reader import read
from rag_rerank.records.record import BELOW_TOP_K, Entry, Record, digest
from rag_rerank.trace import StepScore

__all__ = ["explain_candidate", "report", "show", "trace"]

_SCALE_TEXTS = {"sigmoid": "the sigmoid of", "calibrated": "a fitted probability for"}
"""How a score on this scale comes from the raw score; on the other scales the two are the same number."""


@click.group(cls=CommandGroup, short_help="Show recorded calls, on the terminal or as an HTML page.")
def trace() -> None:
    """Show recorded calls: why a text has its score and its rank, and whether the LLM got it.

    Record calls in Python with rag_rerank.recording("traces.jsonl"), or in a config with type: recorded.
    """


@trace.command(
    short_help="Show recorded calls on the terminal.",
    epilog=example("trace show traces.jsonl --last 1", "trace show traces.jsonl --last 1 --id c2090"),
)
@click.argument("file", metavar="FILE")
@click.option(
    "-q",
    "--query",
    metavar="TEXT",
    help="Only calls whose query contains TEXT. If only the query's hash was recorded, give the whole query.",
)
@click.option("--id", "id", metavar="ID", help="Only calls with this candidate; explain its score and its rank.")
@click.option("--record", metavar="ID", help="Only records whose id begins with ID.")
@click.option("--last", type=COUNT, metavar="N", show_default="all", help="Only the last N of these calls.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per record instead of text.")
def show(file: str, query: str | None, id: str | None, record: str | None, last: int | None, as_json: bool) -> None:
    """Show the calls that were recorded in FILE.

    For each call it shows the query, what each step did, and for each candidate its first rank, its final rank, its
    score, and whether it was packed into the context for the LLM.

    Texts and queries are shown only if they were recorded.
    """
    matches = _matches(read(file, bad=_warn), query, id, record)
    count = 0
    for match in matches if last is None else deque(matches, maxlen=last):
        count += 1
        if as_json:
            click.echo(json.dumps(match.to_dict()))
        else:
            lines = _page(match) if id is None else (*_head(match), *explain_candidate(match, id))
            click.echo(("\n" if count > 1 else "") + "\n".join(lines))
    if not count:
        if query is record is id is None:
            raise InputError(f"{file} holds no record; make some with rag_rerank.recording({file!r})")
        hint = ""
        if id is not None:
            hint = "; a candidate without an id of its own has its position in the input, counted from 0"
        raise InputError(f"{file} holds no record that matches{hint}; list all with: rag-rerank trace show {file}")


@trace.command(
    short_help="Write recorded calls as an HTML page.", epilog=example("trace report traces.jsonl -o report.html")
)
@click.argument("file", metavar="FILE")
@click.option("-o", "--out", required=True, type=PATH, metavar="OUT", help="Write the page to this file.")
def report(file: str, out: Path) -> None:
    """Write the calls that were recorded in FILE as an HTML page.

    The page shows how each candidate moved, its scores, and its way through the steps. It loads nothing from elsewhere.
    It contains the texts only if they were recorded. If FILE is long, the page has the last calls, and says how many it
    left out.
    """
    from rag_rerank.pages.page import trace_page  # other commands do not need it

    check_folder(out)
    write(out, trace_page(record.to_dict() for record in read(file)).encode())
    click.echo(f"{out}: written")


def _warn(bad_line: object) -> None:
    click.echo(f"Warning: {bad_line}; it is left out", err=True)


def _matches(records: Iterable[Record], query: str | None, id: str | None, prefix: str | None) -> Iterator[Record]:
    for record in records:
        if prefix is not None and not record.id.startswith(prefix):
            continue
        if query is not None and not (record.query_sha256 == digest(query) or query in (record.query or "")):
            continue
        if id is not None and all(entry.id != id for entry in record.candidates):
            continue
        yield record


def _page(record: Record) -> Iterator[str]:
    yield from _head(record)
    yield "trace"
    yield from (f"  {without_control_characters(line)}" for line in record.trace.render().split("\n"))
    if record.candidates:
        heading = ("rank", "was", "", "score", "read", "id", "context" if record.contexts else "dropped")
        yield table([heading, *(_row(entry, record) for entry in record.candidates)], align=">><>><<")


def _head(record: Record) -> Iterator[str]:
    yield f"record    {record.id}"
    yield f"query     {_query_text(record)}"
    if record.instruction_sha256 is not None:
        yield f"instruction  {one_line(record.instruction or f'sha256 {record.instruction_sha256}')}"
    yield f"time      {record.time}  ({record.seconds * 1000:,.0f} ms)"
    yield f"reranker  {one_line(record.reranker)}"
    if record.scale is not None:
        yield f"scale     {record.scale}"
    if record.answerable is not None:
        yield f"answerable  {record.answerable:.4g}"
    if record.tags:
        yield f"tags      {one_line(', '.join(f'{name}={value}' for name, value in record.tags.items()))}"
    yield from (f"degraded  {one_line(reason)}" for reason in record.degraded)
    for context in record.contexts:
        yield f"packed    {_context_text(context)}"
        yield from (f"note      {one_line(note)}" for note in context.notes)
    if record.error is not None:
        yield f"failed    {one_line(record.error)}"


def _query_text(record: Record) -> str:
    """Return the query of a record, or its hash if the text was not recorded."""
    return f"sha256 {record.query_sha256}" if record.query is None else one_line(record.query)


def _context_text(context: ContextRecord) -> str:
    """Return the size of a context, and how many hits are not in it for each reason."""
    hits = sum(len(piece["ids"]) for piece in context.pieces)
    facts = [f"{hits} of {hits + len(context.dropped)} hits, in {len(context.pieces)} pieces"]
    if context.tokens is not None:
        estimates = " (estimated)" if context.tokens_estimated else ""
        facts.append(f"{context.tokens:,} of {context.tokens_before or 0:,} tokens{estimates}")
    trimmed = sum(piece["trimmed"] is not None for piece in context.pieces)
    facts += [f"{trimmed} trimmed"] if trimmed else []
    reasons = Counter(drop["reason"] for drop in context.dropped)
    facts += [f"{count} dropped by {reason}" for reason, count in reasons.items()]
    return ", ".join(facts)


def _row(entry: Entry, record: Record) -> tuple[str, ...]:
    gain = 0 if entry.rank is None else entry.first_rank - entry.rank
    move = "" if entry.rank is None else f"↑{gain}" if gain > 0 else f"↓{-gain}" if gain < 0 else "="
    share = "–"
    if entry.coverage is not None and entry.coverage.total:
        sign = "~" if entry.coverage.estimated else ""
        share = f"{sign}{entry.coverage.seen * 100 // entry.coverage.total}%"
    score = "–" if entry.score is None else f"{entry.score:.4g}"
    rank = "–" if entry.rank is None else str(entry.rank)
    end = record.outcome(entry) or entry.dropped or ""
    return (rank, str(entry.first_rank), move, score, share, entry.id, end)


def explain_candidate(record: Record, id: str) -> Iterator[str]:
    """Explain why a candidate was ranked, why it got its score, why it has its rank, and whether the LLM got it."""
    entry = next(entry for entry in record.candidates if entry.id == id)
    is_position = id == str(entry.first_rank - 1)
    yield f"candidate {one_line(id)}{' (its position in the input, counted from 0)' if is_position else ''}"
    if entry.text is not None:
        yield f"text      {one_line(entry.text)}"
    yield f"entered   {_entry_text(entry, len(record.candidates))}"
    for step_score in entry.visits:
        yield f"step      {one_line(step_score.step)}: {_step_text(step_score)}"
    for step in record.trace.walk():
        parts = step.contributions.get(id, {})
        for name, addend in sorted(parts.items(), key=lambda part: -abs(part[1])):
            yield f"part      {addend:+.4g} of {one_line(step.step)}: {one_line(name)}"
    for window, visits in record.trace.paths().items():
        if re.fullmatch(re.escape(id) + r"#+\d+", window):
            yield from (
                f"window    {one_line(window)} in {one_line(step_score.step)}: {_step_text(step_score)}"
                for step_score in visits
            )
    yield f"score     {_score_text(entry, record)}"
    yield f"rank      {_rank_text(entry, record)}"
    if record.error is None:
        yield from _context_lines(entry, record)


def _context_lines(entry: Entry, record: Record) -> Iterator[str]:
    """Yield what became of a candidate in each context that was packed from the ranking."""
    if record.is_below_top_k(entry):
        return
    if not record.contexts:
        yield "context   not recorded: the ranking was returned, and no context was packed from it"
    for context in record.contexts:
        yield f"context   {one_line(context.outcome(entry.id) or 'not among the hits that were packed')}"


def _entry_text(entry: Entry, count: int) -> str:
    score = "without a first-stage score" if entry.first_score is None else f"first-stage score {entry.first_score:.6g}"
    return f"at rank {entry.first_rank} of {count}, {score}"


def _step_text(step_score: StepScore) -> str:
    if step_score.raw_score is None:
        return f"not scored: {step_score.unscored}"
    facts = [f"raw score {step_score.raw_score:.6g} ({step_score.scale}), rank {step_score.rank}"]
    if step_score.coverage is not None:
        cut = "; the rest was cut off" if step_score.coverage.truncated else ""
        guess = "by estimate " if step_score.coverage.estimated else ""
        facts.append(f"{guess}{step_score.coverage.seen} of {step_score.coverage.total} tokens read{cut}")
    if step_score.cached:
        facts.append("from the cache")
    return ", ".join(facts)


def _score_text(entry: Entry, record: Record) -> str:
    if record.error is not None:
        return "none: the call failed"
    if entry.score is None or entry.raw_score is None:
        return f"none: {entry.dropped}"
    source = next(
        (step_score.step for step_score in reversed(entry.visits) if step_score.raw_score == entry.raw_score), None
    )
    by = "" if source is None else f", given by {one_line(source)}"
    origin = f"on the scale {record.scale!r}"
    if record.scale in _SCALE_TEXTS:
        origin = f"{_SCALE_TEXTS[record.scale]} the raw score {entry.raw_score:.6g}"
    window = "" if entry.window is None else f"; window: characters {entry.window[0]} to {entry.window[1]}"
    return f"{entry.score:.6g}, {origin}{by}{window}"


def _rank_text(entry: Entry, record: Record) -> str:
    if entry.rank is None:
        return "none: the call failed"
    rank = f"{entry.rank} of {len(record.candidates)}, entered at {entry.first_rank}"
    dropped = [f"not returned: {BELOW_TOP_K} ({record.top_k})"] if record.is_below_top_k(entry) else []
    return "; ".join([rank, *_neighbours(entry, record), *dropped])


def _neighbours(entry: Entry, record: Record) -> Iterator[str]:
    by_rank = {other.rank: other for other in record.candidates}
    for step, word in ((-1, "below"), (1, "above")):
        other = by_rank.get((entry.rank or 0) + step)
        if other is not None:
            yield f"{word} {one_line(other.id)}{_reason(entry, other)}"


def _reason(entry: Entry, other: Entry) -> str:
    """Return what decided between two neighbours, as far as the record shows: the last scores that both have."""
    if entry.raw_score is not None and other.raw_score is not None:
        if entry.raw_score == other.raw_score:
            return " by the order of arrival, because the raw scores are equal"
        return f", which has the raw score {other.raw_score:.6g}"
    if entry.raw_score is not None or other.raw_score is not None:
        return f", which has {'no' if other.raw_score is None else 'a'} score"
    other_scores = {step_score.step: step_score.raw_score for step_score in other.visits}
    for step_score in reversed(entry.visits):
        score = other_scores.get(step_score.step)
        if step_score.raw_score is not None and score is not None and score != step_score.raw_score:
            return f" by {one_line(step_score.step)}, with {step_score.raw_score:.6g} against {score:.6g}"
        if step_score.step in other_scores and (step_score.raw_score is None) != (score is None):
            return f", which had {'no' if score is None else 'a'} score in {one_line(step_score.step)}"
    return " by the order of arrival" if not entry.visits and not other.visits else ""

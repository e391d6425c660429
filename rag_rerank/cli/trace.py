"""``rag-rerank trace show`` and ``trace report``: recorded calls on the terminal or as a page."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from rag_rerank._files import check_folder, write
from rag_rerank.cli.output import one_line, table, without_control_characters
from rag_rerank.errors import InputError
from rag_rerank.records.reader import read
from rag_rerank.records.record import BELOW_TOP_K, Entry, Record, digest
from rag_rerank.trace import StepScore

__all__ = ["explain_candidate", "report", "show", "trace"]


@click.command(short_help="Write a page that shows recorded calls.")
@click.argument("file", metavar="FILE")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="PAGE", help="The page to write.")
def report(file: str, out: Path) -> None:
    """Write a page that shows the recorded calls of FILE: rank moves, scores, and every candidate's way.

    The page is one HTML file that loads nothing from elsewhere. It holds the texts if the recording does. Of a long
    recording it holds the last calls, and says how many it left out.
    """
    from rag_rerank.pages.page import trace_page  # which the other commands do not need

    check_folder(out)
    write(out, trace_page(record.to_dict() for record in read(file)).encode())
    click.echo(f"{out}: written")


_SCALES = {"sigmoid": "the sigmoid of", "calibrated": "a fitted probability for"}
"""How a presented score comes of a raw one, where it is not the same number."""


def explain_candidate(record: Record, id: str) -> Iterator[str]:
    """Say why a candidate entered, why it got its score, and why it stands where it stands."""
    entry = next(entry for entry in record.candidates if entry.id == id)
    yield f"candidate {one_line(id)}"
    if entry.text is not None:
        yield f"text      {one_line(entry.text)}"
    yield f"entered   {_entered(entry, len(record.candidates))}"
    for visit in entry.visits:
        yield f"step      {one_line(visit.step)}: {_said(visit)}"
    for window, visits in record.trace.paths().items():
        if re.fullmatch(re.escape(id) + r"#+\d+", window):
            yield from (f"window    {one_line(window)} in {one_line(visit.step)}: {_said(visit)}" for visit in visits)
    yield f"score     {_scored(entry, record)}"
    yield f"stands    {_stands(entry, record)}"


def _entered(entry: Entry, among: int) -> str:
    score = "without a score" if entry.first_score is None else f"with the score {entry.first_score:.6g}"
    return f"it came at place {entry.first_rank} of {among}, {score} of the first stage"


def _said(visit: StepScore) -> str:
    if visit.raw_score is None:
        return f"not scored: {visit.unscored}"
    facts = [f"raw score {visit.raw_score:.6g} ({visit.scale}), place {visit.rank}"]
    if visit.coverage is not None:
        cut = "; the rest was cut off" if visit.coverage.truncated else ""
        facts.append(f"{visit.coverage.seen} of {visit.coverage.total} tokens read{cut}")
    if visit.cached:
        facts.append("from the cache")
    return ", ".join(facts)


def _scored(entry: Entry, record: Record) -> str:
    if record.error is not None:
        return "none: the call failed"
    if entry.score is None or entry.raw_score is None:
        return f"none: {entry.dropped}"
    source = next((visit.step for visit in reversed(entry.visits) if visit.raw_score == entry.raw_score), None)
    by = "" if source is None else f", given by {one_line(source)}"
    shown = f"{_SCALES.get(record.scale or '', 'on the scale')} "
    of = f"the raw score {entry.raw_score:.6g}" if record.scale in _SCALES else f"{record.scale!r}"
    window = "" if entry.window is None else f"; of its characters {entry.window[0]} to {entry.window[1]}"
    return f"{entry.score:.6g}, {shown}{of}{by}{window}"


def _stands(entry: Entry, record: Record) -> str:
    if entry.rank is None:
        return "nowhere: the call failed"
    place = f"at {entry.rank} of {len(record.candidates)}, it came at {entry.first_rank}"
    dropped = [f"not returned: {BELOW_TOP_K} ({record.top_k})"] if entry.dropped == BELOW_TOP_K else []
    return "; ".join([place, *_neighbours(entry, record), *dropped])


def _neighbours(entry: Entry, record: Record) -> Iterator[str]:
    by_rank = {other.rank: other for other in record.candidates}
    for step, word in ((-1, "below"), (1, "above")):
        other = by_rank.get((entry.rank or 0) + step)
        if other is None:
            continue
        yield f"{word} {one_line(other.id)}{_why(entry, other)}"


def _why(entry: Entry, other: Entry) -> str:
    """Say what decided between two neighbours, as far as the record tells: the last scores that both have."""
    if entry.raw_score is not None and other.raw_score is not None:
        if entry.raw_score == other.raw_score:
            return " by the order in which they came, for the raw scores are equal"
        return f", which has the raw score {other.raw_score:.6g}"
    if entry.raw_score is not None or other.raw_score is not None:
        return f", which has {'no' if other.raw_score is None else 'a'} score"
    theirs = {visit.step: visit.raw_score for visit in other.visits}
    for visit in reversed(entry.visits):
        score = theirs.get(visit.step)
        if visit.raw_score is not None and score is not None and score != visit.raw_score:
            return f" by {one_line(visit.step)}, with {visit.raw_score:.6g} against {score:.6g}"
        if visit.step in theirs and (visit.raw_score is None) != (score is None):
            return f", which had {'no' if score is None else 'a'} score in {one_line(visit.step)}"
    return " by the order in which they came" if not entry.visits and not other.visits else ""


@click.command(short_help="Show recorded calls on the terminal.")
@click.argument("file", metavar="FILE")
@click.option("-q", "--query", metavar="TEXT", help="Only calls whose query holds TEXT, or, by its hash, is TEXT.")
@click.option("--id", "id", metavar="ID", help="Only calls with this candidate, and its way through the steps.")
@click.option("--record", metavar="ID", help="Only the record of this id, or of an id that begins so.")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the last N of these.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as they are, one JSON object a line.")
def show(file: str, query: str | None, id: str | None, record: str | None, last: int | None, as_json: bool) -> None:
    """Show the calls that were recorded in FILE.

    For each call: what was asked, what each step did, and where each candidate came in and went out. Texts and queries
    are there if they were recorded; a query that was not is found by --query with its exact words, through its hash.
    """
    found = _matching(read(file, bad=_told), query, id, record)
    shown = 0
    for one in found if last is None else deque(found, maxlen=last):
        shown += 1
        if as_json:
            click.echo(json.dumps(one.to_dict()))
        else:
            click.echo(("\n" if shown > 1 else "") + "\n".join(_page(one) if id is None else _way(one, id)))
    if not shown:
        fits = "" if query is record is id is None else " that fits"
        raise InputError(f"{file} holds no record{fits}")


def _told(bad: object) -> None:
    click.echo(f"Warning: {bad}; it is left out", err=True)


def _matching(records: Iterable[Record], query: str | None, id: str | None, record: str | None) -> Iterator[Record]:
    for one in records:
        if record is not None and not one.id.startswith(record):
            continue
        if query is not None and not (one.query_sha256 == digest(query) or query in (one.query or "")):
            continue
        if id is not None and all(entry.id != id for entry in one.candidates):
            continue
        yield one


def _page(record: Record) -> Iterator[str]:
    yield from _head(record)
    yield "trace"
    yield from (f"  {without_control_characters(text)}" for text in record.trace.render().split("\n"))
    if record.candidates:
        heading = ("rank", "was", "", "score", "read", "id", "dropped")
        yield table([heading, *map(_row, record.candidates)], align=">><>><<")


def _head(record: Record) -> Iterator[str]:
    yield f"record    {record.id}"
    yield f"query     {query_text(record)}"
    yield f"time      {record.time}  ({record.seconds * 1000:,.0f} ms)"
    yield f"reranker  {one_line(record.reranker)}"
    if record.scale is not None:
        yield f"scale     {record.scale}"
    if record.tags:
        yield f"tags      {one_line(', '.join(f'{name}={value}' for name, value in record.tags.items()))}"
    yield from (f"degraded  {one_line(reason)}" for reason in record.degraded)
    if record.error is not None:
        yield f"failed    {one_line(record.error)}"


def query_text(record: Record) -> str:
    """Return the query, or its hash where it was not recorded."""
    return f"sha256 {record.query_sha256}" if record.query is None else one_line(record.query)


def _row(entry: Entry) -> tuple[str, ...]:
    gain = 0 if entry.rank is None else entry.first_rank - entry.rank
    move = "" if entry.rank is None else f"↑{gain}" if gain > 0 else f"↓{-gain}" if gain < 0 else "="
    read = "–"
    if entry.coverage is not None and entry.coverage.total:
        read = f"{entry.coverage.seen * 100 // entry.coverage.total}%"
    score = "–" if entry.score is None else f"{entry.score:.4g}"
    rank = "–" if entry.rank is None else str(entry.rank)
    return (rank, str(entry.first_rank), move, score, read, entry.id, entry.dropped or "")


def _way(record: Record, id: str) -> Iterator[str]:
    yield from _head(record)
    yield from explain_candidate(record, id)


@click.group(short_help="Look at recorded calls, on the terminal or as a page.")
def trace() -> None:
    """Look at recorded calls: why a text was a candidate, why it got its score, why it stands where it stands."""


for command in (show, report):
    trace.add_command(command)

"""``rag-rerank trace show``: recorded calls on the terminal."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator

import click

from rag_rerank.cli.table import calm, line, table
from rag_rerank.cli.ways import way
from rag_rerank.errors import InputError
from rag_rerank.records.reading import read
from rag_rerank.records.record import Entry, Record, digest

__all__ = ["show"]


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
    yield from (f"  {calm(text)}" for text in record.trace.render().split("\n"))
    if record.candidates:
        heading = ("rank", "was", "", "score", "read", "id", "dropped")
        yield table([heading, *map(_row, record.candidates)], align=">><>><<")


def _head(record: Record) -> Iterator[str]:
    yield f"record    {record.id}"
    yield f"query     {asked(record)}"
    yield f"time      {record.time}  ({record.seconds * 1000:,.0f} ms)"
    yield f"reranker  {line(record.reranker)}"
    if record.scale is not None:
        yield f"scale     {record.scale}"
    if record.tags:
        yield f"tags      {line(', '.join(f'{name}={value}' for name, value in record.tags.items()))}"
    yield from (f"degraded  {line(reason)}" for reason in record.degraded)
    if record.error is not None:
        yield f"failed    {line(record.error)}"


def asked(record: Record) -> str:
    """Return the query, or its hash where it was not recorded."""
    return f"sha256 {record.query_sha256}" if record.query is None else line(record.query)


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
    yield from way(record, id)

"""One candidate's way through a recorded call, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rag_rerank.cli.table import line
from rag_rerank.records.record import BELOW, Entry, Record
from rag_rerank.trace import Visit

__all__ = ["way"]

_SCALES = {"sigmoid": "the sigmoid of", "calibrated": "a fitted probability for"}
"""How a presented score comes of a raw one, where it is not the same number."""


def way(record: Record, id: str) -> Iterator[str]:
    """Say why a candidate entered, why it got its score, and why it stands where it stands."""
    entry = next(entry for entry in record.candidates if entry.id == id)
    yield f"candidate {line(id)}"
    if entry.text is not None:
        yield f"text      {line(entry.text)}"
    yield f"entered   {_entered(entry, len(record.candidates))}"
    for visit in entry.visits:
        yield f"step      {line(visit.step)}: {_said(visit)}"
    for window, visits in record.trace.paths().items():
        if re.fullmatch(re.escape(id) + r"#+\d+", window):
            yield from (f"window    {line(window)} in {line(visit.step)}: {_said(visit)}" for visit in visits)
    yield f"score     {_scored(entry, record)}"
    yield f"stands    {_stands(entry, record)}"


def _entered(entry: Entry, among: int) -> str:
    score = "without a score" if entry.first_score is None else f"with the score {entry.first_score:.6g}"
    return f"it came at place {entry.first_rank} of {among}, {score} of the first stage"


def _said(visit: Visit) -> str:
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
    by = "" if source is None else f", given by {line(source)}"
    shown = f"{_SCALES.get(record.scale or '', 'on the scale')} "
    of = f"the raw score {entry.raw_score:.6g}" if record.scale in _SCALES else f"{record.scale!r}"
    window = "" if entry.window is None else f"; of its characters {entry.window[0]} to {entry.window[1]}"
    return f"{entry.score:.6g}, {shown}{of}{by}{window}"


def _stands(entry: Entry, record: Record) -> str:
    if entry.rank is None:
        return "nowhere: the call failed"
    place = f"at {entry.rank} of {len(record.candidates)}, it came at {entry.first_rank}"
    dropped = [f"not returned: {BELOW} ({record.top_k})"] if entry.dropped == BELOW else []
    return "; ".join([place, *_neighbours(entry, record), *dropped])


def _neighbours(entry: Entry, record: Record) -> Iterator[str]:
    by_rank = {other.rank: other for other in record.candidates}
    for step, word in ((-1, "below"), (1, "above")):
        other = by_rank.get((entry.rank or 0) + step)
        if other is None:
            continue
        yield f"{word} {line(other.id)}{_why(entry, other)}"


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
            return f" by {line(visit.step)}, with {visit.raw_score:.6g} against {score:.6g}"
        if visit.step in theirs and (visit.raw_score is None) != (score is None):
            return f", which had {'no' if score is None else 'a'} score in {line(visit.step)}"
    return " by the order in which they came" if not entry.visits and not other.visits else ""

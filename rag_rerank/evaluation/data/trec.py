"""Judgments and runs: TREC files, BEIR's tables, and rows that a program adds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from rag_rerank.errors import InputError
from rag_rerank.evaluation.data.judged import Problems
from rag_rerank.evaluation.data.lines import lines

__all__ = ["Qrels", "TrecRun", "as_grade", "read_qrels", "read_run"]

_HEADS = {"score", "grade", "rel", "relevance", "label", "judgment", "judgement"}
"""Names of the last column in a table whose first row is a header; BEIR uses ``score``."""

_LARGEST = 2**31 - 1
"""The largest grade that trec_eval can hold."""

_UNREADABLE = "run rows that cannot be read, left out"


class Qrels:
    """Grades by query and document, each with its line.

    A pair that occurs twice keeps its last grade, as in BEIR's loader and ir-measures (trec_eval refuses such files).
    """

    def __init__(self, name: str, problems: Problems) -> None:
        self.name = name
        self.rows: dict[str, dict[str, tuple[int, int]]] = {}
        self._problems = problems

    def add(self, query: str, document: str, grade: int, line: int) -> None:
        """Add a row."""
        row = self.rows.setdefault(query, {})
        before, line_before = row.get(document, (None, 0))
        row[document] = grade, line
        if before == grade:
            kind = "judgments that occur twice with one grade"
            self._problems.note(kind, f"{self.place(query, document)}, also in line {line_before}")
        elif before is not None:
            kind = "judgments that occur twice with different grades (the last one counts)"
            self._problems.note(kind, f"{self.place(query, document)}: {grade}, but {before} in line {line_before}")
        if grade < 0:
            kind = "judgments below 0, which count as not relevant"
            self._problems.note(kind, f"{self.place(query, document)}: {grade}")

    def place(self, query: str, document: str) -> str:
        """Return the place of a judgment, for a message."""
        return f"{self.name}:{self.rows[query][document][1]}: document {document!r} of query {query!r}"

    def first_place(self, query: str) -> str:
        """Return the place of a query's first judgment, for a message."""
        return f"{self.name}:{next(iter(self.rows[query].values()))[1]}: query {query!r}"

    def grades(self, query: str) -> dict[str, int]:
        """Return the grades of a query."""
        return {document: grade for document, (grade, _) in self.rows[query].items()}


class TrecRun:
    """The candidates of a first stage: by query, rows of (score, rank, line, document)."""

    def __init__(self, name: str, problems: Problems) -> None:
        self.name = name
        self.rows: dict[str, list[tuple[float, int | None, int, str]]] = {}
        self._problems = problems

    def add(self, query: str, document: str, score: float, rank: int | None, line: int) -> None:
        """Add a row with a finite score; note any other."""
        if math.isfinite(score):
            self.rows.setdefault(query, []).append((score, rank, line, document))
        else:
            self._problems.note(_UNREADABLE, f"{self.name}:{line}: the score is {score}")

    def best(self, query: str, depth: int) -> list[tuple[str, float, int]]:
        """Return the first ``depth`` documents of a query with their scores and lines.

        The order is that of the scores, as in trec_eval. Equal scores keep the order of the rank column, then of the
        file: that is the first stage's own order (trec_eval puts the larger document id first, which no first stage
        does). A document that occurs twice keeps its better place. If a document with the query's id is among them,
        there is one more, because that may be the query itself.
        """
        rows = sorted(self.rows.get(query, ()), key=lambda row: (-row[0], math.inf if row[1] is None else row[1]))
        ranks = [row for row in rows if row[1] is not None]
        for (_, rank, _, _), (_, next_rank, line, document) in pairwise(ranks):
            if rank is not None and next_rank is not None and rank > next_rank:
                kind = "queries whose ranks contradict their scores (the scores count)"
                place = self.place(query, document, line)
                self._problems.note(kind, f"{place}: rank {next_rank} comes after rank {rank}")
                break
        unique: dict[str, tuple[float, int]] = {}
        for score, _, line, document in rows:
            if document in unique:
                kind = "run rows that occur twice (the higher score counts)"
                self._problems.note(kind, f"{self.place(query, document, line)}, also in line {unique[document][1]}")
            else:
                unique[document] = score, line
        if query in list(unique)[:depth]:
            depth += 1
        if len(unique) > depth:
            kind = f"run rows below the depth of {depth}, left out"
            self._problems.note(kind, f"{self.name}: query {query!r} has {len(unique)}", len(unique) - depth)
        return [(document, score, line) for document, (score, line) in list(unique.items())[:depth]]

    def first_place(self, query: str) -> str:
        """Return the place of a query's first row, for a message."""
        return f"{self.name}:{self.rows[query][0][2]}: query {query!r}"

    def place(self, query: str, document: str, line: int) -> str:
        """Return the place of a row, for a message."""
        return f"{self.name}:{line}: document {document!r} of query {query!r}"


def read_qrels(file: Path, problems: Problems) -> Qrels:
    """Read judgments: ``query 0 document grade`` as in TREC, or ``query document grade`` with tabs as in BEIR.

    Raises:
        InputError: The file cannot be read, none of its rows can, or a grade is not a whole number.
    """
    judgments = Qrels(file.name, problems)
    for position, (number, cells) in enumerate(_cells(file, (3, 4), problems)):
        if len(cells) not in (3, 4) or not (cells[0] and cells[-2]):
            example = f"{file.name}:{number}: {len(cells)} columns; 3 (BEIR) or 4 (TREC) are needed, none of them empty"
            problems.note("qrels rows that cannot be read, left out", example)
        elif position > 0 or cells[-1].casefold() not in _HEADS:
            judgments.add(cells[0], cells[-2], as_grade(_number(cells[-1]), f"{file}:{number}"), number)
    if not judgments.rows:
        raise InputError(f"{file} holds no judgments; {problems.summary() or 'it is empty'}")
    return judgments


def read_run(file: Path, problems: Problems) -> TrecRun:
    """Read a TREC run: ``query Q0 document rank score tag``.

    Raises:
        InputError: The file cannot be read, or none of its rows can.
    """
    run = TrecRun(file.name, problems)
    for number, cells in _cells(file, (6,), problems):
        if len(cells) != 6 or not (cells[0] and cells[2]):
            example = f"{file.name}:{number}: {len(cells)} columns; a TREC run has 6, none of them empty"
            problems.note(_UNREADABLE, example)
            continue
        score = _number(cells[4])
        if score is None:
            problems.note(_UNREADABLE, f"{file.name}:{number}: the score in column 5 is not a number")
            continue
        rank = int(cells[3]) if re.fullmatch(r"[+-]?[0-9]{1,18}", cells[3]) else None
        if rank is None:
            problems.note("run rows whose rank is not a whole number (the rank is not needed)", f"{file.name}:{number}")
        run.add(cells[0], cells[2], score, rank, number)
    if not run.rows:
        raise InputError(f"{file} holds no run; {problems.summary() or 'it is empty'}")
    return run


def as_grade(value: float | None, where: str) -> int:
    """Return a number as a grade; ``where`` is its place, for the message.

    Raises:
        InputError: It is not a whole number, or larger than trec_eval can hold.
    """
    if value is None or not float(value).is_integer() or abs(value) > _LARGEST:
        raise InputError(f"{where}: the grade is not a whole number (or beyond 2**31); measures need whole grades")
    return int(value)


def _cells(file: Path, counts: tuple[int, ...], problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """Yield the columns of each line: split at tabs if that gives one of these counts, since ids may hold spaces."""
    for number, line in lines(file, problems):
        cells = line.split("\t")
        if len(cells) not in counts:
            cells = re.split("[ \t]+", line.strip(" \t"))
        yield number, [cell.strip(" ") for cell in cells]


def _number(text: str) -> float | None:
    """Return a number as C would read it; Python alone would also read 1_000."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None

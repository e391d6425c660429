"""Rerank a file of rows in parts, so that a run that was killed continues where it was."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from rag_rerank._checks import whole_number
from rag_rerank._files import absolute_path, check_folder
from rag_rerank._version import __version__
from rag_rerank.batch.answers import error_answer
from rag_rerank.batch.batch_reranker import BatchReranker
from rag_rerank.batch.files import Part, RowFile, UnreadableLine, format_of
from rag_rerank.batch.frames import read_column
from rag_rerank.batch.part_folder import PartFacts, PartFolder
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.execution.clock import now
from rag_rerank.execution.progress import ignore_progress
from rag_rerank.trace import Usage

__all__ = ["BatchSummary", "PartWorkers", "ThisProcess", "rerank_file"]


@dataclass(frozen=True, kw_only=True)
class BatchSummary:
    """What a batch did.

    Args:
        rows: Rows of the input, which are also those of the output.
        pairs: Candidates of these rows.
        failures: Rows that failed, by the class of their error.
        usage: What all rows cost together, those of earlier runs included.
        parts: Parts of the batch.
        parts_resumed: Parts that an earlier run had finished.
        seconds: Wall time of this run.
    """

    rows: int = 0
    pairs: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    parts: int = 0
    parts_resumed: int = 0
    seconds: float = 0.0

    @property
    def failed_rows(self) -> int:
        """How many rows failed."""
        return sum(self.failures.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return {
            "rows": self.rows,
            "pairs": self.pairs,
            "failures": dict(self.failures),
            "usage": self.usage.to_dict(),
            "parts": self.parts,
            "parts_resumed": self.parts_resumed,
            "seconds": self.seconds,
        }

    def add(self, facts: PartFacts, *, resumed: bool) -> BatchSummary:
        """Return the summary with one more part."""
        return replace(
            self,
            rows=self.rows + facts.rows,
            pairs=self.pairs + facts.pairs,
            failures=dict(Counter(self.failures) + Counter(facts.failures)),
            usage=self.usage + Usage.from_dict(facts.usage),
            parts=self.parts + 1,
            parts_resumed=self.parts_resumed + resumed,
        )


class PartWorkers(Protocol):
    """Who answers the parts: this process, or actors of Ray."""

    def answers(self, batch: BatchReranker, parts: Iterator[Part]) -> Generator[tuple[Part, Any], None, None]:
        """Yield each part with its answered rows, in any order; take the next part only when there is room for it."""
        ...


class ThisProcess:
    """Answers parts one after the other, in this process."""

    def answers(self, batch: BatchReranker, parts: Iterator[Part]) -> Generator[tuple[Part, Any], None, None]:
        """Yield each part with its answered rows."""
        try:
            for part in parts:
                yield part, batch(part.rows)
        finally:
            batch.close()


def rerank_file(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    batch: BatchReranker,
    *,
    part_rows: int = 100,
    part_workers: PartWorkers | None = None,
    progress: Callable[..., None] = ignore_progress,
) -> BatchSummary:
    """Rerank the rows of a file into another file, which has the same rows in the same order.

    The answers are kept in parts, in the folder ``OUT.parts``, until all rows are done; then ``out`` appears in one
    step. After a crash, an error or Ctrl-C, the same call continues: it keeps the finished parts, and tries rows that
    failed again. The parts must come from the same rows, the same reranker with the same model files, the same
    arguments and the same release; otherwise there is an error. The folder is removed at the end, unless rows failed.

    Args:
        source: The file, whose name ends in ``.jsonl``, ``.jsonl.gz`` or ``.parquet``; ``-`` for JSON lines on standard
            input.
        out: The file to write, with one of the same endings; it must not exist, unless rows of it failed.
        batch: The reranker with its arguments.
        part_rows: Rows in a part: so many are done again at most, by each worker, after a crash.
        part_workers: Who answers the parts: by default this process; see `RayActors`.
        progress: Called with the share that is done, and a few words.

    Raises:
        ConfigError: The output exists, its folder belongs to another batch, or it cannot be written.
        InputError: The input cannot be read, or lacks a column.
        RerankError: As `BatchReranker`.
    """
    start, source_file, target = now(), RowFile.by_name(os.fspath(source)), absolute_path(out)
    format_of(target)
    check_folder(target)
    whole_number(part_rows, 1, "part_rows")
    folder = PartFolder.beside(target, source_file.layout, _settings(batch, part_rows))
    if target.exists() and not folder.folder.exists():
        raise ConfigError(f"{out} exists already; remove it, or name another output")
    total = source_file.count_rows()
    with folder:
        run = _Run(folder, batch, total, progress)
        pending = run.pending(source_file.parts(part_rows))
        with closing((part_workers or ThisProcess()).answers(batch, pending)) as answers:
            for part, rows in answers:
                run.keep(part, rows)
        folder.join(run.summary.parts, target)
    if not run.summary.failures:
        folder.remove()
    return replace(run.summary, seconds=now() - start)


def _settings(batch: BatchReranker, part_rows: int) -> dict[str, Any]:
    """Return what decides the answers: a time limit, keys and limits of providers do not."""
    names = ("top_k", "instruction", "keep_candidates", "query", "candidates")
    return {
        "reranker": batch.reranker.identity,
        "release": __version__,
        **{name: getattr(batch, name) for name in names},
        "part_rows": part_rows,
    }


class _Run:
    """A run over the parts: which rows are to do, and what they bring."""

    def __init__(
        self, folder: PartFolder, batch: BatchReranker, total: int | None, progress: Callable[..., None]
    ) -> None:
        self.summary = BatchSummary()
        self._folder = folder
        self._batch = batch
        self._total = total
        self._progress = progress
        self._open: dict[int, tuple[Part, list[int]]] = {}
        """Parts that are not finished, and the positions of their rows that are to do, by number."""

    def pending(self, parts: Iterator[Part]) -> Iterator[Part]:
        """Yield the parts with the rows that are to do: all of a new part, those that failed of an old one."""
        for part in parts:
            facts = self._folder.facts(part)
            if facts is not None and not facts.failures:
                self._add(facts, resumed=True)
                continue
            positions = range(len(part.rows)) if facts is None else self._failed_positions(part)
            if isinstance(part.rows, list):
                positions = [i for i in positions if not isinstance(part.rows[i], UnreadableLine)]
                rows = [part.rows[i] for i in positions]
            else:
                rows = part.rows.take(list(positions))
            self._open[part.number] = (part, list(positions))
            yield replace(part, rows=rows)

    def keep(self, part: Part, new_rows: Any) -> None:
        """Put the answered rows of a part where they belong, and write it."""
        whole, positions = self._open.pop(part.number)
        if self._folder.facts(whole) is not None:
            rows = _put(self._folder.rows(whole), positions, new_rows)
        elif isinstance(whole.rows, list):
            lines = [_answer_of_line(row) if isinstance(row, UnreadableLine) else row for row in whole.rows]
            rows = _put(lines, positions, new_rows)
        else:
            rows = new_rows
        facts = self._facts(whole, rows)
        self._folder.keep(whole, rows, facts)
        self._add(facts, resumed=False)

    def _facts(self, part: Part, rows: Any) -> PartFacts:
        readable = part.rows
        if isinstance(readable, list):
            readable = [row for row in readable if not isinstance(row, UnreadableLine)]
        items = read_column(readable, self._batch.candidates)
        errors = [error["type"] for error in read_column(rows, "error") if error is not None]
        usages = (Usage.from_dict(usage) for usage in read_column(rows, "usage") if usage is not None)
        return PartFacts(
            sha256=part.sha256,
            rows=len(rows),
            pairs=sum(len(cell) for cell in items if isinstance(cell, list)),
            failures=dict(Counter(errors)),  # `asdict` takes a plain dict
            usage=Usage.total(usages).to_dict(),
        )

    def _failed_positions(self, part: Part) -> list[int]:
        errors = read_column(self._folder.rows(part), "error")
        return [i for i, error in enumerate(errors) if error is not None]

    def _add(self, facts: PartFacts, *, resumed: bool) -> None:
        self.summary = self.summary.add(facts, resumed=resumed)
        rows, failed_rows = self.summary.rows, self.summary.failed_rows
        words = f"{rows:,} of {self._total:,} rows" if self._total else f"{rows:,} rows"
        words += f", {failed_rows:,} failed" if failed_rows else ""
        self._progress(rows / self._total if self._total else 0.0, words)


def _put(rows: Any, positions: list[int], new: Any) -> Any:
    """Return rows with new ones at these positions; both are lists, or tables of one schema."""
    if isinstance(rows, list):
        merged = list(rows)
        for i, row in zip(positions, new, strict=True):
            merged[i] = row
        return merged
    from pyarrow import concat_tables

    order = list(range(len(rows)))
    for place, i in enumerate(positions):
        order[i] = len(rows) + place
    return concat_tables([rows, new.cast(rows.schema)]).take(order)


def _answer_of_line(line: UnreadableLine) -> dict[str, Any]:
    return {"line": line.line, **error_answer(InputError(f"line {line.line}: {line.reason}"))}

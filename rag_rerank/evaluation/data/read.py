"""Read judged queries, whatever their format."""

from __future__ import annotations

import re
from pathlib import Path

from rag_rerank._checks import plain, whole_number
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.evaluation.data.collections import BeirFolder, Collection, IrDataset
from rag_rerank.evaluation.data.first_stage import BM25
from rag_rerank.evaluation.data.join import join
from rag_rerank.evaluation.data.judged import Judged, Problems, validate
from rag_rerank.evaluation.data.query_lines import candidate_lines
from rag_rerank.evaluation.data.trec import read_qrels, read_run

__all__ = ["collection_of", "read"]


def read(
    source: str | Path,
    *,
    run: str | Path | None = None,
    qrels: str | Path | None = None,
    depth: int = 100,
    queries: int | None = None,
    relevant: int = 1,
) -> Judged:
    """Read judged queries with their candidates.

    Args:
        source: One of these; every file may be gzip.

            - A folder in BEIR's format: ``corpus.jsonl``, ``queries.jsonl``, judgments in ``qrels-full.tsv``,
              ``qrels/test.tsv`` or ``qrels.tsv`` (the first that exists), and perhaps a run: ``run.trec``, else
              ``bm25*.trec``, else the only ``*.trec``. Title and text are joined by a space; other keys are metadata.
            - A JSONL file of queries with candidates: ``query``, ``candidates`` (texts, or objects with ``id``,
              ``text``, ``score``, ``metadata``) in the first stage's order, ``relevant`` (ids, or grade by id), and
              perhaps ``id`` (else the SHA-256 of the query); other keys, a title too, are metadata.
            - A JSONL file of records with texts, as `rag_rerank.recording` writes them, with ``qrels``; a query's
              id there is its tag ``query_id``, else the SHA-256 of the query. Other tags are metadata.
            - ``ir_datasets:NAME``.
        run: TREC run of the first stage, for a folder or a dataset. By default their own; if they have none, BM25
            over the corpus. Candidates are ordered by score; equal scores keep the order of rank, then of the file.
        qrels: Judgments, TREC (``query 0 document grade``) or BEIR (``query document grade`` with tabs, with or
            without a header), in place of the source's own.
        depth: Maximum number of candidates per query.
        queries: Read only this many queries with judgments, the first in the order of the source.
        relevant: Lowest grade of a relevant document. A listed id of a JSONL file has this grade.

    Returns:
        The queries with judgments, in the order of the source. ``problems`` lists what was left
        out or corrected, ``sources`` where it was read from.

    Raises:
        ConfigError: An argument is wrong, or cannot be used together with another.
        InputError: A file cannot be read, a grade is not a whole number, there are several runs to choose from, or
            nothing is left to measure.
        MissingExtraError: ir_datasets is needed and not installed.
    """
    for argument, value in (("depth", depth), ("queries", queries), ("relevant", relevant)):
        if value is not None:
            whole_number(value, 1, argument)
    depth, queries, relevant = plain(depth), plain(queries), plain(relevant)
    problems = Problems()
    judgments = None if qrels is None else read_qrels(Path(qrels), problems)
    path = Path(source)
    collection = collection_of(source, problems)
    if collection is None:
        if run is not None:
            raise ConfigError(f"{source} holds its candidates, so a run cannot be used; leave it out", path="run")
        file_queries = candidate_lines(
            path, judgments, depth=depth, limit=queries, relevant=relevant, problems=problems
        )
        sources = (f"candidates: {path.name}", f"judgments: {judgments.name if judgments else path.name}")
        name = path.name.removesuffix(".gz").removesuffix(".jsonl")
        return validate(name, file_queries, relevant, sources, problems)
    judgments = judgments or collection.judgments()
    first = collection.run() if run is None else read_run(Path(run), problems)
    sources = (f"candidates: {first.name if first else BM25}", f"judgments: {judgments.name}")
    joined_queries = join(collection, judgments, first, depth=depth, limit=queries, problems=problems)
    return validate(collection.name, joined_queries, relevant, sources, problems)


def collection_of(source: str | Path, problems: Problems) -> Collection | None:
    """Return the collection with a name or path; ``None`` for a file, whose lines hold their candidates.

    Raises:
        InputError: No file or folder has this name.
        MissingExtraError: ir_datasets is needed and not installed.
    """
    if match := re.fullmatch(r"ir[-_]datasets:(.+)", str(source)):
        return IrDataset.load(match[1], problems)
    path = Path(source)
    if path.is_dir():
        return BeirFolder(path, problems)
    if not path.exists():
        raise InputError(f"{source}: no such file or folder")
    return None

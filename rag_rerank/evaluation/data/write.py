"""Write runs, judgments and judged queries, for other tools and for `read`; a name that ends in .gz is gzip."""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from rag_rerank._files import write
from rag_rerank.errors import InputError
from rag_rerank.evaluation.data.judged import Judged
from rag_rerank.types import Ranking

__all__ = ["write_jsonl", "write_qrels", "write_run"]


def write_run(
    path: str | Path, rankings: Mapping[str, Ranking | Sequence[tuple[str, float]]], tag: str = "rag_rerank"
) -> None:
    """Write a TREC run: ``query Q0 document rank score tag``.

    Tools read the order from the scores. So where a query's scores do not fall strictly from rank to rank (ties, hits
    without a score), the score column holds ``-rank`` instead, which keeps the order.

    Args:
        path: File to write.
        rankings: Query id -> ranking (its raw scores are written), or pairs of document id and score, best first.
        tag: Name of the run.

    Raises:
        InputError: An id or the tag is empty or holds a space, which the format cannot express.
        ConfigError: The file cannot be written; the same holds for the other functions here.
    """
    _write(path, (line for query, ranking in rankings.items() for line in _run(query, ranking, tag)))


def write_qrels(path: str | Path, grades: Mapping[str, Mapping[str, int]]) -> None:
    """Write judgments as TREC qrels, ``query 0 document grade``, from grades by query id and document id.

    Raises:
        InputError: As `write_run`.
    """
    rows = ((query, document, grade) for query, row in grades.items() for document, grade in row.items())
    _write(path, (f"{_word(query)} 0 {_word(document)} {int(grade)}" for query, document, grade in rows))


def write_jsonl(path: str | Path, judged: Judged) -> None:
    """Write judged queries, one JSON object per line with candidates, grades and metadata; `read` reads them back.

    Raises:
        InputError: Metadata is not plain JSON.
    """
    _write(path, _lines(judged))


def _run(query: str, ranking: Ranking | Sequence[tuple[str, float]], tag: str) -> Iterable[str]:
    pairs: list[tuple[str, float | None]]
    pairs = [(hit.id, hit.raw_score) for hit in ranking] if isinstance(ranking, Ranking) else list(ranking)
    scores = [score for _, score in pairs if score is not None and math.isfinite(score)]
    falling = len(scores) == len(pairs) and all(upper > lower for upper, lower in pairwise(scores))
    for rank, (document, score) in enumerate(pairs, start=1):
        value = float(score) if falling and score is not None else float(-rank)
        yield f"{_word(query)} Q0 {_word(document)} {rank} {value!r} {_word(tag)}"


def _lines(judged: Judged) -> Iterable[str]:
    for query in judged.queries:
        row = {
            "id": query.id,
            "query": query.text,
            "candidates": [candidate.to_dict() for candidate in query.candidates],
            "relevant": dict(query.grades),
            "metadata": dict(query.metadata),
        }
        try:
            yield json.dumps(row, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"query {query.id!r}: its metadata cannot be written as JSON: {error}") from error


def _write(path: str | Path, lines: Iterable[str]) -> None:
    data = "".join(f"{line}\n" for line in lines).encode("utf-8")
    write(Path(path), gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)


def _word(text: str) -> str:
    if not text or re.search(r"[\s\x00-\x1f\ud800-\udfff]", text):
        raise InputError(
            f"{text!r:.60} cannot be written to a TREC file: it is empty, or has a space or a lone surrogate"
        )
    return text

"""All texts of a collection, judged or not: leaks are searched in them, and negatives are mined from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from rag_rerank.errors import InputError
from rag_rerank.evaluation import Judged, read
from rag_rerank.evaluation.data.judged import Problems
from rag_rerank.evaluation.data.read import collection_of
from rag_rerank.records.record import digest

__all__ = ["ALL", "CollectionTexts", "read_texts"]

ALL = 2**31
"""A depth beyond the number of candidates of any query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionTexts:
    """The texts of a collection.

    Args:
        name: Its name in reports.
        queries: Text by id.
        documents: Text by id. If candidates of several queries have different texts under one id, the ids of all but
            the first are ``QUERY/ID``.
    """

    name: str
    queries: Mapping[str, str]
    documents: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.queries) + len(self.documents)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over ids and texts, in hexadecimal."""
        sum_of_all = sha256(b"rag_rerank.texts/1\n")
        for texts in (self.queries, self.documents):
            for id in sorted(texts):
                sum_of_all.update(f"{digest(id)} {digest(texts[id])}\n".encode())
            sum_of_all.update(b"\n")
        return sum_of_all.hexdigest()


def read_texts(source: Judged | str | Path) -> CollectionTexts:
    """Return all texts of a collection.

    Args:
        source: A folder in BEIR's format or ``ir_datasets:NAME``: the whole corpus and all queries, judged or not. A
            `Judged`, or a JSONL file of queries with candidates: its queries and their candidates, since it has no
            other texts.

    Raises:
        InputError: It cannot be read, or has no text.
        MissingExtraError: ir_datasets is needed and not installed.
    """
    if isinstance(source, Judged):
        queries = {query.id: query.text for query in source.queries}
        documents: dict[str, str] = {}
        for query in source.queries:
            for candidate in query.candidates:
                if documents.setdefault(candidate.id, candidate.text) != candidate.text:  # ids may be positions
                    documents[f"{query.id}/{candidate.id}"] = candidate.text
        return CollectionTexts(name=source.name, queries=queries, documents=documents)
    problems = Problems()
    collection = collection_of(source, problems)
    if collection is None:
        return read_texts(read(source, depth=ALL))
    queries = {query.id: query.text for query in collection.queries()}
    texts = CollectionTexts(name=collection.name, queries=queries, documents=dict(collection.corpus()))
    if not len(texts):
        raise InputError(f"{source}: there is no text in it; {problems.summary() or 'it is empty'}")
    return texts

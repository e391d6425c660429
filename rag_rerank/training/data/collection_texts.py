"""All texts of a collection, judged or not: what a leak is looked for in, and what negatives are mined from."""

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

__all__ = ["ALL", "Texts", "texts_of"]

ALL = 2**31
"""A depth that cuts nothing: more candidates than any query has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The texts of a collection.

    Args:
        name: What reports call it.
        queries: Text by id.
        documents: Text by id; where queries have different texts under one id, all but the first have the query's id
            and a slash before it.
    """

    name: str
    queries: Mapping[str, str]
    documents: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.queries) + len(self.documents)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over ids and texts, in hexadecimal."""
        whole = sha256(b"rag_rerank.texts/1\n")
        for texts in (self.queries, self.documents):
            for id in sorted(texts):
                whole.update(f"{digest(id)} {digest(texts[id])}\n".encode())
            whole.update(b"\n")
        return whole.hexdigest()


def texts_of(source: Judged | str | Path) -> Texts:
    """Return all texts of a collection.

    Args:
        source: A folder in BEIR's form or ``ir_datasets:NAME``: the whole corpus and all queries, judged or not. A
            `Judged`, or a JSONL file of queries with candidates: its queries and their candidates, which is all it has.

    Raises:
        InputError: It cannot be read, or holds no text.
        MissingExtraError: ir_datasets is needed and not installed.
    """
    if isinstance(source, Judged):
        queries = {query.id: query.text for query in source.queries}
        documents: dict[str, str] = {}
        for query in source.queries:
            for candidate in query.candidates:
                if documents.setdefault(candidate.id, candidate.text) != candidate.text:  # ids by position, say
                    documents[f"{query.id}/{candidate.id}"] = candidate.text
        return Texts(name=source.name, queries=queries, documents=documents)
    problems = Problems()
    collection = collection_of(source, problems)
    if collection is None:
        return texts_of(read(source, depth=ALL))
    queries = {query.id: query.text for query in collection.queries()}
    found = Texts(name=collection.name, queries=queries, documents=dict(collection.corpus()))
    if not len(found):
        raise InputError(f"{source}: there is no text in it; {problems.summary() or 'it is empty'}")
    return found

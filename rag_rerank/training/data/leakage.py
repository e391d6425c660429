"""Find text of evaluations in training text, report it, and remove it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rag_rerank.errors import InputError
from rag_rerank.evaluation import Judged, Problem
from rag_rerank.records.record import digest
from rag_rerank.training.data.collection_texts import CollectionTexts, read_texts
from rag_rerank.training.data.examples import Example, Examples
from rag_rerank.training.data.overlap import KINDS, Kind, TextSet, find_overlaps

__all__ = ["Leak", "Leakage", "find_leaks"]

_EXAMPLES = 5
"""Leaks, or texts that were left out, that a report names by their ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A training text and a text of an evaluation that overlap.

    Args:
        sha256: SHA-256 of the training text, in hexadecimal.
        part: Whether the training text is a query or a passage.
        collection: Name of the evaluation's collection.
        of: Whether the text of the evaluation is a query or a document.
        id: Id of that query or document.
        kind: ``"exact"``: the same words, whatever their case and punctuation; ``"near"``: the longer text contains the
            shorter one (for two queries: nearly the same words in any order); ``"run"``: `RUN` words in a row.
        share: Share of the shorter text's shingles that the longer text has; for two queries, the Jaccard index of
            their words; ``None`` for a run.
    """

    sha256: str
    part: Literal["query", "passage"]
    collection: str
    of: Literal["query", "document"]
    id: str
    kind: Kind
    share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leakage:
    """The text of evaluations in training text.

    Args:
        leaks: For each training text and each collection, one leak of the strongest kind with its queries and one with
            its documents; and likewise one for each text of a collection that overlaps. Not every pair.
        collections: The collections that were compared.
        queries: Number of different training queries.
        passages: Number of different training passages.
    """

    leaks: tuple[Leak, ...]
    collections: tuple[CollectionTexts, ...]
    queries: int
    passages: int

    def without(self, examples: Examples, *, shared_corpus: bool = False) -> Examples:
        """Return examples without the texts that leak; they need not be the examples that were searched.

        An example whose query leaks is removed. From the others, passages that leak are removed; an example that keeps
        no passage with a grade above 0 or a teacher's score is removed too. ``problems`` counts what was removed.

        Args:
            examples: The examples.
            shared_corpus: Whether training and evaluation are meant to search the same corpus, each with its own
                queries. Then only a query of an evaluation leaks.
        """
        counted = [leak for leak in self.leaks if not shared_corpus or (leak.part, leak.of) == ("query", "query")]
        queries = {leak.sha256 for leak in counted if leak.part == "query"}
        passages = {leak.sha256 for leak in counted if leak.part == "passage"}
        remaining, without_examples, without_passages = [], [], []
        for example in examples.examples:
            clean = tuple(passage for passage in example.passages if digest(passage.text) not in passages)
            reduced = replace(example, passages=clean)
            if digest(example.query) in queries or not _is_learnable(reduced):
                without_examples.append(f"{example.source}: query {digest(example.query)[:12]}")
            else:
                remaining.append(reduced)
                without_passages += [f"passage {passage.id!r}" for passage in example.passages if passage not in clean]
        names = ", ".join(dict.fromkeys(leak.collection for leak in counted))
        problems = [
            Problem(kind=f"{what} with text of {names}, left out", count=len(ids), examples=tuple(ids[:_EXAMPLES]))
            for what, ids in (("examples", without_examples), ("passages", without_passages))
            if ids
        ]
        return replace(examples, examples=tuple(remaining), problems=(*examples.problems, *problems))

    def contamination(self, *, shared_corpus: bool = False) -> list[dict[str, Any]]:
        """Return the contamination list of the model card, one row per collection: plain values and ids, no texts.

        ``left out`` says what `without` removes with the same ``shared_corpus``. ``queries`` and ``documents`` count
        the collection's texts that overlap with training text, by the strongest kind; ``training`` counts the training
        texts; ``first`` names a few pairs.
        """
        left_out = "queries" if shared_corpus else "queries and passages"
        return [self._row(collection, left_out) for collection in self.collections]

    def _row(self, collection: CollectionTexts, left_out: str) -> dict[str, Any]:
        leaks = [leak for leak in self.leaks if leak.collection == collection.name]
        return {
            "collection": collection.name,
            "fingerprint": collection.fingerprint,
            "left out": left_out,
            "searched": {"queries": len(collection.queries), "documents": len(collection.documents)},
            "queries": _count((leak.id, leak.kind) for leak in leaks if leak.of == "query"),
            "documents": _count((leak.id, leak.kind) for leak in leaks if leak.of == "document"),
            "training": {
                "queries": _count((leak.sha256, leak.kind) for leak in leaks if leak.part == "query"),
                "passages": _count((leak.sha256, leak.kind) for leak in leaks if leak.part == "passage"),
            },
            "first": [
                {"training": leak.sha256, "part": leak.part, leak.of: leak.id, "kind": leak.kind, "share": leak.share}
                for leak in leaks[:_EXAMPLES]
            ],
        }


def find_leaks(examples: Examples, against: Sequence[Judged | CollectionTexts | str | Path]) -> Leakage:
    """Search training text for text of evaluations, exactly and without sampling.

    Every training query and passage is compared with every query and document of each collection. Two texts overlap if
    they have the same words; if one has at least `NEAR` of the other's shingles (`WIDTH` words), so that a passage that
    quotes a sentence is found, in both directions; or if they share a run of `RUN` words. Two queries also overlap if
    the Jaccard index of their words is at least `NEAR`. Paraphrases and translations are not found.

    140,000 passages against 50,000 documents take a few minutes and less than 4 GB.

    Args:
        examples: The training data.
        against: The evaluations. For a `Judged`, its queries and candidates are compared; for a folder in BEIR's format
            or a dataset of ir_datasets, given by its path or name, the whole corpus and all queries.

    Raises:
        InputError: A collection cannot be read, or two have the same name.
    """
    collections = tuple(source if isinstance(source, CollectionTexts) else read_texts(source) for source in against)
    names = [collection.name for collection in collections]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two collections are called {name!r}; a report could not tell them apart")
    ours, theirs = _training_texts(examples), _evaluation_texts(collections)
    owners = [collection.name for collection in collections for _ in range(len(collection))]
    ids = [id for collection in collections for id in (*collection.queries, *collection.documents)]
    leaks = tuple(
        Leak(
            sha256=digest(ours.texts[i]),
            part="query" if ours.queries[i] else "passage",
            collection=owners[j],
            of="query" if theirs.queries[j] else "document",
            id=ids[j],
            kind=kind,
            share=share,
        )
        for i, j, kind, share in find_overlaps(ours, theirs, owners)
    )
    queries = sum(ours.queries)
    return Leakage(leaks=leaks, collections=collections, queries=queries, passages=len(ours.queries) - queries)


def _training_texts(examples: Examples) -> TextSet:
    """Return the different queries and passages of the training."""
    queries = list(dict.fromkeys(example.query for example in examples.examples))
    passages = list(dict.fromkeys(passage.text for example in examples.examples for passage in example.passages))
    return TextSet([*queries, *passages], [True] * len(queries) + [False] * len(passages))


def _evaluation_texts(collections: Sequence[CollectionTexts]) -> TextSet:
    texts = TextSet([], [])
    for collection in collections:
        texts.texts += [*collection.queries.values(), *collection.documents.values()]
        texts.queries += [True] * len(collection.queries) + [False] * len(collection.documents)
    return texts


def _count(leaks: Iterable[tuple[str, Kind]]) -> dict[str, int]:
    """Count texts by the strongest kind of their leaks."""
    strongest: dict[str, int] = {}
    for text, kind in leaks:
        strongest[text] = min(KINDS.index(kind), strongest.get(text, len(KINDS)))
    counts = Counter(KINDS[place] for place in strongest.values())
    return {kind: counts[kind] for kind in KINDS}


def _is_learnable(example: Example) -> bool:
    return any(passage.teacher is not None or (passage.grade or 0) > 0 for passage in example.passages)

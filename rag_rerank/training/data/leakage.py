"""Text of an evaluation in what a model is trained on: found, told, and taken out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rag_rerank.errors import InputError
from rag_rerank.evaluation import Judged, Problem
from rag_rerank.records.record import digest
from rag_rerank.training.data.collection_texts import Texts, texts_of
from rag_rerank.training.data.examples import Example, Examples
from rag_rerank.training.data.overlap import KINDS, Kind, TextSet, overlaps

__all__ = ["Leak", "Leakage", "find_leaks"]

_SHOWN = 5
"""How many leaks, or texts that were left out, are shown by their ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A text that is trained on and a text of an evaluation that it has words of.

    Args:
        sha256: SHA-256 of the training text, in hexadecimal.
        part: Whether that is a query or a passage.
        collection: Name of the evaluation's collection.
        of: Whether its text is a query or a document.
        id: Id of the query or document there.
        kind: ``"exact"``: the same words, whatever their case and punctuation; ``"near"``: the shorter one is held by
            the longer one (for two queries: nearly the same words in any order); ``"run"``: `RUN` words in a row.
        share: Share of the shorter one's shingles that the longer one has; of two queries' words, those that both have;
            ``None`` for a run.
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
    """What of evaluations was found in training text.

    Args:
        leaks: For each training text and each collection, apart for its queries and its documents, one leak of the
            strongest kind; and the same from the other side, for each text of a collection that is touched. Not
            every pair.
        collections: What was looked at.
        queries: How many different training queries were looked at.
        passages: How many different training passages.
    """

    leaks: tuple[Leak, ...]
    collections: tuple[Texts, ...]
    queries: int
    passages: int

    def without(self, examples: Examples, *, shared_corpus: bool = False) -> Examples:
        """Return the examples without what leaks; they need not be those that were searched.

        An example whose query leaks goes as a whole; else its passages that leak go, and the example where no passage
        with a grade above 0 or a teacher's score stays. How many went stands in ``problems``.

        Args:
            examples: The examples.
            shared_corpus: Whether training and evaluation are meant to search the same corpus, each with its own
                queries. Then only a query that is also asked in an evaluation leaks.
        """
        counted = [leak for leak in self.leaks if not shared_corpus or (leak.part, leak.of) == ("query", "query")]
        queries = {leak.sha256 for leak in counted if leak.part == "query"}
        passages = {leak.sha256 for leak in counted if leak.part == "passage"}
        kept, gone, cut = [], [], []
        for example in examples.examples:
            clean = tuple(passage for passage in example.passages if digest(passage.text) not in passages)
            left = replace(example, passages=clean)
            if digest(example.query) in queries or not _learnable(left):
                gone.append(f"{example.source}: query {digest(example.query)[:12]}")
            else:
                kept.append(left)
                cut += [f"passage {passage.id!r}" for passage in example.passages if passage not in clean]
        names = ", ".join(dict.fromkeys(leak.collection for leak in counted))
        told = ((f"examples with text of {names}, left out", gone), (f"passages with text of {names}, left out", cut))
        problems = [Problem(kind=kind, count=len(all), examples=tuple(all[:_SHOWN])) for kind, all in told if all]
        return replace(examples, examples=tuple(kept), problems=(*examples.problems, *problems))

    def contamination(self, *, shared_corpus: bool = False) -> list[dict[str, Any]]:
        """What a model card says: a row a collection, as plain JSON-ready values, with ids and hashes, without texts.

        ``left out`` says what `without` takes from training, given the same ``shared_corpus``.

        ``queries`` and ``documents`` count the collection's texts that were found in training text, by the strongest
        kind; ``training`` counts the training texts; ``first`` shows a few pairs.
        """
        left_out = "queries that are asked there" if shared_corpus else "queries and passages"
        return [self._row(collection, left_out) for collection in self.collections]

    def _row(self, collection: Texts, left_out: str) -> dict[str, Any]:
        leaks = [leak for leak in self.leaks if leak.collection == collection.name]
        return {
            "collection": collection.name,
            "fingerprint": collection.fingerprint,
            "left out": left_out,
            "searched": {"queries": len(collection.queries), "documents": len(collection.documents)},
            "queries": _counted((leak.id, leak.kind) for leak in leaks if leak.of == "query"),
            "documents": _counted((leak.id, leak.kind) for leak in leaks if leak.of == "document"),
            "training": {
                "queries": _counted((leak.sha256, leak.kind) for leak in leaks if leak.part == "query"),
                "passages": _counted((leak.sha256, leak.kind) for leak in leaks if leak.part == "passage"),
            },
            "first": [
                {"training": leak.sha256, "part": leak.part, leak.of: leak.id, "kind": leak.kind, "share": leak.share}
                for leak in leaks[:_SHOWN]
            ],
        }


def find_leaks(examples: Examples, against: Sequence[Judged | Texts | str | Path]) -> Leakage:
    """Look for text of evaluations in training text, exactly and without sampling.

    Every query and passage that is trained on is compared with every query and document of each collection: for equal
    words; for a text whose shingles (`WIDTH` words) stand to `NEAR` in the other, so that a sentence is found in a
    passage that quotes it, in both directions; and for runs of `RUN` words. Two queries are also compared by their
    words in any order, by the Jaccard index, from `NEAR` on. What is said in other words is not found, nor what was
    translated.

    140,000 passages against 50,000 documents take a few minutes and less than 4 GB.

    Args:
        examples: What is trained on.
        against: The evaluations. Of a `Judged` its queries and candidates are searched; of a folder in BEIR's form or a
            dataset of ir_datasets, named by its path or name, the whole corpus and all queries.

    Raises:
        InputError: A collection cannot be read, or two have one name.
    """
    collections = tuple(one if isinstance(one, Texts) else texts_of(one) for one in against)
    names = [collection.name for collection in collections]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two collections are called {name!r}; a leak could not say which it is of")
    ours, theirs = _trained(examples), _searched(collections)
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
        for i, j, kind, share in overlaps(ours, theirs, owners)
    )
    queries = sum(ours.queries)
    return Leakage(leaks=leaks, collections=collections, queries=queries, passages=len(ours.queries) - queries)


def _trained(examples: Examples) -> TextSet:
    """Return the different queries and passages that are trained on."""
    queries = list(dict.fromkeys(example.query for example in examples.examples))
    passages = list(dict.fromkeys(passage.text for example in examples.examples for passage in example.passages))
    return TextSet([*queries, *passages], [True] * len(queries) + [False] * len(passages))


def _searched(collections: Sequence[Texts]) -> TextSet:
    side = TextSet([], [])
    for collection in collections:
        side.texts += [*collection.queries.values(), *collection.documents.values()]
        side.queries += [True] * len(collection.queries) + [False] * len(collection.documents)
    return side


def _counted(found: Iterable[tuple[str, Kind]]) -> dict[str, int]:
    """Count texts by the strongest kind of their leaks."""
    strongest: dict[str, int] = {}
    for text, kind in found:
        strongest[text] = min(KINDS.index(kind), strongest.get(text, len(KINDS)))
    counts = Counter(KINDS[place] for place in strongest.values())
    return {kind: counts[kind] for kind in KINDS}


def _learnable(example: Example) -> bool:
    return any(passage.teacher is not None or (passage.grade or 0) > 0 for passage in example.passages)

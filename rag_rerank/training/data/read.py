"""Read training examples: pairs, judgments, or recorded calls with feedback; passages grouped by query."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from rag_rerank.errors import ConfigError, InputError
from rag_rerank.evaluation import Judged, JudgedQuery, read
from rag_rerank.evaluation.data.collections import Collection
from rag_rerank.evaluation.data.join import judged_queries
from rag_rerank.evaluation.data.judged import Problems
from rag_rerank.evaluation.data.lines import objects
from rag_rerank.evaluation.data.read import collection_of
from rag_rerank.evaluation.data.trec import Qrels, read_qrels
from rag_rerank.records.record import digest
from rag_rerank.text.unicode import is_blank
from rag_rerank.training.data.collection_texts import ALL
from rag_rerank.training.data.examples import Example, Examples, Origin, Passage, Source
from rag_rerank.types import Candidate

__all__ = ["ExampleBuilder", "read_examples"]

_TRAIN_QRELS = "qrels/train.tsv"
"""The judgments for training in a folder in BEIR's format."""

_FORM_KEYS = {"positive", "candidates", "schema"}
"""Keys that show what a line is: a pair, a query with candidates, a record."""


def read_examples(
    source: Judged | str | Path, *, name: str | None = None, licence: str | None = None, qrels: str | Path | None = None
) -> Examples:
    """Read queries with passages that are known to be relevant or not.

    Passages of one query become one example, wherever they are in the source. A query without a relevant passage is
    left out, and so is a blank text; both are counted in ``problems``.

    Args:
        source: One of these; every file may be gzip.

            - A JSONL file of pairs: ``query``, ``positive`` (a text or a list of texts), and perhaps ``title`` (of the
              positives, put before each with a space), ``negatives`` (a list of whole texts), ``source``
              (``NAME``, or ``NAME:PLACE`` with a place within it) and ``licence``. The first line with a known key
              decides the form of the file.
            - Anything that `rag_rerank.evaluation.read` reads. From a folder in BEIR's format and from
              ``ir_datasets:NAME``, every judged document of the corpus is read; the judgments in ``qrels/train.tsv`` of
              a folder precede those that an evaluation would read. From JSONL files, the judged candidates are read.
            - Records with texts, as `rag_rerank.recording` writes them, and ``qrels``: the feedback of users, a line
              for each thumb up or down, by the tag ``query_id`` or the SHA-256 of the query, and the candidate's id.
            - A `Judged`: its judged candidates are read.
        name: Name of the source; by default that of the file, the folder or the collection. A line's own name precedes
            it; likewise for ``licence``.
        licence: The licence of the text.
        qrels: Judgments that replace the source's own.

    Returns:
        The examples, with a `Source` for each name and licence. Grades are those of the judgments; a positive has 1, a
        negative 0. The id of a text in a pair is its SHA-256.

    Raises:
        ConfigError: Records without ``qrels``, or ``qrels`` with pairs or a `Judged`, which have their own.
        InputError: The source cannot be read, or nothing in it is relevant to any query.
        MissingExtraError: ir_datasets is needed and not installed.
    """
    if isinstance(source, Judged):
        if qrels is not None:
            raise ConfigError("a Judged has its own judgments; leave out qrels", path="qrels")
        return _from_judged(source, source.name, name, licence, "judged")
    problems = Problems()
    collection = collection_of(source, problems)
    if collection is not None:
        judged = _judged_documents(collection, _judgments(source, collection, qrels, problems), problems)
        return _from_judged(judged, str(source), name, licence, "judged")
    path = Path(source)
    first = next((row for _, row in objects(path, Problems()) if row.keys() & _FORM_KEYS), {})
    if "positive" not in first:
        judged = read(path, qrels=qrels, depth=ALL)
        return _from_judged(judged, str(source), name, licence, "feedback" if "schema" in first else "judged")
    if qrels is not None:
        raise ConfigError(f"{source} holds pairs, which have their own judgments", path="qrels")
    return _read_pairs(path, name or path.name.removesuffix(".gz").removesuffix(".jsonl"), licence)


def _read_pairs(path: Path, name: str, licence: str | None) -> Examples:
    problems = Problems()
    builder = ExampleBuilder(str(path), problems)
    for number, row in objects(path, problems):
        place = f"{path.name}:{number}"
        query, title, source, own_licence = (row.get(key) or "" for key in ("query", "title", "source", "licence"))
        positives, negatives = _as_list(row.get("positive")), _as_list(row.get("negatives"))
        values = (query, title, source, own_licence, *positives, *negatives)
        if not all(isinstance(value, str) for value in values) or not positives:
            kind = "lines that are not a query with positives and negatives, left out"
            problems.note(kind, f"{place}: its keys: {', '.join(map(repr, row)):.80}")
            continue
        group = _source_name(source) or name, own_licence or licence, query
        for text in positives:
            whole = text if is_blank(text) else f"{title} {text}".strip()
            builder.add(*group, Passage(text=whole, id=digest(whole), grade=1.0, origin="positive"), place)
        for text in negatives:
            builder.add(*group, Passage(text=text, id=digest(text), grade=0.0, origin="judged"), place)
    return builder.examples()


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _source_name(source: str) -> str:
    """Return ``NAME`` of ``NAME:PLACE``; the colon of a URL's scheme is part of the name."""
    return re.split(":(?!//)", source, maxsplit=1)[0]


def _from_judged(judged: Judged, path: str, name: str | None, licence: str | None, origin: Origin) -> Examples:
    problems = Problems()
    builder = ExampleBuilder(path, problems)
    for query in judged.queries:
        texts = {candidate.id: candidate.text for candidate in query.candidates}
        for id, grade in query.grades.items():
            place = f"{judged.name}: query {query.id!r}, document {id!r}"
            if id in texts:
                passage = Passage(text=texts[id], id=id, grade=float(grade), origin=origin)
                builder.add(name or judged.name, licence, query.text, passage, place, query.id)
            else:
                problems.note("judged documents without a text among the candidates, left out", place)
    examples = builder.examples()
    return replace(examples, problems=(*judged.problems, *examples.problems))


def _judged_documents(collection: Collection, judgments: Qrels, problems: Problems) -> Judged:
    """Return the queries of a collection with all documents of its corpus that were judged, as candidates."""
    by_id = judged_queries(collection, judgments, None, problems)
    ids = {document for query in by_id for document in judgments.rows[query]}
    texts = {document.id: document.text for document in collection.documents(ids)}
    queries = []
    for id, query in by_id.items():
        grades = judgments.grades(id)
        candidates = tuple(Candidate(document, texts[document]) for document in grades if document in texts)
        queries.append(JudgedQuery(id=id, text=query.text, candidates=candidates, grades=grades))
    return Judged(name=collection.name, queries=tuple(queries), problems=problems.as_tuple())


def _judgments(source: str | Path, collection: Collection, qrels: str | Path | None, problems: Problems) -> Qrels:
    train_qrels = Path(source) / _TRAIN_QRELS
    if qrels is None and train_qrels.is_file():
        qrels = train_qrels
    return collection.judgments() if qrels is None else read_qrels(Path(qrels), problems)


@dataclass
class ExampleBuilder:
    """Group passages by source and query; one query of one source makes one example.

    Args:
        path: The source, as the user named it.
        problems: Where to note what is left out or repaired.
    """

    path: str
    problems: Problems
    _passages: dict[tuple[str, str | None, str], dict[str, Passage]] = field(default_factory=dict)
    _places: dict[tuple[str, str | None, str], str] = field(default_factory=dict)
    _ids: dict[tuple[str, str | None, str], str | None] = field(default_factory=dict)

    def add(
        self, name: str, licence: str | None, query: str, passage: Passage, place: str, query_id: str | None = None
    ) -> None:
        """Add a passage of a query; ``place`` says where it is."""
        if is_blank(query):
            self.problems.note("passages of a blank query, left out", place)
            return
        if is_blank(passage.text):
            self.problems.note("blank passages, left out", place)
            return
        passages = self._passages.setdefault((name, licence, query), {})
        self._places.setdefault((name, licence, query), place)
        self._ids.setdefault((name, licence, query), query_id)
        before = passages.get(passage.text)
        if before is None or _grade(before) < _grade(passage):
            passages[passage.text] = passage
        if before is not None and before.grade != passage.grade:
            self.problems.note("passages with two grades for one query (the higher one counts)", place)
        elif before is not None:
            self.problems.note("repeated passages of one query (the first one counts)", place)

    def examples(self) -> Examples:
        """Return the examples.

        Raises:
            InputError: Nothing is relevant to any query.
        """
        licences: dict[str, set[str | None]] = {}
        for name, licence, _ in self._passages:
            licences.setdefault(name, set()).add(licence)
        examples: list[Example] = []
        by_source: dict[tuple[str, str | None], list[Example]] = {}
        for (name, licence, query), passages in self._passages.items():
            if not any(_grade(passage) > 0 for passage in passages.values()):
                self.problems.note("queries without a relevant passage, left out", self._places[name, licence, query])
                continue
            source = name if len(licences[name]) == 1 else f"{name} ({licence or 'no licence stated'})"
            id = self._ids[name, licence, query]
            example = Example(query=query, passages=tuple(passages.values()), source=source, id=id)
            examples.append(example)
            by_source.setdefault((source, licence), []).append(example)
        if not examples:
            what = self.problems.summary() or "there is nothing in it"
            raise InputError(f"{self.path}: no query has a relevant passage, so there is nothing to learn; {what}")
        sources = tuple(self._source(source, licence, group) for (source, licence), group in by_source.items())
        return Examples(examples=tuple(examples), sources=sources, problems=self.problems.as_tuple())

    def _source(self, name: str, licence: str | None, examples: Sequence[Example]) -> Source:
        return Source(
            name=name,
            licence=licence,
            path=self.path,
            sha256=_fingerprint(examples),
            queries=len(examples),
            pairs=sum(len(example.passages) for example in examples),
        )


def _grade(passage: Passage) -> float:
    return passage.grade or 0.0


def _fingerprint(examples: Sequence[Example]) -> str:
    """Return the SHA-256 over queries, passages and grades, whatever their order."""
    rows = sorted(
        f"{digest(example.query)} {digest(passage.text)} {passage.grade}\n"
        for example in examples
        for passage in example.passages
    )
    return sha256("".join(["rag_rerank.examples/1\n", *rows]).encode()).hexdigest()

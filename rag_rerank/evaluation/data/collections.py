"""Collections, which give queries, texts, judgments and a first stage; a folder in BEIR's format is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Collection as Ids
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rag_rerank._lazy import need
from rag_rerank.errors import InputError
from rag_rerank.evaluation.data.judged import Problems
from rag_rerank.evaluation.data.lines import name_of, objects
from rag_rerank.evaluation.data.trec import Qrels, TrecRun, as_grade, read_qrels, read_run

__all__ = ["BeirFolder", "Collection", "CollectionText", "IrDataset", "metadata_of"]

_QRELS = ("qrels-full.tsv", "qrels/test.tsv", "qrels.tsv")
"""Files of judgments: the first one that exists is read; the full table also judges documents outside the corpus."""

_RUNS = (("run.trec", "run.trec.gz"), ("bm25*.trec", "bm25*.trec.gz"), ("*.trec", "*.trec.gz"))
"""Files of a first stage, in order of preference; two files that match one row are an error."""


@dataclass(frozen=True, slots=True)
class CollectionText:
    """A query or a document, with its place in the data."""

    id: str
    text: str
    metadata: Mapping[str, Any]
    place: str


class Collection(Protocol):
    """Queries, texts, judgments and a first stage; everything but the judgments is streamed."""

    @property
    def name(self) -> str:
        """Its name in reports."""

    def queries(self) -> Iterator[CollectionText]:
        """Yield all queries in their order."""

    def corpus(self) -> Iterator[tuple[str, str]]:
        """Yield id and text of all documents, in their order."""

    def documents(self, ids: Ids[str]) -> Iterator[CollectionText]:
        """Yield the documents with these ids, in any order."""

    def judgments(self) -> Qrels:
        """Return its judgments."""

    def run(self) -> TrecRun | None:
        """Return its first stage, if it has one."""


@dataclass(frozen=True)
class BeirFolder:
    """A folder with ``corpus.jsonl``, ``queries.jsonl`` (or the same with ``.gz``), judgments, and perhaps a run."""

    folder: Path
    problems: Problems = field(repr=False)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    def queries(self) -> Iterator[CollectionText]:
        """Yield the queries of ``queries.jsonl``."""
        return self._texts("queries.jsonl", self.problems)

    def corpus(self) -> Iterator[tuple[str, str]]:
        """Yield id and text of all of ``corpus.jsonl``; `documents` notes the problems there, once."""
        return ((text.id, text.text) for text in self._texts("corpus.jsonl", Problems()))

    def documents(self, ids: Ids[str]) -> Iterator[CollectionText]:
        """Yield documents of ``corpus.jsonl``; the file is read from beginning to end."""
        return (text for text in self._texts("corpus.jsonl", self.problems) if text.id in ids)

    def judgments(self) -> Qrels:
        """Return the judgments of ``qrels-full.tsv``, ``qrels/test.tsv`` or ``qrels.tsv``, the first that exists."""
        for name in _QRELS:
            if (self.folder / name).is_file():
                return read_qrels(self.folder / name, self.problems)
        raise InputError(f"{self.folder} has none of {', '.join(_QRELS)}; name the judgments with qrels")

    def run(self) -> TrecRun | None:
        """Return ``run.trec``, else the BM25 run, else the only run in the folder; ``None`` if there is none."""
        for patterns in _RUNS:
            runs = sorted(file for pattern in patterns for file in self.folder.glob(pattern))
            if len(runs) > 1:
                raise InputError(f"{self.folder} has {', '.join(file.name for file in runs)}; choose one with run")
            if runs:
                return read_run(runs[0], self.problems)
        return None

    def _texts(self, name: str, problems: Problems) -> Iterator[CollectionText]:
        plain = self.folder / name
        file = plain if plain.exists() else self.folder / f"{name}.gz"
        if not file.exists():
            raise InputError(f"{self.folder} has no {name} and no {name}.gz, so it is not a folder in BEIR's format")
        for number, row in objects(file, problems):
            place = f"{file.name}:{number}"
            id, title, text = name_of(row.get("_id")), row.get("title") or "", row.get("text")
            if id is None or not isinstance(text, str) or not isinstance(title, str):
                kind = f"lines of {file.name} without an _id and a text, left out"
                problems.note(kind, place)
                continue
            yield CollectionText(id, f"{title} {text}".strip(), metadata_of(row, ("_id", "title", "text")), place)


def metadata_of(row: Mapping[str, Any], reserved_keys: Ids[str]) -> dict[str, Any]:
    """Return the keys of a row that are not reserved, together with those under its key ``metadata``."""
    others = {key: value for key, value in row.items() if key not in reserved_keys and key != "metadata"}
    inner = row.get("metadata")
    if isinstance(inner, Mapping):
        return {**others, **inner}
    return others if inner is None else {**others, "metadata": inner}


@dataclass(frozen=True)
class IrDataset:
    """A dataset of ir_datasets, which fetches its files on first use."""

    name: str
    problems: Problems = field(repr=False)
    dataset: Any = field(repr=False)

    @classmethod
    def load(cls, name: str, problems: Problems) -> IrDataset:
        """Find a dataset.

        Raises:
            InputError: No dataset has this name, or it has no documents or no queries.
            MissingExtraError: ir_datasets is not installed.
        """
        try:
            dataset = need("ir_datasets", extra="datasets").load(name)
        except KeyError as error:
            raise InputError(f"ir_datasets knows no dataset {name!r}") from error
        for part in ("docs", "queries"):
            if not dataset.has(part):
                raise InputError(f"the dataset {name!r} has no {part}")
        return cls(name, problems, dataset)

    def queries(self) -> Iterator[CollectionText]:
        """Yield its queries."""
        for number, query in enumerate(self._rows(lambda: self.dataset.queries_iter()), start=1):
            yield _text(query, "query_id", f"{self.name} queries:{number}")

    def corpus(self) -> Iterator[tuple[str, str]]:
        """Yield id and text of all its documents."""
        return ((row.doc_id, _text(row, "doc_id", "").text) for row in self._rows(lambda: self.dataset.docs_iter()))

    def documents(self, ids: Ids[str]) -> Iterator[CollectionText]:
        """Yield the documents with these ids."""
        for row in self._rows(lambda: self.dataset.docs_store().get_many_iter(sorted(ids))):
            yield _text(row, "doc_id", f"{self.name} docs")

    def judgments(self) -> Qrels:
        """Return its qrels."""
        if not self.dataset.has("qrels"):
            raise InputError(f"the dataset {self.name!r} has no qrels; name the judgments with qrels")
        if "relevance" not in self.dataset.qrels_cls()._fields:
            raise InputError(f"the qrels of {self.name!r} have no relevance; name other judgments with qrels")
        judgments = Qrels(f"{self.name} qrels", self.problems)
        for number, row in enumerate(self._rows(lambda: self.dataset.qrels_iter()), start=1):
            judgments.add(row.query_id, row.doc_id, as_grade(row.relevance, f"{judgments.name}:{number}"), number)
        return judgments

    def run(self) -> TrecRun | None:
        """Return its scoreddocs."""
        if not self.dataset.has("scoreddocs"):
            return None
        run = TrecRun(f"{self.name} scoreddocs", self.problems)
        for number, row in enumerate(self._rows(lambda: self.dataset.scoreddocs_iter()), start=1):
            run.add(row.query_id, row.doc_id, float(row.score), None, number)
        return run

    def _rows(self, iterate: Callable[[], Iterable[Any]]) -> Iterator[Any]:
        """Yield rows; raise `InputError` if ir_datasets cannot read or fetch them."""
        try:
            yield from iterate()
        except (OSError, RuntimeError) as error:
            raise InputError(f"ir_datasets cannot read {self.name!r}: {error}") from error


def _text(row: Any, key: str, place: str) -> CollectionText:
    """Turn a named tuple of ir_datasets into a text; its plain fields besides id, title and text are metadata."""
    fields = row._asdict()
    reserved_keys = (key, "title", "text")
    metadata = {k: v for k, v in fields.items() if k not in reserved_keys and isinstance(v, (str, int, float))}
    return CollectionText(fields[key], row.default_text(), metadata, place)

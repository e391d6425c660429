"""Collections: where queries, texts, judgments and a first stage come from. A folder in BEIR's form is one."""

from __future__ import annotations

from collections.abc import Collection as Ids
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rag_rerank.errors import InputError
from rag_rerank.evaluation.data._lines import name_of, objects
from rag_rerank.evaluation.data._problems import Problems
from rag_rerank.evaluation.data._rows import Judgments, Run, read_qrels, read_run

__all__ = ["Collection", "Folder", "Text", "metadata_of"]

_QRELS = ("qrels-full.tsv", "qrels/test.tsv", "qrels.tsv")
"""Where judgments are looked for; a full table also judges what is not in the corpus."""

_RUNS = (("run.trec", "run.trec.gz"), ("bm25*.trec", "bm25*.trec.gz"), ("*.trec", "*.trec.gz"))
"""Where a first stage is looked for: the first line of which exactly one file is there."""


@dataclass(frozen=True, slots=True)
class Text:
    """A query or a document, with its place in the data."""

    id: str
    text: str
    metadata: Mapping[str, Any]
    place: str


class Collection(Protocol):
    """What can be asked of a collection; everything but the judgments is streamed."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def queries(self) -> Iterator[Text]:
        """Yield all queries in their order."""

    def corpus(self) -> Iterator[tuple[str, str]]:
        """Yield id and text of all documents, in their order."""

    def documents(self, ids: Ids[str]) -> Iterator[Text]:
        """Yield the documents with these ids, in any order."""

    def judgments(self) -> Judgments:
        """Return its judgments."""

    def run(self) -> Run | None:
        """Return its first stage, if it brings one."""


@dataclass(frozen=True)
class Folder:
    """``corpus.jsonl``, ``queries.jsonl`` (either may end in ``.gz``), judgments and perhaps a run."""

    folder: Path
    problems: Problems = field(repr=False)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    def queries(self) -> Iterator[Text]:
        """Yield the queries of ``queries.jsonl``."""
        return self._texts("queries.jsonl", self.problems)

    def corpus(self) -> Iterator[tuple[str, str]]:
        """Yield id and text of all of ``corpus.jsonl``; what is amiss there is noted by `documents`, once."""
        return ((text.id, text.text) for text in self._texts("corpus.jsonl", Problems()))

    def documents(self, ids: Ids[str]) -> Iterator[Text]:
        """Yield documents of ``corpus.jsonl``; the file is read from beginning to end."""
        return (text for text in self._texts("corpus.jsonl", self.problems) if text.id in ids)

    def judgments(self) -> Judgments:
        """Return the judgments of the first of ``qrels-full.tsv``, ``qrels/test.tsv``, ``qrels.tsv`` that is there."""
        for name in _QRELS:
            if (self.folder / name).is_file():
                return read_qrels(self.folder / name, self.problems)
        raise InputError(f"{self.folder} has none of {', '.join(_QRELS)}; name the judgments with qrels")

    def run(self) -> Run | None:
        """Return ``run.trec``, else the BM25 run, else the only run that is in the folder; ``None`` without any."""
        for patterns in _RUNS:
            found = sorted(file for pattern in patterns for file in self.folder.glob(pattern))
            if len(found) > 1:
                raise InputError(f"{self.folder} has {', '.join(file.name for file in found)}; choose one with run")
            if found:
                return read_run(found[0], self.problems)
        return None

    def _texts(self, name: str, problems: Problems) -> Iterator[Text]:
        plain = self.folder / name
        file = plain if plain.exists() else self.folder / f"{name}.gz"
        if not file.exists():
            raise InputError(f"{self.folder} has no {name} and no {name}.gz, so it is no folder in BEIR's form")
        for number, row in objects(file, problems):
            place = f"{file.name}:{number}"
            id, title, text = name_of(row.get("_id")), row.get("title") or "", row.get("text")
            if id is None or not isinstance(text, str) or not isinstance(title, str):
                kind = f"lines of {file.name} without an _id and a text, left out"
                problems.note(kind, place)
                continue
            yield Text(id, f"{title} {text}".strip(), metadata_of(row, ("_id", "title", "text")), place)


def metadata_of(row: Mapping[str, Any], own: Ids[str]) -> dict[str, Any]:
    """Return all that a row says beyond its own keys, with what stands under ``metadata`` at the same level."""
    others = {key: value for key, value in row.items() if key not in own and key != "metadata"}
    inner = row.get("metadata")
    if isinstance(inner, Mapping):
        return {**others, **inner}
    return others if inner is None else {**others, "metadata": inner}

"""Read the passages of a corpus, and a user's questions about them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rag_rerank._files import sha256_of
from rag_rerank.errors import InputError
from rag_rerank.evaluation import Problem
from rag_rerank.evaluation.data.judged import Problems
from rag_rerank.evaluation.data.lines import lines, name_of, objects
from rag_rerank.records.record import digest
from rag_rerank.text.unicode import is_blank
from rag_rerank.text.words import terms

__all__ = ["Corpus", "CorpusDocument", "read_corpus", "read_questions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusDocument:
    """A passage of a corpus.

    Args:
        id: Its id, or the SHA-256 of title and text if it has none.
        title: Its title; empty if it has none.
        body: Its text without the title.
    """

    id: str
    title: str
    body: str

    @property
    def text(self) -> str:
        """The text that models read: title and text, joined by a space as in BEIR."""
        return f"{self.title} {self.body}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The passages that a student learns to order.

    Args:
        name: Its name in the model card.
        licence: The licence of its text; ``None`` if it is not stated.
        path: File or folder as the user named it.
        sha256: Hash of the file.
        documents: Passages that are not blank, each text once.
        problems: What was left out.
    """

    name: str
    licence: str | None
    path: str
    sha256: str
    documents: tuple[CorpusDocument, ...]
    problems: tuple[Problem, ...]


def read_corpus(path: str | os.PathLike[str], *, name: str | None = None, licence: str | None = None) -> Corpus:
    """Read passages.

    Args:
        path: A JSONL file with ``text`` and perhaps ``title`` and ``id`` (or BEIR's ``_id``), a folder with such a
            ``corpus.jsonl``, or a text file with a passage on each line. Any of them may be gzip.
        name: Its name; by default that of the file or folder.
        licence: The licence of its text.

    Raises:
        InputError: The file cannot be read, or has no passage.
    """
    file = _file(Path(path))
    problems = Problems()
    documents: dict[str, CorpusDocument] = {}
    texts: set[str] = set()
    for place, document in _documents(file, problems):
        if is_blank(document.text):
            problems.note("blank passages, left out", place)
        elif document.text in texts:
            problems.note("passages with a repeated text, left out", place)
        elif document.id in documents:
            problems.note("passages with a repeated id, left out", f"{place}: {document.id!r}")
        else:
            texts.add(document.text)
            documents[document.id] = document
    if not documents:
        raise InputError(f"{file} has no passage; {problems.summary() or 'it is empty'}")
    stem = Path(path).resolve().name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".txt")
    return Corpus(
        name=name or stem,
        licence=licence,
        path=str(path),
        sha256=sha256_of(file),
        documents=tuple(documents.values()),
        problems=problems.as_tuple(),
    )


def read_questions(path: str | os.PathLike[str]) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """Read a user's queries, each once; queries that differ in case, spaces and punctuation only count as one.

    Args:
        path: A JSONL file with ``query`` (or BEIR's ``text``), or a text file with a query on each line.

    Returns:
        The queries in their order, and what was left out.

    Raises:
        InputError: The file cannot be read, or has no query.
    """
    file, problems = _file(Path(path)), Problems()
    texts: dict[tuple[str, ...], str] = {}
    for place, text in _questions(file, problems):
        words = tuple(terms(text))
        if not words:
            problems.note("queries without a word, left out", place)
        elif words in texts:
            problems.note("repeated queries, left out", place)
        else:
            texts[words] = text
    if not texts:
        raise InputError(f"{file} has no query; {problems.summary() or 'it is empty'}")
    return tuple(texts.values()), problems.as_tuple()


def _file(path: Path) -> Path:
    if path.is_dir():
        inside = [path / name for name in ("corpus.jsonl", "corpus.jsonl.gz") if (path / name).is_file()]
        if not inside:
            raise InputError(f"{path} has no corpus.jsonl and no corpus.jsonl.gz; name a file of passages")
        return inside[0]
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return path


def _documents(file: Path, problems: Problems) -> Iterator[tuple[str, CorpusDocument]]:
    if not _has_objects(file):
        for number, line in lines(file, problems):
            yield f"{file.name}:{number}", CorpusDocument(id=digest(line.strip()), title="", body=line.strip())
        return
    for number, row in objects(file, problems):
        place, title, text = f"{file.name}:{number}", row.get("title") or "", row.get("text")
        if not isinstance(text, str) or not isinstance(title, str):
            problems.note("lines without a text, left out", f"{place}: its keys: {', '.join(map(repr, row)):.80}")
            continue
        id = name_of(row.get("_id", row.get("id")))
        yield place, CorpusDocument(id=id or digest(f"{title} {text}".strip()), title=title.strip(), body=text)


def _questions(file: Path, problems: Problems) -> Iterator[tuple[str, str]]:
    if not _has_objects(file):
        yield from ((f"{file.name}:{number}", line.strip()) for number, line in lines(file, problems))
        return
    for number, row in objects(file, problems):
        text = row.get("query", row.get("text"))
        if isinstance(text, str):
            yield f"{file.name}:{number}", text.strip()
        else:
            problems.note("lines without a query, left out", f"{file.name}:{number}")


def _has_objects(file: Path) -> bool:
    """Whether the first line that is not blank starts like a JSON object."""
    first = next(lines(file, Problems()), None)
    return first is not None and first[1].lstrip().startswith("{")

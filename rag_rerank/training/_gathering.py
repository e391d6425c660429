"""Passages gathered by query while a source is read, and the examples that come of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from rag_rerank.errors import InputError
from rag_rerank.evaluation.data._problems import Problems
from rag_rerank.records.record import digest
from rag_rerank.training.examples import Example, Examples, Passage, Source
from rag_rerank.types import blank

__all__ = ["Gathering"]


@dataclass
class Gathering:
    """Takes passages in any order; one query of one source makes one example.

    Args:
        path: What is read, as the user named it.
        problems: Where to note what is left out or mended.
    """

    path: str
    problems: Problems
    _found: dict[tuple[str, str | None, str], dict[str, Passage]] = field(default_factory=dict)
    _places: dict[tuple[str, str | None, str], str] = field(default_factory=dict)

    def add(self, name: str, licence: str | None, query: str, passage: Passage, place: str) -> None:
        """Take a passage of a query; ``place`` says where it stands."""
        if blank(query):
            self.problems.note("passages of a blank query, left out", place)
            return
        if blank(passage.text):
            self.problems.note("blank passages, left out", place)
            return
        passages = self._found.setdefault((name, licence, query), {})
        self._places.setdefault((name, licence, query), place)
        before = passages.get(passage.text)
        if before is None or _grade(before) < _grade(passage):
            passages[passage.text] = passage
        if before is not None and before.grade != passage.grade:
            self.problems.note("passages with two grades for one query, of which the higher counts", place)
        elif before is not None:
            self.problems.note("passages that stand twice for one query, of which the first counts", place)

    def examples(self) -> Examples:
        """Return what was gathered.

        Raises:
            InputError: Nothing is relevant to any query.
        """
        licences: dict[str, set[str | None]] = {}
        for name, licence, _ in self._found:
            licences.setdefault(name, set()).add(licence)
        made: dict[tuple[str, str | None], list[Example]] = {}
        kept = []
        for (name, licence, query), passages in self._found.items():
            if not any(_grade(passage) > 0 for passage in passages.values()):
                self.problems.note("queries without a relevant passage, left out", self._places[name, licence, query])
                continue
            called = name if len(licences[name]) == 1 else f"{name} ({licence or 'no licence stated'})"
            example = Example(query=query, passages=tuple(passages.values()), source=called)
            kept.append(example)
            made.setdefault((called, licence), []).append(example)
        if not kept:
            what = self.problems.told() or "there is nothing in it"
            raise InputError(f"{self.path}: no query has a relevant passage, so there is nothing to learn; {what}")
        sources = tuple(self._source(called, licence, of) for (called, licence), of in made.items())
        return Examples(examples=tuple(kept), sources=sources, problems=self.problems.listed())

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

"""Queries for a teacher: a user's own, or pseudo-queries made from the passages by rules.

A pseudo-query need not be a good question: the teacher scores each candidate for it anyway, and a student learns from
the scores, not from the guess that the passage answers it. It must resemble what a user would ask about this corpus, in
length and words. The first sentence as a query is the idea of the inverse cloze task (Lee, Chang and Toutanova, ACL
2019); titles as queries are as old as ad hoc retrieval.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType

from rag_rerank.text.sentences import QUESTION_MARKS, sentences
from rag_rerank.text.words import terms
from rag_rerank.training.distillation.corpus import CorpusDocument

__all__ = ["MAX_CHARACTERS", "MIN_CHARACTERS", "RULES", "Queries", "Query", "make_pseudo_queries", "own_queries"]

MIN_CHARACTERS, MAX_CHARACTERS = 8, 200
"""Length of a pseudo-query: fewer characters are rarely a question, more are a passage."""

_HEADING = re.compile(
    r"^[ ]{0,3}#{1,6}[ \t]+(?P<atx>.*?)[ \t]*#*[ \t]*$"  # CommonMark's ATX headings
    r"|^[ ]{0,3}(?P<setext>\S.*?)[ \t]*\n[ ]{0,3}(?:=+|-{3,})[ \t]*$",  # and its setext headings
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query for a teacher.

    Args:
        text: The query.
        rule: The rule that made it, a name in `RULES`; ``"own"`` for a user's query.
        document: Id of the passage that it was made from.
    """

    text: str
    rule: str
    document: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """Queries, and how many each rule gave.

    Args:
        queries: Each query once, ordered by hash, so that any first part is a fair sample, and the same on every run.
        counts: Number of queries of each rule.
        left_out: Number of unused queries, by reason.
    """

    queries: tuple[Query, ...]
    counts: Mapping[str, int]
    left_out: Mapping[str, int]


def own_queries(texts: Sequence[str], *, seed: int = 0) -> Queries:
    """Return a user's queries."""
    return _in_order([Query(text=text, rule="own") for text in texts], {"own": len(texts)}, {}, seed)


def make_pseudo_queries(documents: Sequence[CorpusDocument], *, seed: int = 0) -> Queries:
    """Make queries from passages by all of `RULES`.

    Queries with the same words are used once, for the first passage and the first rule that gave them.

    Args:
        documents: The passages.
        seed: Seed of the order.
    """
    queries: dict[tuple[str, ...], Query] = {}
    left_out: dict[str, int] = {}
    counts = dict.fromkeys(RULES, 0)
    for document in documents:
        for rule, find_texts in RULES.items():
            for text in (" ".join(extract.split()) for extract in find_texts(document)):
                words = tuple(terms(text))
                reason = _why_unfit(text, words) or ("asked already" if words in queries else "")
                if reason:
                    left_out[reason] = left_out.get(reason, 0) + 1
                else:
                    queries[words] = Query(text=text, rule=rule, document=document.id)
                    counts[rule] += 1
    return _in_order(list(queries.values()), counts, left_out, seed)


def _why_unfit(text: str, words: tuple[str, ...]) -> str:
    if not words or len(text) < MIN_CHARACTERS:
        return f"shorter than {MIN_CHARACTERS} characters"
    return f"longer than {MAX_CHARACTERS} characters" if len(text) > MAX_CHARACTERS else ""


def _in_order(queries: list[Query], counts: Mapping[str, int], left_out: Mapping[str, int], seed: int) -> Queries:
    def key(query: Query) -> bytes:
        return sha256(f"{seed} {query.text}".encode("utf-8", "surrogatepass")).digest()

    return Queries(
        queries=tuple(sorted(queries, key=key)),
        counts=MappingProxyType(dict(counts)),
        left_out=MappingProxyType(dict(left_out)),
    )


def _title(document: CorpusDocument) -> Iterator[str]:
    """Yield the title, if there is one."""
    yield from filter(None, (document.title,))


def _headings(document: CorpusDocument) -> Iterator[str]:
    """Yield each Markdown heading of the text."""
    for match in _HEADING.finditer(document.body):
        yield match["atx"] if match["setext"] is None else match["setext"]


def _questions(document: CorpusDocument) -> Iterator[str]:
    """Yield each sentence of the text that ends with a question mark."""
    yield from (sentence for sentence in _sentences(document) if sentence.endswith(QUESTION_MARKS))


def _first_sentence(document: CorpusDocument) -> Iterator[str]:
    """Yield the first sentence of the text, unless it is a question, or all of the text."""
    first, *others = _sentences(document) or [""]
    if others and not first.endswith(QUESTION_MARKS):
        yield first


def _sentences(document: CorpusDocument) -> list[str]:
    body = _HEADING.sub("\n\n", document.body).strip()
    return [body[start:end].strip() for start, end in sentences(body)]


RULES: Mapping[str, Callable[[CorpusDocument], Iterator[str]]] = MappingProxyType(
    {"title": _title, "heading": _headings, "question": _questions, "first sentence": _first_sentence}
)
"""How pseudo-queries are made; the rules are tried in this order:

- ``title``: the passage's title.
- ``heading``: each Markdown heading of its text.
- ``question``: each sentence of its text that ends with a question mark.
- ``first sentence``: the first sentence of its text, headings aside, if it is not a question and another one follows.

A text is used if it has a word and `MIN_CHARACTERS` to `MAX_CHARACTERS` characters."""

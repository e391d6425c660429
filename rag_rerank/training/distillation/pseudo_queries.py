"""Queries to ask with where a user has none: made from the passages themselves, by rules that are named.

A pseudo-query need not be a good question: the teacher scores each candidate for it anyway, and a student learns from
the scores and not from the guess that the passage answers it. What it must be is like something that a user would ask
about this corpus, in length and words. The first sentence as a query is the idea of the inverse cloze task (Lee, Chang
and Toutanova, ACL 2019); titles as queries are as old as ad hoc retrieval.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType

from rag_rerank.text.sentences import sentences
from rag_rerank.text.words import terms
from rag_rerank.training.distillation.corpus import CorpusDocument

__all__ = ["MOST", "RULES", "Queries", "Query", "own", "pseudo"]

LEAST, MOST = 8, 200
"""Characters of a pseudo-query: fewer are rarely a question, more are a passage."""

_HEADING = re.compile(
    r"^[ ]{0,3}#{1,6}[ \t]+(?P<marked>.*?)[ \t]*#*[ \t]*$"  # CommonMark's ATX headings
    r"|^[ ]{0,3}(?P<underlined>\S.*?)[ \t]*\n[ ]{0,3}(?:=+|-{3,})[ \t]*$",  # and its setext headings
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query that a teacher is asked with.

    Args:
        text: The query.
        rule: How it was made, a name in `RULES`; ``"own"`` for a user's.
        document: Id of the passage that it was made from.
    """

    text: str
    rule: str
    document: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """Queries, and what each rule gave.

    Args:
        queries: Each once, in an order by hash: any first part of them is a fair sample, and the same on every run.
        counts: How many come of each rule.
        left_out: How many were not used, by reason.
    """

    queries: tuple[Query, ...]
    counts: Mapping[str, int]
    left_out: Mapping[str, int]


def own(texts: Sequence[str], *, seed: int = 0) -> Queries:
    """Return a user's queries."""
    return _chosen([Query(text=text, rule="own") for text in texts], {"own": len(texts)}, {}, seed)


def pseudo(documents: Sequence[CorpusDocument], *, seed: int = 0) -> Queries:
    """Make queries from passages by all of `RULES`.

    Queries of the same words are asked once, for the first passage and the first rule that gave them.

    Args:
        documents: The passages.
        seed: Decides the order.
    """
    found: dict[tuple[str, ...], Query] = {}
    left_out: dict[str, int] = {}
    counts = dict.fromkeys(RULES, 0)
    for document in documents:
        for rule, give in RULES.items():
            for text in (" ".join(given.split()) for given in give(document)):
                words = tuple(terms(text))
                why = _unfit(text, words) or ("asked already" if words in found else "")
                if why:
                    left_out[why] = left_out.get(why, 0) + 1
                else:
                    found[words] = Query(text=text, rule=rule, document=document.id)
                    counts[rule] += 1
    return _chosen(list(found.values()), counts, left_out, seed)


def _unfit(text: str, words: tuple[str, ...]) -> str:
    if not words or len(text) < LEAST:
        return f"shorter than {LEAST} characters"
    return f"longer than {MOST} characters" if len(text) > MOST else ""


def _chosen(queries: list[Query], counts: Mapping[str, int], left_out: Mapping[str, int], seed: int) -> Queries:
    def place(query: Query) -> bytes:
        return sha256(f"{seed} {query.text}".encode("utf-8", "surrogatepass")).digest()

    ordered = sorted(queries, key=place)
    return Queries(
        queries=tuple(ordered), counts=MappingProxyType(dict(counts)), left_out=MappingProxyType(dict(left_out))
    )


def _title(document: CorpusDocument) -> Iterator[str]:
    """Give the title, if there is one."""
    yield from filter(None, (document.title,))


def _headings(document: CorpusDocument) -> Iterator[str]:
    """Give each Markdown heading of the text."""
    for match in _HEADING.finditer(document.body):
        yield match["marked"] if match["underlined"] is None else match["underlined"]


def _asked(document: CorpusDocument) -> Iterator[str]:
    """Give each sentence of the text that ends with a question mark."""
    yield from (sentence for sentence in _sentences(document) if sentence.endswith(("?", "？")))


def _first(document: CorpusDocument) -> Iterator[str]:
    """Give the first sentence of the text, unless it is a question, or all of the text."""
    first, *others = _sentences(document) or [""]
    if others and not first.endswith(("?", "？")):
        yield first


def _sentences(document: CorpusDocument) -> list[str]:
    body = _HEADING.sub("\n\n", document.body).strip()
    return [body[start:end].strip() for start, end in sentences(body)]


RULES: Mapping[str, Callable[[CorpusDocument], Iterator[str]]] = MappingProxyType(
    {"title": _title, "heading": _headings, "question": _asked, "first sentence": _first}
)
"""How pseudo-queries are made, in the order in which the rules are tried:

- ``title``: the passage's title.
- ``heading``: each Markdown heading of its text.
- ``question``: each sentence of its text that ends with a question mark.
- ``first sentence``: the first sentence of its text, headings aside, where it is no question and another one follows.

One is used if it has a word and `LEAST` to `MOST` characters."""

"""The passages that negatives are sampled from, and the sampling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from rag_rerank.text.unicode import is_blank
from rag_rerank.text.words import split_words
from rag_rerank.training.data.examples import Example, Passage

__all__ = [
    "CorpusText",
    "Strategy",
    "collect_passages",
    "is_relevant",
    "relevant_keys",
    "sample_negatives",
    "text_key",
]

Strategy = Literal["bm25", "bi-encoder", "model", "random"]
"""How negatives are proposed."""


@dataclass(frozen=True, slots=True)
class CorpusText:
    """A passage with its `text_key`."""

    id: str
    text: str
    key: str


def collect_passages(examples: Sequence[Example], more: Mapping[str, str]) -> list[CorpusText]:
    """Return the passages of examples and of a corpus, without blank ones and without repeated `text_key`."""
    passages = [(passage.id, passage.text) for example in examples for passage in example.passages]
    by_key: dict[str, CorpusText] = {}
    for id, text in (*passages, *more.items()):
        if not is_blank(text):
            key = text_key(text)
            by_key.setdefault(key, CorpusText(id, text, key))
    return list(by_key.values())


def relevant_keys(examples: Sequence[Example]) -> dict[str, set[str]]:
    """Return the keys of the passages that are relevant to each query in any example, by the query's key."""
    by_query: dict[str, set[str]] = {}
    for example in examples:
        keys = by_query.setdefault(text_key(example.query), set())
        keys |= {text_key(passage.text) for passage in example.passages if is_relevant(passage)}
    return by_query


def text_key(text: str) -> str:
    """Return the words of a text: texts that differ only in case and punctuation have the same key."""
    return " ".join(split_words(text)) or text


def is_relevant(passage: Passage) -> bool:
    """Whether a passage was judged relevant."""
    return passage.grade is not None and passage.grade > 0


def sample_negatives(
    best: Mapping[Strategy, list[int]],
    corpus: Sequence[CorpusText],
    excluded_keys: set[str],
    depth: int,
    rng: Random,
) -> Iterator[Passage]:
    """Yield negatives for a query, one of each strategy in turn; excluded and repeated passages are skipped.

    Args:
        best: The proposals of each strategy, as positions in the corpus, the best first.
        corpus: The passages.
        excluded_keys: Keys of passages that must not be negatives.
        depth: Number of random proposals.
        rng: Source of the random order of the proposals.
    """
    pending = [(name, iter(_order(name, best[name], len(corpus), depth, rng))) for name in best]
    skipped_keys = set(excluded_keys)
    while pending:
        for strategy in tuple(pending):
            name, positions = strategy
            text = next((corpus[position] for position in positions if corpus[position].key not in skipped_keys), None)
            if text is None:
                pending.remove(strategy)
            else:
                skipped_keys.add(text.key)
                yield Passage(text=text.text, id=text.id, grade=None, origin=name)


def _order(strategy: Strategy, best: list[int], size: int, depth: int, rng: Random) -> list[int]:
    if strategy == "model":
        return best
    return rng.sample(range(size), min(size, depth)) if strategy == "random" else rng.sample(best, len(best))

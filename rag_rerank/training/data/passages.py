"""The passages that negatives are drawn from, and how they are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from rag_rerank.text.unicode import is_blank
from rag_rerank.training.data.examples import Example, Passage
from rag_rerank.training.data.overlap import words

__all__ = ["CorpusText", "Way", "corpus_of", "key_of", "positive", "relevant_to", "sampled"]

Way = Literal["bm25", "bi-encoder", "model", "random"]


@dataclass(frozen=True, slots=True)
class CorpusText:
    """A passage with the words that tell it from others."""

    id: str
    text: str
    key: str


def corpus_of(examples: Sequence[Example], more: Mapping[str, str]) -> list[CorpusText]:
    """Return the passages of examples and of a corpus, none blank, none with the words of one before."""
    passages = [(passage.id, passage.text) for example in examples for passage in example.passages]
    found: dict[str, CorpusText] = {}
    for id, text in (*passages, *more.items()):
        if not is_blank(text):
            key = key_of(text)
            found.setdefault(key, CorpusText(id, text, key))
    return list(found.values())


def relevant_to(examples: Sequence[Example]) -> dict[str, set[str]]:
    """Return what is relevant to each query in any example, both as their words."""
    found: dict[str, set[str]] = {}
    for example in examples:
        keys = found.setdefault(key_of(example.query), set())
        keys |= {key_of(passage.text) for passage in example.passages if positive(passage)}
    return found


def key_of(text: str) -> str:
    """Return what texts with the same words share."""
    return " ".join(words(text)) or text


def positive(passage: Passage) -> bool:
    """Whether a passage was judged relevant."""
    return passage.grade is not None and passage.grade > 0


def sampled(
    best: Mapping[Way, list[int]],
    corpus: Sequence[CorpusText],
    barred: set[str],
    depth: int,
    chance: Random,
) -> Iterator[Passage]:
    """Yield negatives for a query, the ways taking turns; what is barred, or was there already, is passed over.

    Args:
        best: What each way proposes, as positions in the corpus, the best first.
        corpus: The passages.
        barred: Words of passages that may not be taken.
        depth: How many are drawn at random from all.
        chance: Draws.
    """
    lines = [(way, iter(_order(way, best[way], len(corpus), depth, chance))) for way in best]
    gone = set(barred)
    while lines:
        for way, line in tuple(lines):
            text = next((corpus[position] for position in line if corpus[position].key not in gone), None)
            if text is None:
                lines.remove((way, line))
            else:
                gone.add(text.key)
                yield Passage(text=text.text, id=text.id, grade=None, origin=way)


def _order(way: Way, best: list[int], size: int, depth: int, chance: Random) -> list[int]:
    if way == "model":
        return best
    return chance.sample(range(size), min(size, depth)) if way == "random" else chance.sample(best, len(best))

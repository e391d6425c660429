"""Small examples, and text that is surely unrelated."""

from __future__ import annotations

from random import Random

from rag_rerank.records.record import digest
from rag_rerank.training.data.examples import Example, Examples, Origin, Passage, Source


def passage(text: str, grade: float | None = 1.0, origin: Origin = "positive") -> Passage:
    return Passage(text=text, id=digest(text), grade=grade, origin=origin)


def example(query: str, *positives: str, others: tuple[str, ...] = (), source: str = "made") -> Example:
    passages = (*map(passage, positives), *(passage(text, 0.0, "judged") for text in others))
    return Example(query=query, passages=passages, source=source)


def examples(*made: Example) -> Examples:
    sources = tuple(
        Source(name=name, licence=None, path=name, sha256="0", queries=1, pairs=1)
        for name in dict.fromkeys(one.source for one in made)
    )
    return Examples(examples=made, sources=sources)


def text(length: int, *seed: object) -> str:
    """Return words of which two texts with other seeds share few, and next to no pair in a row."""
    chance = Random(" ".join(map(str, seed)))
    return " ".join(f"w{chance.randrange(2000)}" for _ in range(length))

"""Small training examples, and unrelated random texts."""

from __future__ import annotations

from random import Random

from rag_rerank.records.record import digest
from rag_rerank.training.data.examples import Example, Examples, Origin, Passage, Source


def passage(text: str, grade: float | None = 1.0, origin: Origin = "positive") -> Passage:
    return Passage(text=text, id=digest(text), grade=grade, origin=origin)


def example(query: str, *positives: str, others: tuple[str, ...] = (), source: str = "made") -> Example:
    passages = (*map(passage, positives), *(passage(text, 0.0, "judged") for text in others))
    return Example(query=query, passages=passages, source=source)


def examples(*items: Example) -> Examples:
    sources = tuple(
        Source(name=name, licence=None, path=name, sha256="0", queries=1, pairs=1)
        for name in dict.fromkeys(item.source for item in items)
    )
    return Examples(examples=items, sources=sources)


def text(length: int, *seed: object) -> str:
    """Return random words; two texts with different seeds share few of them, and hardly two in a row."""
    rng = Random(" ".join(map(str, seed)))
    return " ".join(f"w{rng.randrange(2000)}" for _ in range(length))

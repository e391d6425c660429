"""Training and validation, with nothing on both sides."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256

from rag_rerank.errors import ConfigError, InputError
from rag_rerank.records.record import digest
from rag_rerank.training.data.examples import Example, Examples
from rag_rerank.training.data.passages import key_of

__all__ = ["split"]

_SOURCES = 20
"""So many sources are enough to split by them; of fewer, those that are drawn say little of others."""


def split(
    examples: Examples, *, share: float = 0.1, seed: int = 0, shared_corpus: bool = False
) -> tuple[Examples, Examples]:
    """Return the examples for training and those for validation: no query and no passage stands on both sides.

    Whole sources are drawn where there are at least 20 that share no text, and where that gives between half and double
    the share of the examples. Else whole clusters are drawn: examples that share a query or a passage, directly or by
    way of others, where texts are the same that have the same words. A cluster of more than ``share`` of all
    examples is trained on.

    What is drawn goes by a hash of the source's name, or of the first query of the cluster. So appended data leave the
    rest where it was, except for two clusters that they join and for a cluster that they make too large.

    Split before mining: mined negatives are passages of other queries, and join everything.

    Args:
        examples: What is split.
        share: Which share is meant for validation, above 0 and below 1. What is drawn comes near it with many clusters.
        seed: Decides what is drawn.
        shared_corpus: Whether validation may search passages that are also trained on, with other queries, as it is
            where users ask one corpus. Then examples are joined by their queries alone, and sources are not drawn.

    Raises:
        ConfigError: ``share`` is not between 0 and 1.
        InputError: One side would be empty, since there are too few examples, or too many share their texts.
    """
    if not 0 < share < 1:
        raise ConfigError(f"must lie between 0 and 1, got {share}", path="share")
    texts = [list(_texts(example, shared_corpus)) for example in examples.examples]
    by_text = _clusters(texts)
    sources = [[*keys, ("source", example.source)] for keys, example in zip(texts, examples.examples, strict=True)]
    by_source = _clusters(sources)
    if not shared_corpus and len(by_source) >= _SOURCES:
        drawn = _drawn(by_source, [example.source for example in examples.examples], share, seed)
        if share / 2 <= len(drawn) / len(texts) <= share * 2:
            return _sides(examples, drawn)
    drawn = _drawn(by_text, [digest(example.query) for example in examples.examples], share, seed)
    if not drawn or len(drawn) == len(texts):
        most = max(map(len, by_text), default=0)
        raise InputError(
            f"{len(texts)} examples cannot be split: they make {len(by_text)} clusters that share no text, the largest "
            f"of {most}. Split before negatives are mined, name other examples for validation, or, if both sides are "
            "meant to search one corpus, split with shared_corpus"
        )
    return _sides(examples, drawn)


def _texts(example: Example, shared_corpus: bool) -> Iterator[Hashable]:
    yield "query", key_of(example.query)
    if not shared_corpus:
        yield from (("passage", key_of(passage.text)) for passage in example.passages)


def _clusters(keys: Sequence[Iterable[Hashable]]) -> list[list[int]]:
    """Return the positions that are joined by common keys, in their order."""
    roots = list(range(len(keys)))

    def root(at: int) -> int:
        while roots[at] != at:
            roots[at] = roots[roots[at]]
            at = roots[at]
        return at

    first: dict[Hashable, int] = {}
    for at, own in enumerate(keys):
        for key in own:
            one, other = root(first.setdefault(key, at)), root(at)
            roots[max(one, other)] = min(one, other)
    found: dict[int, list[int]] = {}
    for at in range(len(keys)):
        found.setdefault(root(at), []).append(at)
    return list(found.values())


def _drawn(clusters: Sequence[Sequence[int]], names: Sequence[str], share: float, seed: int) -> set[int]:
    """Return the positions that are drawn for validation, whole clusters by the name of their first."""
    largest = math.ceil(share * len(names))
    small = (cluster for cluster in clusters if len(cluster) <= largest)
    return {at for cluster in small if _number(f"{seed} {names[cluster[0]]}") < share for at in cluster}


def _number(name: str) -> float:
    """Return a number from 0 to 1 that depends on nothing but the name."""
    return int.from_bytes(sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64


def _sides(examples: Examples, drawn: set[int]) -> tuple[Examples, Examples]:
    training = [example for at, example in enumerate(examples.examples) if at not in drawn]
    validation = [example for at, example in enumerate(examples.examples) if at in drawn]
    return _side(examples, training), _side(examples, validation)


def _side(examples: Examples, chosen: Sequence[Example]) -> Examples:
    names = {example.source for example in chosen}
    sources = tuple(source for source in examples.sources if source.name in names)
    return replace(examples, examples=tuple(chosen), sources=sources)

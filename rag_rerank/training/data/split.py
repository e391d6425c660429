"""Split examples into training and validation, so that no query and no passage is in both."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256

from rag_rerank.errors import ConfigError, InputError
from rag_rerank.records.record import digest
from rag_rerank.training.data.examples import Example, Examples
from rag_rerank.training.data.passages import text_key

__all__ = ["split"]

_MIN_SOURCES = 20
"""Sources that a split by source needs; a sample of fewer says little about the others."""


def split(
    examples: Examples, *, share: float = 0.1, seed: int = 0, shared_corpus: bool = False
) -> tuple[Examples, Examples]:
    """Return the examples for training and those for validation: no query and no passage is in both.

    Whole sources are sampled if at least 20 of them share no text, and if that gives between half and double the share
    of the examples. Otherwise whole clusters are sampled: examples that share a query or a passage, directly or through
    others, where texts with the same words count as the same. A cluster of more than ``share`` of all examples is used
    for training.

    The sample is chosen by a hash of the source's name, or of the first query of the cluster. So added data do not move
    the rest, unless they join two clusters or make a cluster too large.

    Split before mining: mined negatives are passages of other queries, and would join all clusters.

    Args:
        examples: The examples to split.
        share: Share of the validation, above 0 and below 1; with many clusters, the sample comes near it.
        seed: Seed of the sample.
        shared_corpus: Whether validation may search passages that are also trained on, with other queries, as users of
            one corpus do. Then examples are joined by their queries alone, and sources are not sampled.

    Raises:
        ConfigError: ``share`` is not between 0 and 1.
        InputError: One side would be empty, since there are too few examples, or too many share their texts.
    """
    if not 0 < share < 1:
        raise ConfigError(f"must be between 0 and 1, got {share}", path="share")
    texts = [list(_texts(example, shared_corpus)) for example in examples.examples]
    by_text = _clusters(texts)
    sources = [[*keys, ("source", example.source)] for keys, example in zip(texts, examples.examples, strict=True)]
    by_source = _clusters(sources)
    if not shared_corpus and len(by_source) >= _MIN_SOURCES:
        sample = _sample(by_source, [example.source for example in examples.examples], share, seed)
        if share / 2 <= len(sample) / len(texts) <= share * 2:
            return _sides(examples, sample)
    sample = _sample(by_text, [digest(example.query) for example in examples.examples], share, seed)
    if not sample or len(sample) == len(texts):
        largest = max(map(len, by_text), default=0)
        raise InputError(
            f"{len(texts)} examples cannot be split: they make {len(by_text)} clusters that share no text, the largest "
            f"of {largest}. Split before negatives are mined, name other examples for validation, or, if both sides "
            "are meant to search one corpus, split with shared_corpus"
        )
    return _sides(examples, sample)


def _texts(example: Example, shared_corpus: bool) -> Iterator[Hashable]:
    yield "query", text_key(example.query)
    if not shared_corpus:
        yield from (("passage", text_key(passage.text)) for passage in example.passages)


def _clusters(keys: Sequence[Iterable[Hashable]]) -> list[list[int]]:
    """Return the positions that are joined by common keys, in their order."""
    roots = list(range(len(keys)))

    def root(position: int) -> int:
        while roots[position] != position:
            roots[position] = roots[roots[position]]
            position = roots[position]
        return position

    first: dict[Hashable, int] = {}
    for position, position_keys in enumerate(keys):
        for key in position_keys:
            earlier_root, root_here = root(first.setdefault(key, position)), root(position)
            roots[max(earlier_root, root_here)] = min(earlier_root, root_here)
    clusters: dict[int, list[int]] = {}
    for position in range(len(keys)):
        clusters.setdefault(root(position), []).append(position)
    return list(clusters.values())


def _sample(clusters: Sequence[Sequence[int]], names: Sequence[str], share: float, seed: int) -> set[int]:
    """Return the positions for validation: whole clusters, each chosen by the name at its first position."""
    largest = math.ceil(share * len(names))
    small = (cluster for cluster in clusters if len(cluster) <= largest)
    sampled = (cluster for cluster in small if _number(f"{seed} {names[cluster[0]]}") < share)
    return {position for cluster in sampled for position in cluster}


def _number(name: str) -> float:
    """Return a number from 0 to 1 that depends on the name alone."""
    return int.from_bytes(sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64


def _sides(examples: Examples, sample: set[int]) -> tuple[Examples, Examples]:
    training = [example for i, example in enumerate(examples.examples) if i not in sample]
    validation = [example for i, example in enumerate(examples.examples) if i in sample]
    return _side(examples, training), _side(examples, validation)


def _side(examples: Examples, part: Sequence[Example]) -> Examples:
    names = {example.source for example in part}
    sources = tuple(source for source in examples.sources if source.name in names)
    return replace(examples, examples=tuple(part), sources=sources)

"""Which texts of two sides have words in common: equal, nearly held by each other, or a long run of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rag_rerank.training._shingles import Pairs, Words, contained, sharing

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["KINDS", "NEAR", "RUN", "SHORTEST", "WIDTH", "Kind", "Side", "overlaps"]

NEAR = 0.8
"""Share of the shorter text's shingles from which on it counts as held by the longer one. In a sentence of 20 words one
changed word breaks 3 of 18 shingles, which leaves 0.83; two texts on one subject seldom share a fifth."""

WIDTH = 3
"""Words of a shingle. Wider ones miss sentences in which a word was changed: one breaks as many shingles as they are
wide."""

SHORTEST = 8
"""Words that a text must have to be looked for within others: the shortest run that the GPT-3 report took for
contamination (Brown et al. 2020, appendix C: 8 to 13 words). Shorter texts, headings say, stand in many places by
chance; they count only where they are equal, a query to a query, a passage to a document."""

RUN = 13
"""Words in a row that two texts may not share, whatever surrounds them: the same report's longest run. It finds texts
that were cut at other places, and sentences that are quoted."""

Kind = Literal["exact", "near", "run"]

KINDS: tuple[Kind, ...] = ("exact", "near", "run")
"""Strongest first."""


@dataclass
class Side:
    """Texts that are compared with those of another side, and which of them are queries."""

    texts: list[str]
    queries: list[bool]


def overlaps(ours: Side, theirs: Side, owners: Sequence[str]) -> Iterator[tuple[int, int, Kind, float | None]]:
    """Yield pairs of texts by position, with the kind of what they share and its share.

    For each text of ours one a collection (``owners`` names those of their texts), apart for its queries and its
    documents, of the strongest kind; and one for each text of theirs that is touched.
    """
    import numpy as np

    groups = {group: number for number, group in enumerate(dict.fromkeys(zip(owners, theirs.queries, strict=True)))}
    group = np.array([groups[one] for one in zip(owners, theirs.queries, strict=True)], dtype=np.int64)
    left: set[int] = set()
    right: set[int] = set()
    for kind, pairs in _found(ours, theirs):
        order = np.argsort(-pairs.share, kind="stable")
        slots, j = (pairs.small * len(groups) + group[pairs.large])[order], pairs.large[order]
        rows = {int(row) for keys in (slots, j) for row in np.unique(keys, return_index=True)[1]}
        for row in sorted(rows):
            slot, text = int(slots[row]), int(j[row])
            if slot not in left or text not in right:
                left.add(slot)
                right.add(text)
                share = None if kind == "run" else round(float(pairs.share[order[row]]), 3)
                yield slot // len(groups), text, kind, share


def _found(ours: Side, theirs: Side) -> Iterator[tuple[Kind, Pairs]]:
    numbers: dict[str, int] = {}
    one, other = Words(ours.texts, numbers), Words(theirs.texts, numbers)
    yield "exact", _equal(one, other, ours, theirs)
    for pairs in _near_queries(ours, theirs):
        yield "near", pairs
    left, right = one.shingles(WIDTH), other.shingles(WIDTH)
    for pairs in contained(left.only(one.lengths >= SHORTEST), right, NEAR):
        yield "near", pairs
    for pairs in contained(right.only(other.lengths >= SHORTEST), left, NEAR):
        yield "near", Pairs(pairs.large, pairs.small, pairs.share)
    left, right = one.shingles(RUN), other.shingles(RUN)
    yield "run", _pairs(*sharing(left, right))
    yield "run", _pairs(*reversed(sharing(right, left)))


def _equal(one: Words, other: Words, ours: Side, theirs: Side) -> Pairs:
    """Return the texts with the same words; of texts below `SHORTEST`, those of the same kind."""
    known: dict[bytes, list[int]] = {}
    for j in range(len(theirs.texts)):
        known.setdefault(other.key(j), []).append(j)
    found = [
        (i, j)
        for i in range(len(ours.texts))
        for j in (known.get(one.key(i), ()) if one.lengths[i] else ())
        if ours.queries[i] == theirs.queries[j] or one.lengths[i] >= SHORTEST
    ]
    return _pairs([i for i, _ in found], [j for _, j in found])


def _near_queries(ours: Side, theirs: Side) -> Iterator[Pairs]:
    """Yield the queries with nearly the same words, in any order: a Jaccard index of at least `NEAR`."""
    import numpy as np

    numbers: dict[str, int] = {}
    i, j = np.flatnonzero(ours.queries), np.flatnonzero(theirs.queries)
    left = Words([ours.texts[k] for k in i], numbers)
    right = Words([theirs.texts[k] for k in j], numbers)
    one, other = left.shingles(1), right.shingles(1)
    for pairs in contained(one, other, NEAR):
        sizes = one.counts[pairs.small]
        common = pairs.share * sizes
        share = common / (sizes + other.counts[pairs.large] - common)
        near = share >= NEAR - 1e-9
        yield Pairs(i[pairs.small[near]], j[pairs.large[near]], share[near])


def _pairs(small: Any, large: Any) -> Pairs:
    import numpy as np

    return Pairs(np.array(small, dtype=np.int64), np.array(large, dtype=np.int64), np.ones(len(small)))

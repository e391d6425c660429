"""Which texts of two sets share words: equal, contained, or with a long run in common. Exact, on hashed shingles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rag_rerank.text.words import terms

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = [
    "KINDS",
    "NEAR",
    "RUN",
    "SHORTEST",
    "WIDTH",
    "Kind",
    "Pairs",
    "Shingles",
    "TextSet",
    "Words",
    "containment",
    "overlaps",
    "shared_runs",
    "words",
]

_BLOCK = 4_000_000
"""Rows that are looked at together: some hundred megabytes."""

_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
"""Kana and Han: a character counts as a word."""


def words(text: str) -> list[str]:
    """Return the words of a text, as BM25 counts them, without case; of unspaced scripts each character is one."""
    return terms(_UNSPACED.sub(r" \1 ", text))


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts by position: ``small[k]`` and ``large[k]`` have ``share[k]`` of the shingles of the first."""

    small: Array
    large: Array
    share: Array


@dataclass(frozen=True)
class Shingles:
    """The different shingles of many texts: runs of so many words, as 64-bit hashes.

    Args:
        owner: Text of each shingle, ascending.
        hash: Its hash, ascending within a text. Two different runs among 10 million have the same hash with a
            probability of about one in 400,000.
        counts: How many a text has.
    """

    owner: Array
    hash: Array
    counts: Array

    def only(self, texts: Array) -> Shingles:
        """Return those of some texts, given as a mask; the others have none."""
        rows = texts[self.owner]
        return Shingles(self.owner[rows], self.hash[rows], self.counts * texts)


class Words:
    """The words of many texts, one text after another, as numbers.

    Args:
        texts: The texts.
        numbers: Number of each word; grows. Texts that are compared share it.
    """

    def __init__(self, texts: Iterable[str], numbers: dict[str, int]) -> None:
        from array import array

        import numpy as np

        found, ends = array("i"), array("q", [0])
        for text in texts:
            found.extend([numbers.setdefault(word, len(numbers)) for word in words(text)])
            ends.append(len(found))
        self._words = np.frombuffer(found, dtype=np.int32) if found else np.zeros(0, dtype=np.int32)
        self.lengths: Array = np.diff(np.frombuffer(ends, dtype=np.int64))
        self._ends = [0, *np.cumsum(self.lengths).tolist()]
        self._numbers = numbers

    def key(self, text: int) -> bytes:
        """Return what texts with the same words share."""
        return bytes(self._words[self._ends[text] : self._ends[text + 1]].tobytes())

    def shingles(self, width: int) -> Shingles:
        """Return the different runs of ``width`` words; a text of fewer words has none.

        The hash of a run is a sum of random numbers of its words, each times an odd random number of its place.
        """
        import numpy as np

        chance = np.random.default_rng(0)  # a word has one number however many follow it
        places = chance.integers(2**63, size=width, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        value = chance.integers(2**64, size=len(self._numbers), dtype=np.uint64)[self._words]
        owner = np.repeat(np.arange(len(self.lengths), dtype=np.int32), self.lengths)
        runs = max(0, len(owner) - width + 1)
        hashed = np.zeros(runs, dtype=np.uint64)
        for place in range(width):
            hashed += value[place : place + runs] * places[place]
        whole = owner[:runs] == owner[width - 1 :][:runs]
        owner, hashed = owner[:runs][whole], hashed[whole]
        order = np.lexsort((hashed, owner))
        owner, hashed = owner[order], hashed[order]
        new = np.ones(len(owner), dtype=bool)
        new[1:] = (owner[1:] != owner[:-1]) | (hashed[1:] != hashed[:-1])
        owner, hashed = owner[new], hashed[new]
        return Shingles(owner, hashed, np.bincount(owner, minlength=len(self.lengths)))


def containment(small: Shingles, large: Shingles, share: float) -> Iterator[Pairs]:
    """Yield all pairs of which the second text has at least ``share`` of the first one's shingles.

    That is Broder's containment (On the resemblance and containment of documents, 1997), not estimated by MinHash but
    counted. What makes it fast is the prefix filter (Chaudhuri, Ganti and Kaushik, ICDE 2006): of ``n`` shingles of
    which ``m`` must be found, any ``n - m + 1`` hold one that is found, so only texts with one of the rarest so many
    are looked at. No pair is missed.
    """
    import numpy as np

    by_hash = np.argsort(large.hash, kind="stable")
    hashes, owners = large.hash[by_hash], large.owner[by_hash]
    first = np.searchsorted(hashes, small.hash, "left")
    found = np.searchsorted(hashes, small.hash, "right") - first
    needed = np.ceil(share * small.counts - 1e-9).astype(np.int64)
    there = np.bincount(small.owner, weights=found > 0, minlength=len(needed))
    rows = np.flatnonzero(((there >= needed) & (needed > 0))[small.owner])
    rows = rows[np.lexsort((found[rows], small.owner[rows]))]
    owner = small.owner[rows]
    place = np.arange(len(rows)) - np.searchsorted(owner, owner, "left")
    rows = rows[(place <= small.counts[owner] - needed[owner]) & (found[rows] > 0)]
    for block in _blocks(found[rows], small.owner[rows]):
        part = rows[block]
        proposed = owners[_spread(first[part], found[part])].astype(np.int64)
        keys = np.unique(np.repeat(small.owner[part].astype(np.int64), found[part]) * len(large.counts) + proposed)
        left, right = keys // max(1, len(large.counts)), keys % max(1, len(large.counts))
        for inner in _blocks(small.counts[left], np.arange(len(left))):
            i, j = left[inner], right[inner]
            common = _common(small, large, i, j)
            enough = common >= needed[i]
            yield Pairs(i[enough], j[enough], common[enough] / small.counts[i[enough]])


def shared_runs(small: Shingles, large: Shingles) -> tuple[Array, Array]:
    """Return the texts of the first that share a shingle with any of the second, and one such text for each."""
    import numpy as np

    hashes, at = np.unique(large.hash, return_index=True)
    if not len(hashes):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    where = np.minimum(np.searchsorted(hashes, small.hash), len(hashes) - 1)
    hit = np.flatnonzero(hashes[where] == small.hash)
    texts, rows = np.unique(small.owner[hit], return_index=True)
    return texts.astype(np.int64), large.owner[at[where[hit[rows]]]].astype(np.int64)


def _common(small: Shingles, large: Shingles, i: Array, j: Array) -> Array:
    """Return how many shingles each pair of texts shares."""
    import numpy as np

    salts = np.random.default_rng(1).integers(2**64, size=len(large.counts), dtype=np.uint64)
    texts = np.unique(j)
    there = _spread(_starts(large)[texts], large.counts[texts])
    known = np.sort(large.hash[there] + salts[large.owner[there]])
    pair = np.repeat(np.arange(len(i)), small.counts[i])
    asked = small.hash[_spread(_starts(small)[i], small.counts[i])] + salts[j][pair]
    where = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.bincount(pair, weights=known[where] == asked, minlength=len(i)).astype(np.int64)


def _starts(shingles: Shingles) -> Array:
    import numpy as np

    return np.cumsum(shingles.counts) - shingles.counts


def _spread(starts: Array, counts: Array) -> Array:
    """Return the numbers ``start, start + 1 ...``, as many as counted, one range after another."""
    import numpy as np

    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())


def _blocks(sizes: Array, owner: Array) -> Iterator[slice]:
    """Yield slices whose sizes add up to about `_BLOCK`, cut only where the owner changes."""
    import numpy as np

    whole = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        stop = int(np.searchsorted(whole, whole[start] - sizes[start] + _BLOCK, "right"))
        stop = max(stop, start + 1)
        stop = int(np.searchsorted(owner, owner[stop - 1], "right"))
        yield slice(start, stop)
        start = stop


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
class TextSet:
    """Texts that are compared with those of another side, and which of them are queries."""

    texts: list[str]
    queries: list[bool]


def overlaps(ours: TextSet, theirs: TextSet, owners: Sequence[str]) -> Iterator[tuple[int, int, Kind, float | None]]:
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


def _found(ours: TextSet, theirs: TextSet) -> Iterator[tuple[Kind, Pairs]]:
    numbers: dict[str, int] = {}
    one, other = Words(ours.texts, numbers), Words(theirs.texts, numbers)
    yield "exact", _equal(one, other, ours, theirs)
    for pairs in _near_queries(ours, theirs):
        yield "near", pairs
    left, right = one.shingles(WIDTH), other.shingles(WIDTH)
    for pairs in containment(left.only(one.lengths >= SHORTEST), right, NEAR):
        yield "near", pairs
    for pairs in containment(right.only(other.lengths >= SHORTEST), left, NEAR):
        yield "near", Pairs(pairs.large, pairs.small, pairs.share)
    left, right = one.shingles(RUN), other.shingles(RUN)
    yield "run", _pairs(*shared_runs(left, right))
    yield "run", _pairs(*reversed(shared_runs(right, left)))


def _equal(one: Words, other: Words, ours: TextSet, theirs: TextSet) -> Pairs:
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


def _near_queries(ours: TextSet, theirs: TextSet) -> Iterator[Pairs]:
    """Yield the queries with nearly the same words, in any order: a Jaccard index of at least `NEAR`."""
    import numpy as np

    numbers: dict[str, int] = {}
    i, j = np.flatnonzero(ours.queries), np.flatnonzero(theirs.queries)
    left = Words([ours.texts[k] for k in i], numbers)
    right = Words([theirs.texts[k] for k in j], numbers)
    one, other = left.shingles(1), right.shingles(1)
    for pairs in containment(one, other, NEAR):
        sizes = one.counts[pairs.small]
        common = pairs.share * sizes
        share = common / (sizes + other.counts[pairs.large] - common)
        near = share >= NEAR - 1e-9
        yield Pairs(i[pairs.small[near]], j[pairs.large[near]], share[near])


def _pairs(small: Any, large: Any) -> Pairs:
    import numpy as np

    return Pairs(np.array(small, dtype=np.int64), np.array(large, dtype=np.int64), np.ones(len(small)))

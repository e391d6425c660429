"""Find the texts of two sets that share words: equal, contained, or with a long run in common.

Exact, on hashed shingles: every text is compared with every other, without sampling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rag_rerank.text.words import split_words

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
    "find_contained",
    "find_overlaps",
    "find_shared_runs",
]

NEAR = 0.8
"""Share of the shorter text's shingles that the longer text must have to count as containing it. In a sentence of 20
words one changed word breaks 3 of 18 shingles, which leaves 0.83; two texts on one subject seldom share a fifth."""

WIDTH = 3
"""Words of a shingle. Wider ones miss sentences in which a word was changed: a changed word breaks as many shingles as
they are wide."""

SHORTEST = 8
"""Words that a text must have to be searched within others: the shortest run that the GPT-3 report counts as
contamination (Brown et al. 2020, appendix C: 8 to 13 words). Shorter texts, such as headings, occur in many places by
chance; they count only if they are equal, a query to a query, a passage to a document."""

RUN = 13
"""Words in a row that two texts may not share, whatever surrounds them: the same report's longest run. It finds texts
that were cut at other places, and quoted sentences."""

Kind = Literal["exact", "near", "run"]

KINDS: tuple[Kind, ...] = ("exact", "near", "run")
"""The kinds of overlap, strongest first."""

_BLOCK = 4_000_000
"""Rows that are processed together: some hundred megabytes."""


@dataclass
class TextSet:
    """Texts to compare with another set, and which of them are queries."""

    texts: list[str]
    queries: list[bool]


def find_overlaps(
    ours: TextSet, theirs: TextSet, owners: Sequence[str]
) -> Iterator[tuple[int, int, Kind, float | None]]:
    """Yield pairs of texts by position, with the kind of their overlap and its share.

    For each text of ours and each collection (``owners`` names those of their texts) one pair of the strongest kind
    with its queries, and one with its documents; and one pair for each text of theirs that overlaps.
    """
    import numpy as np

    groups = {group: number for number, group in enumerate(dict.fromkeys(zip(owners, theirs.queries, strict=True)))}
    group = np.array([groups[key] for key in zip(owners, theirs.queries, strict=True)], dtype=np.int64)
    our_slots: set[int] = set()
    their_texts: set[int] = set()
    for kind, pairs in _overlaps_by_kind(ours, theirs):
        order = np.argsort(-pairs.share, kind="stable")
        slots, j = (pairs.small * len(groups) + group[pairs.large])[order], pairs.large[order]
        rows = {int(row) for keys in (slots, j) for row in np.unique(keys, return_index=True)[1]}
        for row in sorted(rows):
            slot, text = int(slots[row]), int(j[row])
            if slot not in our_slots or text not in their_texts:
                our_slots.add(slot)
                their_texts.add(text)
                share = None if kind == "run" else round(float(pairs.share[order[row]]), 3)
                yield slot // len(groups), text, kind, share


def _overlaps_by_kind(ours: TextSet, theirs: TextSet) -> Iterator[tuple[Kind, Pairs]]:
    """Yield pairs of positions (ours, theirs), the strongest kind first."""
    numbers: dict[str, int] = {}
    our_words, their_words = Words(ours.texts, numbers), Words(theirs.texts, numbers)
    yield "exact", _equal(our_words, their_words, ours, theirs)
    for pairs in _near_queries(ours, theirs):
        yield "near", pairs
    our_shingles, their_shingles = our_words.shingles(WIDTH), their_words.shingles(WIDTH)
    for pairs in find_contained(our_shingles.only(our_words.lengths >= SHORTEST), their_shingles, NEAR):
        yield "near", pairs
    for pairs in find_contained(their_shingles.only(their_words.lengths >= SHORTEST), our_shingles, NEAR):
        yield "near", Pairs(pairs.large, pairs.small, pairs.share)
    our_shingles, their_shingles = our_words.shingles(RUN), their_words.shingles(RUN)
    yield "run", _pairs(*find_shared_runs(our_shingles, their_shingles))
    yield "run", _pairs(*reversed(find_shared_runs(their_shingles, our_shingles)))


def _equal(our_words: Words, their_words: Words, ours: TextSet, theirs: TextSet) -> Pairs:
    """Return the texts with the same words; texts below `SHORTEST` must be of the same kind."""
    by_key: dict[bytes, list[int]] = {}
    for j in range(len(theirs.texts)):
        by_key.setdefault(their_words.key(j), []).append(j)
    equal = [
        (i, j)
        for i in range(len(ours.texts))
        for j in (by_key.get(our_words.key(i), ()) if our_words.lengths[i] else ())
        if ours.queries[i] == theirs.queries[j] or our_words.lengths[i] >= SHORTEST
    ]
    return _pairs([i for i, _ in equal], [j for _, j in equal])


def _near_queries(ours: TextSet, theirs: TextSet) -> Iterator[Pairs]:
    """Yield the queries with nearly the same words, in any order: a Jaccard index of at least `NEAR`."""
    import numpy as np

    numbers: dict[str, int] = {}
    i, j = np.flatnonzero(ours.queries), np.flatnonzero(theirs.queries)
    our_words = Words([ours.texts[k] for k in i], numbers).shingles(1)
    their_words = Words([theirs.texts[k] for k in j], numbers).shingles(1)
    for pairs in find_contained(our_words, their_words, NEAR):
        sizes = our_words.counts[pairs.small]
        common = pairs.share * sizes
        share = common / (sizes + their_words.counts[pairs.large] - common)
        near = share >= NEAR - 1e-9
        yield Pairs(i[pairs.small[near]], j[pairs.large[near]], share[near])


def _pairs(small: Any, large: Any) -> Pairs:
    import numpy as np

    return Pairs(np.array(small, dtype=np.int64), np.array(large, dtype=np.int64), np.ones(len(small)))


class Words:
    """The words of many texts as numbers, one text after another.

    Args:
        texts: The texts.
        numbers: Number of each word; new words are added. Texts to compare share it.
    """

    def __init__(self, texts: Iterable[str], numbers: dict[str, int]) -> None:
        from array import array

        import numpy as np

        words, ends = array("i"), array("q", [0])
        for text in texts:
            words.extend([numbers.setdefault(word, len(numbers)) for word in split_words(text)])
            ends.append(len(words))
        self._words = np.frombuffer(words, dtype=np.int32) if words else np.zeros(0, dtype=np.int32)
        self.lengths: Array = np.diff(np.frombuffer(ends, dtype=np.int64))
        self._ends = [0, *np.cumsum(self.lengths).tolist()]
        self._numbers = numbers

    def key(self, text: int) -> bytes:
        """Return a key that texts with the same words have in common."""
        return bytes(self._words[self._ends[text] : self._ends[text + 1]].tobytes())

    def shingles(self, width: int) -> Shingles:
        """Return the different runs of ``width`` words; a text of fewer words has none.

        The hash of a run is the sum of one random number per word, each times an odd random number for its place.
        """
        import numpy as np

        rng = np.random.default_rng(0)  # a word has the same number, however many words follow it
        places = rng.integers(2**63, size=width, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        value = rng.integers(2**64, size=len(self._numbers), dtype=np.uint64)[self._words]
        owner = np.repeat(np.arange(len(self.lengths), dtype=np.int32), self.lengths)
        runs = max(0, len(owner) - width + 1)
        hashes = np.zeros(runs, dtype=np.uint64)
        for place in range(width):
            hashes += value[place : place + runs] * places[place]
        whole = owner[:runs] == owner[width - 1 :][:runs]
        owner, hashes = owner[:runs][whole], hashes[whole]
        order = np.lexsort((hashes, owner))
        owner, hashes = owner[order], hashes[order]
        new = np.ones(len(owner), dtype=bool)
        new[1:] = (owner[1:] != owner[:-1]) | (hashes[1:] != hashes[:-1])
        owner, hashes = owner[new], hashes[new]
        return Shingles(owner, hashes, np.bincount(owner, minlength=len(self.lengths)))


@dataclass(frozen=True)
class Shingles:
    """The different shingles of many texts: runs of words of one width, as 64-bit hashes.

    Args:
        owner: Text of each shingle, ascending.
        hash: Its hash, ascending within a text. Two different runs among 10 million have the same hash with a
            probability of about one in 400,000.
        counts: Number of shingles of each text.
    """

    owner: Array
    hash: Array
    counts: Array

    def only(self, texts: Array) -> Shingles:
        """Return the shingles of the texts in a mask; the other texts have none."""
        rows = texts[self.owner]
        return Shingles(self.owner[rows], self.hash[rows], self.counts * texts)


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts by position: ``large[k]`` has ``share[k]`` of the shingles of ``small[k]``."""

    small: Array
    large: Array
    share: Array


def find_contained(small: Shingles, large: Shingles, share: float) -> Iterator[Pairs]:
    """Yield all pairs in which the second text has at least ``share`` of the first one's shingles.

    That is Broder's containment (On the resemblance and containment of documents, 1997), not estimated by MinHash but
    counted. The prefix filter makes it fast (Chaudhuri, Ganti and Kaushik, ICDE 2006): if ``m`` of ``n`` shingles must
    match, any ``n - m + 1`` of them include a match, so only texts with one of the ``n - m + 1`` rarest are compared.
    No pair is missed.
    """
    import numpy as np

    by_hash = np.argsort(large.hash, kind="stable")
    hashes, owners = large.hash[by_hash], large.owner[by_hash]
    first = np.searchsorted(hashes, small.hash, "left")
    matches = np.searchsorted(hashes, small.hash, "right") - first
    needed = np.ceil(share * small.counts - 1e-9).astype(np.int64)
    matching = np.bincount(small.owner, weights=matches > 0, minlength=len(needed))
    rows = np.flatnonzero(((matching >= needed) & (needed > 0))[small.owner])
    rows = rows[np.lexsort((matches[rows], small.owner[rows]))]
    owner = small.owner[rows]
    place = np.arange(len(rows)) - np.searchsorted(owner, owner, "left")
    rows = rows[(place <= small.counts[owner] - needed[owner]) & (matches[rows] > 0)]
    for block in _blocks(matches[rows], small.owner[rows]):
        part = rows[block]
        proposals = owners[_ranges(first[part], matches[part])].astype(np.int64)
        keys = np.unique(np.repeat(small.owner[part].astype(np.int64), matches[part]) * len(large.counts) + proposals)
        first_texts, second_texts = keys // max(1, len(large.counts)), keys % max(1, len(large.counts))
        for inner in _blocks(small.counts[first_texts], np.arange(len(first_texts))):
            i, j = first_texts[inner], second_texts[inner]
            common = _common(small, large, i, j)
            enough = common >= needed[i]
            yield Pairs(i[enough], j[enough], common[enough] / small.counts[i[enough]])


def find_shared_runs(small: Shingles, large: Shingles) -> tuple[Array, Array]:
    """Return the texts of the first that share a shingle with any of the second, and one such text for each."""
    import numpy as np

    hashes, positions = np.unique(large.hash, return_index=True)
    if not len(hashes):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    where = np.minimum(np.searchsorted(hashes, small.hash), len(hashes) - 1)
    hit = np.flatnonzero(hashes[where] == small.hash)
    texts, rows = np.unique(small.owner[hit], return_index=True)
    return texts.astype(np.int64), large.owner[positions[where[hit[rows]]]].astype(np.int64)


def _common(small: Shingles, large: Shingles, i: Array, j: Array) -> Array:
    """Return the number of common shingles of each pair of texts."""
    import numpy as np

    salts = np.random.default_rng(1).integers(2**64, size=len(large.counts), dtype=np.uint64)
    texts = np.unique(j)
    there = _ranges(_starts(large)[texts], large.counts[texts])
    targets = np.sort(large.hash[there] + salts[large.owner[there]])
    pair = np.repeat(np.arange(len(i)), small.counts[i])
    values = small.hash[_ranges(_starts(small)[i], small.counts[i])] + salts[j][pair]
    where = np.minimum(np.searchsorted(targets, values), len(targets) - 1)
    return np.bincount(pair, weights=targets[where] == values, minlength=len(i)).astype(np.int64)


def _starts(shingles: Shingles) -> Array:
    import numpy as np

    return np.cumsum(shingles.counts) - shingles.counts


def _ranges(starts: Array, counts: Array) -> Array:
    """Return the numbers ``start, start + 1 ...`` of each range, one range after another."""
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

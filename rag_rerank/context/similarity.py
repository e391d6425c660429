"""How alike texts are: by their words, or by vectors of the caller's."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from rag_rerank.errors import ConfigError
from rag_rerank.text.words import UNSPACED

if TYPE_CHECKING:
    import numpy as np

Similarity = Literal["words"] | Callable[[list[str]], Any]

_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


def same(text: str) -> str:
    """Return what exact duplicates share: the characters, but for white space and Unicode composition."""
    return " ".join(unicodedata.normalize("NFC", text).split())


class SimilarityMeasure(ABC):
    """The texts of one ranking, comparable with each other."""

    @abstractmethod
    def to_all(self, i: int) -> np.ndarray:
        """Return the similarity of text ``i`` to each text; 1 for the same, 0 for nothing in common."""


def similarity_of(texts: Sequence[str], similarity: Similarity) -> SimilarityMeasure:
    """Return a way to compare these texts."""
    return _Words(texts) if similarity == "words" else _Vectors(texts, similarity)


class _Words(SimilarityMeasure):
    """Jaccard index of the sets of words and of pairs of neighbouring words, without case.

    Broder, On the resemblance and containment of documents (1997), with shingles of one and of two words: single
    words show a common subject, pairs tell "A beats B" from "B beats A". Exact, not estimated by MinHash: only texts
    that are kept are compared with the others, which costs less than the signatures would.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        import numpy as np

        numbers: dict[object, int] = {}
        sets = []
        for text in texts:
            words = _WORD.findall(text.casefold())
            sets.append([numbers.setdefault(item, len(numbers)) for item in {*words, *pairwise(words)}])
        self._sizes = np.array([len(items) for items in sets])
        self._items = np.array([item for items in sets for item in items], dtype=np.int64)
        self._owners = np.repeat(np.arange(len(sets)), self._sizes)
        self._ends = np.cumsum(self._sizes)
        self._known = len(numbers)

    def to_all(self, i: int) -> np.ndarray:
        import numpy as np

        inside = np.zeros(self._known, dtype=bool)
        inside[self._items[self._ends[i] - self._sizes[i] : self._ends[i]]] = True
        both = np.bincount(self._owners[inside[self._items]], minlength=len(self._sizes))
        found: np.ndarray = both / np.maximum(self._sizes + self._sizes[i] - both, 1)
        return found


class _Vectors(SimilarityMeasure):
    """Cosine of the caller's vectors; a vector of zeros is like nothing."""

    def __init__(self, texts: Sequence[str], embed: Callable[[list[str]], Any]) -> None:
        import numpy as np

        try:
            vectors = np.asarray(embed(list(texts)), dtype=np.float64)
        except Exception as error:  # the caller's own code raises whatever it likes
            raise ConfigError(f"the function raised {type(error).__name__}", path="similarity") from error
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise ConfigError(
                f"the function must return one vector of finite numbers for each of {len(texts)} texts, got an array "
                f"of shape {vectors.shape}",
                path="similarity",
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self._vectors = vectors / np.where(lengths > 0, lengths, 1)

    def to_all(self, i: int) -> np.ndarray:
        found: np.ndarray = self._vectors @ self._vectors[i]
        return found

"""The similarity of texts: by their words, or by vectors of the caller."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from rag_rerank.documentation import BUDGET
from rag_rerank.errors import ConfigError
from rag_rerank.text.words import split_words

if TYPE_CHECKING:
    import numpy as np

Similarity = Literal["words"] | Callable[[list[str]], Any]


def normalised_text(text: str) -> str:
    """Return a text with single spaces in Unicode composition NFC, which is the same for exact duplicates."""
    return " ".join(unicodedata.normalize("NFC", text).split())


class SimilarityMeasure(ABC):
    """The similarities of the texts of one ranking."""

    @abstractmethod
    def to_all(self, i: int) -> np.ndarray:
        """Return the similarity of text ``i`` to each text; 1 for the same, 0 for nothing in common."""


def similarity_of(texts: Sequence[str], similarity: Similarity) -> SimilarityMeasure:
    """Return the measure of these texts.

    Raises:
        ConfigError: The caller's function raised, or returned something else than one finite vector a text.
    """
    return _Words(texts) if similarity == "words" else _Vectors(texts, similarity)


class _Words(SimilarityMeasure):
    """Jaccard index of the sets of words and of pairs of neighbouring words, case-folded.

    Broder, On the resemblance and containment of documents (1997), with shingles of one and of two words: single
    words show a common subject, pairs distinguish "A beats B" from "B beats A". It is exact, not estimated by MinHash:
    only selected texts are compared with the others, which costs less than the signatures would.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        import numpy as np

        numbers: dict[object, int] = {}
        sets = []
        for text in texts:
            words = split_words(text)
            sets.append([numbers.setdefault(item, len(numbers)) for item in {*words, *pairwise(words)}])
        self._sizes = np.array([len(items) for items in sets])
        self._items = np.array([item for items in sets for item in items], dtype=np.int64)
        self._owners = np.repeat(np.arange(len(sets)), self._sizes)
        self._ends = np.cumsum(self._sizes)
        self._count = len(numbers)

    def to_all(self, i: int) -> np.ndarray:
        import numpy as np

        inside = np.zeros(self._count, dtype=bool)
        inside[self._items[self._ends[i] - self._sizes[i] : self._ends[i]]] = True
        both = np.bincount(self._owners[inside[self._items]], minlength=len(self._sizes))
        jaccard: np.ndarray = both / np.maximum(self._sizes + self._sizes[i] - both, 1)
        return jaccard


class _Vectors(SimilarityMeasure):
    """Cosine of the caller's vectors; a vector of zeros has the similarity 0 to all."""

    def __init__(self, texts: Sequence[str], embed: Callable[[list[str]], Any]) -> None:
        import numpy as np

        try:
            vectors = np.asarray(embed(list(texts)), dtype=np.float64)
        except Exception as error:  # the caller's own code may raise anything
            raise ConfigError(f"the function raised {type(error).__name__}", path="similarity", page=BUDGET) from error
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise ConfigError(
                f"the function must return one vector of finite numbers for each of {len(texts)} texts, got an array "
                f"of shape {vectors.shape}",
                path="similarity",
                page=BUDGET,
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self._vectors = vectors / np.where(lengths > 0, lengths, 1)

    def to_all(self, i: int) -> np.ndarray:
        cosine: np.ndarray = self._vectors @ self._vectors[i]
        return cosine

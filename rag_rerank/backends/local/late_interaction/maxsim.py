"""Exact similarities of query tokens to the tokens of many texts, and their maxima, without a loop over texts.

All tokens of all texts are one matrix, so that a call is one matrix product; the tokens of a text are a segment of its
columns, and ``ufunc.reduceat`` takes a maximum or a sum of every segment at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_rerank.backends.local.late_interaction.precision import restore
from rag_rerank.backends.local.late_interaction.products import products
from rag_rerank.backends.local.late_interaction.text_vectors import JoinedRows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["LEAST", "Segments", "max_sim", "similarities"]

LEAST = -1e4
"""Similarity to no token at all: below any cosine, and finite."""


class Segments:
    """The columns of each text in a matrix of similarities; a text may have none.

    Args:
        counts: How many columns each text has.
    """

    def __init__(self, counts: npt.NDArray[np.intp]) -> None:
        import numpy as np

        self.counts = counts
        self._full = np.flatnonzero(counts)
        ends = np.cumsum(counts)
        self._starts = (ends - counts)[self._full]
        self.total = int(ends[-1]) if len(ends) else 0

    def maxima(self, columns: npt.NDArray[np.float32], empty: float) -> Floats:
        """Return the maximum of each row over each text's columns, of shape (rows, texts)."""
        import numpy as np

        return self._reduce(np.maximum, columns, empty)

    def sums(self, columns: npt.NDArray[np.float32]) -> Floats:
        """Return the sum of each row over each text's columns."""
        import numpy as np

        return self._reduce(np.add, columns, 0.0)

    def without_maxima(self, columns: Floats, maxima: Floats) -> Floats:
        """Return a copy with `LEAST` in place of the maximum of each row and text; of equal ones, of the first."""
        import numpy as np

        rest: Floats = columns.copy()
        matches = columns == np.repeat(maxima, self.counts, axis=1)
        if np.count_nonzero(matches) > len(columns) * len(self._starts):  # some are equal
            places = np.where(matches, np.arange(self.total), self.total)
            first = np.minimum.reduceat(places, self._starts, axis=1)
            matches = np.zeros_like(matches)
            matches[np.arange(len(columns))[:, None], first] = True
        rest[matches] = LEAST
        return rest

    def _reduce(self, operator: np.ufunc, columns: npt.NDArray[np.float32], empty: float) -> Floats:
        import numpy as np

        result = np.full((len(columns), len(self.counts)), empty, dtype=np.float32)
        if len(self._starts) and len(columns):
            reduced = operator.reduceat(columns, self._starts, axis=1)
            result[:, self._full] = reduced
        return result


def similarities(query: Floats, rows: JoinedRows) -> Floats:
    """Return the product of each query vector with each vector of the rows, of shape (query tokens, tokens).

    Args:
        query: Vectors of the query, of shape (query tokens, width).
        rows: The texts.
    """
    import numpy as np

    layout = rows.layout
    numbers, factors = restore(rows.factors, rows.numbers, layout.width, layout.precision)
    similar: Floats = np.ascontiguousarray(products(numbers, query).T)
    if factors is not None:
        similar *= factors
    return similar


def max_sim(query: Floats, rows: JoinedRows, *, mean: bool = False) -> npt.NDArray[np.float64]:
    """Return the sum over the query's vectors of their largest similarity to each text's (MaxSim).

    Khattab and Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over
    BERT", SIGIR 2020. A text without a vector has a similarity of 0 to each, as zero vectors would.

    Args:
        query: Unit vectors of the query.
        rows: The texts.
        mean: Divide by the number of the query's vectors.
    """
    import numpy as np

    largest = Segments(rows.counts).maxima(similarities(query, rows), empty=0.0)
    total: npt.NDArray[np.float64] = largest.sum(axis=0, dtype=np.float64)
    return total / max(len(query), 1) if mean else total

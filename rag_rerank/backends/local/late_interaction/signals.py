"""The score of a model with signals, from kept vectors: what its head computes for a pair, in NumPy.

`rag_rerank.backends.local.torch_models.late_interaction` defines the signals and says what each is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rag_rerank.backends.local.late_interaction.maxsim import LEAST, Segments, similarities
from rag_rerank.backends.local.late_interaction.precision import restore
from rag_rerank.backends.local.late_interaction.products import products
from rag_rerank.backends.local.late_interaction.text_vectors import JoinedRows
from rag_rerank.backends.local.torch_models.late_interaction import BEST, K1, LENGTH, SOFT, B

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["QuerySide", "SignalHead"]

_SMALL = 1e-6


@dataclass(frozen=True)
class QuerySide:
    """What the signals need of a query.

    Args:
        vectors: Unit vectors of its compared tokens.
        ids: Ids of these tokens.
        split: 1 for a token of a word in several pieces, else 0.
        mean: Unit vector of the sum of all its token vectors.
    """

    vectors: Floats
    ids: npt.NDArray[np.int32]
    split: Floats
    mean: Floats


@dataclass(frozen=True)
class SignalHead:
    """The head of a model with signals.

    Args:
        token_weights: How informative each word piece is.
        continues: 1 for a word piece that continues a word.
        weight: Factor of each signal.
        bias: What is added.
        special_ids: Tokens that are read but not compared.
    """

    token_weights: Floats
    continues: Floats
    weight: Floats
    bias: float
    special_ids: tuple[int, ...]

    def is_compared(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Return which tokens are compared."""
        import numpy as np

        return ~np.isin(ids, np.asarray(self.special_ids, dtype=np.int32))

    def query_side(self, ids: npt.NDArray[np.int32], tokens: Floats) -> QuerySide:
        """Return what the signals need of a query, of the ids and vectors of all its tokens."""
        import numpy as np

        compared = self.is_compared(ids)
        piece = self.continues[ids]
        split = np.maximum(piece, np.append(piece[1:], np.float32(0)))
        return QuerySide(unit(tokens[compared]), ids[compared], split[compared], unit(tokens.sum(axis=0)))

    def scores(self, query: QuerySide, rows: JoinedRows) -> npt.NDArray[np.float64]:
        """Return the logit of each text."""
        import numpy as np

        signals = self.signals(query, rows)
        logits: npt.NDArray[np.float64] = (self.weight[:, None].astype(np.float64) * signals).sum(axis=0) + self.bias
        return logits

    def part_scores(self, query: QuerySide, parts: JoinedRows) -> npt.NDArray[np.float64]:
        """Return the logit of each part of some texts.

        The mean vector of a part is that of its own vectors, of which only the directions are kept.
        """
        import numpy as np

        layout = parts.layout
        numbers, factors = restore(parts.factors, parts.numbers, layout.width, layout.precision)
        vectors = np.asarray(numbers, dtype=np.float32)
        if factors is not None:
            vectors = vectors * factors[:, None]
        return self.scores(query, replace(parts, means=unit(Segments(parts.counts).sums(vectors.T).T)))

    def signals(self, query: QuerySide, rows: JoinedRows) -> npt.NDArray[np.float64]:
        """Return the signals of each text, of shape (signals, texts)."""
        import numpy as np

        segments = Segments(rows.counts)
        similar = similarities(query.vectors, rows)
        lengths = rows.counts.astype(np.float32)
        weights = self.token_weights[query.ids][:, None]
        few, largest = _largest(similar, segments)
        same = query.ids[:, None] == rows.ids
        same_similarity = segments.maxima(np.where(same, similar, np.float32(0)), empty=0.0).clip(min=0)
        count = segments.sums(same.astype(np.float32))
        saturated = count * np.float32(K1 + 1) / (count + np.float32(K1) * (1 - B + B * lengths / LENGTH))
        hard = _mean(np.exp(-SOFT * largest), np.ones_like(weights)).clip(min=np.exp(-SOFT))
        back = similar.max(axis=0, initial=LEAST)[None].clip(min=-1)
        return np.stack(
            [
                products(rows.means, query.mean[None])[:, 0],
                _mean(few, np.ones_like(weights)),
                _mean(largest, weights),
                _mean(same_similarity, weights),
                _mean(saturated, weights) * _mean(query.split[:, None], weights) ** 2,
                -np.log(hard) / SOFT,
                segments.sums(back)[0] / np.maximum(lengths, _SMALL),
            ]
        )


def unit(vectors: Floats) -> Floats:
    """Return vectors at unit length; a vector of zeros stays as it is."""
    import numpy as np

    lengths = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    units: Floats = vectors / np.maximum(lengths, np.float32(1e-12))
    return units


def _mean(values: npt.NDArray[np.float32], weights: Floats) -> npt.NDArray[np.float64]:
    """Return the mean of each column, weighted."""
    import numpy as np

    total = (values * weights).sum(axis=0, dtype=np.float64)
    mean: npt.NDArray[np.float64] = total / max(float(weights.sum(dtype=np.float64)), _SMALL)
    return mean


def _largest(similar: Floats, segments: Segments) -> tuple[Floats, Floats]:
    """Return the mean of the `BEST` largest similarities of each query token in each text, and the largest."""
    import numpy as np

    rest = similar
    total: Floats = np.zeros((len(similar), len(segments.counts)), dtype=np.float32)
    first: Floats = segments.maxima(similar, empty=LEAST)
    best = first
    for rank in range(BEST):
        total += np.where(segments.counts > rank, best, np.float32(0))
        if rank + 1 < BEST and segments.total:
            rest = segments.without_maxima(rest, best)
            best = segments.maxima(rest, empty=LEAST)
    counts: Floats = np.clip(segments.counts, 1, BEST).astype(np.float32)
    return total / counts, first.clip(min=-1)

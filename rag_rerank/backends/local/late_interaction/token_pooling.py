"""Token pooling: similar token vectors of a text become one, so that half or a quarter of them are kept.

Clavié, Chaffin and Adams, "Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact via Token
Pooling" (2024): hierarchical clustering by Ward's criterion on cosine distances, and the mean of each cluster. The
first vector, of the special token that begins a text, is kept as it is. The result is that of
``HierarchicalTokenPooling`` of sentence-transformers 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_rerank.backends.local.late_interaction.products import products

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["pool_tokens", "pooled_places"]


def pool_tokens(vectors: Floats, factor: int) -> Floats:
    """Return about ``1 / factor`` as many unit vectors, which stand for those given.

    Args:
        vectors: Unit vectors of a text's tokens.
        factor: How many tokens share a vector, on average; 1 for no pooling.
    """
    import numpy as np

    places = pooled_places(vectors, factor)
    count = int(places.max(initial=-1)) + 1
    if count == len(vectors):
        return vectors
    pooled: Floats = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    np.add.at(pooled, places, vectors)
    lengths = np.sqrt((pooled * pooled).sum(axis=1, keepdims=True))
    units: Floats = pooled / np.maximum(lengths, np.float32(1e-12))
    return units


def pooled_places(vectors: Floats, factor: int) -> npt.NDArray[np.intp]:
    """Return, for each vector, the place of the one of `pool_tokens` that it becomes a part of."""
    import numpy as np

    others = vectors[1:]
    count = max(len(others) // factor, 1)
    if factor == 1 or count >= len(others):
        return np.arange(len(vectors))
    return np.append(0, 1 + _clusters(others, count))


def _clusters(vectors: Floats, count: int) -> npt.NDArray[np.intp]:
    """Return the cluster of each vector, by merging the two nearest clusters until there are ``count``.

    Distances of a merged cluster follow from those of its parts (Lance and Williams, 1967, with Ward's coefficients).
    """
    import numpy as np

    total = len(vectors)
    squared = (1 - products(vectors, vectors).astype(np.float64)).clip(0, 2) ** 2
    np.fill_diagonal(squared, np.inf)
    sizes = np.ones(total)
    labels = np.arange(total)
    nearest = squared.argmin(axis=1)
    for _ in range(total - count):
        distances = squared[np.arange(total), nearest]
        first = int(distances.argmin())
        second = int(nearest[first])
        first, second = min(first, second), max(first, second)
        between, together = squared[first, second], sizes + sizes[first] + sizes[second]
        merged = (
            (sizes + sizes[first]) * squared[first] + (sizes + sizes[second]) * squared[second] - sizes * between
        ) / together
        alive = np.isfinite(squared[first]) | np.isfinite(squared[second])
        merged[~alive] = np.inf
        merged[[first, second]] = np.inf
        squared[first], squared[:, first] = merged, merged
        squared[second], squared[:, second] = np.inf, np.inf
        sizes[first] += sizes[second]
        labels[labels == second] = first
        stale = np.flatnonzero((nearest == first) | (nearest == second) | (np.arange(total) == first))
        nearest[stale] = squared[stale].argmin(axis=1)
        closer = squared[:, first] < squared[np.arange(total), nearest]
        nearest[closer] = first
    names = np.unique(labels)
    return np.searchsorted(names, labels)

"""The systems of ``comparison.py``: the rerankers with real weights here, and what is composed of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from rag_rerank import Cascade, Ensemble, Guarded, PointwiseReranker, Reranker, Scores, Stage, Usage
from rag_rerank.backends.first_stage import FirstStageReranker
from rag_rerank.types import Scale

MINILM, SPARSE, EMBEDDED, MULTILINGUAL = "MiniLM cosine", "sparse", "embedded", "embedded-multilingual"
BASES = ("lexical", SPARSE, MINILM, EMBEDDED, MULTILINGUAL)
"""The rerankers; everything else is made of their scores."""

BM25 = "BM25"
"""The first stage: the order of the collections."""

DEPTHS = (20, 30, 50)
"""How many candidates of a cascade reach its second stage."""

Rerankers = Mapping[str, Reranker]
"""Name of a base -> reranker."""


def configs(sparse: str | None, embedding: str | None, vectors: Path) -> dict[str, dict[str, Any]]:
    """Return the config of each base; without its folder, ``sparse`` and the embedding model are left out.

    Args:
        sparse: Folder of a table of learned token weights.
        embedding: Folder or hub id of all-MiniLM-L6-v2.
        vectors: Where vectors of texts are kept, in a folder for each model.
    """
    nodes: dict[str, dict[str, Any]] = {"lexical": {"type": "lexical"}}
    if sparse is not None:
        nodes[SPARSE] = {"type": "sparse", "model": sparse}
    if embedding is not None:
        nodes[MINILM] = {"type": "embedding", "model": embedding, "store": {"path": str(vectors / "embedding")}}
    for name in (EMBEDDED, MULTILINGUAL):
        nodes[name] = {"type": "late_interaction", "model": name, "store": {"path": str(vectors / name)}}
    return nodes


@dataclass(frozen=True, kw_only=True)
class System:
    """One line of the comparison.

    Args:
        name: Its name in the tables.
        bases: The bases that it needs.
        make: Function from the bases to the reranker; ``None`` for learning to rank, which is trained first.
        cost: Name of the system whose time it shares, because they differ in a sum only.
        depth: How many candidates reach ``embedded``; ``None`` for all.
    """

    name: str
    bases: tuple[str, ...]
    make: Callable[[Rerankers], Reranker] | None
    cost: str
    depth: int | None = None


def systems(bases: Sequence[str]) -> list[System]:
    """Return the systems that can be made of these bases."""
    return [system for system in _all_systems() if set(system.bases) <= set(bases)]


def _all_systems() -> Iterator[System]:
    for base in BASES:
        yield System(name=base, bases=(base,), make=lambda of, base=base: of[base], cost=base)
    pairs = (("lexical", MINILM), ("lexical", EMBEDDED), (SPARSE, EMBEDDED), (MINILM, EMBEDDED))
    for pair in (*pairs, (EMBEDDED, MULTILINGUAL)):
        yield from _fusions(pair)
    for others in ((MINILM,), (EMBEDDED,), (MINILM, EMBEDDED)):
        members = (BM25, *others)
        name = f"{' + '.join(members)}, RRF"
        yield System(name=name, bases=others, make=lambda of, others=others: _with_first_stage(of, others), cost=name)
    for first, depth in product((BM25, "lexical", MINILM), DEPTHS):
        bases = (EMBEDDED,) if first == BM25 else (first, EMBEDDED)
        name = f"{first}, then embedded on {depth}"
        yield System(
            name=name,
            bases=bases,
            make=lambda of, first=first, depth=depth: _cascade(of, first, depth),
            cost=name,
            depth=depth,
        )
    for base in (MINILM, EMBEDDED):
        name = f"{base}, guarded"
        yield System(name=name, bases=(base,), make=lambda of, base=base: Guarded(reranker=of[base]), cost=name)
    for bases in ((), (EMBEDDED,), (MINILM, EMBEDDED)):
        name = f"ltr with {' and '.join(bases)}" if bases else "ltr without a model"
        yield System(name=name, bases=bases, make=None, cost=name)


def _fusions(pair: tuple[str, str]) -> Iterator[System]:
    name = " + ".join(pair)
    for fusion, options in (
        ("RRF", {}),
        ("sum", {"fusion": "combsum"}),
        ("sum 1 : 3", {"fusion": "weighted", "weights": (1.0, 3.0)}),
    ):
        yield System(
            name=f"{name}, {fusion}",
            bases=pair,
            make=lambda of, options=options: Ensemble(members=tuple(of[one] for one in pair), **options),
            cost=f"{name}, RRF",
        )


def _with_first_stage(of: Rerankers, others: Sequence[str]) -> Reranker:
    return Ensemble(members=(FirstStageReranker(), *(of[other] for other in others)))


def _cascade(of: Rerankers, first: str, depth: int) -> Reranker:
    last = Stage(reranker=of[EMBEDDED], depth=depth)
    return Cascade(stages=(last,) if first == BM25 else (Stage(reranker=of[first]), last))


@dataclass(frozen=True, kw_only=True)
class StoredScores(PointwiseReranker):
    """The stored answers of a reranker, so that what is composed of it scores nothing again."""

    kind: ClassVar[str] = "stored"

    stored_scale: Scale
    by_query: Mapping[str, Mapping[str, float]]

    @property
    def scale(self) -> Scale:
        return self.stored_scale

    @property
    def why_not_cacheable(self) -> None:
        return None

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        of_texts = self.by_query[query]
        values = [of_texts.get(text, 0.0) for text in texts]
        unscored = {i: "a text without a stored score" for i, text in enumerate(texts) if text not in of_texts}
        return Scores(values, self.scale, Usage(texts=len(texts)), unscored=unscored)

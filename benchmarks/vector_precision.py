"""What the precision of kept vectors costs: nDCG@10, equal top 10s and bytes a text, on judged collections.

    python benchmarks/vector_precision.py COLLECTIONS [--collection trec-dl19 ...] [--queries 40] [--model embedded]

COLLECTIONS is a folder with one folder a collection, as `rag_rerank.evaluation.read` takes them; each has a run of its
first stage. Every text is encoded once; what each precision keeps of it goes into a store in memory, and the rerankers
rank from there. "Top 10 as with fp32" is the share of queries whose ten best are the same, in the same order.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import get_args

from rag_rerank import Reranker, build
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.local.late_interaction.precision import VectorPrecision
from rag_rerank.evaluation import Judged, JudgedQuery, read
from rag_rerank.evaluation.measures import per_query

PRECISIONS: tuple[str, ...] = get_args(VectorPrecision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("--collection", action="append")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--depth", type=int, default=100)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    names = options.collection or sorted(folder.name for folder in options.collections.iterdir())
    print(f"| collection | queries | texts | first stage | {' | '.join(PRECISIONS)} |")
    print(f"|---|---:|---:|---:|{'---:|' * len(PRECISIONS)}")
    rows, moves, sizes = [], [], []
    for name in names:
        judged = read(options.collections / name, depth=options.depth)
        row, moved, size = measure(options.model, judged, options.queries)
        rows.append(row[2:])
        moves.append(moved)
        sizes.append(size)
        print(f"| {name} | {row[0]} | {row[1]} | {' | '.join(f'{value:.4f}' for value in row[2:])} |", flush=True)
    means = [fmean(column) for column in zip(*rows, strict=True)]
    print(f"| mean | | | {' | '.join(f'{value:.4f}' for value in means)} |")
    print(f"| top 10 as with fp32 | | | | {' | '.join(f'{fmean(c):.1%}' for c in zip(*moves, strict=True))} |")
    print(f"| kB a text | | | | {' | '.join(f'{fmean(c) / 1000:.1f}' for c in zip(*sizes, strict=True))} |")


def measure(model: str, judged: Judged, count: int) -> tuple[list[float], list[float], list[float]]:
    """Return queries, texts and nDCG@10 of the first stage and each precision; equal top 10s; bytes a text."""
    queries = judged.queries[:count]
    rerankers = [
        build({"type": "late_interaction", "model": model, "precision": p, "store": {"max_bytes": 2**34}})
        for p in PRECISIONS
    ]
    texts = list(dict.fromkeys(c.text for query in queries for c in query.candidates if c.text.strip()))
    fill(rerankers, texts)  # type: ignore[arg-type]
    first = {query.id: [c.id for c in query.candidates] for query in queries}
    orders = [first, *(order(reranker, queries) for reranker in rerankers)]
    quality = [fmean(ndcg(judged, one)) for one in orders]
    same = [fmean(one[id][:10] == orders[1][id][:10] for id in one) for one in orders[1:]]
    sizes = [reranker.store_stats.bytes_per_text for reranker in rerankers]  # type: ignore[attr-defined]
    for reranker in rerankers:
        reranker.close()
    return [len(queries), len(texts), *quality], same, sizes


def order(reranker: Reranker, queries: Sequence[JudgedQuery]) -> dict[str, list[str]]:
    """Return the ids of each query's hits, best first."""
    return {query.id: [hit.id for hit in reranker.rerank(query.text, query.candidates)] for query in queries}


def fill(rerankers: Sequence[LateInteractionReranker], texts: Sequence[str]) -> None:
    """Encode each text once, and keep what each reranker keeps of it."""
    engine = rerankers[0]._engine
    checks = dict(zip(texts, rerankers[0].readability(texts), strict=True))
    inputs = engine.tokenizer.encode_texts(texts, "truncate")
    for batch in inputs.batches(engine.batch_tokens, equal_lengths=engine.equal_lengths):
        vectors = engine.token_vectors(inputs.arrays(batch.rows))
        for row, of_text in zip(batch.rows, vectors, strict=True):
            ids, text = inputs.ids[row], texts[row]
            for reranker in rerankers:
                own = reranker._engine
                content = own.row(ids, of_text[: len(ids)], inputs.coverage[row], checks[text])  # type: ignore[arg-type]
                reranker._store.put({own.key(text): content})


def ndcg(judged: Judged, orders: dict[str, list[str]]) -> list[float]:
    """Return nDCG@10 of each query."""
    values = per_query(replace(judged, queries=[q for q in judged.queries if q.id in orders]), orders, ["nDCG@10"])
    return list(values["nDCG@10"].values())


if __name__ == "__main__":
    main()

"""Rerank many queries offline: a callable for batches, files that resume after a crash, and Ray.

>>> from rag_rerank.batch import BatchReranker
>>> rerank = BatchReranker("embedded", top_k=1)
>>> rows = rerank([{"query": "how tall is K2?", "candidates": ["K2 is 8,611 m high.", "Lake Garda is 346 m deep."]}])
>>> rows[0]["hits"][0]["id"]
'0'
"""

from rag_rerank.batch.batch_reranker import BatchReranker
from rag_rerank.batch.on_ray import RayActors, rerank_dataset
from rag_rerank.batch.rerank_file import BatchSummary, rerank_file

__all__ = ["BatchReranker", "BatchSummary", "RayActors", "rerank_dataset", "rerank_file"]

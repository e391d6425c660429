"""Whether reranking helps on judged queries: measures, comparison, slices, and a verdict.

>>> from rag_rerank.evaluation import evaluate, read
>>> found = evaluate(read("my-collection"), ["embedded", "cohere:rerank-v3.5"], records="records")  # doctest: +SKIP
>>> found.verdict.words  # doctest: +SKIP
"""

from rag_rerank.evaluation.drift import Drift, Fall, against
from rag_rerank.evaluation.evaluating import evaluate
from rag_rerank.evaluation.judged import Judged, JudgedQuery, Problem
from rag_rerank.evaluation.reading import read
from rag_rerank.evaluation.report import Evaluation

__all__ = ["Drift", "Evaluation", "Fall", "Judged", "JudgedQuery", "Problem", "against", "evaluate", "read"]

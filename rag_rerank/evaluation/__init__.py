"""Whether reranking helps on judged queries: measures, comparison, slices, and a verdict.

>>> from rag_rerank.evaluation import evaluate, read
>>> found = evaluate(read("my-collection"), ["embedded", "cohere:rerank-v3.5"], records="records")  # doctest: +SKIP
>>> found.verdict.words  # doctest: +SKIP
"""

from rag_rerank.evaluation.calibration import calibrate
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery, Problem
from rag_rerank.evaluation.data.reading import read
from rag_rerank.evaluation.data.writing import write_jsonl, write_qrels, write_run
from rag_rerank.evaluation.drift import Drift, Fall, against
from rag_rerank.evaluation.evaluating import evaluate
from rag_rerank.evaluation.report import Evaluation

__all__ = [
    "Drift",
    "Evaluation",
    "Fall",
    "Judged",
    "JudgedQuery",
    "Problem",
    "against",
    "calibrate",
    "evaluate",
    "read",
    "write_jsonl",
    "write_qrels",
    "write_run",
]

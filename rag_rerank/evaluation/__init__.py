"""Find out whether reranking helps on judged queries: measures, comparison, slices, and a verdict.

>>> from rag_rerank.evaluation import evaluate, read
>>> evaluation = evaluate(read("my-collection"), ["embedded", "cohere:rerank-v3.5"])  # doctest: +SKIP
>>> evaluation.verdict.words  # doctest: +SKIP
"""

from rag_rerank.evaluation.calibration.answerability import calibrate_answerable
from rag_rerank.evaluation.calibration.calibrate import calibrate
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery, Problem
from rag_rerank.evaluation.data.read import read
from rag_rerank.evaluation.data.write import write_jsonl, write_qrels, write_run
from rag_rerank.evaluation.evaluate import evaluate
from rag_rerank.evaluation.guard_margin import MarginFit, fit_margin
from rag_rerank.evaluation.regression import Drift, Regression, compare_with_baseline
from rag_rerank.evaluation.report import Evaluation

__all__ = [
    "Drift",
    "Evaluation",
    "Judged",
    "JudgedQuery",
    "MarginFit",
    "Problem",
    "Regression",
    "calibrate",
    "calibrate_answerable",
    "compare_with_baseline",
    "evaluate",
    "fit_margin",
    "read",
    "write_jsonl",
    "write_qrels",
    "write_run",
]

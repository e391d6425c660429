"""What a reranker misses: a small, hand-written suite of contrasts, and how many of each kind it gets right.

Never train on the suite (``probes.jsonl``); see the README beside it.
"""

from rag_rerank.evaluation.probes.probe import probe
from rag_rerank.evaluation.probes.report import KindResult, MissedContrast, ProbeReport
from rag_rerank.evaluation.probes.suite import VERSION, Contrast, suite

__all__ = ["VERSION", "Contrast", "KindResult", "MissedContrast", "ProbeReport", "probe", "suite"]

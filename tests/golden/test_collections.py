"""BM25 reaches its known figures on known collections; needs the collections beside the checkout."""

from pathlib import Path
from typing import Any

import pytest

from rag_rerank.evaluation.data.read import read

COLLECTIONS = Path(__file__).parents[3] / "shared" / "collections"

BM25 = {
    "cisi": 0.3585,
    "cosqa": 0.3628,
    "cranfield": 0.3428,
    "nfcorpus": 0.3201,
    "npl": 0.4378,
    "nq-qed": 0.9156,
    "scifact": 0.6769,
    "selqa-test": 0.9049,
    "trec-dl19": 0.5058,
    "xquad-de": 0.9419,
    "xquad-en": 0.9648,
}
"""nDCG@10 of the runs that the collections bring, measured when they were made; that of TREC DL is published."""


@pytest.mark.shared
@pytest.mark.parametrize("name", BM25)
def test_bm25_comes_out_at_its_known_figure(name: str) -> None:
    if not (COLLECTIONS / name).is_dir():
        pytest.skip(f"{name} is not beside this checkout")
    ir_measures: Any = pytest.importorskip("ir_measures")
    judged = read(COLLECTIONS / name)
    qrels = {query.id: dict(query.grades) for query in judged.queries}
    run = {query.id: {c.id: -float(i) for i, c in enumerate(query.candidates)} for query in judged.queries}
    measure = ir_measures.parse_measure("nDCG@10")
    assert round(ir_measures.calc_aggregate([measure], qrels, run)[measure], 4) == BM25[name]

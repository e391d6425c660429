"""The embedded model on real text in languages that it was not made for."""

from pathlib import Path

import pytest

from rag_rerank import build
from rag_rerank.evaluation import read

COLLECTIONS = Path(__file__).parents[3] / "shared" / "collections"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not COLLECTIONS.is_dir(), reason="the collections are not beside this checkout"),
]


@pytest.mark.parametrize("language", ["de", "ru", "ar", "hi", "th"])
def test_the_order_of_the_first_stage_stays(language: str) -> None:
    judged = read(COLLECTIONS / f"xquad-{language}", depth=30, queries=5)
    with build("embedded") as embedded:
        for query in judged.queries:
            ranking = embedded.rerank(query.text, query.candidates)
            assert [hit.id for hit in ranking] == [candidate.id for candidate in query.candidates]
            assert ranking.degraded


@pytest.mark.filterwarnings("ignore::rag_rerank.TruncationWarning")
@pytest.mark.parametrize("name", ["xquad-en", "trec-dl19", "cosqa", "scifact", "nfcorpus"])
def test_english_is_ranked(name: str) -> None:
    judged = read(COLLECTIONS / name, depth=5, queries=5)
    with build("embedded") as embedded:
        for query in judged.queries:
            assert embedded.rerank(query.text, query.candidates).degraded == ()

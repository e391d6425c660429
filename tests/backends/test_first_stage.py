"""The order of arrival as a reranker, alone and in an ensemble."""

from __future__ import annotations

import pytest

from rag_rerank import Candidate, ConfigError, build


def test_the_texts_stay_in_their_order_and_their_scores_are_places() -> None:
    ranking = build("first_stage").rerank("q", ["b", "a", "", "c"])
    assert [hit.id for hit in ranking] == ["0", "1", "3", "2"]
    assert [hit.score for hit in ranking] == [1.0, pytest.approx(2 / 3), pytest.approx(1 / 3), None]
    assert ranking.scale == "rank"


def test_an_ensemble_fuses_it_with_another_order() -> None:
    fused = build({"type": "ensemble", "members": ["first_stage", "lexical"], "k": 1.0})
    ranking = fused.rerank("blue", [Candidate(id=text, text=text) for text in ("a", "b", "blue c", "blue blue")])
    # lexical: "blue blue", "blue c", a, b; 1/(1+rank) from both, by hand
    totals = {"a": 1 / 2 + 1 / 4, "b": 1 / 3 + 1 / 5, "blue c": 1 / 4 + 1 / 3, "blue blue": 1 / 5 + 1 / 2}
    assert [hit.id for hit in ranking] == sorted(totals, key=lambda id: -totals[id])
    assert [hit.score for hit in ranking] == pytest.approx(sorted(totals.values(), reverse=True))


def test_places_are_no_probabilities() -> None:
    with pytest.raises(ConfigError, match="rank"):
        build({"type": "calibrated", "reranker": "first_stage", "map": "map.json"})

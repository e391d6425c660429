"""Composites of a model that cannot read the query keep the order of the first stage, too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from support.calibration_maps import map_for
from support.unreadable_texts import LATIN, OTHER_SCRIPTS

from rag_rerank import Calibrated, PointwiseReranker, Ranking, Reranker, Scale, Scores, build
from rag_rerank.types import UNREADABLE_TEXT

QUERY = OTHER_SCRIPTS["ru"][0]
TEXTS = [
    "Мост через реку построен сто лет назад.",
    OTHER_SCRIPTS["ru"][1],
    " ",
    "Музей открыт в воскресенье.",
    "Порт лежит к югу от города.",
]
FIRST_STAGE = ["0", "1", "3", "4", "2"]
EMBEDDED = {"type": "onnx", "model": "embedded"}

TREES: dict[str, Any] = {
    "alone": EMBEDDED,
    "cascade": {"type": "cascade", "stages": [{"reranker": EMBEDDED}, {"reranker": EMBEDDED, "depth": 3}]},
    "ensemble": {"type": "ensemble", "members": [EMBEDDED, {**EMBEDDED, "max_length": 64}]},
    "weighted": {
        "type": "ensemble",
        "members": [EMBEDDED, {**EMBEDDED, "max_length": 64}],
        "fusion": "weighted",
        "weights": [1, 2],
    },
    "deadline": {"type": "deadline", "reranker": EMBEDDED, "seconds": 600},
    "partial": {"type": "deadline", "reranker": EMBEDDED, "seconds": 600, "on_late": "partial"},
    "windows": {"type": "windows", "reranker": EMBEDDED, "tokens": 64},
    "cached": {"type": "cached", "reranker": EMBEDDED},
    "fallback": {"type": "fallback", "members": [{**EMBEDDED, "on_unreadable": "error"}], "on_failure": "first_stage"},
}


@dataclass(frozen=True, kw_only=True)
class LeavesOut(PointwiseReranker):
    """A reranker that cannot read the texts at some positions, and scores the others by their positions."""

    kind: ClassVar[str] = "leaves-out"
    scale: ClassVar[Scale] = "unbounded"  # type: ignore[misc]
    positions: tuple[int, ...]

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        return Scores(range(len(texts)), self.scale, unscored=dict.fromkeys(self.positions, UNREADABLE_TEXT))


def ids_of(ranking: Ranking) -> list[str]:
    return [hit.id for hit in ranking]


@pytest.mark.parametrize("tree", TREES)
def test_the_order_of_the_first_stage_stays(tree: str) -> None:
    with build(TREES[tree]) as reranker:
        for _ in range(2):  # the second time from the cache, if there is one
            ranking = reranker.rerank(QUERY, TEXTS)
            assert ids_of(ranking) == FIRST_STAGE
            assert {hit.score for hit in ranking} == {None}
            assert ranking[-1].unscored == "blank text"
            assert ranking.degraded
            assert ranking.usage.texts == ranking.usage.cached == 0


def test_a_cascade_keeps_the_order_of_its_readable_first_stage() -> None:
    first = {"type": "lexical"}
    with (
        build(first) as lexical,
        build({"type": "cascade", "stages": [{"reranker": first}, {"reranker": EMBEDDED}]}) as both,
    ):
        assert ids_of(both.rerank(QUERY, TEXTS)) == ids_of(lexical.rerank(QUERY, TEXTS))


def test_an_ensemble_goes_by_the_members_that_read_the_query() -> None:
    with build("lexical") as lexical, build({"type": "ensemble", "members": ["lexical", EMBEDDED]}) as both:
        assert ids_of(both.rerank(QUERY, TEXTS)) == ids_of(lexical.rerank(QUERY, TEXTS))


def test_an_ensemble_leaves_a_member_out_that_raises() -> None:
    members = ["lexical", {**EMBEDDED, "on_unreadable": "error"}]
    with build("lexical") as lexical, build({"type": "ensemble", "members": members}) as both:
        ranking = both.rerank(QUERY, TEXTS)
        assert ids_of(ranking) == ids_of(lexical.rerank(QUERY, TEXTS))
        assert "fused without onnx:embedded (UnreadableText)" in ranking.degraded


def test_a_calibrated_model_has_nothing_to_calibrate(calibrated: Reranker) -> None:
    ranking = calibrated.rerank(QUERY, TEXTS)
    assert ids_of(ranking) == FIRST_STAGE
    assert ranking.degraded == ("not reranked, in the order of the first stage: the model cannot read the query",)


@pytest.fixture
def calibrated() -> Reranker:
    model = build(EMBEDDED)
    return Calibrated(reranker=model, map=map_for(model))


def test_a_cache_decides_on_the_whole_list_and_keeps_what_was_read() -> None:
    query = "how many people live in the city?"
    english = [
        "The bridge is old.",
        "Two million people live in the city.",
        "The museum is open.",
        "The port is in the south.",
    ]
    for other in (LATIN["de"], OTHER_SCRIPTS["zh"][1]):
        lists = [
            english,
            [*english, other],
            [other, *english],
            [*english[:1], other, other],
            [other],
            [*english, other],
        ]
        with build(EMBEDDED) as plain, build({"type": "cached", "reranker": EMBEDDED}) as cached:
            for texts in lists:
                expected, ranking = plain.rerank(query, texts), cached.rerank(query, texts)
                assert ids_of(ranking) == ids_of(expected)
                assert [hit.unscored for hit in ranking] == [hit.unscored for hit in expected]
                assert ranking.degraded == expected.degraded
            assert ranking.usage.cached == 4


def test_only_lists_with_much_that_is_unreadable_keep_the_order_of_the_first_stage() -> None:
    def rank(*unreadable: int) -> Ranking:
        return LeavesOut(positions=unreadable).rerank("q", [f"t{i}" for i in range(9)])

    assert ids_of(rank()) == [*"876543210"]
    assert ids_of(rank(3)) == [*"876542103"]
    assert ids_of(rank(3, 8)) == [*"765421038"]
    for kept in (rank(0), rank(2), rank(3, 4, 5)):
        assert ids_of(kept) == [*"012345678"]
        assert kept.substituted
        (reason,) = kept.degraded
        assert reason.startswith("not reranked, in the order of the first stage: the model cannot read ")

"""A threshold is applied on its own scale only; where it is not applied, a note says so."""

from dataclasses import replace

import pytest
from support.rankings import ranking_of

from rag_rerank import ConfigError, Context, Scale, pack


def reasons(context: Context) -> dict[str, str]:
    return {dropped.hit.id: dropped.reason for dropped in context.dropped}


def test_scores_below_the_threshold_are_dropped_with_both_numbers() -> None:
    context = pack(ranking_of(["a", "b"], scores=[0.5, 0.4999]), min_score=0.5, min_score_scale="sigmoid")
    assert [hit.id for hit in context] == ["d1"]
    assert [d.to_dict() for d in context.dropped] == [
        {
            "id": "d2",
            "rank": 2,
            "reason": "min_score",
            "detail": "score 0.4999 is below min_score=0.5",
            "duplicate_of": None,
        }
    ]
    assert context.notes == ()


def test_on_another_scale_it_is_not_applied_and_a_note_says_so() -> None:
    context = pack(ranking_of(["a", "b"], scale="unbounded"), min_score=30, min_score_scale="sigmoid")
    assert len(context) == 2
    assert context.notes == (
        "min_score=30 was not applied: it was written for sigmoid scores, and these are unbounded",
    )


@pytest.mark.parametrize(("scale", "count"), [("sigmoid", 2), ("calibrated", 1)])
def test_scores_of_a_substitute_are_compared_only_where_they_are_calibrated(scale: Scale, count: int) -> None:
    ranking = ranking_of(["a", "b"], scores=[0.9, 0.1], scale=scale, degraded=("b answered for a",))
    context = pack(replace(ranking, substituted=True), min_score=0.5, min_score_scale=scale)
    assert len(context) == count
    assert context.degraded == ("b answered for a",)
    if scale == "sigmoid":
        assert "another reranker answered" in context.notes[0]
        assert "b answered for a" in context.notes[0]


def test_hits_without_a_score_do_not_pass() -> None:
    ranking = ranking_of(["good", "bad", "stopped"], scores=[0.8, 0.2, None])
    context = pack(ranking, min_score=0.5, min_score_scale="sigmoid")
    assert [hit.id for hit in context] == ["d1"]
    assert reasons(context) == {"d2": "min_score", "d3": "unscored"}
    assert context.dropped[1].detail == "no score to compare with min_score=0.5 (stopped)"


def test_where_nothing_has_a_score_it_is_not_applied_and_a_note_says_so() -> None:
    context = pack(ranking_of(["a"], scores=[None]), min_score=0.5, min_score_scale="sigmoid")
    assert len(context) == 1
    assert context.notes == ("min_score=0.5 was not applied: no hit has a score",)


def test_a_hit_without_text_has_no_place_in_a_context() -> None:
    context = pack(ranking_of(["a", " \u200b\n"], scores=[0.9, None]))
    assert (context.text, reasons(context)) == ("a", {"d2": "blank"})


@pytest.mark.parametrize(
    ("options", "path"),
    [({"min_score": 0.5}, "min_score_scale"), ({"min_score_scale": "sigmoid"}, "min_score")],
)
def test_a_threshold_without_its_scale_is_refused_with_the_reason(options: dict[str, object], path: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{path}: .*0\.5 means something else on every scale"):
        pack(ranking_of(["a"]), **options)

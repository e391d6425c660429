"""Cascade: each stage gets fewer candidates, and none is lost."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_rerank import BackendTimeout, Cascade, ConfigError, Fallback, RateLimited, Stage, build
from rag_rerank.testing import ScriptedReranker

TEXTS = ["a", "b", "c", "d", "e"]


def cascade(*depths: int | None) -> tuple[Cascade, list[ScriptedReranker]]:
    stages = [
        ScriptedReranker(name=f"s{n}", by_text={t: float((i * 7 + n * 3) % 5) for i, t in enumerate(TEXTS)})
        for n in range(len(depths))
    ]
    return Cascade(stages=tuple(Stage(reranker=s, depth=d) for s, d in zip(stages, depths, strict=True))), stages


def test_each_stage_sees_the_best_of_the_one_before() -> None:
    whole, (first, second) = cascade(None, 2)
    ranking = whole.rerank("q", TEXTS)
    assert first.calls == [("q", tuple(TEXTS))]
    best = first.rerank("q", TEXTS, top_k=2)
    assert second.calls == [("q", tuple(hit.text for hit in best))]
    assert [hit.text for hit in ranking][:2] == [hit.text for hit in second.rerank("q", [h.text for h in best])]


def test_what_did_not_enter_follows_in_its_last_order_without_a_score() -> None:
    whole, (first, _) = cascade(4, 2)
    ranking = whole.rerank("q", TEXTS)
    order = [hit.text for hit in first.rerank("q", TEXTS[:4])]
    assert [hit.text for hit in ranking][2:] == [*order[2:], "e"]
    assert [hit.unscored for hit in ranking][2:] == ["stopped before stage 2 (depth 2)"] * 2 + [
        "stopped before stage 1 (depth 4)"
    ]
    assert ranking.trace.path("4") == ()


@given(st.lists(st.one_of(st.none(), st.integers(1, 7)), min_size=1, max_size=4), st.booleans())
def test_nothing_is_lost_and_async_agrees(depths: list[int | None], blank: bool) -> None:
    whole, _ = cascade(*depths)
    texts = [*TEXTS, " "] if blank else TEXTS
    ranking = whole.rerank("q", texts)
    assert sorted(hit.id for hit in ranking) == sorted(str(i) for i in range(len(texts)))
    assert [hit.rank for hit in ranking] == list(range(1, len(texts) + 1))
    scored = [hit.score is not None for hit in ranking]
    assert scored == sorted(scored, reverse=True)
    assert [hit.id for hit in asyncio.run(whole.arerank("q", texts))] == [hit.id for hit in ranking]


def test_blank_texts_never_reach_a_later_stage_and_stand_last() -> None:
    whole, (_, second) = cascade(None, 5)
    ranking = whole.rerank("q", ["", *TEXTS])
    assert ranking[-1].unscored == "blank text"
    assert "" not in second.calls[0][1]


def test_the_trace_holds_every_stage_and_the_path_of_a_candidate() -> None:
    whole, _ = cascade(None, 3)
    ranking = whole.rerank("q", TEXTS)
    assert [child.step for child in ranking.trace.children] == ["s0", "s1"]
    assert [visit.step for visit in ranking.trace.path(ranking[0].id)] == ["s0", "s1"]
    assert ranking.usage.texts == 8
    assert ranking.trace.notes == ("stage 1: 5 of 5 entered", "stage 2: 3 of 5 entered")


def test_the_scale_is_the_last_stages() -> None:
    last = ScriptedReranker(answers_on="relevance")
    whole = Cascade(stages=(Stage(reranker=ScriptedReranker()), Stage(reranker=last)))
    assert whole.scale == whole.rerank("q", ["a"]).scale == "relevance"


def test_a_stage_that_fails_fails_the_cascade_and_the_trace_says_where() -> None:
    failing = ScriptedReranker(name="broken", error=RateLimited("slow down"))
    whole = Cascade(stages=(Stage(reranker=ScriptedReranker(name="fine")), Stage(reranker=failing)))
    for ask in (lambda: whole.rerank("q", TEXTS), lambda: asyncio.run(whole.arerank("q", TEXTS))):
        with pytest.raises(RateLimited) as caught:
            ask()
        assert [(c.step, bool(c.error)) for c in caught.value.trace.children] == [("fine", False), ("broken", True)]


def test_impossible_cascades_are_refused() -> None:
    with pytest.raises(ConfigError, match="stages: a cascade needs at least one stage"):
        Cascade(stages=())
    with pytest.raises(ConfigError, match="depth: depth must be at least 1, got 0"):
        Stage(reranker=ScriptedReranker(), depth=0)
    with pytest.raises(ConfigError, match="reranker: expected a Reranker, got str"):
        Stage(reranker="minilm")
    with pytest.raises(ConfigError, match=r"stages\[0\]: expected a Stage, got ScriptedReranker"):
        Cascade(stages=[ScriptedReranker()])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"stages": [{"reranker": "lexical", "margin": 1.0}]}, r"stages\[0\]: unknown key 'margin'"),
        ({"stages": [{"reranker": "lexical"}], "cut": 10}, "unknown key 'cut'"),
    ],
)
def test_a_config_with_an_unknown_key_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({"type": "cascade", **config})


def test_close_and_warm_up_reach_the_parts() -> None:
    whole, stages = cascade(None, 2)
    assert whole.children == tuple(stages)


def test_members_in_a_list_are_closed_compared_and_hashed_like_those_in_a_tuple() -> None:
    closed = []

    class Closing(ScriptedReranker):
        def close(self) -> None:
            closed.append(self.label)

    one, other = Closing(name="one"), Closing(name="other")
    for with_list, with_tuple in (
        (
            Cascade(stages=[Stage(reranker=one), Stage(reranker=other)]),
            Cascade(stages=(Stage(reranker=one), Stage(reranker=other))),
        ),
        (Fallback(members=[one, other]), Fallback(members=(one, other))),
    ):
        assert with_list == with_tuple and hash(with_list) == hash(with_tuple)
        assert with_list.children == (one, other)
        with_list.close()
    assert closed == ["one", "other"] * 2


def test_from_a_stage_that_scored_nothing_all_go_on_in_their_order() -> None:
    down = Fallback(members=(ScriptedReranker(error=BackendTimeout("late")),), on_failure="first_stage")
    last = ScriptedReranker(by_text={"a": 1.0, "b": 2.0, "c": 3.0})
    ranking = Cascade(stages=(Stage(reranker=down), Stage(reranker=last, depth=2))).rerank("q", ["a", "b", "", "c"])
    assert [(hit.id, hit.unscored) for hit in ranking] == [
        ("1", None),
        ("0", None),
        ("3", "stopped before stage 2 (depth 2)"),
        ("2", "blank text"),
    ]
    assert "stage 1 scored nothing, so its candidates went on in their order" in ranking.trace.notes
    assert ranking.degraded and not ranking.substituted

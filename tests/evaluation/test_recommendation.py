"""The verdict is right where the truth is known, and its reasons are exact."""

from dataclasses import replace
from typing import Any

import pytest
from support.simulated_collections import (
    MEASURES,
    PRIMARY,
    collection,
    decide,
    first_stage,
    oracle,
    reranked,
    shuffled,
    verdict_arguments,
    with_times,
)

from rag_rerank.evaluation.data.judged import Judged
from rag_rerank.evaluation.measures import per_query
from rag_rerank.evaluation.recommendation import verdict
from rag_rerank.evaluation.report import FIRST_STAGE, Slice, Verdict
from rag_rerank.evaluation.slices import FIRST_RANK
from rag_rerank.evaluation.statistics import compare

SEEDS = 200


def arguments_for(judged: Judged, rerankers: dict[str, Any], samples: int = 2_000) -> dict[str, Any]:
    orders = {FIRST_STAGE: first_stage(judged), **rerankers}
    values = {name: per_query(judged, order, MEASURES) for name, order in orders.items()}
    return verdict_arguments(judged, orders, values, samples)


def with_systems(arguments: dict[str, Any], **changed: tuple[float, float | None]) -> dict[str, Any]:
    systems = tuple(with_times(s, *changed[s.name]) if s.name in changed else s for s in arguments["systems"])
    return {**arguments, "systems": systems}


def test_a_random_reranker_is_never_recommended_behind_a_real_first_stage() -> None:
    advice = [
        decide(judged, {"random": shuffled(judged, seed)}, samples=500)
        for seed, judged in _collections(SEEDS, quality=1.5)
    ]
    assert not any(one.rerank or one.system for one in advice)
    assert all(one.words.startswith(("Do not rerank here: ", "Not decided: ")) for one in advice)


@pytest.mark.parametrize(("systems", "seeds"), [(1, SEEDS), (5, SEEDS // 2)])
def test_random_rerankers_are_recommended_in_at_most_5_of_100_where_the_first_stage_knows_nothing_either(
    systems: int, seeds: int
) -> None:
    advice = [
        decide(judged, {f"random {i}": shuffled(judged, 1_000 * i + seed) for i in range(systems)}, samples=500)
        for seed, judged in _collections(seeds, quality=0.0)
    ]
    assert sum(not one.rerank for one in advice) >= 0.95 * seeds


def test_an_oracle_is_always_recommended_beside_any_other() -> None:
    for seed, judged in _collections(SEEDS // 4, quality=1.5):
        advice = decide(judged, {"random": shuffled(judged, seed), "oracle": oracle(judged)}, samples=1_000)
        assert advice.rerank and advice.system == "oracle"


def _collections(seeds: int, *, quality: float) -> Any:
    return ((seed, collection(seed, queries=30, candidates=15, quality=quality)) for seed in range(seeds))


def test_a_recommendation_says_how_much_for_how_many_queries_with_which_depth_and_in_what_time() -> None:
    judged = collection(3, queries=80)
    arguments = with_systems(arguments_for(judged, {"oracle": oracle(judged)}), oracle=(0.1234, None))
    advice = verdict(**arguments, depths={"oracle": 20}, top_ks={"oracle": 3})
    assert (advice.rerank, advice.system, advice.depth, advice.top_k) == (True, "oracle", 20, 3)
    before, after = (s.measures[PRIMARY].mean for s in arguments["systems"])
    assert advice.words.startswith(
        f"Rerank with oracle, 20 candidates in and 3 hits kept: nDCG@10 rises from {before:.3f} to {after:.3f} (+"
    )
    reasons = " ".join(advice.reasons)
    assert "95 % interval +" in advice.words and "Lift at top-3: nDCG@3 +" in reasons
    assert " queries get better, 0 worse, " in reasons
    assert "A query takes 123 ms (median), 247 ms at the 95th percentile." in reasons
    assert "Reranking 20 candidates loses less than 0.01 in nDCG@10 against the best depth, 30 (upper end" in reasons
    assert "Its first 3 hits have the recall of the first stage's first 5, within 0.01." in reasons
    whole = verdict(**arguments)
    assert (whole.depth, whole.top_k) == (30, 5) and "the best depth" not in " ".join(whole.reasons)


def test_a_slice_that_falls_is_named_in_the_words() -> None:
    judged = collection(3, queries=60)
    arguments = arguments_for(judged, {"oracle": oracle(judged)})
    values = {s.name: {o.id: o.measures[s.name][PRIMARY] for o in arguments["outcomes"]} for s in arguments["systems"]}
    turned = compare("oracle", FIRST_STAGE, PRIMARY, values[FIRST_STAGE], values["oracle"])
    rises = compare("oracle", FIRST_STAGE, PRIMARY, values["oracle"], values[FIRST_STAGE])
    hurt = Slice(field="language", value="de", queries=60, measures={}, comparisons=(turned,))
    fine = Slice(field="language", value="en", queries=60, measures={}, comparisons=(rises,))
    already_right = replace(hurt, field=FIRST_RANK, value="1")
    advice = verdict(**{**arguments, "slices": (hurt, fine, already_right)})
    assert advice.rerank and advice.words.endswith(", but it hurts where language is de.")
    assert any(r.startswith("Where language is de (60 queries) it hurts: nDCG@10 -") for r in advice.reasons)


def test_a_much_lighter_system_that_is_as_good_is_preferred_and_both_are_named() -> None:
    judged = collection(5, queries=60)
    best = oracle(judged)
    almost = {**best, "q1": [best["q1"][-1], *best["q1"][:-1]]}
    arguments = arguments_for(judged, {"big": best, "small": almost})
    light = verdict(**with_systems(arguments, big=(1.0, None), small=(0.1, None)))
    assert light.system == "small"
    assert any(
        "big is better by 0.0" in reason and "takes 1.0 s a query instead of 100 ms" in reason
        for reason in light.reasons
    )
    assert verdict(**with_systems(arguments, big=(0.15, None), small=(0.1, None))).system == "big"
    assert verdict(**with_systems(arguments, big=(0.1, 0.04), small=(0.1, 0.01))).system == "small"
    assert verdict(**with_systems(arguments, big=(1.0, 0.01), small=(0.1, 0.04))).system == "big"
    weak = arguments_for(judged, {"big": best, "small": reranked(judged, 1, knows=3.0)})
    assert verdict(**with_systems(weak, big=(1.0, None), small=(0.1, None))).system == "big"


def test_an_open_question_says_how_many_queries_decide_it() -> None:
    judged = collection(2, queries=30, quality=0.0)
    worse, better = shuffled(judged, 1), reranked(judged, 1, knows=0.1)
    advice = verdict(**arguments_for(judged, {"worse": worse, "better": better}))
    assert advice.rerank is None and advice.system is None
    assert advice.words == (
        f"Not decided: judge about {advice.more_queries:,} more queries. So far no system has a proven gain over the "
        "first stage on these 30 queries."
    )
    assert any(
        "better may be better by chance: nDCG@10 +" in r and " queries in all decide it." in r for r in advice.reasons
    )
    assert any(r.startswith("worse shows no gain yet: nDCG@10 -") for r in advice.reasons)


def test_reranking_is_refused_where_no_gain_that_matters_is_left() -> None:
    judged = collection(3, queries=200)
    same = first_stage(judged)
    almost = {**same, "q1": [*same["q1"][:9], *reversed(same["q1"][9:])]}
    advice = verdict(**arguments_for(judged, {"same": same, "almost": almost}))
    assert (advice.rerank, advice.more_queries) == (False, None)
    assert advice.words == "Do not rerank here: every system gains less than 0.01 in nDCG@10, if anything."
    few = replace(judged, queries=judged.queries[:9])
    assert verdict(**arguments_for(few, {"same": first_stage(few)})).rerank is None, "nine equal queries prove nothing"


@pytest.mark.parametrize("knows", [0.6, 1.0])
def test_a_reranker_that_helps_is_hardly_ever_refused(knows: float) -> None:
    advice = [
        decide(judged, {"helps": reranked(judged, seed, knows=knows)}, samples=500)
        for seed, judged in _collections(SEEDS, quality=0.2)
    ]
    assert sum(one.rerank is False for one in advice) <= 0.025 * SEEDS


def test_the_number_of_further_queries_decides_about_as_often_as_it_promises() -> None:
    """With the number that is named after 30 queries, most open questions about a real gain are decided."""
    decided = []
    for seed in range(SEEDS // 2):
        judged = collection(seed, queries=30, quality=1.0)
        first = decide(judged, {"helps": reranked(judged, seed, knows=0.6)}, samples=500)
        if first.rerank is None and first.more_queries is not None and first.more_queries <= 300:
            longer = collection(seed + 10_000, queries=30 + first.more_queries, quality=1.0)
            decided.append(decide(longer, {"helps": reranked(longer, seed, knows=0.6)}, samples=500).rerank)
    assert len(decided) >= 20 and sum(one is True for one in decided) >= 0.5 * len(decided)


def test_a_reason_says_why_interval_and_test_seem_to_contradict_each_other() -> None:
    judged = collection(2, queries=13, quality=0.0)
    judged = replace(judged, queries=tuple(replace(query, grades={"d5": 1}) for query in judged.queries))
    before = first_stage(judged)
    lifted = {id: ["d5", *(d for d in order if d != "d5")] for id, order in before.items()}
    four = {id: lifted[id] if i < 4 else before[id] for i, id in enumerate(before)}
    advice = verdict(**arguments_for(judged, {"four": four}))
    assert advice.rerank is None
    assert "nDCG@10 +" in advice.reasons[0] and "interval +0." in advice.reasons[0] and "p = 0.125" in advice.reasons[0]
    assert advice.reasons[1] == (
        "Its interval excludes 0 although it is not proven: only 4 of 13 queries change (with 4, the smallest p is "
        "0.125). An interval computed from so few changes is too narrow, and the test decides."
    )
    six = {id: lifted[id] if i < 6 else before[id] for i, id in enumerate(before)}
    corrected = verdict(**arguments_for(judged, {"six": six, "same": before}))
    assert any("alone its p is 0.031, but the test is corrected for 2 systems" in r for r in corrected.reasons)
    assert not any("although" in r for r in verdict(**arguments_for(judged, {"six": six})).reasons)


def test_a_system_that_is_worse_is_called_worse() -> None:
    judged = collection(2, queries=60, quality=3.0)
    advice = decide(judged, {"random": shuffled(judged, 1)})
    assert advice.words == "Do not rerank here: random is significantly worse than the first stage."
    assert advice.reasons[0].startswith("random makes it worse: nDCG@10 -")


def test_queries_without_a_relevant_candidate_point_at_the_retrieval() -> None:
    judged = collection(4, queries=40)
    arguments = arguments_for(judged, {"oracle": oracle(judged)})
    first, reranker = arguments["systems"]
    without = {**arguments, "systems": (replace(first, failures={"candidates": 20}), reranker)}
    advice = verdict(**without)
    assert advice.rerank
    assert any(
        "20 of 40 queries have no relevant candidate" in r and "improve the retrieval first" in r
        for r in advice.reasons
    )
    assert not any("no relevant candidate" in reason for reason in verdict(**arguments).reasons)


@pytest.mark.parametrize("helps", [True, False])
@pytest.mark.parametrize(("share", "mentioned"), [(0.94, True), (0.2, False), (None, False)])
def test_a_reason_names_windows_where_many_texts_were_cut(helps: bool, share: float | None, mentioned: bool) -> None:
    judged = collection(3, queries=60)
    arguments = arguments_for(judged, {"r": oracle(judged) if helps else shuffled(judged, 1)})
    systems = tuple(replace(s, truncated=share) if s.name == "r" else s for s in arguments["systems"])
    one = verdict(**{**arguments, "systems": systems})
    assert bool(one.rerank) is helps
    cut = [reason for reason in one.reasons if "only the beginning" in reason]
    assert len(cut) == mentioned
    if cut:
        assert cut[0].startswith("r read only the beginning of 94% of the texts") and "windows" in cut[0]


def test_a_first_stage_alone_and_errors_are_reported() -> None:
    judged = collection(4, queries=40)
    alone = arguments_for(judged, {})
    assert verdict(**alone) == Verdict(
        rerank=False, words="Do not rerank here: there is no reranker among the systems."
    )
    arguments = arguments_for(judged, {"oracle": oracle(judged)})
    first, reranker = arguments["systems"]
    advice = verdict(**{**arguments, "systems": (first, replace(reranker, errors=3))})
    assert any("failed on 3 queries; there, the first stage's order counts" in reason for reason in advice.reasons)


def test_one_query_shows_nothing_and_few_are_said_to_be_few() -> None:
    judged = collection(2, queries=30, quality=0.0)
    judged = replace(judged, queries=judged.queries[1:2])
    advice = verdict(**arguments_for(judged, {"oracle": oracle(judged)}))
    assert advice.words.startswith("Not decided: judge about 9 more queries.")
    assert advice.words.endswith("on this one query.")
    assert advice.reasons[0].endswith("p = 1.000. If it goes on like this, about 10 queries in all decide it.")
    assert advice.reasons[1] == "With fewer than 10 queries, intervals mean little: judge more queries."


def test_the_queries_that_are_needed_are_at_least_those_the_test_needs() -> None:
    """2 / 2 ** n is below 0.05 / 1,000 from 16 queries on, and two equal differences have no spread."""
    judged = collection(2, queries=2, quality=0.0)
    judged = replace(judged, queries=tuple(replace(query, grades={"d5": 1}) for query in judged.queries))
    systems = {"oracle": oracle(judged), **{f"same {i}": first_stage(judged) for i in range(999)}}
    advice = verdict(**arguments_for(judged, systems, samples=50))
    assert advice.reasons[0].endswith("about 16 queries in all decide it.")

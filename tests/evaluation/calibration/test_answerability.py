"""Fitting answerability: it is right where the truth is known, and a threshold keeps its stated rate."""

import math
import random
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_rerank import Answerable, CalibrationWarning, Candidate, ConfigError, Fallback, InputError, Reranker
from rag_rerank.evaluation.calibration.answerability import auroc, calibrate_answerable, conformal_threshold
from rag_rerank.evaluation.calibration.calibrate import fit_logistic
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.testing import ScriptedReranker


class World:
    """Lists of ten texts, one of which is relevant and scores higher by a given distance on average."""

    def __init__(self, queries: int, *, distance: float = 3.0, seed: int = 1) -> None:
        chance = random.Random(seed)
        self.scores: dict[str, float] = {}
        judged = []
        for q in range(queries):
            texts = [f"{seed}.{q}.{d}" for d in range(10)]
            self.scores |= {text: chance.gauss(distance * (text == texts[0]), 1) for text in texts}
            candidates = tuple(Candidate(text, text) for text in texts)
            judged.append(JudgedQuery(id=str(q), text=f"q{q}", candidates=candidates, grades={texts[0]: 1}))
        self.judged = Judged(name="world", queries=tuple(judged), fingerprint=f"{seed:064}")
        self.reranker = ScriptedReranker(by_text=self.scores, answers_on="sigmoid")


def probabilities(reranker: Answerable, judged: Judged, *, answered: bool) -> list[float]:
    values = []
    for query in judged.queries:
        value = reranker.rerank(query.text, query.candidates[0 if answered else 1 :]).answerable
        assert value is not None
        values.append(value)
    return values


def test_taking_the_relevant_text_away_lowers_it_on_lists_that_were_not_fitted() -> None:
    fitted = calibrate_answerable(World(200).reranker, World(200).judged)
    fresh = World(300, seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)  # the scripted scores are part of the identity
        reranker = Answerable(reranker=fresh.reranker, map=fitted)
        with_answer = probabilities(reranker, fresh.judged, answered=True)
        without = probabilities(reranker, fresh.judged, answered=False)
    assert np.mean(with_answer) > 0.75 > 0.25 > np.mean(without)
    assert abs(auroc(with_answer, without) - fitted.auroc) < 0.05
    of_high = [*(p > 0.8 for p in with_answer)]
    count = sum(of_high) + sum(p > 0.8 for p in without)
    assert abs(sum(of_high) / count - np.mean([p for p in (*with_answer, *without) if p > 0.8])) < 0.06


def test_its_map_fits_its_reranker_without_a_warning_and_says_what_was_fitted() -> None:
    world = World(120)
    fitted = calibrate_answerable(world.reranker, world.judged)
    assert Answerable(reranker=world.reranker, map=fitted).rerank("q", list(world.scores)[:5]).trace.notes == ()
    assert (fitted.fitted.queries, fitted.fitted.pairs, fitted.fitted.prior) == (120, 240, 0.5)
    assert (fitted.fitted.data, fitted.fitted.fingerprint) == ("world", world.judged.fingerprint)


def test_a_twin_is_ranked_anew_unless_each_text_is_scored_on_its_own() -> None:
    world = World(30)
    lists: list[int] = []

    class Counted(ScriptedReranker):
        def score(self, query: str, texts: list[str]):  # type: ignore[no-untyped-def, override]
            lists.append(len(texts))
            return super().score(query, texts)

    inner = Counted(by_text=world.scores, answers_on="sigmoid")
    with pytest.warns(CalibrationWarning, match="fitted on 30 lists"):
        calibrate_answerable(Fallback(members=(inner, inner)), world.judged)
    assert sorted({*lists}) == [9, 10] and len(lists) == 60


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_the_threshold_keeps_its_rate_over_a_thousand_sets(rate: float) -> None:
    """The count of false accepts in a set is beta-binomial; their share over all sets is within its interval."""
    chance = np.random.default_rng(7)
    sets, held_out, fresh = 1000, 59, 20
    accepted = 0
    for _ in range(sets):
        draws = chance.gamma(2.0, size=held_out + fresh)
        threshold = conformal_threshold(draws[:held_out].tolist(), rate)
        accepted += int((draws[held_out:] >= threshold).sum())
    place = math.ceil((held_out + 1) * (1 - rate) - 1e-9)
    exact = 1 - place / (held_out + 1)  # the expected share for numbers without ties
    assert exact <= rate + 1e-12
    a, b, n = held_out + 1 - place, place, fresh
    deviation = math.sqrt(n * a * b * (a + b + n) / ((a + b) ** 2 * (a + b + 1)) * sets) / (sets * n)
    assert abs(accepted / (sets * fresh) - exact) <= 3 * deviation
    assert accepted / (sets * fresh) <= rate + 3 * deviation


def test_ties_are_refused_and_too_few_lists_are_an_error() -> None:
    assert conformal_threshold([0.5] * 9, 0.1) > 0.5
    assert conformal_threshold([i / 10 for i in range(19)], 0.1) == math.nextafter(1.7, math.inf)
    with pytest.raises(InputError, match="needs at least 9 held-out lists without an answer, and there are 8"):
        conformal_threshold([0.5] * 8, 0.1)


def test_a_rate_leaves_one_half_of_the_queries_to_the_threshold() -> None:
    world = World(200)
    fitted = calibrate_answerable(world.reranker, world.judged, false_accept=0.1)
    limit = fitted.false_accepts
    assert limit is not None and (limit.rate, limit.lists, fitted.fitted.queries) == (0.1, 100, 100)
    assert 0.6 < limit.accepted < 1
    fresh = World(500, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        without = probabilities(Answerable(reranker=fresh.reranker, map=fitted), fresh.judged, answered=False)
    assert np.mean([p >= limit.threshold for p in without]) < 0.2
    assert calibrate_answerable(world.reranker, world.judged, false_accept=0.1) == fitted


@pytest.mark.parametrize(
    ("queries", "all_equal", "message"),
    [(19, False, "too little to calibrate on: 19 queries"), (60, True, "do not tell lists with an answer")],
    ids=["few", "equal"],
)
def test_what_cannot_be_fitted_is_an_error(queries: int, all_equal: bool, message: str) -> None:
    world = World(queries)
    scores = dict.fromkeys(world.scores, 1.0) if all_equal else world.scores
    with warnings.catch_warnings(), pytest.raises(InputError, match=message):
        warnings.simplefilter("ignore", CalibrationWarning)
        calibrate_answerable(ScriptedReranker(by_text=scores, answers_on="sigmoid"), world.judged)


def test_a_reranker_that_has_a_map_or_no_scores_and_a_rate_that_is_none_are_refused() -> None:
    world = World(120)
    done: Reranker = Answerable(reranker=world.reranker, map=calibrate_answerable(world.reranker, world.judged))
    with pytest.raises(ConfigError, match="has a map already"):
        calibrate_answerable(Fallback(members=(done, world.reranker)), world.judged)
    with pytest.raises(ConfigError, match="places and no scores"):
        calibrate_answerable(ScriptedReranker(by_text={}, answers_on="rank"), world.judged)
    with pytest.raises(ConfigError, match="false_accept: must be more than 0 and less than 1, got 1"):
        calibrate_answerable(world.reranker, world.judged, false_accept=1)


def test_the_fit_equals_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    chance = np.random.default_rng(3)
    x = chance.normal(size=(2, 4000)) * [[1.0], [5.0]] + [[0.0], [2.0]]
    positive = chance.random(4000) < 1 / (1 + np.exp(-(0.5 + 1.5 * x[0] - 0.2 * x[1])))
    weights, intercept = fit_logistic(x.tolist(), positive.tolist())
    theirs = sklearn.LogisticRegression(C=1e9, tol=1e-10).fit(x.T, positive)
    assert [*weights, intercept] == pytest.approx([*theirs.coef_[0], *theirs.intercept_], abs=0.02)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_auroc_is_the_share_of_pairs_in_order(positive: list[int], negative: list[int]) -> None:
    wins = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert auroc(positive, negative) == pytest.approx(sum(wins) / len(wins))

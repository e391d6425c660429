"""Fitting probabilities: they are right where the truth is known, and equal to the reference implementations."""

import json
import math
import random
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.calibration_maps import map_for

from rag_rerank import (
    BackendUnavailable,
    Calibrated,
    CalibrationWarning,
    Candidate,
    ConfigError,
    Fallback,
    InputError,
    InputTooLong,
    TruncationWarning,
)
from rag_rerank.evaluation.calibration.calibrate import apply_shape, calibrate, fit_shape, reliability
from rag_rerank.evaluation.calibration.reliability import brier, log_loss
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.testing import ScriptedReranker
from rag_rerank.types import Coverage, Scale, Scores


class World:
    """Queries whose candidates have a hidden score, and are relevant with a known probability of that score."""

    def __init__(self, queries: int, *, slope: float = 0.7, seed: int = 1, candidates: int = 20) -> None:
        chance = random.Random(seed)
        self.scores: dict[str, float] = {}
        self.slope = slope
        judged_queries = []
        for q in range(queries):
            texts = [f"{seed}.{q}.{d}" for d in range(candidates)]
            self.scores |= {text: chance.gauss(-1, 2) for text in texts}
            grades = {text: int(chance.random() < self.truth(text)) for text in texts}
            judged_queries.append(JudgedQuery(id=str(q), text=f"q{q}", candidates=tuple(_as(texts)), grades=grades))
        self.judged = Judged(name=f"world {seed}", queries=tuple(judged_queries), fingerprint=f"{seed:064}")

    def truth(self, text: str) -> float:
        return 1 / (1 + math.exp(0.5 - self.slope * self.scores[text]))

    def reranker(self, *, scale: Scale = "sigmoid", factor: float = 1.0) -> ScriptedReranker:
        return ScriptedReranker(by_text={t: factor * s for t, s in self.scores.items()}, answers_on=scale)


def _as(texts: list[str]) -> Iterator[Candidate]:
    return (Candidate(text, text) for text in texts)


@pytest.mark.parametrize("method", ["platt", "isotonic", "auto"])
def test_probabilities_are_right_on_queries_that_the_map_never_saw(method: str) -> None:
    world, fresh = World(150), World(400, seed=2)
    calibration_map = calibrate(world.reranker(), world.judged, method=method)  # type: ignore[arg-type]
    pairs = [
        (calibration_map.probability(fresh.scores[t]), g) for q in fresh.judged.queries for t, g in q.grades.items()
    ]
    assert reliability([p for p, _ in pairs], [g > 0 for _, g in pairs]).ece <= 0.03
    assert max(abs(calibration_map.probability(fresh.scores[t]) - fresh.truth(t)) for t in fresh.scores) <= 0.15
    before, after = calibration_map.fitted.before, calibration_map.fitted.after
    assert after.ece <= 0.05
    assert before is not None and before.ece > after.ece and before.log_loss > after.log_loss


def test_the_provenance_says_what_was_fitted() -> None:
    world = World(60)
    fitted = calibrate(world.reranker(), world.judged).fitted
    labels = [g for q in world.judged.queries for g in q.grades.values()]
    assert (fitted.queries, fitted.pairs, fitted.prior) == (60, 1200, sum(labels) / 1200)
    assert (fitted.data, fitted.fingerprint, fitted.relevant) == ("world 1", world.judged.fingerprint, (1,))
    assert (fitted.reranker, fitted.scale, fitted.identity) == ("scripted", "sigmoid", world.reranker().identity)
    assert calibrate(world.reranker(scale="unbounded"), world.judged).fitted.before is None


def test_its_map_fits_its_reranker_without_a_warning() -> None:
    world = World(60)
    calibrated = Calibrated(reranker=world.reranker(), map=calibrate(world.reranker(), world.judged))
    assert calibrated.rerank("q", list(world.scores)[:5]).trace.notes == ()


def test_two_collections_are_fitted_together() -> None:
    one, other = World(40), World(40, seed=2)
    both = ScriptedReranker(by_text={**one.scores, **other.scores}, answers_on="sigmoid")
    fitted = calibrate(both, [one.judged, replace(other.judged, relevant=1)]).fitted
    assert (fitted.data, fitted.queries, fitted.relevant) == ("world 1 + world 2", 80, (1, 1))
    assert len(fitted.fingerprint) == 64 and fitted.fingerprint not in (
        one.judged.fingerprint,
        other.judged.fingerprint,
    )


def test_what_was_not_judged_is_left_out_unless_it_counts_as_not_relevant() -> None:
    world = World(60)
    positive = tuple(
        replace(q, grades={t: g for i, (t, g) in enumerate(q.grades.items()) if g or i % 2})
        for q in world.judged.queries
    )
    judged_only = calibrate(world.reranker(), replace(world.judged, queries=positive)).fitted
    all_of_them = calibrate(world.reranker(), replace(world.judged, queries=positive), unjudged="not relevant").fitted
    assert judged_only.pairs < all_of_them.pairs == 1200
    assert judged_only.prior > all_of_them.prior
    assert (judged_only.unjudged, all_of_them.unjudged) == ("left out", "not relevant")


def test_grades_count_from_the_collections_own_bound_on() -> None:
    world = World(60)
    doubled = tuple(replace(q, grades={t: 1 + g for t, g in q.grades.items()}) for q in world.judged.queries)
    same = calibrate(world.reranker(), replace(world.judged, queries=doubled, relevant=2))
    assert same.slope == calibrate(world.reranker(), world.judged).slope


LABELLED = st.lists(st.tuples(st.floats(-30, 30), st.booleans()), min_size=4, max_size=40).filter(
    lambda pairs: len({label for _, label in pairs}) == 2 and np.std([score for score, _ in pairs]) > 1e-3
)


@given(LABELLED)
def test_platt_is_the_maximum_of_his_likelihood(pairs: list[tuple[float, bool]]) -> None:
    scores, labels = zip(*pairs, strict=True)
    shape = fit_shape("platt", scores, labels)
    good = sum(labels)
    target = np.where(labels, (good + 1) / (good + 2), 1 / (len(labels) - good + 2))
    raw = np.array(scores)
    off = np.array(apply_shape(shape, scores)) - target
    assert abs(off.sum()) <= 1e-6 * len(raw)  # the gradient is zero, and the likelihood is concave
    assert abs((off * (raw - raw.mean()) / raw.std()).sum()) <= 1e-6 * len(raw)


def test_platt_equals_scikit_learns() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    world = World(50)
    scores = list(world.scores.values())
    labels = [bool(g) for q in world.judged.queries for g in q.grades.values()]
    shape = fit_shape("platt", scores, labels)
    slope, intercept = calibration._sigmoid_calibration(np.array(scores), np.array(labels, dtype=float))
    assert shape["slope"] == pytest.approx(-slope, abs=1e-4)
    assert shape["intercept"] == pytest.approx(-intercept, abs=1e-4)


@given(LABELLED)
def test_isotonic_equals_scikit_learns(pairs: list[tuple[float, bool]]) -> None:
    isotonic = pytest.importorskip("sklearn.isotonic")
    scores, labels = zip(*pairs, strict=True)
    good = sum(labels)
    bounds = {"y_min": 1 / (len(labels) - good + 2), "y_max": (good + 1) / (good + 2)}
    reference = isotonic.IsotonicRegression(**bounds, out_of_bounds="clip").fit(scores, np.array(labels, dtype=float))
    points = [*scores, -99.0, 99.0, *np.linspace(-30, 30, 50)]
    assert apply_shape(fit_shape("isotonic", scores, labels), points) == pytest.approx(
        list(reference.predict(points)), abs=1e-9
    )


def test_each_query_is_judged_by_a_map_of_other_queries() -> None:
    """A query with inverted labels spoils its own figures; it could not if its map were fitted on it."""
    world = World(10, candidates=40)
    queries = list(world.judged.queries)
    queries = [replace(q, grades={t: int(world.scores[t] > -1) for t in q.grades}) for q in queries]
    clean = calibrate(world.reranker(), replace(world.judged, queries=tuple(queries)), method="isotonic")
    queries[0] = replace(queries[0], grades={t: 1 - g for t, g in queries[0].grades.items()})
    spoilt = calibrate(world.reranker(), replace(world.judged, queries=tuple(queries)), method="isotonic")
    assert clean.fitted.after.brier < 0.01
    assert spoilt.fitted.after.brier > 0.09


def test_auto_takes_steps_only_for_much_data_that_no_sigmoid_fits() -> None:
    straight = World(100)
    assert calibrate(straight.reranker(), straight.judged).method == "platt"
    bent = {text: math.copysign(abs(score) ** 5, score) for text, score in straight.scores.items()}
    odd = ScriptedReranker(by_text=bent, answers_on="unbounded")
    assert calibrate(odd, straight.judged).method == "isotonic"
    few = replace(straight.judged, queries=straight.judged.queries[:45])
    assert calibrate(odd, few).method == "platt"


@pytest.mark.parametrize("of", [0, 9, 20 * 60 - 9])
def test_too_few_of_either_kind_are_refused_with_their_number(of: int) -> None:
    world = World(60)
    texts = list(world.scores)[:of]
    queries = tuple(replace(q, grades={t: int(t in texts) for t in q.grades}) for q in world.judged.queries)
    message = f"too little to calibrate on: {of} relevant and {1200 - of} other judged candidates of 60 queries"
    with pytest.raises(InputError, match=message):
        calibrate(world.reranker(), replace(world.judged, queries=queries))


def test_only_relevant_judgments_are_refused_with_the_way_out() -> None:
    world = World(60)
    queries = tuple(replace(q, grades={t: g for t, g in q.grades.items() if g}) for q in world.judged.queries)
    with pytest.raises(InputError, match='choose "not relevant" as the value of unjudged'):
        calibrate(world.reranker(), replace(world.judged, queries=queries))


def test_too_few_queries_are_refused() -> None:
    world = World(4, candidates=100)
    with pytest.raises(InputError, match=r"of 4 queries; needs 10 of each, and 5 queries$"):
        calibrate(world.reranker(), world.judged)


def test_little_data_is_fitted_with_a_warning() -> None:
    world = World(10)
    with pytest.warns(
        CalibrationWarning, match="judged candidates of 10 queries; with less than 100 of each"
    ) as warnings_seen:
        calibrate(world.reranker(), world.judged)
    assert warnings_seen[0].filename == __file__


@pytest.mark.parametrize("method", ["platt", "isotonic"])
@pytest.mark.parametrize("factor", [-1.0, 0.0])
def test_scores_that_do_not_rise_with_relevance_are_refused(method: str, factor: float) -> None:
    world = World(60)
    with pytest.raises(InputError, match="compared across queries, do not rise with relevance"):
        calibrate(world.reranker(factor=factor), world.judged, method=method)  # type: ignore[arg-type]


def test_what_another_reranker_answered_is_left_out() -> None:
    world = World(60)
    down = ScriptedReranker(name="down", answers_on="sigmoid", error=BackendUnavailable("gone"))
    stands_in = Fallback(members=(down, world.reranker()))
    with (
        pytest.warns(CalibrationWarning, match="60 of 60 queries were left out"),
        pytest.raises(InputError, match="0 relevant and 0 other judged candidates of 0 queries"),
    ):
        calibrate(stands_in, world.judged)


class Short(ScriptedReranker):
    def score(self, query: str, texts: list[str]) -> Scores:  # type: ignore[override]
        if len(query) > 100:
            raise InputTooLong("the query leaves no room")
        return super().score(query, texts)


def test_queries_that_are_too_long_are_left_out_and_counted() -> None:
    world = World(60)
    usual = world.reranker()
    short = Short(by_text=usual.by_text, answers_on=usual.answers_on)
    endless = replace(world.judged.queries[0], id="endless", text="long " * 30)
    done: list[float] = []
    with pytest.warns(CalibrationWarning, match="1 of 61 queries were left out, since they, or a text of theirs, are"):
        fitted = calibrate(
            short, replace(world.judged, queries=(endless, *world.judged.queries)), progress=done.append
        ).fitted
    assert (fitted.queries, done[-1]) == (60, 1.0)


def test_blank_candidates_and_queries_without_any_are_left_out() -> None:
    world = World(60)
    blank = replace(world.judged.queries[0], candidates=(Candidate("b", " "),), grades={"b": 1})
    empty = replace(blank, candidates=())
    fitted = calibrate(world.reranker(), replace(world.judged, queries=(blank, empty, *world.judged.queries))).fitted
    assert (fitted.queries, fitted.pairs) == (60, 1200)


class Cutting(ScriptedReranker):
    def score(self, query: str, texts: list[str]) -> Scores:  # type: ignore[override]
        return replace(super().score(query, texts), coverage=[Coverage(10, 5)] * len(texts))


def test_texts_that_were_cut_are_reported_once() -> None:
    world = World(60)
    with pytest.warns(TruncationWarning, match="beginning of 1200 of 1200 texts") as warnings_seen:
        calibrate(Cutting(by_text=world.scores, answers_on="sigmoid"), world.judged)
    assert len(warnings_seen) == 1


def test_progress_reaches_the_end() -> None:
    world, shares = World(20), list[float]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        calibrate(world.reranker(), world.judged, progress=shares.append)
    assert shares == [i / 20 for i in range(1, 21)]


def test_probabilities_are_not_calibrated_again_and_words_are_checked() -> None:
    world = World(20)
    with pytest.raises(ConfigError, match="calibrated already"):
        calibrate(Calibrated(reranker=world.reranker(), map=map_for(world.reranker())), world.judged)
    with pytest.raises(ConfigError, match="gives places and no scores") as caught:
        calibrate(ScriptedReranker(answers_on="rank"), world.judged)
    assert caught.value.url is not None and caught.value.url.endswith("explanation/scores/")
    with pytest.raises(ConfigError, match="unknown method 'plat'; did you mean 'platt'"):
        calibrate(world.reranker(), world.judged, method="plat")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown unjudged 'guess'"):
        calibrate(world.reranker(), world.judged, unjudged="guess")  # type: ignore[arg-type]


def test_a_map_is_a_few_kilobytes() -> None:
    world = World(300)
    calibration_map = calibrate(world.reranker(), world.judged, method="isotonic")
    assert len(json.dumps(calibration_map.to_dict(), indent=1)) < 12_000


# reliability


def test_bins_hold_equally_many_and_their_distances_make_the_error() -> None:
    diagram = reliability([0.1, 0.2, 0.6, 0.8], [False, False, True, False], bins=2)
    assert [(b.low, b.high, b.count, b.relevant) for b in diagram.bins] == [
        (0.1, 0.2, 2, 0.0),
        (0.6, 0.8, 2, 0.5),
    ]
    assert [b.score for b in diagram.bins] == pytest.approx([0.15, 0.7])
    assert diagram.ece == pytest.approx((0.15 + 0.2) / 2)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 20),
    st.randoms(),
)
def test_equal_scores_share_a_bin_and_the_order_of_the_pairs_decides_nothing(
    pairs: list[tuple[float, bool]], bins: int, chance: random.Random
) -> None:
    scores, relevant = zip(*pairs, strict=True)
    diagram = reliability(scores, relevant, bins=bins)
    chance.shuffle(pairs)
    assert reliability([s for s, _ in pairs], [r for _, r in pairs], bins=bins) == diagram
    assert sum(b.count for b in diagram.bins) == len(pairs)
    assert len(diagram.bins) <= bins
    assert all(a.high < b.low for a, b in zip(diagram.bins, diagram.bins[1:], strict=False))
    assert 0 <= diagram.ece <= 1


def test_perfect_probabilities_have_an_error_near_what_chance_gives() -> None:
    chance = random.Random(4)
    scores = [chance.random() for _ in range(20_000)]
    truth = [chance.random() < score for score in scores]
    assert reliability(scores, truth).ece < 0.015
    assert reliability([score / 2 for score in scores], truth).ece == pytest.approx(0.25, abs=0.02)


def test_brier_and_log_loss_equal_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    chance = random.Random(5)
    scores = [chance.random() for _ in range(200)]
    truth = [chance.random() < 0.3 for _ in scores]
    assert brier(scores, truth) == pytest.approx(metrics.brier_score_loss(truth, scores))
    assert log_loss(scores, truth) == pytest.approx(metrics.log_loss(truth, scores))
    assert log_loss([0.0], [True]) == pytest.approx(-math.log(1e-15))


@pytest.mark.parametrize(
    ("scores", "relevant", "options", "message"),
    [
        ([], [], {}, "got 0 and 0"),
        ([0.5], [True, False], {}, "got 1 and 2"),
        ([0.5, 1.2], [True, False], {}, "from 0 to 1, got 1.2"),
        ([math.nan], [True], {}, "from 0 to 1, got nan"),
        ([0.5], [True], {"bins": 0}, "bins must be at least 1"),
    ],
)
def test_what_is_no_probability_is_refused(
    scores: list[float], relevant: list[bool], options: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        reliability(scores, relevant, **options)

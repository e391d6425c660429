"""Fit maps from an answer's scores to the probability that a candidate answers, on judged lists and their twins."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from rag_rerank._checks import number
from rag_rerank.base import PointwiseReranker, Reranker
from rag_rerank.compose.calibration.answerability_map import FEATURES, AnswerabilityMap, FalseAccepts, features_of
from rag_rerank.compose.calibration.answerable import Answerable
from rag_rerank.compose.calibration.calibration_map import Provenance, logistic
from rag_rerank.compose.calibration.map_wrapper import check_has_scores
from rag_rerank.errors import CalibrationWarning, ConfigError, InputError, caller_stacklevel
from rag_rerank.evaluation.calibration.calibrate import (
    fit_logistic,
    origin_of,
    quality_of,
    rerank_judged,
    split_into_folds,
)
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.execution.progress import Progress, progress_to
from rag_rerank.types import Hit

__all__ = ["auroc", "calibrate_answerable", "conformal_threshold"]

_FEWEST = 20
"""Minimum number of lists with an answer for a fit."""

_FEW = 100
"""With fewer lists with an answer the probabilities are rough."""


class _Pair(NamedTuple):
    """The features of a list with an answer, and those of its twin without."""

    full: tuple[float, ...]
    twin: tuple[float, ...]


def calibrate_answerable(
    reranker: Reranker,
    judged: Judged | Sequence[Judged],
    *,
    false_accept: float | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> AnswerabilityMap:
    """Fit a map from the scores of an answer to the probability that one of its candidates answers the query.

    Each query with a relevant candidate gives two lists: its candidates, and its twin, the same list without every
    relevant one. The twin of a reranker that scores each text on its own needs no second call.

    Without ``false_accept`` the map is fitted on all queries, and its quality is measured out of fold, with five folds
    of queries. With it, the map is fitted on one half of the queries, drawn by ``seed``; the other half gives the
    threshold and the quality.

    Args:
        reranker: The reranker whose answers to judge.
        judged: Judged queries; with several collections, each query has the same weight.
        false_accept: The greatest share of lists without an answer that the threshold may accept; see `FalseAccepts`.
        seed: Seed of the split into folds or halves.
        progress: Called with the share of the queries that is done, from 0 to 1; ``True`` for a bar on stderr, if that
            is a terminal.

    Raises:
        ConfigError: The reranker says already whether a list has an answer, it gives places and no scores, or
            ``false_accept`` is not between 0 and 1.
        InputError: There are too few queries, or the scores do not tell lists with an answer from their twins.
        RerankError: Whatever the reranker raises.
    """
    if _says_answerable(reranker):
        raise ConfigError(f"{reranker.label} has a map already; fit one for the reranker inside", path="reranker")
    check_has_scores(reranker)
    if false_accept is not None and not 0 < number(false_accept, "false_accept") < 1:
        raise ConfigError(f"must be more than 0 and less than 1, got {false_accept}", path="false_accept")
    collections = (judged,) if isinstance(judged, Judged) else tuple(judged)
    with progress_to(progress, f"scoring with {reranker.label}") as report:
        pairs = _score(reranker, collections, report)
    if len(pairs) < _FEWEST:
        raise InputError(
            f"too little to calibrate on: {len(pairs)} queries have a relevant candidate, and two or more scores with "
            f"and without it; needs {_FEWEST}"
        )
    if len(pairs) < _FEW:
        _warn(f"fitted on {len(pairs)} lists and their twins; with less than {_FEW} the probabilities are rough")
    fitted_on, held_out, probabilities = pairs, pairs, list[tuple[float, float]]()
    if false_accept is None:
        probabilities = _out_of_fold(pairs, seed)
        fit = _fit(pairs)
    else:
        shuffled = random.Random(seed).sample(pairs, len(pairs))
        fitted_on, held_out = shuffled[: len(pairs) // 2], shuffled[len(pairs) // 2 :]
        fit = _fit(fitted_on)
        probabilities = [_probabilities(fit, pair) for pair in held_out]
    answers, twins = zip(*probabilities, strict=True)
    area = auroc(answers, twins)
    if area <= 0.5:
        raise InputError(
            f"the scores of {reranker.label} do not tell lists with an answer from their twins (AUROC {area:.2f} on "
            f"{len(held_out)} queries that were not fitted), so no probability can be fitted on them"
        )
    limit = None
    if false_accept is not None:
        threshold = conformal_threshold(twins, false_accept)
        share = sum(p >= threshold for p in answers) / len(answers)
        limit = FalseAccepts(rate=false_accept, threshold=threshold, lists=len(twins), accepted=share)
    weights, intercept = fit
    return AnswerabilityMap(
        weights=dict(zip(FEATURES, weights, strict=True)),
        intercept=intercept,
        auroc=area,
        false_accepts=limit,
        fitted=Provenance(
            **origin_of(reranker, collections),
            unjudged="not relevant",
            queries=len(fitted_on),
            pairs=2 * len(fitted_on),
            prior=0.5,
            after=quality_of([*answers, *twins], [True] * len(answers) + [False] * len(twins)),
        ),
    )


def conformal_threshold(without_answer: Sequence[float], rate: float) -> float:
    """Return the least probability to accept, so that at most ``rate`` of the lists without an answer are accepted.

    It is right above the ``ceil((n + 1) * (1 - rate))``-th smallest of the n probabilities; see `FalseAccepts`.

    Raises:
        InputError: There are too few lists for this rate.
    """
    share = Fraction(str(rate))  # in floats, 10 * (1 - 0.1) may be more than 9
    place = math.ceil((len(without_answer) + 1) * (1 - share))
    if place > len(without_answer):
        raise InputError(
            f"a false-accept rate of {rate:g} needs at least {math.ceil(1 / share) - 1} held-out lists without an "
            f"answer, and there are {len(without_answer)}; judge more queries, or name a higher rate"
        )
    return math.nextafter(sorted(without_answer)[place - 1], math.inf)


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Return the probability that a positive example has the larger number than a negative one; a tie counts half.

    This is the area under the ROC curve (Hanley and McNeil, Radiology 1982).
    """
    import numpy as np

    ordered = np.sort(np.asarray(negative, dtype=np.float64))
    below = np.searchsorted(ordered, positive, side="left") + np.searchsorted(ordered, positive, side="right")
    return float(below.sum() / 2 / len(positive) / len(negative))


def _says_answerable(reranker: Reranker) -> bool:
    return any(isinstance(part, Answerable) for part in reranker.walk())


def _score(reranker: Reranker, collections: Sequence[Judged], progress: Progress) -> list[_Pair]:
    """Rank every list and its twin; return their features."""
    queries = [(query, judged.relevant) for judged in collections for query in judged.queries]
    pairs, unusable = list[_Pair](), 0
    for done, (query, least) in enumerate(queries, start=1):
        relevant = {c.id for c in query.candidates if query.grades.get(c.id, least - 1) >= least}
        if relevant:
            rankings = list(_rank_both(reranker, query, relevant))
            scores = [[hit.raw_score for hit in ranking if hit.raw_score is not None] for ranking in rankings]
            full, twin = map(features_of, scores) if len(scores) == 2 else (None, None)
            if full is not None and twin is not None:
                pairs.append(_Pair(full, twin))
            else:
                unusable += 1
        progress(done / len(queries))
    if unusable:
        what = f"{reranker.label} did not score two texts or more both with and without the relevant ones"
        _warn(f"{unusable} of {len(queries)} queries were left out, since {what}")
    return pairs


def _rank_both(reranker: Reranker, query: JudgedQuery, relevant: set[str]) -> Iterator[Sequence[Hit]]:
    """Yield the hits of a list and of its twin, as far as the reranker answers itself."""
    ranking = rerank_judged(reranker, query.text, query.candidates)
    if ranking is None or ranking.substituted or ranking.scale != reranker.scale:
        return
    yield ranking
    if isinstance(reranker, PointwiseReranker) and reranker.why_not_cacheable is None:
        yield [hit for hit in ranking if hit.id not in relevant]
        return
    twin = rerank_judged(reranker, query.text, [c for c in query.candidates if c.id not in relevant])
    if twin is not None and not twin.substituted and twin.scale == reranker.scale:
        yield twin


def _fit(pairs: Sequence[_Pair]) -> tuple[tuple[float, ...], float]:
    examples = [pair.full for pair in pairs] + [pair.twin for pair in pairs]
    return fit_logistic(list(zip(*examples, strict=True)), [True] * len(pairs) + [False] * len(pairs))


def _probabilities(fit: tuple[tuple[float, ...], float], pair: _Pair) -> tuple[float, float]:
    weights, intercept = fit
    full, twin = (
        logistic(intercept + sum(w * value for w, value in zip(weights, features, strict=True))) for features in pair
    )
    return full, twin


def _out_of_fold(pairs: Sequence[_Pair], seed: int) -> list[tuple[float, float]]:
    probabilities: dict[int, tuple[float, float]] = {}
    for fold in split_into_folds(len(pairs), seed):
        fit = _fit([pair for i, pair in enumerate(pairs) if i not in {*fold}])
        probabilities |= {i: _probabilities(fit, pairs[i]) for i in fold}
    return [probabilities[i] for i in range(len(pairs))]


def _warn(what: str) -> None:
    warnings.warn(what, CalibrationWarning, stacklevel=caller_stacklevel())

"""Fit maps from raw scores to probabilities of relevance, on judged queries."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any, Literal, get_args

from rag_rerank._checks import one_of
from rag_rerank._lazy import need
from rag_rerank._version import __version__
from rag_rerank.base import Reranker
from rag_rerank.compose.calibration.calibrated import calibrates
from rag_rerank.compose.calibration.calibration_map import (
    CalibrationMap,
    FitQuality,
    Method,
    Provenance,
    Unjudged,
    interpolate,
    logistic,
)
from rag_rerank.compose.calibration.map_wrapper import check_has_scores, model_of
from rag_rerank.errors import (
    CalibrationWarning,
    ConfigError,
    InputError,
    InputTooLong,
    TruncationWarning,
    caller_stacklevel,
)
from rag_rerank.evaluation.calibration.reliability import brier, log_loss, reliability
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.execution.progress import Progress, progress_to
from rag_rerank.types import Candidate, Ranking, present

__all__ = [
    *("Shape", "apply_shape", "calibrate", "fit_logistic", "fit_shape", "origin_of", "quality_of", "reliability"),
    *("rerank_judged", "split_into_folds"),
]

Shape = Mapping[str, Any]
"""The fields of a `CalibrationMap` that decide its probabilities: slope and intercept, or scores and probabilities."""

_NEWTON_STEPS = 100
"""Maximum number of Newton steps; ten are usual."""

_FOLDS = 5

_FEWEST = 10
"""Minimum number of relevant candidates, and of others, for a fit."""

_FEW = 100
"""With fewer relevant candidates, or fewer others, a fit is rough: a share in a bin is known only to some 10 points."""

_MANY = 1000
"""With fewer candidates, isotonic regression overfits (Niculescu-Mizil and Caruana, ICML 2005)."""


def calibrate(
    reranker: Reranker,
    judged: Judged | Sequence[Judged],
    *,
    method: Method | Literal["auto"] = "auto",
    unjudged: Unjudged = "left out",
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> CalibrationMap:
    """Fit a map from a reranker's raw scores to probabilities of relevance.

    Each query is reranked once, with all its candidates. A candidate is relevant if its grade is at least
    ``judged.relevant``. Blank texts, queries that are too long for the reranker, and queries that another reranker
    answered (``ranking.substituted``) are left out; `CalibrationWarning` says how many.

    The quality of the map (``map.fitted.after``) is measured out of fold: the queries are split into five folds, and
    each fold is judged with a map fitted on the other four, so that no query is on both sides. The map itself is
    fitted on all queries.

    Args:
        reranker: The reranker whose scores to map.
        judged: Judged queries; with several collections, each candidate has the same weight.
        method: ``"platt"`` fits a sigmoid; ``"isotonic"`` fits steps, which need more data. ``"auto"`` chooses isotonic
            only if there are at least 1,000 candidates and its log loss out of fold is lower by more than the standard
            error of the difference over queries.
        unjudged: Whether candidates without a judgment are left out, or count as not relevant. The latter suits data
            in which nearly all relevant documents are judged; it lowers ``prior``, and so every probability.
        seed: Seed of the split into folds.
        progress: Called with the share of the queries that is done, from 0 to 1; ``True`` for a bar on stderr, if that
            is a terminal.

    Raises:
        ConfigError: The reranker is already calibrated, or gives places and no scores.
        MissingExtraError: scikit-learn is not installed, and ``method`` is not ``"platt"``.
        InputError: There are too few judged candidates of either kind or too few queries, or the scores do not rise
            with relevance.
        RerankError: Whatever the reranker raises.
    """
    methods: tuple[Method, ...] = get_args(Method)
    one_of(method, ("auto", *methods), "method")
    one_of(unjudged, get_args(Unjudged), "unjudged")
    if calibrates(reranker):
        raise ConfigError(f"{reranker.label} is calibrated already; calibrate the reranker inside", path="reranker")
    check_has_scores(reranker)
    if method != "platt":
        need("sklearn.isotonic", extra="eval")  # before anything is scored and paid for
    collections = (judged,) if isinstance(judged, Judged) else tuple(judged)
    with progress_to(progress, f"scoring with {reranker.label}") as report:
        groups = _score(reranker, collections, unjudged, report)
    _check_size(groups)
    folds = split_into_folds(len(groups), seed)
    held_out = {name: _out_of_fold(name, groups, folds) for name in (methods if method == "auto" else (method,))}
    best = _best_method(groups, held_out)
    scores, relevant = _flat(groups)
    shape = fit_shape(best, scores, relevant)
    if not _rises(shape):
        raise InputError(
            f"the scores of {reranker.label}, compared across queries, do not rise with relevance ({sum(relevant)} of "
            f"{len(scores)} candidates of {len(groups)} queries are relevant), so no probability can be fitted on them"
        )
    return CalibrationMap(
        method=best,
        fitted=_provenance(reranker, collections, groups, unjudged, held_out[best]),
        **shape,
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """The judged candidates of one query."""

    scores: tuple[float, ...]
    relevant: tuple[bool, ...]


def _score(reranker: Reranker, collections: Sequence[Judged], unjudged: Unjudged, progress: Progress) -> list[_Group]:
    """Rerank every query; return the scores of judged candidates with their judgments."""
    queries = [(query, judged.relevant) for judged in collections for query in judged.queries]
    groups, substituted, too_long, truncated, texts = [], 0, 0, 0, 0
    for done, (query, least) in enumerate(queries, start=1):
        ranking = rerank_judged(reranker, query.text, query.candidates)
        hits = () if ranking is None else ranking.hits
        truncated += sum(hit.coverage is not None and hit.coverage.truncated for hit in hits)
        texts += len(hits)
        if ranking is None:
            too_long += 1
        elif ranking.substituted or ranking.scale != reranker.scale:
            substituted += 1
        elif pairs := list(_pairs(ranking, query, least, unjudged)):
            scores, relevant = zip(*pairs, strict=True)
            groups.append(_Group(scores, relevant))
        progress(done / len(queries))
    if truncated:
        what = f"{reranker.label} read only the beginning of {truncated} of {texts} texts; the map is for such scores"
        warnings.warn(what, TruncationWarning, stacklevel=caller_stacklevel())
    if too_long:
        what = f"they, or a text of theirs, are too long for {reranker.label}"
        _warn(f"{too_long} of {len(queries)} queries were left out, since {what}")
    if substituted:
        what = f"another reranker than {reranker.label} answered"
        _warn(f"{substituted} of {len(queries)} queries were left out, since {what}")
    return groups


def rerank_judged(reranker: Reranker, query: str, candidates: Sequence[Candidate]) -> Ranking | None:
    """Return the ranking; ``None`` if the query is too long, the only error that concerns a single query."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # one warning follows for all queries
        try:
            return reranker.rerank(query, candidates)
        except InputTooLong:
            return None


def _pairs(ranking: Ranking, query: JudgedQuery, least: int, unjudged: Unjudged) -> Iterator[tuple[float, bool]]:
    for hit in ranking:
        if hit.raw_score is not None and (unjudged == "not relevant" or hit.id in query.grades):
            yield hit.raw_score, hit.id in query.grades and query.grades[hit.id] >= least


def _flat(groups: Sequence[_Group]) -> tuple[list[float], list[bool]]:
    return [s for group in groups for s in group.scores], [r for group in groups for r in group.relevant]


def _check_size(groups: Sequence[_Group]) -> None:
    _, relevant = _flat(groups)
    good = sum(relevant)
    counts = f"{good} relevant and {len(relevant) - good} other judged candidates of {len(groups)} queries"
    if min(good, len(relevant) - good) < _FEWEST or len(groups) < _FOLDS:
        hint = ""
        if len(relevant) == good:
            hint = '; if your data lists only the relevant texts, choose "not relevant" as the value of unjudged'
        raise InputError(f"too little to calibrate on: {counts}; needs {_FEWEST} of each, and {_FOLDS} queries{hint}")
    if min(good, len(relevant) - good) < _FEW:
        _warn(f"fitted on {counts}; with less than {_FEW} of each the probabilities are rough")


def _warn(what: str) -> None:
    warnings.warn(what, CalibrationWarning, stacklevel=caller_stacklevel())


def split_into_folds(count: int, seed: int) -> list[list[int]]:
    """Return the positions of so many queries in five folds, each about as large as the others."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return [order[i::_FOLDS] for i in range(_FOLDS)]


def _out_of_fold(method: Method, groups: Sequence[_Group], folds: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return the probabilities of each query by a map fitted on the other folds."""
    probabilities: dict[int, list[float]] = {}
    for fold in folds:
        inside = set(fold)
        shape = fit_shape(method, *_flat([group for i, group in enumerate(groups) if i not in inside]))
        probabilities |= {i: apply_shape(shape, groups[i].scores) for i in fold}
    return [probabilities[i] for i in range(len(groups))]


def _best_method(groups: Sequence[_Group], held_out: dict[Method, list[list[float]]]) -> Method:
    """Return the only method; if there are two, choose isotonic only if it is surely better."""
    if len(held_out) == 1:
        return next(iter(held_out))
    if sum(len(group.scores) for group in groups) < _MANY:
        return "platt"
    gains = [
        len(group.scores) * (log_loss(platt, group.relevant) - log_loss(steps, group.relevant))
        for group, platt, steps in zip(groups, held_out["platt"], held_out["isotonic"], strict=True)
    ]
    mean = math.fsum(gains) / len(gains)
    error = math.sqrt(math.fsum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1) / len(gains))
    return "isotonic" if mean > error else "platt"


def fit_shape(method: Method, scores: Sequence[float], relevant: Sequence[bool]) -> Shape:
    """Fit a map."""
    return _platt(scores, relevant) if method == "platt" else _isotonic(scores, relevant)


def apply_shape(shape: Shape, scores: Sequence[float]) -> list[float]:
    """Return the probability at each score; the shape may be falling or flat, unlike that of a valid map."""
    if "slope" in shape:
        return [logistic(shape["slope"] * score + shape["intercept"]) for score in scores]
    return [interpolate(score, shape["scores"], shape["probabilities"]) for score in scores]


def _rises(shape: Shape) -> bool:
    return bool(shape["slope"] > 0 if "slope" in shape else shape["probabilities"][0] < shape["probabilities"][-1])


def _targets(relevant: Sequence[bool]) -> tuple[float, float]:
    """Return the target probabilities of a pair that is not relevant and of one that is.

    Platt's 1 / (N- + 2) and (N+ + 1) / (N+ + 2) instead of 0 and 1: the mean of a probability under a uniform prior,
    so that no map gives 0 or 1.
    """
    good = sum(relevant)
    return 1 / (len(relevant) - good + 2), (good + 1) / (good + 2)


def _platt(scores: Sequence[float], relevant: Sequence[bool]) -> Shape:
    """Fit a sigmoid by maximum likelihood (Platt, 1999)."""
    (slope,), intercept = fit_logistic([scores], relevant)
    return {"slope": slope, "intercept": intercept}


def fit_logistic(features: Sequence[Sequence[float]], positive: Sequence[bool]) -> tuple[tuple[float, ...], float]:
    """Fit a logistic regression by maximum likelihood, with the safe Newton steps of Lin, Lin and Weng (2007).

    The targets are Platt's, instead of 0 and 1, so that the weights are finite also where the two kinds can be told
    apart without a mistake.

    Args:
        features: The values of each feature, one for each example.
        positive: Whether an example is of the kind whose probability is fitted.

    Returns:
        The weight of each feature, and the intercept.
    """
    import numpy as np

    low, high = _targets(positive)
    raw = np.asarray(features, dtype=np.float64)
    target = np.where(np.asarray(positive), high, low)
    middle, width = raw.mean(axis=1), raw.std(axis=1)
    width[width == 0] = 1.0
    x = np.vstack([(raw - middle[:, None]) / width[:, None], np.ones((1, raw.shape[1]))])

    def loss(weights: Any) -> float:
        z = weights @ x
        return float(np.sum(np.logaddexp(0, z) - target * z))

    weights = np.append(np.zeros(len(raw)), np.log(target.mean() / (1 - target.mean())))
    for _ in range(_NEWTON_STEPS):
        p = np.exp(-np.logaddexp(0, -(weights @ x)))
        gradient = x @ (p - target)
        if np.abs(gradient).max() < 1e-9 * raw.shape[1]:
            break
        hessian = (x * (p * (1 - p))) @ x.T + 1e-12 * np.eye(len(x))
        step, before, share = np.linalg.solve(hessian, gradient), loss(weights), 1.0
        while loss(weights - share * step) > before and share > 1e-10:
            share /= 2
        if share <= 1e-10:
            break
        weights = weights - share * step
    slopes = weights[:-1] / width
    return tuple(map(float, slopes)), float(weights[-1] - slopes @ middle)


def _isotonic(scores: Sequence[float], relevant: Sequence[bool]) -> Shape:
    """Fit the rising steps of least squares, by scikit-learn, between Platt's targets."""
    low, high = _targets(relevant)
    IsotonicRegression = need("sklearn.isotonic", extra="eval").IsotonicRegression
    steps = IsotonicRegression(y_min=low, y_max=high, out_of_bounds="clip").fit(scores, [float(r) for r in relevant])
    return {
        "scores": tuple(map(float, steps.X_thresholds_)),
        "probabilities": tuple(map(float, steps.y_thresholds_)),
    }


def _provenance(
    reranker: Reranker,
    collections: Sequence[Judged],
    groups: Sequence[_Group],
    unjudged: Unjudged,
    held_out: Sequence[Sequence[float]],
) -> Provenance:
    scores, relevant = _flat(groups)
    before = None
    if reranker.scale in ("sigmoid", "relevance"):
        before = quality_of([present(score, reranker.scale) for score in scores], relevant)
    return Provenance(
        **origin_of(reranker, collections),
        unjudged=unjudged,
        queries=len(groups),
        pairs=len(scores),
        prior=sum(relevant) / len(relevant),
        before=before,
        after=quality_of([p for query in held_out for p in query], relevant),
    )


def origin_of(reranker: Reranker, collections: Sequence[Judged]) -> dict[str, Any]:
    """Return the fields of a `Provenance` that say what was fitted, on which data, and when."""
    fingerprints = [judged.fingerprint for judged in collections]
    return {
        "reranker": reranker.label,
        "model": model_of(reranker),
        "scale": reranker.scale,
        "identity": reranker.identity,
        "data": " + ".join(judged.name for judged in collections),
        "fingerprint": fingerprints[0]
        if len(fingerprints) == 1
        else sha256(" ".join(fingerprints).encode()).hexdigest(),
        "relevant": tuple(judged.relevant for judged in collections),
        "version": __version__,
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def quality_of(probabilities: Sequence[float], relevant: Sequence[bool]) -> FitQuality:
    """Return the quality of probabilities of what is true or not."""
    return FitQuality(
        ece=reliability(probabilities, relevant).ece,
        brier=brier(probabilities, relevant),
        log_loss=log_loss(probabilities, relevant),
    )

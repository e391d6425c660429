"""Fit maps from raw scores to probabilities of relevance, on judged queries."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rag_rerank._checks import one_of
from rag_rerank._lazy import need
from rag_rerank._version import __version__
from rag_rerank.base import Reranker
from rag_rerank.compose.calibrated import calibrates, model_of
from rag_rerank.compose.calibration_map import (
    CalibrationMap,
    FitQuality,
    Method,
    Provenance,
    Unjudged,
    interpolate,
    logistic,
)
from rag_rerank.errors import CalibrationWarning, ConfigError, InputError, InputTooLong, TruncationWarning
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.evaluation.reliability import brier, log_loss, reliability
from rag_rerank.execution.calls import caller_stacklevel
from rag_rerank.types import Ranking, Scale, present

__all__ = ["Shape", "apply_shape", "calibrate", "fit_shape", "reliability"]

Shape = Mapping[str, Any]
"""What of a `CalibrationMap` decides its probabilities: slope and intercept, or scores and probabilities."""

_STEPS = 100
"""Newton steps at most; ten are usual."""


def fit_shape(method: Method, scores: Sequence[float], relevant: Sequence[bool]) -> Shape:
    """Fit a map."""
    return _platt(scores, relevant) if method == "platt" else _isotonic(scores, relevant)


def apply_shape(shape: Shape, scores: Sequence[float]) -> list[float]:
    """Return the probability at each score, of a shape that may be none of a valid map: falling, or level."""
    if "slope" in shape:
        return [logistic(shape["slope"] * score + shape["intercept"]) for score in scores]
    return [interpolate(score, shape["scores"], shape["probabilities"]) for score in scores]


def _targets(relevant: Sequence[bool]) -> tuple[float, float]:
    """Return what a pair that is not relevant and one that is count as.

    Platt's 1 / (N- + 2) and (N+ + 1) / (N+ + 2), in place of 0 and 1: the mean of a probability under a uniform prior,
    so that no map is ever sure.
    """
    good = sum(relevant)
    return 1 / (len(relevant) - good + 2), (good + 1) / (good + 2)


def _platt(scores: Sequence[float], relevant: Sequence[bool]) -> Shape:
    """Fit a sigmoid by maximum likelihood (Platt, 1999), with the safe Newton steps of Lin, Lin and Weng (2007)."""
    import numpy as np

    low, high = _targets(relevant)
    raw = np.asarray(scores, dtype=np.float64)
    target = np.where(np.asarray(relevant), high, low)
    middle, width = raw.mean(), raw.std() or 1.0
    x = np.stack([(raw - middle) / width, np.ones_like(raw)])

    def loss(at: Any) -> float:
        z = at @ x
        return float(np.sum(np.logaddexp(0, z) - target * z))

    now = np.array([0.0, np.log(target.mean() / (1 - target.mean()))])
    for _ in range(_STEPS):
        p = np.exp(-np.logaddexp(0, -(now @ x)))
        gradient = x @ (p - target)
        if np.abs(gradient).max() < 1e-9 * len(raw):
            break
        curved = (x * (p * (1 - p))) @ x.T + 1e-12 * np.eye(2)
        step, was, share = np.linalg.solve(curved, gradient), loss(now), 1.0
        while loss(now - share * step) > was and share > 1e-10:
            share /= 2
        if share <= 1e-10:
            break
        now = now - share * step
    slope = float(now[0] / width)
    return {"slope": slope, "intercept": float(now[1]) - slope * float(middle)}


def _isotonic(scores: Sequence[float], relevant: Sequence[bool]) -> Shape:
    """Fit the rising steps of least squares, by scikit-learn; bounded by Platt's targets."""
    low, high = _targets(relevant)
    IsotonicRegression = need("sklearn.isotonic", extra="eval").IsotonicRegression
    fitted = IsotonicRegression(y_min=low, y_max=high, out_of_bounds="clip").fit(scores, [float(r) for r in relevant])
    return {
        "scores": tuple(map(float, fitted.X_thresholds_)),
        "probabilities": tuple(map(float, fitted.y_thresholds_)),
    }


_FOLDS = 5
_LEAST = 10
"""Relevant candidates, and others, without which there is nothing to fit."""

_FEW = 100
"""Relevant candidates, or others, below which a fit is shaky: the share in a bin is known to some 10 points only."""

_MANY = 1000
"""Candidates below which isotonic regression follows chance (Niculescu-Mizil and Caruana, ICML 2005)."""


def calibrate(
    reranker: Reranker,
    judged: Judged | Sequence[Judged],
    *,
    method: Method | Literal["auto"] = "auto",
    unjudged: Unjudged = "left out",
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> CalibrationMap:
    """Fit a map from a reranker's raw scores to probabilities of relevance.

    Each query is reranked once, with all its candidates. A candidate is relevant if its grade is at least
    ``judged.relevant``. Blank texts are left out, and so are queries that are too long for the reranker or that another
    one answered (``ranking.substituted``); `CalibrationWarning` says how many.

    How good the map is (``map.fitted.after``) is measured out of fold: the queries are dealt into five parts, and each
    is judged with a map that was fitted on the other four, so that no query's candidates stand on both sides. The map
    itself is fitted on all queries.

    Args:
        reranker: Whose scores to map.
        judged: Judged queries; of several collections, each candidate counts the same.
        method: ``"platt"`` fits a sigmoid; ``"isotonic"`` fits steps, which need more data. ``"auto"`` takes isotonic
            only from 1,000 candidates on, and if its log loss out of fold is lower by more than the standard error of
            the difference over queries.
        unjudged: Candidates without a judgment are left out, or count as not relevant. The latter suits data where
            nearly all that is relevant was judged; it lowers ``prior``, and so every probability.
        seed: Of the dealing.
        progress: Told the share of the queries that is done.

    Raises:
        ConfigError: The reranker is calibrated already.
        MissingExtraError: scikit-learn is not installed, and ``method`` is not ``"platt"``.
        InputError: Too few judged candidates of either kind, too few queries, or scores that do not rise with
            relevance.
        RerankError: Whatever the reranker raises.
    """
    methods: tuple[Method, ...] = get_args(Method)
    one_of(method, ("auto", *methods), "method")
    one_of(unjudged, get_args(Unjudged), "unjudged")
    if calibrates(reranker):
        raise ConfigError(f"{reranker.label} is calibrated already; calibrate what stands inside", path="reranker")
    if method != "platt":
        need("sklearn.isotonic", extra="eval")  # before anything is scored, and paid
    collections = (judged,) if isinstance(judged, Judged) else tuple(judged)
    groups = _scored(reranker, collections, unjudged, progress)
    _check(groups)
    folds = _dealt(groups, seed)
    held_out = {name: _out_of_fold(name, groups, folds) for name in (methods if method == "auto" else (method,))}
    chosen = _chosen(groups, held_out)
    scores, relevant = _flat(groups)
    raised = fit_shape(chosen, scores, relevant)
    if not _rises(raised):
        raise InputError(
            f"the scores of {reranker.label}, compared across queries, do not rise with relevance ({sum(relevant)} of "
            f"{len(scores)} candidates of {len(groups)} queries are relevant); there is no probability in them here"
        )
    return CalibrationMap(
        method=chosen,
        fitted=_provenance(reranker, collections, groups, unjudged, held_out[chosen]),
        **raised,
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """The judged candidates of one query."""

    scores: tuple[float, ...]
    relevant: tuple[bool, ...]


def _scored(
    reranker: Reranker, collections: Sequence[Judged], unjudged: Unjudged, progress: Callable[[float], None]
) -> list[_Group]:
    """Rerank every query, and keep the scores of what was judged."""
    asked = [(query, judged.relevant) for judged in collections for query in judged.queries]
    groups, others, unread, cut, texts = [], 0, 0, 0, 0
    for done, (query, least) in enumerate(asked, start=1):
        ranking = _ranked(reranker, query)
        hits = () if ranking is None else ranking.hits
        cut += sum(hit.coverage is not None and hit.coverage.truncated for hit in hits)
        texts += len(hits)
        if ranking is None:
            unread += 1
        elif ranking.substituted or ranking.scale != reranker.scale:
            others += 1
        elif pairs := list(_pairs(ranking, query, least, unjudged)):
            scores, relevant = zip(*pairs, strict=True)
            groups.append(_Group(scores, relevant))
        progress(done / len(asked))
    if cut:
        what = f"{reranker.label} read only the beginning of {cut} of {texts} texts; the map is for scores of that kind"
        warnings.warn(what, TruncationWarning, stacklevel=caller_stacklevel())
    if unread:
        what = f"they, or a text of theirs, are too long for {reranker.label}"
        _warn(f"{unread} of {len(asked)} queries were left out, since {what}")
    if others:
        _warn(f"{others} of {len(asked)} queries were left out, since another reranker than {reranker.label} answered")
    return groups


def _ranked(reranker: Reranker, query: JudgedQuery) -> Ranking | None:
    """Return the ranking, or ``None`` where the query is too long: of all that may go wrong, this is of it alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # told once, of all
        try:
            return reranker.rerank(query.text, query.candidates)
        except InputTooLong:
            return None


def _pairs(ranking: Ranking, query: JudgedQuery, least: int, unjudged: Unjudged) -> Iterator[tuple[float, bool]]:
    for hit in ranking:
        if hit.raw_score is not None and (unjudged == "not relevant" or hit.id in query.grades):
            yield hit.raw_score, hit.id in query.grades and query.grades[hit.id] >= least


def _flat(groups: Sequence[_Group]) -> tuple[list[float], list[bool]]:
    return [s for group in groups for s in group.scores], [r for group in groups for r in group.relevant]


def _check(groups: Sequence[_Group]) -> None:
    _, relevant = _flat(groups)
    good = sum(relevant)
    counts = f"{good} relevant and {len(relevant) - good} other judged candidates of {len(groups)} queries"
    if min(good, len(relevant) - good) < _LEAST or len(groups) < _FOLDS:
        hint = "" if len(relevant) > good else '; with "not relevant" for unjudged, all others count as such'
        raise InputError(f"too little to calibrate on: {counts}; needs {_LEAST} of each, and {_FOLDS} queries{hint}")
    if min(good, len(relevant) - good) < _FEW:
        _warn(f"fitted on {counts}; with less than {_FEW} of each the probabilities are rough")


def _warn(what: str) -> None:
    warnings.warn(what, CalibrationWarning, stacklevel=caller_stacklevel())


def _dealt(groups: Sequence[_Group], seed: int) -> list[list[int]]:
    """Deal the queries into folds."""
    order = list(range(len(groups)))
    random.Random(seed).shuffle(order)
    return [order[i::_FOLDS] for i in range(_FOLDS)]


def _out_of_fold(method: Method, groups: Sequence[_Group], folds: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return the probabilities of each query by a map of the other folds."""
    found: dict[int, list[float]] = {}
    for fold in folds:
        away = set(fold)
        shape = fit_shape(method, *_flat([group for i, group in enumerate(groups) if i not in away]))
        found |= {i: apply_shape(shape, groups[i].scores) for i in fold}
    return [found[i] for i in range(len(groups))]


def _chosen(groups: Sequence[_Group], held_out: dict[Method, list[list[float]]]) -> Method:
    """Take the only method; of two, isotonic where it is surely better."""
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


def _rises(shape: Shape) -> bool:
    return bool(shape["slope"] > 0 if "slope" in shape else shape["probabilities"][0] < shape["probabilities"][-1])


def _provenance(
    reranker: Reranker,
    collections: Sequence[Judged],
    groups: Sequence[_Group],
    unjudged: Unjudged,
    held_out: Sequence[Sequence[float]],
) -> Provenance:
    from datetime import datetime, timezone
    from hashlib import sha256

    scores, relevant = _flat(groups)
    prints = [judged.fingerprint for judged in collections]
    return Provenance(
        reranker=reranker.label,
        model=model_of(reranker),
        scale=reranker.scale,
        identity=reranker.identity,
        data=" + ".join(judged.name for judged in collections),
        fingerprint=prints[0] if len(prints) == 1 else sha256(" ".join(prints).encode()).hexdigest(),
        relevant=tuple(judged.relevant for judged in collections),
        unjudged=unjudged,
        queries=len(groups),
        pairs=len(scores),
        prior=sum(relevant) / len(relevant),
        before=_before(scores, relevant, reranker.scale),
        after=_fit([p for query in held_out for p in query], relevant),
        version=__version__,
        date=datetime.now(timezone.utc).date().isoformat(),
    )


def _before(scores: Sequence[float], relevant: Sequence[bool], scale: Scale) -> FitQuality | None:
    if scale not in ("sigmoid", "relevance"):
        return None
    return _fit([present(score, scale) for score in scores], relevant)


def _fit(scores: Sequence[float], relevant: Sequence[bool]) -> FitQuality:
    return FitQuality(
        ece=reliability(scores, relevant).ece, brier=brier(scores, relevant), log_loss=log_loss(scores, relevant)
    )

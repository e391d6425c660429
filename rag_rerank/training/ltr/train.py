"""Train a model of learning to rank on judged queries, and measure it on queries that it did not see."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from rag_rerank._checks import whole_number
from rag_rerank._lazy import need
from rag_rerank._version import __version__
from rag_rerank.base import Reranker
from rag_rerank.compose.ltr.features import Features, source_of
from rag_rerank.compose.ltr.learning_to_rank import LearningToRank
from rag_rerank.compose.ltr.ltr_model import BASE, LtrModel, LtrProvenance, TrainedReranker
from rag_rerank.config import Spec, build
from rag_rerank.errors import ConfigError, InputError, LtrWarning, caller_stacklevel, did_you_mean
from rag_rerank.evaluation.analysis import Analysis
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.evaluation.measures import TOP_3, per_query
from rag_rerank.evaluation.report import FIRST_STAGE, Comparison, EvaluationSettings, MeanEstimate, Verdict
from rag_rerank.evaluation.runner import QueryAnswer
from rag_rerank.evaluation.slices import Fields
from rag_rerank.evaluation.statistics import SAMPLES, SEED, adjusted_p, compare
from rag_rerank.execution.progress import Progress, progress_to
from rag_rerank.execution.ranking import falling
from rag_rerank.text.dates import parse_date
from rag_rerank.training.ltr.lambdamart import fit
from rag_rerank.training.ltr.queries import QueryRows, answers_of, fold_numbers, hold_out, join_collections, rows_of
from rag_rerank.training.ltr.settings import LtrSettings
from rag_rerank.training.validation import MEASURE

__all__ = ["FEWEST_QUERIES", "LtrTraining", "train_ltr"]

FEWEST_QUERIES = 30
"""Queries with an order to learn that a training needs at least. With fewer, a fold has less than six to be measured
on, and early stopping has less than five to stop by."""

_FEW_QUERIES = 200
"""With fewer, a training warns: early stopping has less than 40 queries to stop by."""

_NAME = "ltr"


@dataclass(frozen=True, kw_only=True)
class LtrTraining:
    """The result of a training.

    Args:
        model: The model, trained on all queries.
        ndcg: nDCG@10 with its 95 % interval: of ``ltr``, measured out of fold, and of the first stage.
        first_stage: ``ltr`` compared with the first stage.
        single: ``ltr`` compared with each feature alone, the strongest feature first; p-values are corrected for all.
        importance: Mean absolute contribution to a score, by feature, the largest first.
        verdict: Whether to rerank with it.
        notes: What of the metadata could not be read, and what else a reader must know.
    """

    model: LtrModel
    ndcg: Mapping[str, MeanEstimate]
    first_stage: Comparison
    single: tuple[Comparison, ...]
    importance: Mapping[str, float]
    verdict: Verdict
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values, without the trees."""
        return {
            "schema": "rag_rerank.ltr_training/1",
            "features": list(self.model.features.names),
            "fitted": asdict(self.model.fitted),
            "ndcg": {name: asdict(mean) for name, mean in self.ndcg.items()},
            "first_stage": asdict(self.first_stage),
            "single": [asdict(comparison) for comparison in self.single],
            "importance": dict(self.importance),
            "verdict": asdict(self.verdict),
            "notes": list(self.notes),
        }


def train_ltr(
    judged: Judged | Sequence[Judged],
    rerankers: Sequence[Spec] = (),
    *,
    date: str | None = None,
    source: str | None = None,
    columns: Sequence[str] = (),
    without: Sequence[str] = (),
    settings: LtrSettings | None = None,
    now: str | None = None,
    depth: int = 100,
    records: str | os.PathLike[str] | None = None,
    workers: int = 1,
    progress: Progress | bool | None = None,
) -> LtrTraining:
    """Train LambdaMART (Burges, "From RankNet to LambdaRank to LambdaMART: an overview", MSR-TR-2010-82) by LightGBM.

    Each reranker ranks the candidates of every query once. The model learns from the grades which features put relevant
    candidates first. A candidate without a judgment counts as not relevant, as in nDCG.

    The quality is measured out of fold: the queries are split into five parts, and each part is ranked by a model that
    was trained, and stopped, on the others. The model that is returned is trained on all queries but the share that
    stops it early.

    Args:
        judged: Judged queries, from your own first stage at your own depth; several collections are join_collections.
        rerankers: Rerankers whose scores and ranks are features.
        date: The field of the metadata with the date of a text.
        source: The field of the metadata with its source.
        columns: Fields of the metadata with numbers.
        without: Features to leave out, by name.
        settings: The settings of the training.
        now: The moment that ages are counted to, ISO 8601; by default now.
        depth: How many candidates of each query are used at most.
        records: A folder for the rerankers' answers, as in `evaluate`; a training that is repeated asks nothing anew.
        workers: Queries that run at a time; more than one is for providers.
        progress: Called with the share that is done, from 0 to 1; ``True`` for a bar on stderr.

    Raises:
        InputError: There are too few queries with a relevant candidate and another one; the message says how many are
            needed.
        ConfigError: A setting, a field or a feature is wrong, or a reranker failed on a query.
        MissingExtraError: The extra ``ltr`` is not installed.
        RerankError: Whatever a reranker raises on every query.
    """
    need("lightgbm", extra="ltr")  # before anything is scored and paid for
    settings = settings or LtrSettings()
    depth = whole_number(depth, 1, "depth")
    moment = datetime.now(timezone.utc).replace(microsecond=0) if now is None else parse_date(now)
    if moment is None:
        raise ConfigError(f"expected a date such as '2026-11-30', got {now!r:.60}", path="now")
    whole = join_collections((judged,) if isinstance(judged, Judged) else tuple(judged))
    members = tuple(build(spec) for spec in rerankers)
    features = Features(
        rerankers=tuple(reranker.label for reranker in members),
        date=date,
        source=source,
        sources=_sources(whole.queries, source),
        columns=tuple(columns),
        without=tuple(without),
    )
    directions = features.directions(settings.monotone)
    _check_fields(whole.queries, [field for field in (date, source, *columns) if field is not None])
    _check_size(whole.queries, depth)
    with progress_to(progress, f"training on {whole.name}") as report:
        answers = []
        for nth, reranker in enumerate(members):

            def tell(done: int, nth: int = nth, label: str = reranker.label) -> None:
                report((nth + done / len(whole.queries)) / (len(members) + 1), f"{label}: {done} queries")

            records_folder = None if records is None else os.fspath(records)
            answers.append(answers_of(reranker, whole.queries, depth, records_folder, workers, tell))
        rows = [
            rows_of(features, query, [of[i] for of in answers], depth, moment) for i, query in enumerate(whole.queries)
        ]
        report(len(members) / (len(members) + 1), "training")
        scores = _out_of_fold(rows, directions, settings)
        booster = fit(
            *hold_out([one for one in rows if one.teaches], settings.hold_out, settings.seed), directions, settings
        )
    return _result(whole, members, features, directions, settings, moment, depth, rows, scores, booster)


def _sources(queries: Sequence[JudgedQuery], field: str | None) -> tuple[str, ...]:
    if field is None:
        return ()
    names = {source_of(candidate, field) for query in queries for candidate in query.candidates}
    return tuple(sorted(name for name in names if name is not None))


def _check_fields(queries: Sequence[JudgedQuery], fields: Sequence[str]) -> None:
    """Raise `ConfigError` for a field that no candidate has: it is misspelt, or the data lack it."""
    keys = {str(key) for query in queries for candidate in query.candidates for key in candidate.metadata}
    for field in fields:
        if field not in keys:
            raise ConfigError(f"no candidate has the metadata {field!r}{did_you_mean(field, keys)}")


def _check_size(queries: Sequence[JudgedQuery], depth: int) -> None:
    teaching = sum(
        len({max(0, query.grades.get(candidate.id, 0)) for candidate in query.candidates[:depth]}) > 1
        for query in queries
    )
    if teaching < FEWEST_QUERIES:
        raise InputError(
            f"{teaching} of {len(queries)} queries have a relevant candidate and another one, and a training needs "
            f"{FEWEST_QUERIES}: judge about {FEWEST_QUERIES - teaching} more. Until then use a reranker, or an ensemble"
        )
    if teaching < _FEW_QUERIES:
        warnings.warn(
            f"trained on {teaching} queries; with less than {_FEW_QUERIES}, it may be no better than its best feature",
            LtrWarning,
            stacklevel=caller_stacklevel(),
        )


def _fit(rows: Sequence[QueryRows], directions: Mapping[str, int], settings: LtrSettings) -> Any:
    training, validation = hold_out(rows, settings.hold_out, settings.seed)
    return fit(training, validation, directions, settings)


def _out_of_fold(rows: Sequence[QueryRows], directions: Mapping[str, int], settings: LtrSettings) -> list[list[float]]:
    """Return the scores of each query's rows, by a model that was trained without that query."""
    numbers = fold_numbers([one.query for one in rows], settings.folds, settings.seed)
    scores: list[list[float]] = [[] for _ in rows]
    for fold in range(settings.folds):
        others = [one for one, number in zip(rows, numbers, strict=True) if number != fold and one.teaches]
        booster = _fit(others, directions, settings)
        for i, (one, number) in enumerate(zip(rows, numbers, strict=True)):
            if number == fold and one.rows:
                scores[i] = [float(score) for score in booster.predict(one.rows)]
    return scores


def _order(one: QueryRows, values: Sequence[float]) -> tuple[int, ...]:
    """Return the positions of all candidates of a query, by falling value of its rows; the others follow."""
    best = [one.where[i] for i in falling(values)]
    return (*best, *sorted(set(range(len(one.query.candidates))).difference(best)))


def _result(
    judged: Judged,
    rerankers: Sequence[Reranker],
    features: Features,
    directions: Mapping[str, int],
    settings: LtrSettings,
    now: datetime,
    depth: int,
    rows: Sequence[QueryRows],
    scores: Sequence[Sequence[float]],
    booster: Any,
) -> LtrTraining:
    deepest = min(depth, max(len(query.candidates) for query in judged.queries))
    analysis = Analysis(
        judged,
        {_NAME: LearningToRank(model=_NAME, rerankers=tuple(rerankers))},
        {_NAME: [QueryAnswer(query=one.query, order=_order(one, of)) for one, of in zip(rows, scores, strict=True)]},
        EvaluationSettings(measures=(MEASURE, TOP_3), depth=deepest, top_k=10, samples=SAMPLES, seed=SEED),
        Fields(values={}, problems=()),
    )
    means = {system.name: system.measures[MEASURE] for system in analysis.systems}
    against = next(c for c in analysis.comparisons if c.measure == MEASURE and c.baseline == FIRST_STAGE)
    single = _single_features(judged, rows, directions, analysis.values[_NAME][MEASURE])
    teaching = [one for one in rows if one.teaches]
    fitted = LtrProvenance(
        data=judged.name,
        fingerprint=judged.fingerprint,
        queries=len(teaching),
        pairs=sum(len(one.rows) for one in teaching),
        now=now.isoformat(),
        rounds=booster.num_trees(),
        ndcg=means[_NAME].mean,
        first_stage=means[FIRST_STAGE].mean,
        difference=(against.difference.mean, against.difference.low, against.difference.high),
        verdict=analysis.verdict.words,
        settings=asdict(settings),
        version=__version__,
        lightgbm=need("lightgbm", extra="ltr").__version__,
        date=datetime.now(timezone.utc).date().isoformat(),
    )
    model = LtrModel(
        features=features,
        rerankers=tuple(TrainedReranker(label=one.label, scale=one.scale, identity=one.identity) for one in rerankers),
        monotone=directions,
        trees=booster.model_to_string(),
        fitted=fitted,
    )
    return LtrTraining(
        model=model,
        ndcg=means,
        first_stage=against,
        single=single,
        importance=_importance(model, rows),
        verdict=analysis.verdict,
        notes=tuple(_notes(rows, features, single)),
    )


def _single_features(
    judged: Judged, rows: Sequence[QueryRows], directions: Mapping[str, int], values: Mapping[str, float]
) -> tuple[Comparison, ...]:
    """Compare the model with each feature alone, in the direction of its constraint, else in the better of both."""
    of_feature: dict[str, Mapping[str, float]] = {}
    for column, (name, direction) in enumerate(directions.items()):
        ways = [_values_of_column(judged, rows, column, sign) for sign in ((direction,) if direction else (1, -1))]
        if name != "source":
            of_feature[name] = max(ways, key=lambda way: sum(way.values()))
    best_first = sorted(of_feature, key=lambda name: -sum(of_feature[name].values()))
    return adjusted_p([compare(_NAME, name, MEASURE, values, of_feature[name]) for name in best_first])


def _values_of_column(judged: Judged, rows: Sequence[QueryRows], column: int, sign: int) -> dict[str, float]:
    orders = {}
    for one in rows:
        values = [-float("inf") if row[column] != row[column] else sign * row[column] for row in one.rows]
        orders[one.query.id] = [one.query.candidates[i].id for i in _order(one, values)]
    return per_query(judged, orders, (MEASURE,))[MEASURE]


def _importance(model: LtrModel, rows: Sequence[QueryRows]) -> dict[str, float]:
    parts = model.contributions([row for one in rows for row in one.rows])
    means = {name: sum(abs(part[name]) for part in parts) / len(parts) for name in parts[0] if name != BASE}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def _notes(rows: Sequence[QueryRows], features: Features, single: Sequence[Comparison]) -> list[str]:
    unread = [note for one in rows for note in one.notes]
    notes = [f"{len(unread)} queries have metadata that cannot be read, such as: {unread[0]}"] if unread else []
    for column, name in enumerate(features.names):
        if all(row[column] != row[column] for one in rows for row in one.rows):
            notes.append(f"{name} is missing for every candidate, so it decides nothing")
    best = single[0] if single else None
    if best is not None and not (best.difference.mean > 0 and best.p_adjusted < 0.05):
        notes.append(
            f"{best.baseline} alone is not proven to be worse ({best.difference.mean:+.3f} "
            f"[{best.difference.low:+.3f}, {best.difference.high:+.3f}] for ltr); it is the simpler choice"
        )
    return notes

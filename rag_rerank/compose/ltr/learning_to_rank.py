"""Learning to rank: orders candidates by a trained model over features, rerankers inside among them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any, ClassVar, NamedTuple

from rag_rerank._files import FilePath, expand_user
from rag_rerank._lazy import load_once, peek
from rag_rerank.base import Composite, Reranker
from rag_rerank.compose.ltr.ltr_model import LtrModel
from rag_rerank.compose.wrapper import check_reranker
from rag_rerank.errors import ConfigError, LtrWarning, RerankError, caller_stacklevel
from rag_rerank.execution.instruction import instruction_or, without_call_instruction
from rag_rerank.execution.plan import Call, InThread, Outcome, Parallel, Plan, PlanResult, is_permanent
from rag_rerank.execution.ranking import ranked_hits
from rag_rerank.text.dates import parse_date
from rag_rerank.types import BLANK, Candidate, Hit, Ranking, Scale, Scores

__all__ = ["LearningToRank"]


@dataclass(frozen=True, kw_only=True)
class LearningToRank(Composite):
    """Orders candidates by a trained model over features: scores of rerankers, BM25, freshness, your own numbers.

    The model is LambdaMART: gradient-boosted trees of LightGBM, trained on your judged queries by
    ``rag-rerank ltr train``. Its file says which features it reads, and which rerankers it was trained with. They are
    called side by side, each with all candidates; `Features` says what each feature means.

    The scores are unbounded and compare only within one call, because ranks and BM25 depend on the other candidates; so
    no cache may keep them. Put a `Cached` around the rerankers inside. ``trace.contributions`` has what each feature
    adds to the score of each hit.

    The model belongs to its rerankers. Another number or scale of rerankers is refused. If the number and the scales
    are the same but a model, its revision or a setting is not, an `LtrWarning` says so once per instance and process,
    and so does every trace. A reranker that fails with a `TransientError`, or in whose place another one answers, has
    missing features: the others then decide, the ranking is degraded, and ``substituted``. Any other error is raised.

    Needs the extra ``ltr``.

    Args:
        model: The path of the JSON file that ``rag-rerank ltr train`` writes; it is read at first use.
        rerankers: The rerankers that the model was trained with, in the same order. Empty for a model without any.
        now: The moment that the age of a text is counted to, as a date or a time in ISO 8601. By default the moment of
            the call. Set it to repeat an evaluation. The trace names it.

    Raises:
        ConfigError: ``model`` is no path, one of ``rerankers`` is none, or ``now`` is no date.
    """

    kind: ClassVar[str] = "ltr"

    model: FilePath
    rerankers: tuple[Reranker, ...] = ()
    now: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.model, str) or not self.model.strip():
            raise ConfigError(f"expected the path of a model file, got {self.model!r:.60}", path="model")
        for i, reranker in enumerate(self.rerankers):
            check_reranker(reranker, f"rerankers[{i}]")
        if self.now is not None and (not isinstance(self.now, str) or parse_date(self.now) is None):
            raise ConfigError(f"expected a date such as '2026-11-30', got {self.now!r:.60}", path="now")

    @property
    def scale(self) -> Scale:
        """Unbounded: only the order within one call means something."""
        return "unbounded"

    @property
    def knows_text_limit(self) -> bool:
        """Whether all rerankers inside know their text limits; the other features read texts of any length."""
        return all(reranker.knows_text_limit for reranker in self.rerankers)

    def warm_up(self) -> None:
        """Load the rerankers and the model, and check whether they belong together."""
        super().warm_up()
        _ = self._ready

    def _identity_facts(self) -> Mapping[str, Any]:
        """Return what decides a score of the model; its path and its provenance change none."""
        return {"model": self._model.digest}

    @load_once
    def _model(self) -> LtrModel:
        model = LtrModel.load(expand_user(self.model))
        trained, here = [one.label for one in model.rerankers], [reranker.label for reranker in self.rerankers]
        if len(trained) != len(here):
            raise ConfigError(
                f"the model was trained with {_join_labels(trained)}, and here is {_join_labels(here)}; name the "
                "same ones in the same order",
                path="rerankers",
            )
        for i, (one, reranker) in enumerate(zip(model.rerankers, self.rerankers, strict=True)):
            if one.scale != reranker.scale:
                raise ConfigError(
                    f"the model was trained with {one.label}, whose scores are {one.scale}; those of {reranker.label} "
                    f"are {reranker.scale}. {_TRAIN_ANEW}",
                    path=f"rerankers[{i}]",
                )
        return model

    @load_once
    def _ready(self) -> _CheckedModel:
        _ = self._model.booster
        with without_call_instruction():  # the answer is kept for all calls
            doubts = tuple(
                f"the model was trained with {one.label} on {self._model.fitted.date}, and the scores are from "
                f"{reranker.label}{' with other files or settings' if one.label == reranker.label else ''}; the order "
                f"may be off. {_TRAIN_ANEW}"
                for one, reranker in zip(self._model.rerankers, self.rerankers, strict=True)
                if one.identity != reranker.identity
            )
        for doubt in doubts:
            warnings.warn(f"{self.label}: {doubt}", LtrWarning, stacklevel=caller_stacklevel())
        return _CheckedModel(self._model, doubts)

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        ready: _CheckedModel = peek(self, "_ready") or (yield InThread(lambda: self._ready))
        features, notes = ready.model.features, list(ready.notes)
        if instruction_or(None) is not None and self.takes_instruction:
            notes.append("the model was trained without the instruction of this call; the order may be off")
        outcomes: tuple[Outcome, ...] = ()
        if self.rerankers:
            calls = tuple(Call(reranker, query, candidates) for reranker in self.rerankers)
            outcomes = yield Parallel(calls, required=len(calls))
        for outcome in outcomes:
            if is_permanent(outcome):
                raise outcome
        answers, missing = [], []
        for reranker, outcome in zip(self.rerankers, outcomes, strict=True):
            reason = _why_missing(reranker, outcome)
            answers.append(None if reason or not isinstance(outcome, Ranking) else _raw_scores(outcome))
            missing += [f"{reranker.label} ({reason})"] if reason else []
        now = parse_date(self.now) or datetime.now(timezone.utc)
        if "age_days" in features.names:
            notes.append(f"age_days counts to {now.isoformat(timespec='seconds')}")
        work = partial(_rank, ready.model, query, candidates, answers, now)
        hits, contributions, unreadable = yield InThread(work)
        return PlanResult(
            hits,
            self.scale,
            degraded=(f"ranked without {', '.join(missing)}",) if missing else (),
            notes=(*notes, *unreadable),
            substituted=bool(missing),
            own_scores=True,
            contributions=contributions,
        )


class _CheckedModel(NamedTuple):
    """A model that was loaded and checked, with notes for the trace."""

    model: LtrModel
    notes: tuple[str, ...]


_TRAIN_ANEW = "Train one for it: rag-rerank ltr train JUDGED -r RERANKER -o ltr.json"


def _join_labels(labels: list[str]) -> str:
    return ", ".join(labels) or "no reranker"


def _why_missing(reranker: Reranker, outcome: Outcome) -> str | None:
    """Return why an answer has no scores for the model; ``None`` where it has."""
    if isinstance(outcome, RerankError) or outcome is None:
        return type(outcome).__name__
    if outcome.substituted:
        return "another reranker answered"
    return f"answered on the scale {outcome.scale!r}" if outcome.scale != reranker.scale else None


def _raw_scores(ranking: Ranking) -> dict[str, float]:
    return {hit.id: hit.raw_score for hit in ranking if hit.raw_score is not None}


def _rank(
    model: LtrModel,
    query: str,
    candidates: tuple[Candidate, ...],
    answers: list[dict[str, float] | None],
    now: datetime,
) -> tuple[tuple[Hit, ...], dict[str, dict[str, float]], tuple[str, ...]]:
    """Return the hits, the parts of their scores by id, and what of the metadata cannot be read."""
    table = model.features.table(query, candidates, answers, now)
    values = model.scores(table.rows) if table.rows else []
    parts = model.contributions(table.rows) if table.rows else []
    blank = dict.fromkeys(set(range(len(candidates))).difference(table.where), BLANK)
    hits = ranked_hits(candidates, Scores(values, "unbounded"), table.where, blank)
    return hits, {candidates[i].id: part for i, part in zip(table.where, parts, strict=True)}, table.notes

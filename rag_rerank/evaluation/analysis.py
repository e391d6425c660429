"""The results of an evaluation, computed from all answers: figures, comparisons, slices, outcomes, the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import fsum

from rag_rerank.base import PointwiseReranker, Reranker
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.evaluation.depth_curve import Curve, curve, smallest_top_k
from rag_rerank.evaluation.measures import TOP_3, per_query
from rag_rerank.evaluation.recommendation import verdict
from rag_rerank.evaluation.report import (
    FIRST_STAGE,
    Comparison,
    Data,
    DocumentRanks,
    EvaluationSettings,
    Failure,
    MeanEstimate,
    Outcome,
    Slice,
    System,
    Verdict,
)
from rag_rerank.evaluation.runner import QueryAnswer
from rag_rerank.evaluation.slices import Fields, slices
from rag_rerank.evaluation.statistics import adjusted_p, compare, estimate
from rag_rerank.evaluation.system_figures import failures_of, first_stage_figures, system_figures

__all__ = ["Analysis"]

_PLACES = 10
"""Relevant documents of each query whose ranks are reported."""

_TEXT_ONLY = ("calibrated", "recorded", "windows")
"""Composites whose scores depend only on the query and the text if the scores of the reranker inside do."""

Values = Mapping[str, Mapping[str, float]]
"""Measure -> query id -> value."""


@dataclass
class Analysis:
    """The results of an evaluation; each part is computed once.

    Args:
        judged: The judged queries.
        rerankers: Name -> reranker.
        reranker_answers: Name -> its answers, in the order of the queries, for rerankers that were not stopped.
        settings: How they are evaluated.
        fields: The fields that the queries are sliced by.
    """

    judged: Judged
    rerankers: Mapping[str, Reranker]
    reranker_answers: Mapping[str, Sequence[QueryAnswer]]
    settings: EvaluationSettings
    fields: Fields

    @cached_property
    def answers(self) -> dict[str, Sequence[QueryAnswer]]:
        """The answers of all systems, the first stage first."""
        return {
            FIRST_STAGE: [QueryAnswer.of_first_stage(query) for query in self.judged.queries],
            **self.reranker_answers,
        }

    @cached_property
    def values(self) -> dict[str, Values]:
        """System -> measure -> query id -> value."""
        return {
            name: per_query(self.judged, _orders(answers), self.settings.measures)
            for name, answers in self.answers.items()
        }

    @cached_property
    def failures(self) -> dict[str, dict[str, Failure]]:
        """System -> query id -> failure."""
        return {name: failures_of(self.judged, answers, self.settings.top_k) for name, answers in self.answers.items()}

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """System -> its depth curve, where a score depends on the query and the text alone."""
        return {
            name: curve(
                self.judged,
                {answer.query.id: answer.by_id(answer.raw) for answer in answers},
                self.settings.measures,
                depth=self.settings.depth,
                samples=self.settings.samples,
                seed=self.settings.seed,
            )
            for name, answers in self.reranker_answers.items()
            if _scores_texts_alone(self.rerankers[name])
        }

    @cached_property
    def systems(self) -> tuple[System, ...]:
        """The figures of each system."""
        first = first_stage_figures(FIRST_STAGE, self._means(FIRST_STAGE), self.failures[FIRST_STAGE].values())
        return first, *(
            system_figures(
                name,
                self.rerankers[name],
                self.judged,
                answers,
                measures=self._means(name),
                failures=self.failures[name].values(),
                depths=self.curves[name].depths if name in self.curves else (),
            )
            for name, answers in self.reranker_answers.items()
        )

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Each reranker against the first stage in every measure, and each pair of rerankers in the first measure.

        In each measure, p-values are corrected for all rerankers; p-values of the pairs are corrected for all pairs.
        """
        families = [[(name, FIRST_STAGE, m) for name in self.reranker_answers] for m in self.settings.measures]
        first = self.settings.measures[0]
        families.append([(later, earlier, first) for earlier, later in combinations(self.reranker_answers, 2)])
        return tuple(
            comparison for family in families for comparison in adjusted_p([self._compare(*pair) for pair in family])
        )

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """The slices, tested in the first measure and in nDCG@3."""
        settings = self.settings
        tested_measures = (settings.measures[0], TOP_3)
        return slices(self.fields, self.values, tested_measures, samples=settings.samples, seed=settings.seed)

    @cached_property
    def data(self) -> Data:
        """The data of the evaluation."""
        queries, judged = self.judged.queries, self.judged
        count = sum(len(query.candidates) for query in queries)
        with_grade = sum(candidate.id in query.grades for query in queries for candidate in query.candidates)
        best = per_query(
            judged, {query.id: _perfect_order(query, self.settings.depth) for query in queries}, self.settings.measures
        )
        return Data(
            name=judged.name,
            fingerprint=judged.fingerprint,
            queries=len(queries),
            candidates=count / len(queries),
            judged=with_grade / count if count else 0.0,
            relevant=judged.relevant,
            ceiling={measure: fsum(values.values()) / len(values) for measure, values in best.items()},
            problems=(*judged.problems, *self.fields.problems),
            sources=judged.sources,
        )

    @cached_property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The results by query."""
        return tuple(self._outcome(i, query) for i, query in enumerate(self.judged.queries))

    @cached_property
    def verdict(self) -> Verdict:
        """The recommendation."""
        before, settings = _orders(self.answers[FIRST_STAGE]), self.settings
        return verdict(
            data=self.data,
            settings=settings,
            systems=self.systems,
            comparisons=self.comparisons,
            slices=self.slices,
            outcomes=self.outcomes,
            depths={name: curve.enough for name, curve in self.curves.items()},
            top_ks={
                name: smallest_top_k(
                    self.judged,
                    before,
                    _orders(answers),
                    settings.top_k,
                    samples=settings.samples,
                    seed=settings.seed,
                )
                for name, answers in self.reranker_answers.items()
            },
        )

    def _means(self, name: str) -> dict[str, MeanEstimate]:
        return {
            measure: estimate(values.values(), samples=self.settings.samples, seed=self.settings.seed)
            for measure, values in self.values[name].items()
        }

    def _compare(self, system: str, baseline: str, measure: str) -> Comparison:
        return compare(
            system,
            baseline,
            measure,
            self.values[system][measure],
            self.values[baseline][measure],
            samples=self.settings.samples,
            seed=self.settings.seed,
        )

    def _outcome(self, i: int, query: JudgedQuery) -> Outcome:
        return Outcome(
            id=query.id,
            text=query.text,
            candidates=len(query.candidates),
            relevant=sum(grade >= self.judged.relevant for grade in query.grades.values()),
            slices=self.fields.of(query.id),
            measures={
                name: {measure: by[query.id] for measure, by in values.items()} for name, values in self.values.items()
            },
            failures={name: by[query.id] for name, by in self.failures.items() if query.id in by},
            places=tuple(sorted(self._document_ranks(i, query), key=_best_rank)[:_PLACES]),
            seconds={
                name: seconds
                for name, answers in self.reranker_answers.items()
                if answers[i].error is None and (seconds := answers[i].seconds) is not None
            },
        )

    def _document_ranks(self, i: int, query: JudgedQuery) -> Iterator[DocumentRanks]:
        ranks = {
            name: {id: rank for rank, id in enumerate(answers[i].ids, start=1)}
            for name, answers in self.answers.items()
        }
        for id, grade in query.grades.items():
            if grade >= self.judged.relevant:
                yield DocumentRanks(id=id, grade=grade, ranks={name: by.get(id) for name, by in ranks.items()})


def _scores_texts_alone(reranker: Reranker) -> bool:
    """Whether a score depends on the query and the text alone."""
    if isinstance(reranker, PointwiseReranker):
        return reranker.why_not_cacheable is None
    return reranker.kind in _TEXT_ONLY and all(map(_scores_texts_alone, reranker.children))


def _orders(answers: Sequence[QueryAnswer]) -> dict[str, list[str]]:
    return {answer.query.id: answer.ids for answer in answers}


def _perfect_order(query: JudgedQuery, depth: int) -> list[str]:
    """Return the best order that a reranker of the first ``depth`` candidates could give."""
    ids = [candidate.id for candidate in query.candidates]
    return sorted(ids[:depth], key=lambda id: -query.grades.get(id, 0)) + ids[depth:]


def _best_rank(document: DocumentRanks) -> tuple[float, int]:
    ranks = [rank for rank in document.ranks.values() if rank is not None]
    return min(ranks, default=float("inf")), -document.grade

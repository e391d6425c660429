"""What there is to say of a distilled student, before its folder appears: figures, card, run record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rag_rerank.base import Reranker
from rag_rerank.config import build
from rag_rerank.evaluation import Judged
from rag_rerank.training.asking import Taught
from rag_rerank.training.card import Card, Figure, Teacher
from rag_rerank.training.examples import Examples
from rag_rerank.training.imitating import BY_TEACHER, MEASURE, Following, following, mean
from rag_rerank.training.leakage import Leakage
from rag_rerank.training.planning import Plan
from rag_rerank.training.scoring import provided

__all__ = ["Describing", "begun"]


def begun(name: str, plan: Plan, teacher: Reranker, leakage: Leakage | None, commands: Sequence[Sequence[str]]) -> Card:
    """Return what a card says before anything is trained."""
    return Card(
        name=name,
        contamination=None if leakage is None else tuple(leakage.contamination(shared_corpus=True)),
        teacher=Teacher(name=teacher.label, remote=provided(teacher), pairs=plan.estimate.pairs),
        use=f"Orders passages of {plan.corpus.name} as {teacher.label} does, from which it was distilled.",
        limits=("How good it is on another corpus than the one it was distilled on is not known.",),
        commands=tuple(tuple(command) for command in commands),
    )


@dataclass
class Describing:
    """Compares a trained checkpoint with its teacher, and says so in card and run record.

    Args:
        plan: What was to be done.
        taught: What the teacher said.
        held: What the student has not learnt from, with the teacher's scores.
        validation: Judged queries, if there are any.

    Attributes:
        following: How far the student follows its teacher, once it was asked.
        judged: nDCG@10 on ``validation``, beside that of its first stage.
    """

    plan: Plan
    taught: Taught
    held: Examples
    validation: Judged | None
    following: Following | None = None
    judged: Figure | None = None

    def __call__(self, checkpoint: Path, card: Card) -> tuple[Card, Mapping[str, Any]]:
        """Return the card with the figures, and what the run record has beside the training's own."""
        config = {"type": "torch", "model": str(checkpoint), "max_length": self.plan.settings.max_length}
        with build(config) as model:
            self.following = following(model, self.held)
            self.judged = None if self.validation is None else _judged(model, self.validation)
        figures = (*([self.judged] if self.judged else []), *_figures(self.following), *card.figures)
        base = None if self.plan.student.random else self.plan.student.base.name
        return replace(card, base=base, figures=figures), {"distillation": self._record(self.following)}

    def _record(self, follows: Following) -> dict[str, Any]:
        plan, made = self.plan, self.plan.student
        return {
            "teacher": dict(self.taught.teacher),
            "queries": {
                "asked": plan.asked,
                "by_rule": dict(plan.queries.counts),
                "left_out": dict(plan.queries.left_out),
            },
            "pairs": plan.estimate.pairs,
            "usage": self.taught.usage.to_dict(),
            "student": {
                "shape": made.name,
                "base": made.base.name,
                "layers": None if made.layers is None else list(made.layers),
                "random": made.random,
                "parameters": made.parameters,
            },
            "following": follows.to_dict(),
        }


def _figures(follows: Following) -> tuple[Figure, ...]:
    """Return what the training's own figures do not say: that the student's numbers follow the teacher's."""
    found = follows.agreement
    return (
        Figure(data=BY_TEACHER, measure="Kendall's tau-b", after=found.tau, queries=found.queries),
        Figure(data=BY_TEACHER, measure="share of the ten best", after=found.top_10, queries=found.queries),
    )


def _judged(model: Reranker, validation: Judged) -> Figure:
    """Return nDCG@10 of a student on judged queries, beside that of their first stage."""
    first = {query.id: [candidate.id for candidate in query.candidates] for query in validation.queries}
    own = {query.id: [hit.id for hit in model.rerank(query.text, query.candidates)] for query in validation.queries}
    return Figure(
        data=validation.name,
        measure=MEASURE,
        after=mean(validation, own),
        before=mean(validation, first),
        baseline="the first stage",
        queries=len(validation.queries),
    )

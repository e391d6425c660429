"""Distil a small model from a corpus and a teacher: one function from plan to folder."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rag_rerank._files import new_folder
from rag_rerank.base import Reranker
from rag_rerank.compose import Unjudged
from rag_rerank.config import Spec, build
from rag_rerank.errors import ConfigError
from rag_rerank.evaluation import Judged
from rag_rerank.training.base_model import check_extra
from rag_rerank.training.data.examples import Examples
from rag_rerank.training.data.leakage import Leakage, find_leaks
from rag_rerank.training.data.split import split
from rag_rerank.training.data.teacher_scores import uses_provider
from rag_rerank.training.distillation.candidates import propose
from rag_rerank.training.distillation.corpus import read_corpus
from rag_rerank.training.distillation.plan import (
    Plan,
    QuerySource,
    check_question_count,
    default_settings,
    limit_pairs,
    load_queries,
    source_of,
)
from rag_rerank.training.distillation.student import Student, plan_student
from rag_rerank.training.distillation.targets import (
    BY_TEACHER,
    Fidelity,
    as_logits,
    judged_by_teacher,
    mean_ndcg,
    measure_fidelity,
)
from rag_rerank.training.distillation.teacher import Teacher, TeacherScores
from rag_rerank.training.losses import FROM_TEACHER
from rag_rerank.training.model_card.card import Card, Figure, TeacherFacts
from rag_rerank.training.run_record import TrainingRun
from rag_rerank.training.settings import TrainingSettings
from rag_rerank.training.train import train
from rag_rerank.training.validation import MEASURE

__all__ = ["Distillation", "StudentDescription", "distil", "draft_card"]

_TEACHER_SHARE = 0.5
"""Share of the progress for the teacher's answers; the rest is training."""


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """The outcome of a distillation.

    Args:
        plan: The plan.
        teacher_scores: The teacher's scores.
        fidelity: How closely the student follows the teacher on held-out queries.
        judged: nDCG@10 on the judged queries, beside that of their first stage; ``None`` without any.
        run: The training.
    """

    plan: Plan
    teacher_scores: TeacherScores
    fidelity: Fidelity
    judged: Figure | None
    run: TrainingRun

    @property
    def helps(self) -> bool:
        """Whether the student is better than BM25: on the judged queries, or else at following its teacher."""
        if self.judged is None or self.judged.before is None:
            return self.fidelity.follows
        return self.judged.after > self.judged.before


def distil(
    corpus: str | os.PathLike[str],
    teacher: Spec,
    student: str | Student,
    out: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    queries: QuerySource = None,
    licence: str | None = None,
    depth: int = 16,
    max_pairs: int | None = None,
    ceiling: float | None = None,
    workers: int = 1,
    settings: TrainingSettings | None = None,
    share: float = 0.1,
    validation: Judged | None = None,
    unjudged: Unjudged = "left out",
    records: str | os.PathLike[str] | None = None,
    commands: Sequence[Sequence[str]] = (),
    resume: bool = True,
    agree: Callable[[Plan], None] = lambda plan: None,
    progress: Callable[..., None] = lambda share, words=None: None,
    note: Callable[[str], None] = lambda words: None,
) -> Distillation:
    """Train a small model to order the passages of a corpus as another reranker does.

    For each query BM25 proposes passages, the teacher scores them, and the student learns the scores. The teacher may
    be any reranker, a provider's too. Some providers' terms forbid training on their scores; whether yours do is for
    you to check.

    Every answer is stored in ``records`` at once. After an interruption (an error, the ceiling, Ctrl-C) the same call
    resumes: no answer is paid for twice, and the training continues from its last checkpoint.

    Args:
        corpus: The passages; see `corpus.read_corpus`.
        teacher: A name, a config, a config file, or a reranker that a config can express.
        student: A shape (``"3x384"``), a folder, or a plan by `student.plan_student`.
        out: The folder to make; see `train.train`.
        base: Folder of the model that a shape is made from.
        queries: File of your users' queries, or the queries; by default, pseudo-queries are made from the passages.
        licence: The licence of the corpus, for the model card.
        depth: Passages that the teacher scores for each query; see `candidates.propose`.
        max_pairs: Maximum number of pairs of query and passage that the teacher scores; if there are more, a fair
            sample of the queries is used.
        ceiling: US dollars that all answers together may cost, those of earlier calls included.
        workers: Queries that the teacher answers at a time; use more than one for providers only.
        settings: The settings of the training; by default `plan.default_settings`.
        share: Share of the queries that is held out: the best step is the one with the best nDCG@10 against the
            teacher's order on them.
        validation: Judged queries of the same corpus, on which student and first stage are compared, and the map in
            ``calibration.json`` is fitted. Queries that are among them are not trained on.
        unjudged: How the map counts their candidates without a judgment (`rag_rerank.evaluation.calibrate`).
        records: Folder of the teacher's answers; by default ``OUT.teacher``.
        commands: Commands that repeat the distillation, for the model card.
        resume: Whether training resumes from existing checkpoints; the teacher's stored answers are used in any case.
        agree: Called with the plan before the first call of the teacher; may raise an error to stop.
        progress: Called with the share that is done, and a few words.
        note: Called with what the user should know.

    Raises:
        AuthenticationError: The teacher lacks a key, or its provider refuses it.
        BackendError: The teacher failed; the message says how many answers are stored.
        ConfigError: A value cannot be used; the path of the error names it.
        CostExceeded: The estimate is above the ceiling, and nothing was asked; or the next answer would pass it.
        InputError: There are no passages or no queries, or nothing can be learned from the teacher's scores.
        MissingExtraError: The extra ``train`` is not installed.
        ModelLoadError: The base cannot be loaded.
    """
    check_extra()
    target = new_folder(out)
    if not 0 < share < 1:
        raise ConfigError(f"must be a share between 0 and 1, got {share!r}", path="share")
    if ceiling is not None and not (ceiling >= 0 and math.isfinite(ceiling)):
        raise ConfigError(f"must be a finite number of dollars of at least 0, got {ceiling!r}", path="ceiling")
    reranker = build(teacher)
    try:
        planned_student = student if isinstance(student, Student) else plan_student(student, base=base)
        settings = settings or default_settings(reranker, planned_student, depth)
        if settings.loss not in FROM_TEACHER:
            raise ConfigError(f"{settings.loss!r} learns nothing from a teacher; {FROM_TEACHER} do", path="loss")
        passages = read_corpus(corpus, licence=licence)
        for problem in passages.problems:
            note(str(problem))
        all_queries = load_queries(passages, queries, settings.seed, note)
        questions = limit_pairs(propose(passages, all_queries.queries, depth=depth, seed=settings.seed), max_pairs)
        check_question_count(questions, share, settings.seed)
        teacher_task = Teacher(
            reranker=reranker,
            questions=questions,
            records=target.with_name(f"{target.name}.teacher") if records is None else records,
            ceiling=ceiling,
            workers=workers,
        )
        plan = Plan(
            corpus=passages,
            queries=all_queries,
            question_count=len(questions),
            estimate=teacher_task.estimate(),
            student=planned_student,
            settings=settings,
        )
        agree(plan)
        teacher_scores = teacher_task.ask(
            source_of(passages, questions),
            lambda count: progress(
                _TEACHER_SHARE * count / len(questions), f"teacher: {count} of {len(questions)} queries"
            ),
        )
    finally:
        if reranker is not teacher:
            reranker.close()
    for problem in teacher_scores.examples.problems:
        note(str(problem))
    leakage = None if validation is None else find_leaks(teacher_scores.examples, [validation])
    clean = teacher_scores.examples
    if leakage is not None:
        clean = leakage.without(clean, shared_corpus=True)
    training, held_out = split(as_logits(clean, reranker.scale), share=share, seed=settings.seed, shared_corpus=True)
    training = replace(training, problems=(*passages.problems, *training.problems))
    description = StudentDescription(plan, teacher_scores, held_out, validation)
    with _untrained_student(planned_student, target, settings.seed) as start:
        run = train(
            training,
            target,
            base=str(start),
            card=draft_card(target.name, plan, reranker, leakage, commands),
            settings=settings,
            validation=judged_by_teacher(held_out),
            calibration=validation,
            unjudged=unjudged,
            resume=resume,
            new_head=planned_student.has_new_head,
            describe=description,
            progress=lambda done, words=None: progress(_TEACHER_SHARE + (1 - _TEACHER_SHARE) * done, words),
            note=note,
        )
    assert description.fidelity is not None
    if description.fidelity.verdict is not None:
        note(description.fidelity.verdict)
    return Distillation(
        plan=plan,
        teacher_scores=teacher_scores,
        fidelity=description.fidelity,
        judged=description.judged,
        run=run,
    )


@contextmanager
def _untrained_student(student: Student, target: Path, seed: int) -> Iterator[Path]:
    """Yield the folder of the student before its training; a folder made for it is removed after a full training."""
    folder = target.with_name(f"{target.name}.student")
    yield student.write(folder, seed=seed)
    if student.is_new:
        shutil.rmtree(folder, ignore_errors=True)


def draft_card(
    name: str, plan: Plan, teacher: Reranker, leakage: Leakage | None, commands: Sequence[Sequence[str]]
) -> Card:
    """Return the card as far as it is known before the training."""
    return Card(
        name=name,
        contamination=None if leakage is None else tuple(leakage.contamination(shared_corpus=True)),
        teacher=TeacherFacts(name=teacher.label, remote=uses_provider(teacher), pairs=plan.estimate.pairs),
        use=f"Orders passages of {plan.corpus.name} like {teacher.label}, from which it was distilled.",
        limits=("Its quality on another corpus than the one it was distilled on is not known.",),
        commands=tuple(tuple(command) for command in commands),
    )


@dataclass
class StudentDescription:
    """Compare a trained checkpoint with its teacher, for card and run record.

    Args:
        plan: The plan.
        teacher_scores: The teacher's scores.
        held_out: Queries outside the training, with the teacher's scores.
        validation: Judged queries, if there are any.

    Attributes:
        fidelity: How closely the student follows its teacher; ``None`` before the call.
        judged: nDCG@10 on ``validation``, beside that of its first stage; ``None`` without a validation.
    """

    plan: Plan
    teacher_scores: TeacherScores
    held_out: Examples
    validation: Judged | None
    fidelity: Fidelity | None = None
    judged: Figure | None = None

    def __call__(self, checkpoint: Path, card: Card) -> tuple[Card, Mapping[str, Any]]:
        """Return the card with the figures, and what the run record contains beside the training's own."""
        config = {"type": "torch", "model": str(checkpoint), "max_length": self.plan.settings.max_length}
        with build(config) as model:
            self.fidelity = measure_fidelity(model, self.held_out)
            self.judged = None if self.validation is None else _judge(model, self.validation)
        verdict = self.fidelity.verdict
        limits = (*card.limits, *([verdict[0].upper() + verdict[1:] + "."] if verdict else []))
        figures = (*([self.judged] if self.judged else []), *_agreement_figures(self.fidelity), *card.figures)
        base = None if self.plan.student.random else self.plan.student.base.name
        return replace(card, base=base, figures=figures, limits=limits), {"distillation": self._record(self.fidelity)}

    def _record(self, fidelity: Fidelity) -> dict[str, Any]:
        plan, student = self.plan, self.plan.student
        return {
            "teacher": dict(self.teacher_scores.teacher),
            "queries": {
                "asked": plan.question_count,
                "by_rule": dict(plan.queries.counts),
                "left_out": dict(plan.queries.left_out),
            },
            "pairs": plan.estimate.pairs,
            "usage": self.teacher_scores.usage.to_dict(),
            "student": {
                "shape": student.name,
                "base": student.base.name,
                "layers": None if student.layers is None else list(student.layers),
                "random": student.random,
                "parameters": student.parameters,
            },
            "following": fidelity.to_dict(),
        }


def _agreement_figures(fidelity: Fidelity) -> tuple[Figure, ...]:
    """Return the agreement of raw scores with the teacher's, which the training's own figures do not contain."""
    agreement = fidelity.agreement
    return (
        Figure(data=BY_TEACHER, measure="Kendall's tau-b", after=agreement.tau, queries=agreement.queries),
        Figure(data=BY_TEACHER, measure="share of the ten best", after=agreement.top_10, queries=agreement.queries),
    )


def _judge(model: Reranker, validation: Judged) -> Figure:
    """Return nDCG@10 of a student on judged queries, beside that of their first stage."""
    first = {query.id: [candidate.id for candidate in query.candidates] for query in validation.queries}
    reranked = {
        query.id: [hit.id for hit in model.rerank(query.text, query.candidates)] for query in validation.queries
    }
    return Figure(
        data=validation.name,
        measure=MEASURE,
        after=mean_ndcg(validation, reranked),
        before=mean_ndcg(validation, first),
        baseline="the first stage",
        queries=len(validation.queries),
    )

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
from rag_rerank.training.data.teacher_scores import provided_scores
from rag_rerank.training.distillation.candidates import propose
from rag_rerank.training.distillation.corpus import read_corpus
from rag_rerank.training.distillation.plan import (
    Plan,
    QuerySource,
    check_enough,
    first_questions,
    queries_for,
    settings_for,
    source_of,
)
from rag_rerank.training.distillation.student import Student, student_of
from rag_rerank.training.distillation.targets import (
    BY_TEACHER,
    MEASURE,
    Fidelity,
    as_logits,
    by_teacher,
    fidelity,
    mean,
)
from rag_rerank.training.distillation.teacher import Teacher, TeacherScores
from rag_rerank.training.losses import FROM_TEACHER
from rag_rerank.training.model_card.card import Card, Figure, TeacherFacts
from rag_rerank.training.run_record import TrainingRun
from rag_rerank.training.settings import TrainingSettings
from rag_rerank.training.train import train

__all__ = ["Distillation", "StudentDescription", "distil", "draft_card"]


def draft_card(
    name: str, plan: Plan, teacher: Reranker, leakage: Leakage | None, commands: Sequence[Sequence[str]]
) -> Card:
    """Return what a card says before anything is trained."""
    return Card(
        name=name,
        contamination=None if leakage is None else tuple(leakage.contamination(shared_corpus=True)),
        teacher=TeacherFacts(name=teacher.label, remote=provided_scores(teacher), pairs=plan.estimate.pairs),
        use=f"Orders passages of {plan.corpus.name} as {teacher.label} does, from which it was distilled.",
        limits=("How good it is on another corpus than the one it was distilled on is not known.",),
        commands=tuple(tuple(command) for command in commands),
    )


@dataclass
class StudentDescription:
    """Compares a trained checkpoint with its teacher, and says so in card and run record.

    Args:
        plan: What was to be done.
        taught: What the teacher said.
        held: What the student has not learnt from, with the teacher's scores.
        validation: Judged queries, if there are any.

    Attributes:
        fidelity: How far the student follows its teacher, once it was asked.
        judged: nDCG@10 on ``validation``, beside that of its first stage.
    """

    plan: Plan
    taught: TeacherScores
    held: Examples
    validation: Judged | None
    fidelity: Fidelity | None = None
    judged: Figure | None = None

    def __call__(self, checkpoint: Path, card: Card) -> tuple[Card, Mapping[str, Any]]:
        """Return the card with the figures, and what the run record has beside the training's own."""
        config = {"type": "torch", "model": str(checkpoint), "max_length": self.plan.settings.max_length}
        with build(config) as model:
            self.fidelity = fidelity(model, self.held)
            self.judged = None if self.validation is None else _judged(model, self.validation)
        figures = (*([self.judged] if self.judged else []), *_figures(self.fidelity), *card.figures)
        base = None if self.plan.student.random else self.plan.student.base.name
        return replace(card, base=base, figures=figures), {"distillation": self._record(self.fidelity)}

    def _record(self, follows: Fidelity) -> dict[str, Any]:
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


def _figures(follows: Fidelity) -> tuple[Figure, ...]:
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


_ASKING = 0.5
"""Share of the progress that is asking."""


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """What came of a distillation.

    Args:
        plan: What was to be done.
        taught: What the teacher said.
        fidelity: How far the student follows it on held-out queries.
        judged: nDCG@10 on the judged queries, beside that of their first stage; ``None`` without any.
        run: The training.
    """

    plan: Plan
    taught: TeacherScores
    fidelity: Fidelity
    judged: Figure | None
    run: TrainingRun


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
    """Teach a small model to order the passages of a corpus as another reranker does.

    For each query BM25 proposes passages, the teacher scores them, and the student learns the scores. The teacher may
    be any reranker, a provider's too; whether a provider's terms allow training on its scores is for you to find out,
    and some forbid it.

    Every answer is kept in ``records`` as it comes. A distillation that was stopped, by an error, a ceiling or Ctrl-C,
    goes on when the same call is made again: no question is paid twice, and the training resumes from its last
    checkpoint.

    Args:
        corpus: The passages; see `corpora.read_corpus`.
        teacher: A name, a config, a config file, or a reranker that a config can express.
        student: A shape (``"3x384"``), a folder, or what `shapes.student_of` made of it.
        out: The folder to make; see `training.train`.
        base: Folder of the model that a shape is made from.
        queries: File of your users' queries, or the queries; without them, pseudo-queries are made from the passages.
        licence: Under which licence the text of the corpus may be used, for the model card.
        depth: Passages that the teacher scores for each query; see `proposing.proposed`.
        max_pairs: Pairs of query and passage that the teacher scores at most; of more, a fair sample of the queries is
            asked.
        ceiling: US dollars that all answers together may cost, those of earlier calls included.
        workers: Queries asked at a time; more than one is for providers.
        settings: How to train; by default `planning.settings_for`.
        share: Share of the queries that is held out: the best step is the one with the best nDCG@10 against the
            teacher's order on them.
        validation: Judged queries of the same corpus, on which student and first stage are compared, and the map in
            ``calibration.json`` is fitted. Queries that are among them are not learnt from.
        unjudged: What their candidates without a judgment are to the map (`rag_rerank.evaluation.calibrate`).
        records: Folder of the teacher's answers; by default ``OUT.teacher``.
        commands: Commands that repeat it, for the model card.
        resume: Whether training goes on from checkpoints that are there; the teacher's answers are used in any case.
        agree: Is shown the plan before anything is asked; may raise to stop.
        progress: Is told the share that is done, and a few words.
        note: Is told what the user should know.

    Raises:
        AuthenticationError: The teacher lacks a key, or its provider refuses it.
        BackendError: The teacher failed; the message says how many answers are kept.
        ConfigError: A value that cannot be used; its path says which.
        CostExceeded: The estimate is above the ceiling, and nothing was asked; or the next answer would pass it.
        InputError: There are no passages or no queries, or the teacher's scores teach nothing.
        MissingExtraError: The extra ``train`` is not installed.
        ModelLoadError: The base cannot be loaded.
    """
    check_extra()
    target = new_folder(out)
    if not 0 < share < 1:
        raise ConfigError(f"must be a share between 0 and 1, got {share!r}", path="share")
    if ceiling is not None and not (ceiling >= 0 and math.isfinite(ceiling)):
        raise ConfigError(f"must be a finite number of dollars of at least 0, got {ceiling!r}", path="ceiling")
    scored_by = build(teacher)
    try:
        learner = student if isinstance(student, Student) else student_of(student, base=base)
        how = settings or settings_for(scored_by, learner, depth)
        if how.loss not in FROM_TEACHER:
            raise ConfigError(f"{how.loss!r} learns nothing from a teacher; {FROM_TEACHER} do", path="loss")
        passages = read_corpus(corpus, licence=licence)
        for problem in passages.problems:
            note(str(problem))
        found = queries_for(passages, queries, how.seed, note)
        questions = first_questions(propose(passages, found.queries, depth=depth, seed=how.seed), max_pairs)
        check_enough(questions, share, how.seed)
        teaching = Teacher(
            teacher=scored_by,
            questions=questions,
            records=target.with_name(f"{target.name}.teacher") if records is None else records,
            ceiling=ceiling,
            workers=workers,
        )
        plan = Plan(
            corpus=passages,
            queries=found,
            asked=len(questions),
            estimate=teaching.estimate(),
            student=learner,
            settings=how,
        )
        agree(plan)
        taught = teaching.ask(
            source_of(passages, questions),
            lambda done: progress(_ASKING * done / len(questions), f"teacher: {done} of {len(questions)} queries"),
        )
    finally:
        if scored_by is not teacher:
            scored_by.close()
    for problem in taught.examples.problems:
        note(str(problem))
    leakage = None if validation is None else find_leaks(taught.examples, [validation])
    clean = taught.examples if leakage is None else leakage.without(taught.examples, shared_corpus=True)
    learnt, held = split(as_logits(clean, scored_by.scale), share=share, seed=how.seed, shared_corpus=True)
    learnt = replace(learnt, problems=(*passages.problems, *learnt.problems))
    describing = StudentDescription(plan, taught, held, validation)
    with _beginning(learner, target, how.seed) as start:
        run = train(
            learnt,
            target,
            base=str(start),
            card=draft_card(target.name, plan, scored_by, leakage, commands),
            settings=how,
            validation=by_teacher(held),
            calibration=validation,
            unjudged=unjudged,
            resume=resume,
            describe=describing,
            progress=lambda done, words=None: progress(_ASKING + (1 - _ASKING) * done, words),
            note=note,
        )
    assert describing.fidelity is not None
    return Distillation(plan=plan, taught=taught, fidelity=describing.fidelity, judged=describing.judged, run=run)


@contextmanager
def _beginning(student: Student, target: Path, seed: int) -> Iterator[Path]:
    """Give the student before it has learnt anything; what was made for it goes once the folder is there."""
    folder = target.with_name(f"{target.name}.student")
    yield student.make(folder, seed=seed)
    if student.made:
        shutil.rmtree(folder, ignore_errors=True)

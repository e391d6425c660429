"""``rag-rerank distil``: a small model of one's own corpus, from the reranker that is used today."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_rerank.cli.options import (
    command_line,
    grade_option,
    note,
    resume_hint,
    resume_option,
    settings_of,
    training_options,
    unjudged_option,
)
from rag_rerank.cli.output import bar, one_line
from rag_rerank.config import build

if TYPE_CHECKING:
    from rag_rerank.compose import Unjudged
    from rag_rerank.training.distillation.distill import Distillation
    from rag_rerank.training.distillation.plan import Plan

__all__ = ["distil"]

_FITTED = {
    "loss": "what fits the teacher's scale",
    "learning_rate": "5e-5, for random weights 5e-4",
    "passages": "as --depth",
}
"""Knobs whose default depends on teacher and student."""

_TERMS = (
    "{teacher} asks a provider. Its terms may forbid training a model on its scores; whether they do is for you to "
    "find out."
)


@click.command(short_help="Teach a small model to rank as another reranker does.")
@click.option("--teacher", required=True, metavar="NAME|FILE", help="The reranker to learn from; any config.")
@click.option("--student", required=True, metavar="SHAPE|DIR", help="Layers x width, such as 3x384; or a checkpoint.")
@click.option("--base", metavar="DIR", help="Checkpoint that a SHAPE is made from.")
@click.option("--corpus", required=True, metavar="FILE|DIR", help="Passages: JSONL, a BEIR folder, or text lines.")
@click.option("--queries", metavar="FILE", help="Your users' queries; by default they are made from the passages.")
@click.option("-o", "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="The folder to make.")
@click.option(
    "--depth", type=click.IntRange(min=2), default=16, show_default=True, help="Passages scored for each query."
)
@click.option("--max-pairs", type=click.IntRange(min=2), metavar="N", help="Pairs that the teacher scores at most.")
@click.option("--ceiling", type=click.FloatRange(min=0), metavar="USD", help="What the teacher may cost in all.")
@click.option("--yes", is_flag=True, help="Ask a provider without asking you first.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Queries asked at a time.")
@click.option("--records", metavar="DIR", help="Where the teacher's answers are kept.  [default: OUT.teacher]")
@click.option("--validation", metavar="SOURCE", help="Judged queries of the same corpus, as for `eval`.")
@grade_option
@unjudged_option
@click.option("--licence", metavar="ID", help="Licence of the corpus, for the model card: cc-by-4.0.")
@partial(training_options, fitted=_FITTED)
@resume_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def distil(
    ctx: click.Context,
    /,
    teacher: str,
    student: str,
    base: str | None,
    corpus: str,
    queries: str | None,
    out: Path,
    depth: int,
    max_pairs: int | None,
    ceiling: float | None,
    yes: bool,
    workers: int,
    records: str | None,
    validation: str | None,
    relevant: int,
    unjudged: Unjudged,
    licence: str | None,
    resume: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Teach a small model to order the passages of your corpus as another reranker does.

    For each query BM25 proposes passages, the teacher scores them, and the student learns the scores. The teacher may
    be a provider's model: what it will cost is told first, and asked for; with --ceiling nothing beyond is spent.

    A provider's terms may forbid training a model on its scores. Whether yours do is for you to find out.

    Each answer is kept as it comes. After an error, a ceiling or Ctrl-C the same command goes on where it stopped, and
    pays for nothing twice.

    OUT is a folder that "torch:OUT", "onnx:OUT" and "onnx:OUT/int8" load, with a model card and a run record. Needs:
    pip install "rag-rerank[train]".
    """
    from rag_rerank.evaluation import read  # both slow to import, for the other commands
    from rag_rerank.training.distillation import distill
    from rag_rerank.training.distillation import plan as distillation_plan
    from rag_rerank.training.distillation import student as students

    learner = students.plan_student(student, base=base)
    with ExitStack() as stack:
        taught_by = stack.enter_context(build(teacher))
        fitting = distillation_plan.default_settings(taught_by, learner, depth)
        fitted = {name: getattr(fitting, name) for name in _FITTED if given[name] is None}
        shown: list[Callable[..., None]] = []

        def agree(plan: Plan) -> None:
            for said in _plan(plan):
                click.echo(said, err=True)
            if plan.estimate.ahead.requests:
                click.echo(_TERMS.format(teacher=taught_by.label), err=True)
                if not yes:
                    click.confirm("Ask it?", abort=True, err=True)
            shown.append(stack.enter_context(bar("distilling")))

        with resume_hint(out):
            made = distill.distil(
                corpus,
                taught_by,
                learner,
                out,
                queries=queries,
                licence=licence,
                depth=depth,
                max_pairs=max_pairs,
                ceiling=ceiling,
                workers=workers,
                settings=settings_of({**given, **fitted}),
                validation=None if validation is None else read(validation, relevant=relevant),
                unjudged=unjudged,
                records=records,
                commands=(command_line(ctx),),
                resume=resume,
                agree=agree,
                progress=lambda share, words=None: shown[0](share, words),
                note=note,
            )
    click.echo(json.dumps(_as_dict(made, out)) if as_json else _summary(made, out))


def _plan(plan: Plan) -> Iterator[str]:
    """Say what is going to be done, before anything is asked."""
    rules = ", ".join(f"{count:,} {rule}" for rule, count in plan.queries.counts.items() if count)
    for name, words in (
        ("corpus", f"{plan.corpus.name}: {len(plan.corpus.documents):,} passages"),
        ("queries", f"{plan.question_count:,} of {len(plan.queries.queries):,} ({rules})"),
        ("teacher", str(plan.estimate)),
        ("student", str(plan.student)),
        ("loss", plan.settings.loss),
    ):
        yield f"{name:<9}{one_line(words)}"


def _summary(made: Distillation, out: Path) -> str:
    cost = made.teacher_scores.usage.cost
    spent = "" if cost is None else f"; the teacher cost ${cost:.4g}"
    lines = [f"{out}: {made.fidelity}{spent}"]
    if made.judged is not None:
        found = made.judged
        lines.append(
            f"on {found.queries:,} judged queries of {found.data}, {found.measure} is {found.after:.3f} "
            f"({found.before:.3f} in the order of the first stage)"
        )
    return "\n".join(lines)


def _as_dict(made: Distillation, out: Path) -> dict[str, Any]:
    return {
        "schema": 1,
        "folder": str(out),
        "teacher": dict(made.teacher_scores.teacher),
        "usage": made.teacher_scores.usage.to_dict(),
        "following": made.fidelity.to_dict(),
        "judged": None if made.judged is None else asdict(made.judged),
    }

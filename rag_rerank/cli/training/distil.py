"""``rag-rerank distil``: train a small model to rank a corpus as another reranker does."""

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
    PATH,
    RERANKER,
    command_line,
    grade_option,
    json_option,
    print_note,
    resume_hint,
    resume_option,
    training_options,
    training_settings,
    unjudged_option,
    workers_option,
)
from rag_rerank.cli.output import bar, example, one_line
from rag_rerank.config import build

if TYPE_CHECKING:
    from rag_rerank.compose import Unjudged
    from rag_rerank.training.distillation.distill import Distillation
    from rag_rerank.training.distillation.plan import Plan

__all__ = ["distil"]

_COMPUTED_DEFAULTS = {
    "loss": "the loss for the teacher's scale",
    "learning_rate": "5e-5, for random weights 5e-4",
    "passages": "as --depth",
}
"""Training options whose default depends on teacher and student."""

_TERMS = "{teacher} calls a provider. Its terms may forbid training a model on its scores; check them before you go on."


@click.command(
    short_help="Train a small model to rank as a larger reranker does.",
    epilog=example(
        "distil --teacher cohere:rerank-v3.5 --student 3x384 \\\n"
        "--base all-MiniLM-L6-v2 --corpus passages.jsonl --ceiling 5 -o small"
    ),
)
@click.option("--teacher", required=True, metavar=RERANKER, help="The reranker to learn from: a name or a config file.")
@click.option(
    "--student",
    required=True,
    metavar="SHAPE|FOLDER",
    help="The model to train: layers x width, such as 3x384, or the folder of a model.",
)
@click.option(
    "--base", metavar="FOLDER", help="Model that gives a SHAPE its tokenizer and, if it can, its first weights."
)
@click.option(
    "--corpus",
    required=True,
    metavar="FILE|FOLDER",
    help="Your passages: JSONL with text, one passage per line, or a BEIR folder.",
)
@click.option(
    "--queries",
    metavar="FILE",
    show_default="made from the passages",
    help="Your users' queries: one per line, or JSONL.",
)
@click.option("-o", "--out", required=True, type=PATH, metavar="OUT", help="Write the model to this new folder.")
@click.option(
    "--depth",
    type=click.IntRange(min=2),
    metavar="N",
    default=16,
    show_default=True,
    help="The teacher scores N passages for each query.",
)
@click.option(
    "--max-pairs",
    type=click.IntRange(min=2),
    metavar="N",
    show_default="no limit",
    help="The teacher scores at most N pairs of query and passage in all.",
)
@click.option(
    "--ceiling",
    type=click.FloatRange(min=0),
    metavar="USD",
    show_default="no limit",
    help="Spend at most this many dollars on the teacher.",
)
@click.option("--yes", is_flag=True, help="Call a provider without asking you first.")
@workers_option
@click.option("--records", metavar="FOLDER", show_default="OUT.teacher", help="Folder of the teacher's stored answers.")
@click.option(
    "--validation",
    metavar="SOURCE",
    help="Measure the result on these judged queries of the same corpus (SOURCE as for `eval`).",
)
@grade_option
@unjudged_option
@click.option("--licence", metavar="ID", help="Licence of the corpus, such as cc-by-4.0, for the model card.")
@partial(training_options, computed_defaults=_COMPUTED_DEFAULTS)
@resume_option
@json_option
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
    **training_values: Any,
) -> None:
    """Train a small model to rank the passages of your corpus as a larger reranker does.

    For each query, BM25 finds passages, the teacher scores them, and the student learns these scores.

    If the teacher is a provider, its expected cost is printed and you are asked before the first call. Its terms may
    forbid training a model on its scores: check them first.

    Every answer is stored at once. After an error, the --ceiling or Ctrl-C, run the same command again to continue; no
    answer is paid for twice.

    OUT becomes a folder that torch:OUT, onnx:OUT and onnx:OUT/int8 load, with a model card.

    Exit code 1 if the student does not help: on the queries of --validation it is no better than BM25; or, without
    them, it follows its teacher worse than BM25 does.

    Needs: pip install "rag-rerank[train]"
    """
    from rag_rerank.evaluation import read  # both slow to import; other commands do not need them
    from rag_rerank.training.distillation import distill
    from rag_rerank.training.distillation import plan as distillation_plan
    from rag_rerank.training.distillation import student as students

    learner = students.plan_student(student, base=base)
    with ExitStack() as stack:
        teacher_reranker = stack.enter_context(build(teacher))
        suitable = distillation_plan.default_settings(teacher_reranker, learner, depth)
        defaults = {name: getattr(suitable, name) for name in _COMPUTED_DEFAULTS if training_values[name] is None}
        bars: list[Callable[..., None]] = []  # empty until the user consents, then one progress bar

        def agree(plan: Plan) -> None:
            click.echo("\n".join(_plan(plan)), err=True)
            if plan.estimate.ahead.requests:
                click.echo(_TERMS.format(teacher=teacher_reranker.label), err=True)
                if not yes:
                    click.confirm("Call it?", abort=True, err=True)
            bars.append(stack.enter_context(bar("distilling")))

        with resume_hint(out):
            result = distill.distil(
                corpus,
                teacher_reranker,
                learner,
                out,
                queries=queries,
                licence=licence,
                depth=depth,
                max_pairs=max_pairs,
                ceiling=ceiling,
                workers=workers,
                settings=training_settings({**training_values, **defaults}),
                validation=None if validation is None else read(validation, relevant=relevant),
                unjudged=unjudged,
                records=records,
                commands=(command_line(ctx),),
                resume=resume,
                agree=agree,
                progress=lambda share, words=None: bars[0](share, words),
                note=print_note,
            )
    click.echo(json.dumps(_as_dict(result, out)) if as_json else _summary(result, out))
    if not result.helps:
        ctx.exit(1)


def _plan(plan: Plan) -> Iterator[str]:
    """Yield what will be done, before the teacher is called."""
    rules = ", ".join(f"{count:,} {rule}" for rule, count in plan.queries.counts.items() if count)
    for name, words in (
        ("corpus", f"{plan.corpus.name}: {len(plan.corpus.documents):,} passages"),
        ("queries", f"{plan.question_count:,} of {len(plan.queries.queries):,} ({rules})"),
        ("teacher", str(plan.estimate)),
        ("student", str(plan.student)),
        ("loss", plan.settings.loss),
    ):
        yield f"{name:<9}{one_line(words)}"


def _summary(result: Distillation, out: Path) -> str:
    cost = result.teacher_scores.usage.cost
    cost_text = "" if cost is None else f"; the teacher cost ${cost:.4g}"
    lines = [f"{out}: {result.fidelity}{cost_text}"]
    if result.judged is not None:
        figure = result.judged
        lines.append(
            f"on {figure.queries:,} judged queries of {figure.data}, {figure.measure} is {figure.after:.3f} "
            f"({figure.before:.3f} in the order of the first stage)"
        )
    return "\n".join(lines)


def _as_dict(result: Distillation, out: Path) -> dict[str, Any]:
    return {
        "schema": 1,
        "folder": str(out),
        "teacher": dict(result.teacher_scores.teacher),
        "usage": result.teacher_scores.usage.to_dict(),
        "following": result.fidelity.to_dict(),
        "judged": None if result.judged is None else asdict(result.judged),
    }

"""``rag-rerank train``: a cross-encoder of one's own, from judged pairs, pairs or feedback."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_rerank._files import new_folder
from rag_rerank.base import PointwiseReranker, Reranker
from rag_rerank.cli.options import (
    command_line,
    note,
    resume_hint,
    resume_option,
    settings_of,
    training_options,
    unjudged_option,
)
from rag_rerank.cli.output import bar, one_line, table
from rag_rerank.compose import Cached, Unjudged
from rag_rerank.config import build
from rag_rerank.errors import ConfigError

if TYPE_CHECKING:
    from rag_rerank.evaluation import Judged
    from rag_rerank.training.data.examples import Examples
    from rag_rerank.training.run_record import TrainingRun

__all__ = ["train"]

_ALL = 10**9
"""Scores that are kept: none is dropped for a newer one."""

_WAYS = ("bm25", "bi-encoder", "model", "random")


@click.command(short_help="Train a cross-encoder of your own.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--base", required=True, metavar="MODEL|DIR", help="What it begins with: a cross-encoder or an encoder.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The folder to make.")
@click.option("--licence", metavar="ID", help="Licence of the SOURCEs that do not name their own.")
@click.option("--qrels", metavar="FILE", help="Feedback for records, or other judgments; for one SOURCE.")
@click.option("--model-licence", metavar="ID", help="Licence of the trained weights, for the model card.")
@click.option("--mine", "ways", multiple=True, type=click.Choice(_WAYS), help="How negatives are found; repeatable.")
@click.option(
    "--negatives", type=click.IntRange(min=1), default=7, show_default=True, help="Negatives mined for a query."
)
@click.option("--encoder", metavar="MODEL|DIR", help="The bi-encoder of --mine bi-encoder.")
@click.option("--model", metavar="NAME|FILE", help="The reranker of --mine model.")
@click.option(
    "--filter-teacher", metavar="NAME|FILE", help="Drops mined passages that it holds for relevant; keeps its scores."
)
@click.option("--validation", metavar="SOURCE", help="Judged queries to validate and calibrate on, as for `eval`.")
@click.option("--hold-out", type=float, metavar="SHARE", help="Validate on this share of the SOURCEs instead.")
@click.option(
    "--depth",
    type=click.IntRange(min=2),
    default=50,
    show_default=True,
    help="Candidates of a validation query, at most.",
)
@unjudged_option
@click.option("--shared-corpus", is_flag=True, help="Training and validation search one corpus, and may share texts.")
@click.option(
    "--against-leaks", "evaluations", multiple=True, metavar="SOURCE", help="Leave text of this out; repeatable."
)
@training_options
@resume_option
@click.option("--json", "as_json", is_flag=True, help="Print the run record instead of a summary.")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    sources: Sequence[str],
    base: str,
    out: Path,
    licence: str | None,
    qrels: str | None,
    model_licence: str | None,
    ways: Sequence[Any],
    negatives: int,
    encoder: str | None,
    model: str | None,
    filter_teacher: str | None,
    validation: str | None,
    hold_out: float | None,
    depth: int,
    unjudged: Unjudged,
    shared_corpus: bool,
    evaluations: Sequence[str],
    resume: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Train a cross-encoder on your own queries, and write it as a folder that all local backends load.

    SOURCE is a JSONL file of pairs (query, positive, perhaps negatives), a folder in BEIR's form, ir_datasets:NAME, or
    records with texts and --qrels with your users' feedback. Several are trained on together.

    With a validation, the step with the best nDCG@10 is kept, training stops early, and scores are calibrated. Text of
    a --validation's queries, and of all of --against-leaks, is left out of the training and told in the model card.

    Checkpoints lie in DIR.checkpoints while it runs; scores of --filter-teacher and --model stay in DIR.scores. After
    Ctrl-C, a kill or a full disk the same command goes on where it stopped. Needs: pip install "rag-rerank[train]".
    """
    from rag_rerank.evaluation import read  # these are slow to import, for the other commands
    from rag_rerank.training import validation as training_validation
    from rag_rerank.training.base_model import find_base
    from rag_rerank.training.data import hard_negatives, split, teacher_scores
    from rag_rerank.training.model_card import card
    from rag_rerank.training.train import train as run

    settings = settings_of(given)
    if validation is not None and hold_out is not None:
        raise ConfigError("give one of --validation and --hold-out, not both")
    if (filter_teacher or model or encoder) and not ways:
        raise ConfigError("--filter-teacher, --model and --encoder belong to mining; say how with --mine")
    new_folder(out)
    find_base(base)
    examples = _read(sources, licence, qrels)
    judged: Judged | None = None
    if hold_out is not None:
        examples, held = split.split(examples, share=hold_out, seed=settings.seed, shared_corpus=shared_corpus)
        judged = training_validation.held_out_queries(held, among=examples if shared_corpus else None, depth=depth)
    elif validation is not None:
        judged = read(validation, depth=depth)
    examples, contamination = _clean(examples, judged if validation else None, evaluations, shared_corpus)
    taught_by: card.TeacherFacts | None = None
    if ways:
        with ExitStack() as stack:
            teacher, current = (_built(spec, out, stack) for spec in (filter_teacher, model))
            with bar("mining negatives") as progress:
                examples = hard_negatives.mine(
                    examples,
                    strategies=ways,
                    negatives=negatives,
                    teacher=teacher,
                    model=current,
                    encoder=encoder,
                    seed=settings.seed,
                    progress=progress,
                )
            if teacher is not None:
                scored = sum(p.teacher is not None for example in examples.examples for p in example.passages)
                taught_by = card.TeacherFacts(
                    name=teacher.label, remote=teacher_scores.uses_provider(teacher), pairs=scored
                )
    click.echo("\n".join(_plan(examples, judged, base)), err=True)
    begun = card.Card(
        name=out.name,
        licence=model_licence,
        contamination=contamination,
        teacher=taught_by,
        commands=(command_line(ctx),),
    )
    with resume_hint(out), bar(f"training {one_line(out.name)}") as progress:
        made = run(
            examples,
            out,
            base=base,
            card=begun,
            settings=settings,
            validation=judged,
            calibration=judged,
            unjudged=unjudged,
            resume=resume,
            progress=progress,
            note=note,
        )
    click.echo(json.dumps(made.to_dict()) if as_json else "\n".join(_summary(made)))


def _read(sources: Sequence[str], licence: str | None, qrels: str | None) -> Examples:
    from rag_rerank.training.data.examples import Examples
    from rag_rerank.training.data.read import read_examples

    if qrels is not None and len(sources) > 1:
        raise ConfigError("--qrels belongs to one SOURCE, and there are several")
    found = [read_examples(source, licence=licence, qrels=qrels) for source in sources]
    return Examples(
        examples=tuple(chain.from_iterable(one.examples for one in found)),
        sources=tuple(chain.from_iterable(one.sources for one in found)),
        problems=tuple(chain.from_iterable(one.problems for one in found)),
    )


def _clean(
    examples: Examples, validation: Judged | None, evaluations: Sequence[str], shared_corpus: bool
) -> tuple[Examples, tuple[dict[str, Any], ...] | None]:
    """Leave out what evaluations hold; of a validation its queries, since its corpus may be the one that is served."""
    from rag_rerank.training.data.leakage import find_leaks

    if validation is None and not evaluations:
        return examples, None
    rows: list[dict[str, Any]] = []
    for against, shared in (([validation] if validation else [], True), (list(evaluations), shared_corpus)):
        if against:
            leakage = find_leaks(examples, against)
            rows += leakage.contamination(shared_corpus=shared)
            examples = leakage.without(examples, shared_corpus=shared)
    return examples, tuple(rows)


def _built(spec: str | None, out: Path, stack: ExitStack) -> Reranker | None:
    """Build a reranker whose scores are kept beside the folder: a resumed run finds them, and pays for none twice."""
    from rag_rerank.training.data import teacher_scores

    if spec is None:
        return None
    reranker = build(spec)
    if isinstance(reranker, PointwiseReranker) and not isinstance(reranker, Cached) and not reranker.why_not_cacheable:
        reranker = Cached(reranker=reranker, path=f"{out}.scores", max_entries=_ALL, name=reranker.label)
    elif teacher_scores.uses_provider(reranker) and not isinstance(reranker, Cached):
        note(f"{reranker.label} is asked, and paid, anew each time this is run; put type: cached around its members")
    made: Reranker = stack.enter_context(reranker)
    return made


def _plan(examples: Examples, judged: Judged | None, base: str) -> Iterator[str]:
    """Say what was read, before anything is trained."""
    pairs = sum(len(example.passages) for example in examples.examples)
    yield f"base        {one_line(base)}"
    yield f"data        {len(examples.examples):,} queries, {pairs:,} pairs"
    for source in examples.sources:
        licence = one_line(source.licence or "licence unknown")
        yield f"source      {one_line(source.name)}: {source.queries:,} queries, {source.pairs:,} pairs, {licence}"
    yield f"validation  {f'{one_line(judged.name)}: {len(judged.queries):,} queries' if judged else 'none'}"
    for problem in (*examples.problems, *(judged.problems if judged else ())):
        yield f"Note: {one_line(str(problem))}"


def _summary(made: TrainingRun) -> Iterator[str]:
    """Say what came of it."""
    rows: list[Sequence[str]] = [("step", "loss", "nDCG@10", "lift at top-3", "")]
    for point in made.curve:
        numbers = (f"{point.step:,}", *map(_shown, (point.loss, point.ndcg)), _shown(point.lift, "+"))
        said = " and ".join(
            (["the base"] if point.step == 0 else []) + (["kept"] if point.step == made.best_step else [])
        )
        rows.append((*numbers, said))
    yield table(rows, align=">>>><")
    yield ""
    if made.new_weights:
        yield f"{one_line(made.base)} had no head for relevance; it was given a new one"
    if made.incoming is not None and made.before.ndcg is not None and made.best.ndcg is not None:
        validation = f"{made.validation_queries:,} queries of {one_line(made.validation_name or '')}"
        yield f"nDCG@10 on {validation}: {made.best.ndcg:.4f}"
        yield f"the base had {made.before.ndcg:.4f}, the incoming order {made.incoming.ndcg:.4f}"
        if made.best_step == 0:
            yield "no step ranks better than the base, which is what was written"
    done = made.curve[-1].step
    yield f"{done:,} of {made.steps:,} steps in {made.seconds:,.0f} s on {one_line(made.hardware['device'])}"
    yield f"{made.folder}: written"


def _shown(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.4f}"

"""``rag-rerank train``: train a cross-encoder on judged queries, pairs or feedback."""

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
    COUNT,
    PATH,
    RERANKER,
    command_line,
    json_option,
    print_note,
    qrels_option,
    resume_hint,
    resume_option,
    training_options,
    training_settings,
    unjudged_option,
)
from rag_rerank.cli.output import bar, example, one_line, table
from rag_rerank.compose import Cached, Unjudged
from rag_rerank.config import build
from rag_rerank.errors import ConfigError

if TYPE_CHECKING:
    from rag_rerank.evaluation import Judged
    from rag_rerank.training.data.examples import Examples
    from rag_rerank.training.run_record import TrainingRun

__all__ = ["train"]

_NO_LIMIT = 10**9
"""Maximum entries of the score cache: so many that no entry is dropped for a newer one."""

_MINING_METHODS = ("bm25", "bi-encoder", "model", "random")


@click.command(
    short_help="Train a reranker on your own queries.",
    epilog=example(
        "train pairs.jsonl --base minilm --mine bm25 \\\n--hold-out 0.1 -o mine",
        "train train.jsonl --base minilm --validation judged.jsonl -o mine",
    ),
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "--base", required=True, metavar="MODEL", help="Model to start from: a name, a hub id or a folder with safetensors."
)
@click.option("-o", "--out", required=True, type=PATH, metavar="OUT", help="Write the model to this new folder.")
@click.option("--licence", metavar="ID", help="Licence of SOURCEs that do not name their own, such as cc-by-4.0.")
@qrels_option
@click.option("--model-licence", metavar="ID", help="Licence of the trained model, for its model card.")
@click.option(
    "--mine",
    "mining_methods",
    multiple=True,
    type=click.Choice(_MINING_METHODS),
    help="Find passages that look relevant but are not (hard negatives), by this method. Repeatable.",
)
@click.option(
    "--negatives", type=COUNT, metavar="N", default=7, show_default=True, help="Negatives to mine for each query."
)
@click.option("--encoder", metavar="MODEL", help="Embedding model for --mine bi-encoder.")
@click.option("--model", metavar=RERANKER, help="Reranker for --mine model.")
@click.option(
    "--filter-teacher",
    metavar=RERANKER,
    help="Drop mined passages that this reranker finds relevant. Its scores are kept for losses that learn from them.",
)
@click.option("--validation", metavar="SOURCE", help="Validate on these judged queries (SOURCE as for `eval`).")
@click.option(
    "--hold-out",
    type=float,
    metavar="SHARE",
    help="Validate on this share of the training data, from 0 to 1, and do not train on it.",
)
@click.option(
    "--depth",
    type=click.IntRange(min=2),
    metavar="N",
    default=50,
    show_default=True,
    help="Use at most N candidates for each validation query.",
)
@unjudged_option
@click.option(
    "--shared-corpus", is_flag=True, help="Let training and validation share passages; only their queries must differ."
)
@click.option(
    "--against-leaks",
    "evaluations",
    multiple=True,
    metavar="SOURCE",
    help="Leave out of the training every text of this evaluation data. Repeatable.",
)
@training_options
@resume_option
@json_option
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
    mining_methods: Sequence[Any],
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
    **training_values: Any,
) -> None:
    """Train a reranker on your own queries, and write it to a folder that every local backend loads.

    SOURCE is one of these; several are trained on together:

    \b
    - a JSONL file of pairs, one per line:
      {"query": "...", "positive": "...", "negatives": ["..."]}
    - judged queries, in any form that `eval` reads
    - a file of recorded calls with texts, and your users' feedback in --qrels

    With --validation or --hold-out, the model is validated during training: the step with the best nDCG@10 is written,
    training stops early, and scores are calibrated.

    Queries of --validation and texts of --against-leaks are left out of the training; the model card lists them.

    If training is interrupted, run the same command again to continue: checkpoints are in OUT.checkpoints, and the
    scores of --filter-teacher and --model in OUT.scores.

    Needs: pip install "rag-rerank[train]"
    """  # noqa: D301 - click keeps the lines after a backspace as they are
    from rag_rerank.evaluation import read  # these are slow to import; other commands do not need them
    from rag_rerank.training import validation as training_validation
    from rag_rerank.training.base_model import find_base
    from rag_rerank.training.data import hard_negatives, split, teacher_scores
    from rag_rerank.training.model_card import card
    from rag_rerank.training.train import train as run_training

    settings = training_settings(training_values)
    if validation is not None and hold_out is not None:
        raise ConfigError("give one of --validation and --hold-out, not both")
    if (filter_teacher or model or encoder) and not mining_methods:
        raise ConfigError("--filter-teacher, --model and --encoder are for mining; choose a method with --mine")
    new_folder(out)
    find_base(base)
    examples = _read(sources, licence, qrels)
    judged: Judged | None = None
    if hold_out is not None:
        examples, rest = split.split(examples, share=hold_out, seed=settings.seed, shared_corpus=shared_corpus)
        judged = training_validation.held_out_queries(rest, among=examples if shared_corpus else None, depth=depth)
    elif validation is not None:
        judged = read(validation, depth=depth)
    examples, contamination = _without_leaks(examples, judged if validation else None, evaluations, shared_corpus)
    teacher_facts: card.TeacherFacts | None = None
    if mining_methods:
        with ExitStack() as stack:
            teacher, miner = (_cached_reranker(spec, out, stack) for spec in (filter_teacher, model))
            with bar("mining negatives") as progress:
                examples = hard_negatives.mine(
                    examples,
                    strategies=mining_methods,
                    negatives=negatives,
                    teacher=teacher,
                    model=miner,
                    encoder=encoder,
                    seed=settings.seed,
                    progress=progress,
                )
            if teacher is not None:
                scores = sum(p.teacher is not None for example in examples.examples for p in example.passages)
                teacher_facts = card.TeacherFacts(
                    name=teacher.label, remote=teacher_scores.uses_provider(teacher), pairs=scores
                )
    click.echo("\n".join(_plan(examples, judged, base)), err=True)
    draft_card = card.Card(
        name=out.name,
        licence=model_licence,
        contamination=contamination,
        teacher=teacher_facts,
        commands=(command_line(ctx),),
    )
    with resume_hint(out), bar(f"training {one_line(out.name)}") as progress:
        result = run_training(
            examples,
            out,
            base=base,
            card=draft_card,
            settings=settings,
            validation=judged,
            calibration=judged,
            unjudged=unjudged,
            resume=resume,
            progress=progress,
            note=print_note,
        )
    click.echo(json.dumps(result.to_dict()) if as_json else "\n".join(_summary(result)))


def _read(sources: Sequence[str], licence: str | None, qrels: str | None) -> Examples:
    from rag_rerank.training.data.examples import Examples
    from rag_rerank.training.data.read import read_examples

    if qrels is not None and len(sources) > 1:
        raise ConfigError("--qrels belongs to one SOURCE, and there are several; name one SOURCE with it")
    parts = [read_examples(source, licence=licence, qrels=qrels) for source in sources]
    return Examples(
        examples=tuple(chain.from_iterable(part.examples for part in parts)),
        sources=tuple(chain.from_iterable(part.sources for part in parts)),
        problems=tuple(chain.from_iterable(part.problems for part in parts)),
    )


def _without_leaks(
    examples: Examples, validation: Judged | None, evaluations: Sequence[str], shared_corpus: bool
) -> tuple[Examples, tuple[dict[str, Any], ...] | None]:
    """Remove the text of evaluations, and the queries of a validation, whose corpus may be the one in production.

    Return the examples, and what the model card reports about the removed text.
    """
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


def _cached_reranker(spec: str | None, out: Path, stack: ExitStack) -> Reranker | None:
    """Build a reranker whose scores are stored beside the folder, so that a resumed run does not pay for them again."""
    from rag_rerank.training.data import teacher_scores

    if spec is None:
        return None
    reranker = build(spec)
    if isinstance(reranker, PointwiseReranker) and not isinstance(reranker, Cached) and not reranker.why_not_cacheable:
        reranker = Cached(reranker=reranker, path=f"{out}.scores", max_entries=_NO_LIMIT, name=reranker.label)
    elif teacher_scores.uses_provider(reranker) and not isinstance(reranker, Cached):
        print_note(
            f"{reranker.label} is called, and paid, again each time this command runs; put type: cached around its "
            "members"
        )
    entered: Reranker = stack.enter_context(reranker)
    return entered


def _plan(examples: Examples, judged: Judged | None, base: str) -> Iterator[str]:
    """Yield what was read, before training starts."""
    pairs = sum(len(example.passages) for example in examples.examples)
    yield f"base        {one_line(base)}"
    yield f"data        {len(examples.examples):,} queries, {pairs:,} pairs"
    for source in examples.sources:
        licence = one_line(source.licence or "licence unknown")
        yield f"source      {one_line(source.name)}: {source.queries:,} queries, {source.pairs:,} pairs, {licence}"
    yield f"validation  {f'{one_line(judged.name)}: {len(judged.queries):,} queries' if judged else 'none'}"
    for problem in (*examples.problems, *(judged.problems if judged else ())):
        yield f"Note: {one_line(str(problem))}"


def _summary(result: TrainingRun) -> Iterator[str]:
    """Yield the results."""
    rows: list[Sequence[str]] = [("step", "loss", "nDCG@10", "lift at top-3", "")]
    for point in result.curve:
        numbers = (f"{point.step:,}", *map(_number, (point.loss, point.ndcg)), _number(point.lift, "+"))
        remarks = (["the base"] if point.step == 0 else []) + (["kept"] if point.step == result.best_step else [])
        rows.append((*numbers, " and ".join(remarks)))
    yield table(rows, align=">>>><")
    yield ""
    if result.new_weights:
        yield f"{one_line(result.base)} had no head for relevance, so a new one was trained"
    if result.incoming is not None and result.before.ndcg is not None and result.best.ndcg is not None:
        validation = f"{result.validation_queries:,} queries of {one_line(result.validation_name or '')}"
        yield f"nDCG@10 on {validation}: {result.best.ndcg:.4f}"
        yield f"the base had {result.before.ndcg:.4f}, the incoming order {result.incoming.ndcg:.4f}"
        if result.best_step == 0:
            yield "no step ranks better than the base, so the base was written"
    last_step = result.curve[-1].step
    yield f"{last_step:,} of {result.steps:,} steps in {result.seconds:,.0f} s on {one_line(result.hardware['device'])}"
    yield f"{result.folder}: written"


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.4f}"

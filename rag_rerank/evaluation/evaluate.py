"""Evaluate rerankers on judged queries: from configs to a recommendation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from rag_rerank._version import __version__
from rag_rerank.base import Reranker
from rag_rerank.config import Spec, build
from rag_rerank.errors import ConfigError, InputError, RerankError, did_you_mean
from rag_rerank.evaluation.analysis import Analysis
from rag_rerank.evaluation.answer_store import AnswerStore
from rag_rerank.evaluation.data.judged import Judged
from rag_rerank.evaluation.measures import MEASURES, TOP_3, check_measures
from rag_rerank.evaluation.report import FIRST_STAGE, Evaluation, EvaluationSettings
from rag_rerank.evaluation.runner import QueryAnswer, QueryRunner
from rag_rerank.evaluation.slices import Fields, fields
from rag_rerank.evaluation.statistics import SAMPLES, SEED
from rag_rerank.execution.calls import error_text

__all__ = ["Configs", "Progress", "evaluate", "with_names"]

Configs = Mapping[str, Spec] | Sequence[Spec]
"""What to evaluate: configs by the names that reports call them, or configs alone."""


def with_names(configs: Configs) -> dict[str, Reranker]:
    """Return the rerankers by name; nothing is loaded yet.

    Without names, a config file is called by its stem and another string by itself, a node or a reranker by its label;
    where two would have the same name, the later one gets a number.

    Raises:
        ConfigError: A config is wrong.
        InputError: There is no config, or a name is empty or the first stage's.
    """
    if isinstance(configs, (str, os.PathLike, Reranker)):
        raise InputError("configs is a sequence of configs, or a mapping from names to configs")
    if isinstance(configs, Mapping):
        found = {name: build(spec) for name, spec in configs.items()}
    else:
        found = {}
        for spec in configs:
            reranker = build(spec)
            wanted = name = _name(spec, reranker)
            number = 1
            while name in found or name == FIRST_STAGE:
                number += 1
                name = f"{wanted} ({number})"
            found[name] = reranker
    if not found:
        raise InputError("there is no config to evaluate")
    for name in found:
        if not name or name == FIRST_STAGE:
            raise InputError(f"a config cannot be called {name!r}; give it another name")
    return found


def _name(spec: Spec, reranker: Reranker) -> str:
    if isinstance(spec, str) and not spec.endswith((".yaml", ".yml", ".json")):
        return spec
    return Path(spec).stem if isinstance(spec, (str, os.PathLike)) else reranker.label


Progress = Callable[[float, str], None]
"""Is told the share that is done, from 0 to 1, and a few words about what is going on."""


def evaluate(
    judged: Judged,
    configs: Configs,
    *,
    measures: Sequence[str] | None = None,
    depth: int = 100,
    top_k: int = 10,
    slices: Sequence[str] | None = None,
    records: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    workers: int = 1,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> Evaluation:
    """Find out whether reranking helps on judged queries, by how much, at what cost, and with which config.

    Each config ranks the first ``depth`` candidates of every query; what lies deeper follows in the first stage's
    order. A query on which a config fails keeps the first stage's order and is counted under ``errors``. A config is
    stopped and named under ``stopped`` when a failure would come of every query (a wrong key, no credit, a model that
    cannot be loaded), or when its backend fails on ten queries in a row; the others go on.

    Args:
        judged: The judged queries; see `rag_rerank.evaluation.read`.
        configs: What to evaluate: configs by the names that reports call them, or configs alone.
        measures: Names as in ir-measures; the verdict goes by the first one. nDCG@3, for the lift at top-3, is always
            among them.
        depth: How many candidates of a query enter.
        top_k: How many hits would reach the LLM.
        slices: Fields to slice by; all that fit by default.
        records: Folder in which every answer is kept as it comes, so that an evaluation that was interrupted goes on
            where it stopped and a finished one costs nothing. An answer counts only for the same config, model files,
            version of this package, depth, query, and ids and texts of the candidates; a failed one is tried again.
            ``None`` keeps nothing, and neither does a reranker that neither a config nor a fingerprint describes.
        progress: Is told how far it is.
        workers: Queries asked at a time. More than one is for providers; the seconds are then those under load.
        samples: Bootstrap and randomisation samples.
        seed: Their seed.

    Returns:
        What was found; the same each time but for its ``time`` and what rerankers make different.

    Raises:
        ConfigError: A wrong config, measure or slice, an unusable folder, or no config could be evaluated.
        InputError: Nothing to evaluate, or a number that is none.
        MissingExtraError: The extra ``eval`` is not installed.
    """
    for name, number in (("depth", depth), ("top_k", top_k), ("workers", workers), ("samples", samples)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"{name} must be a whole number of at least 1, got {number!r}")
    if not judged.queries:
        raise InputError(f"{judged.name}: there are no judged queries to evaluate on")
    asked_for = check_measures((*(measures or MEASURES), TOP_3))
    entering = min(depth, max(1, *(len(query.candidates) for query in judged.queries)))
    settings = EvaluationSettings(measures=asked_for, depth=entering, top_k=top_k, samples=samples, seed=seed)
    chosen = _chosen(fields(judged), slices)
    rerankers = with_names(configs)
    answers, stopped = _answers(judged, rerankers, configs, depth, records, workers, progress or _nobody)
    if not answers:
        raise ConfigError(f"no config could be evaluated: {'; '.join(f'{n}: {why}' for n, why in stopped.items())}")
    (progress or _nobody)(1.0, "working out the figures")
    found = Analysis(judged, rerankers, answers, settings, chosen)
    return Evaluation(
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=__version__,
        data=found.data,
        settings=settings,
        systems=found.systems,
        comparisons=found.comparisons,
        slices=found.slices,
        verdict=found.verdict,
        outcomes=found.outcomes,
        stopped=stopped,
    )


def _answers(
    judged: Judged,
    rerankers: Mapping[str, Reranker],
    configs: Configs,
    depth: int,
    records: str | os.PathLike[str] | None,
    workers: int,
    progress: Progress,
) -> tuple[dict[str, list[QueryAnswer]], dict[str, str]]:
    """Return the answers by name of the config, and why the others were stopped."""
    answers: dict[str, list[QueryAnswer]] = {}
    stopped: dict[str, str] = {}
    total = len(judged.queries)
    given = list(configs.values()) if isinstance(configs, Mapping) else list(configs)
    for nth, (name, reranker) in enumerate(rerankers.items()):

        def told(done: int, name: str = name, nth: int = nth) -> None:
            progress((nth + done / total) / len(rerankers), f"{name}: {done} of {total} queries")

        try:
            with AnswerStore.under(records, reranker, depth) as kept:
                answers[name] = QueryRunner(reranker, judged.queries, depth, kept, workers, told).answers()
        except RerankError as error:
            stopped[name] = error_text(error)
        finally:
            if reranker is not given[nth]:  # the caller's own stay open
                reranker.close()
    return answers, stopped


def _chosen(found: Fields, wanted: Sequence[str] | None) -> Fields:
    """Return the fields that were asked for."""
    if wanted is None:
        return found
    for name in wanted:
        if name not in found.values:
            left_out = [why for problem in found.problems for why in problem.examples if why.startswith(f"{name}: ")]
            mend = f"; it cannot be: {left_out[0]}" if left_out else did_you_mean(name, found.values)
            raise ConfigError(f"there is nothing to slice by {name!r}{mend}", path="slices")
    return Fields(values={name: found.values[name] for name in dict.fromkeys(wanted)}, problems=())


def _nobody(share: float, words: str) -> None:
    """Let nobody know."""

"""Evaluate rerankers on judged queries: from configs to a recommendation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from rag_rerank._checks import plain
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
from rag_rerank.execution.progress import Progress, progress_to

__all__ = ["Configs", "evaluate"]

Configs = Mapping[str, Spec] | Sequence[Spec]
"""What to evaluate: configs by the names they have in reports, or configs alone."""


def evaluate(
    judged: Judged,
    configs: Configs,
    *,
    measures: Sequence[str] | None = None,
    depth: int = 100,
    top_k: int = 10,
    slices: Sequence[str] | None = None,
    records: str | os.PathLike[str] | None = None,
    progress: Progress | bool | None = None,
    workers: int = 1,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> Evaluation:
    """Find out whether reranking helps on judged queries, by how much, at what cost, and with which config.

    Each config ranks the first ``depth`` candidates of every query; deeper ones follow in the first stage's order. A
    query on which a config fails keeps the first stage's order and is counted under ``errors``. A config is stopped
    and named under ``stopped`` when an error would repeat on every query (a wrong key, no credit, a model that cannot
    be loaded), or when its backend fails on ten queries in a row; the other configs go on.

    Args:
        judged: The judged queries; see `rag_rerank.evaluation.read`.
        configs: What to evaluate: configs by the names they have in reports, or configs alone.
        measures: Names as in ir-measures; the verdict is based on the first one. nDCG@3, for the lift at top-3, is
            always added.
        depth: How many candidates of each query enter.
        top_k: How many hits would reach the LLM.
        slices: Fields to slice by; by default all that are usable.
        records: Folder in which every answer is stored at once, so that an interrupted evaluation goes on where it
            stopped and a finished one costs nothing. An answer is reused only for the same config, model files,
            version of this package, depth, query, and ids and texts of the candidates; failed calls are repeated.
            Nothing is stored with ``None``, or for a reranker that has neither a config nor an `identity` that covers
            it.
        progress: Called with the share that is done, from 0 to 1, and a few words about the current step; ``True``
            for a bar on stderr, if that is a terminal.
        workers: Queries that run at a time. Use more than one for providers only; the seconds are then those under
            load.
        samples: How many samples the bootstrap and the randomisation test draw.
        seed: The seed of both.

    Returns:
        The evaluation. Repeated calls give the same evaluation except for ``time`` and rerankers that are not
        deterministic.

    Raises:
        ConfigError: A config, measure or slice is wrong, the folder is unusable, or no config could be evaluated.
        InputError: There is nothing to evaluate, or a number is not a whole number of at least 1.
        MissingExtraError: The extra ``eval`` is not installed.
    """
    numbers = {"depth": depth, "top_k": top_k, "workers": workers, "samples": samples}
    depth, top_k, workers, samples = map(plain, numbers.values())
    for name, number in zip(numbers, (depth, top_k, workers, samples), strict=True):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"{name} must be a whole number of at least 1, got {number!r}")
    if not judged.queries:
        raise InputError(f"{judged.name}: there are no judged queries to evaluate on")
    all_measures = check_measures((*(measures or MEASURES), TOP_3))
    most_candidates = max(1, *(len(query.candidates) for query in judged.queries))
    settings = EvaluationSettings(
        measures=all_measures, depth=min(depth, most_candidates), top_k=top_k, samples=samples, seed=plain(seed)
    )
    slice_fields = _select_fields(fields(judged), slices)
    rerankers = _rerankers_by_name(configs)
    with progress_to(progress, f"evaluating on {judged.name}") as report:
        answers, stopped = _run_all(judged, rerankers, configs, depth, records, workers, report)
        if not answers:
            raise ConfigError(f"no config could be evaluated: {'; '.join(f'{n}: {why}' for n, why in stopped.items())}")
        report(1.0, "computing the figures")
        analysis = Analysis(judged, rerankers, answers, settings, slice_fields)
    return Evaluation(
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=__version__,
        data=analysis.data,
        settings=settings,
        systems=analysis.systems,
        comparisons=analysis.comparisons,
        slices=analysis.slices,
        verdict=analysis.verdict,
        outcomes=analysis.outcomes,
        stopped=stopped,
    )


def _select_fields(usable: Fields, names: Sequence[str] | None) -> Fields:
    """Return the fields with these names; all of them for ``None``."""
    if names is None:
        return usable
    for name in names:
        if name not in usable.values:
            reasons = [text for problem in usable.problems for text in problem.examples if text.startswith(f"{name}: ")]
            hint = f"; it cannot be: {reasons[0]}" if reasons else did_you_mean(name, usable.values)
            raise ConfigError(f"there is nothing to slice by {name!r}{hint}", path="slices")
    return Fields(values={name: usable.values[name] for name in dict.fromkeys(names)}, problems=())


def _rerankers_by_name(configs: Configs) -> dict[str, Reranker]:
    """Build the rerankers, which loads nothing yet, and name them.

    Without names, a config file is named by its stem, any other string by itself, and a node or a reranker by its
    label. If two would have the same name, the later one gets a number.

    Raises:
        ConfigError: A config is wrong.
        InputError: There is no config, or a name is empty or the first stage's.
    """
    if isinstance(configs, (str, os.PathLike, Reranker)):
        raise InputError("configs is a sequence of configs, or a mapping from names to configs")
    if isinstance(configs, Mapping):
        rerankers = {name: build(spec) for name, spec in configs.items()}
    else:
        rerankers = {}
        for spec in configs:
            reranker = build(spec)
            base = name = _default_name(spec, reranker)
            number = 1
            while name in rerankers or name == FIRST_STAGE:
                number += 1
                name = f"{base} ({number})"
            rerankers[name] = reranker
    if not rerankers:
        raise InputError("there is no config to evaluate")
    for name in rerankers:
        if not name or name == FIRST_STAGE:
            raise InputError(f"a config cannot be called {name!r}; give it another name")
    return rerankers


def _default_name(spec: Spec, reranker: Reranker) -> str:
    if isinstance(spec, str) and not spec.endswith((".yaml", ".yml", ".json")):
        return spec
    return Path(spec).stem if isinstance(spec, (str, os.PathLike)) else reranker.label


def _run_all(
    judged: Judged,
    rerankers: Mapping[str, Reranker],
    configs: Configs,
    depth: int,
    records: str | os.PathLike[str] | None,
    workers: int,
    progress: Progress,
) -> tuple[dict[str, list[QueryAnswer]], dict[str, str]]:
    """Return the answers of each config by its name, and why the other configs were stopped."""
    answers: dict[str, list[QueryAnswer]] = {}
    stopped: dict[str, str] = {}
    total = len(judged.queries)
    specs = list(configs.values()) if isinstance(configs, Mapping) else list(configs)
    for nth, (name, reranker) in enumerate(rerankers.items()):

        def report(done: int, name: str = name, nth: int = nth) -> None:
            progress((nth + done / total) / len(rerankers), f"{name}: {done} of {total} queries")

        try:
            with AnswerStore.under(records, reranker, depth) as store:
                answers[name] = QueryRunner(reranker, judged.queries, depth, store, workers, report).answers()
        except RerankError as error:
            stopped[name] = error_text(error)
        finally:
            if reranker is not specs[nth]:  # the caller's own rerankers stay open
                reranker.close()
    return answers, stopped

"""Run a reranker on the contrasts."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from datetime import datetime, timezone

from rag_rerank._version import __version__
from rag_rerank.base import Reranker
from rag_rerank.config import Spec, build
from rag_rerank.evaluation.probes.report import KindResult, MissedContrast, ProbeReport
from rag_rerank.evaluation.probes.suite import VERSION, Contrast, suite
from rag_rerank.execution.progress import Progress, progress_to
from rag_rerank.types import Candidate, Hit, Ranking

__all__ = ["probe"]


def probe(
    config: Spec,
    *,
    kinds: Collection[str] | None = None,
    progress: Progress | bool | None = None,
) -> ProbeReport:
    """Rank the passages of each contrast, in one call per contrast, and count how often the better one is above.

    A contrast passes if the better passage is above every worse one and has another score; in an ordered contrast, this
    holds for each passage and all that follow it. A tie counts as missed. The passages enter worst first, so that the
    order of arrival, which ties keep, helps no reranker.

    Args:
        config: A name, a config file, a config node, or a reranker. A reranker built here is closed at the end.
        kinds: Only these kinds of contrasts; ``None`` for all.
        progress: Called with the share that is done, from 0 to 1; ``True`` for a bar on stderr, if that is a terminal.

    Raises:
        InputError: A kind is unknown.
        ConfigError: The config is wrong.
        RerankError: Whatever the reranker raises.
    """
    contrasts = suite(kinds)
    reranker = build(config)
    rankings = []
    closing = nullcontext() if isinstance(config, Reranker) else reranker
    with closing, progress_to(progress, f"probing {reranker.label}") as report:
        for done, contrast in enumerate(contrasts, start=1):
            rankings.append(reranker.rerank(contrast.query, _worst_first(contrast)))
            report(done / len(contrasts))
    name = os.fspath(config) if isinstance(config, (str, os.PathLike)) else reranker.label
    return _report(name, reranker, contrasts, rankings)


def _worst_first(contrast: Contrast) -> list[Candidate]:
    return [Candidate(str(i), text) for i, text in reversed([*enumerate(contrast.passages)])]


def _report(name: str, reranker: Reranker, contrasts: Sequence[Contrast], rankings: Sequence[Ranking]) -> ProbeReport:
    misses = [_miss(contrast, ranking) for contrast, ranking in zip(contrasts, rankings, strict=True)]
    coverages = [hit.coverage for ranking in rankings for hit in ranking if hit.coverage is not None]
    return ProbeReport(
        name=name,
        label=reranker.label,
        model=rankings[0].trace.model,
        scale=rankings[0].scale,
        suite=VERSION,
        version=__version__,
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        kinds=tuple(
            _kind_result(kind, [(c, m is None) for c, m in zip(contrasts, misses, strict=True) if c.kind == kind])
            for kind in dict.fromkeys(contrast.kind for contrast in contrasts)
        ),
        missed=tuple(miss for miss in misses if miss is not None),
        truncated=sum(coverage.truncated for coverage in coverages) if coverages else None,
        degraded=sum(bool(ranking.degraded) for ranking in rankings),
    )


def _kind_result(kind: str, outcomes: Sequence[tuple[Contrast, bool]]) -> KindResult:
    return KindResult(
        kind=kind,
        passed=sum(success for _, success in outcomes),
        total=len(outcomes),
        chance=sum(contrast.chance for contrast, _ in outcomes) / len(outcomes),
    )


def _miss(contrast: Contrast, ranking: Ranking) -> MissedContrast | None:
    """Return the scores of a contrast that did not pass; ``None`` if it did."""
    hits = sorted(ranking, key=lambda hit: int(hit.id))
    pairs = [(hits[above], hits[below]) for above, below in contrast.pairs]
    if all(above.rank < below.rank and above.raw_score != below.raw_score for above, below in pairs):
        return None
    return MissedContrast(contrast=contrast, scores=tuple(hit.score for hit in hits), margin=_margin(pairs))


def _margin(pairs: Sequence[tuple[Hit, Hit]]) -> float | None:
    differences = []
    for above, below in pairs:
        if above.raw_score is None or below.raw_score is None:
            return None
        differences.append(above.raw_score - below.raw_score)
    return min(differences)

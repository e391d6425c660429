"""The results of a shadow: a report for each comparison, and a summary. They hold no texts, no ids and no query."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rag_rerank.execution.calls import redacted_error_text
from rag_rerank.execution.observers import trace_of
from rag_rerank.rank_correlation import kendall_tau_b, rank_biased_overlap, top_overlap
from rag_rerank.trace import Usage
from rag_rerank.types import Ranking

__all__ = ["ShadowReport", "ShadowSide", "ShadowSummary", "Spread"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShadowSide:
    """One of the two rerankers in a comparison.

    Args:
        step: Its label.
        seconds: Its time.
        scale: The scale of its scores; ``None`` if it failed.
        usage: Its cost.
        degraded: Why its answer is not quite what was asked for.
        substituted: Whether the scores are another reranker's.
        error: Why it failed, or ``None``.
    """

    step: str
    seconds: float
    scale: str | None = None
    usage: Usage = field(default_factory=Usage)
    degraded: tuple[str, ...] = ()
    substituted: bool = False
    error: str | None = None

    @classmethod
    def of(cls, ranking: Ranking) -> ShadowSide:
        """Return the side of a reranker that answered."""
        return cls(
            step=ranking.trace.step,
            seconds=ranking.trace.seconds,
            scale=ranking.scale,
            usage=ranking.usage,
            degraded=ranking.degraded,
            substituted=ranking.substituted,
        )

    @classmethod
    def of_failure(cls, step: str, seconds: float, error: BaseException) -> ShadowSide:
        """Return the side of a reranker that failed."""
        trace = trace_of(None, error)
        usage = trace.usage if trace else Usage()
        return cls(step=step, seconds=seconds, usage=usage, error=redacted_error_text(error))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return asdict(self) | {"usage": self.usage.to_dict(), "degraded": list(self.degraded)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ShadowSide:
        """Rebuild a side from `to_dict`."""
        return cls(**{**data, "usage": Usage.from_dict(data["usage"]), "degraded": tuple(data["degraded"])})


@dataclass(frozen=True, kw_only=True, slots=True)
class ShadowReport:
    """The agreement of the other reranker with the answer.

    The two orders are those of the rankings, over the candidates that at least one of them scored.

    Args:
        answer: The reranker that answered.
        other: The reranker compared with it.
        candidates: Number of candidates of the call.
        rbo: Rank-biased overlap of the two orders, extrapolated, p = 0.9, from 0 to 1 for the same order (Webber,
            Moffat and Zobel, TOIS 2010).
        top_10: Share of the answer's first ten that are among the other's first ten.
        tau: Kendall's tau-b of the raw scores, from -1 to 1, over the candidates that both scored; ties count as ties.

    The last three are ``None`` if there is nothing to compare.
    """

    answer: ShadowSide
    other: ShadowSide
    candidates: int
    rbo: float | None = None
    top_10: float | None = None
    tau: float | None = None

    @classmethod
    def compare(cls, answer: Ranking, other: Ranking) -> ShadowReport:
        """Compare two rankings of the same candidates."""
        report = cls(answer=ShadowSide.of(answer), other=ShadowSide.of(other), candidates=len(answer))
        first, second = ({hit.id: hit.raw_score for hit in r if hit.raw_score is not None} for r in (answer, other))
        x, y = ([hit.id for hit in r if hit.id in first or hit.id in second] for r in (answer, other))
        both = [id for id in first if id in second]
        if x:
            report = replace(report, rbo=rank_biased_overlap(x, y), top_10=top_overlap(x, y))
        if len(both) > 1:
            report = replace(report, tau=kendall_tau_b([first[id] for id in both], [second[id] for id in both]))
        return report

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        sides = {"answer": self.answer.to_dict(), "other": self.other.to_dict()}
        return sides | {
            "candidates": self.candidates,
            "rbo": self.rbo,
            "top_10": self.top_10,
            "tau": self.tau,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ShadowReport:
        """Rebuild a report from `to_dict`."""
        return cls(
            **{**data, "answer": ShadowSide.from_dict(data["answer"]), "other": ShadowSide.from_dict(data["other"])}
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """The distribution of some numbers: their mean, and their 5th, 50th and 95th percentile (nearest rank)."""

    mean: float
    p5: float
    p50: float
    p95: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Return the spread of the values that are not ``None``; ``None`` if there are none."""
        rising = sorted(value for value in values if value is not None)
        if not rising:
            return None
        p5, p50, p95 = (rising[math.ceil(share * len(rising)) - 1] for share in (0.05, 0.5, 0.95))
        return cls(mean=math.fsum(rising) / len(rising), p5=p5, p50=p50, p95=p95)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShadowSummary:
    """A summary of the reports that are kept.

    Args:
        reports: Their number.
        failures: The number of those in which the other reranker failed.
        skipped: Calls since the start that were chosen, but not compared, because too many were waiting.
        dropped: Calls since the start that were still waiting when the shadow was closed.
        unheard: Reports since the start on which ``on_report`` raised.
        rbo: Rank-biased overlap; see `ShadowReport`.
        top_10: Overlap of the first ten.
        tau: Kendall's tau-b.
        seconds: Time of the reranker that answered.
        other_seconds: Time of the other one, without failures.
        usage: Cost of all answers.
        other_usage: Cost of all comparisons, as far as it is known; not part of any answer's usage.
    """

    reports: int
    failures: int
    skipped: int
    dropped: int
    unheard: int
    rbo: Spread | None
    top_10: Spread | None
    tau: Spread | None
    seconds: Spread | None
    other_seconds: Spread | None
    usage: Usage
    other_usage: Usage

    @classmethod
    def of(cls, reports: Sequence[ShadowReport], *, skipped: int, dropped: int, unheard: int) -> ShadowSummary:
        """Return the summary of reports."""
        return cls(
            reports=len(reports),
            failures=sum(report.other.error is not None for report in reports),
            skipped=skipped,
            dropped=dropped,
            unheard=unheard,
            rbo=Spread.of(report.rbo for report in reports),
            top_10=Spread.of(report.top_10 for report in reports),
            tau=Spread.of(report.tau for report in reports),
            seconds=Spread.of(report.answer.seconds for report in reports),
            other_seconds=Spread.of(r.other.seconds for r in reports if r.other.error is None),
            usage=Usage.total(report.answer.usage for report in reports),
            other_usage=Usage.total(report.other.usage for report in reports),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return asdict(self) | {"usage": self.usage.to_dict(), "other_usage": self.other_usage.to_dict()}

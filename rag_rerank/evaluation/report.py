"""The result of an evaluation as plain data, which the terminal, the page and the regression check read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from rag_rerank.errors import InputError
from rag_rerank.evaluation.data.judged import Problem
from rag_rerank.text.short_repr import short_repr

__all__ = [
    "FAILURES",
    "FIRST_STAGE",
    "SCHEMA",
    "Bin",
    "Comparison",
    "Data",
    "Depth",
    "DocumentRanks",
    "Evaluation",
    "EvaluationSettings",
    "Failure",
    "MeanEstimate",
    "Outcome",
    "Reliability",
    "Slice",
    "System",
    "Verdict",
]

SCHEMA = "rag_rerank.evaluation/1"
"""Name and version of the layout."""

FIRST_STAGE = "first stage"
"""Name of the system that leaves the candidates in their order: no reranking."""

Failure = Literal["candidates", "truncation", "tie", "scoring"]
"""Why a query has no relevant document among the first ``top_k``.

- ``candidates``: no relevant document is among the candidates; no reranker can help.
- ``truncation``: only the beginning of the best relevant candidate was read.
- ``tie``: it has the same score as a candidate that was returned instead.
- ``scoring``: it was read to its end and scored below others.
"""

FAILURES: tuple[Failure, ...] = get_args(Failure)


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanEstimate:
    """A mean over queries with its 95 % interval (bootstrap over queries).

    Args:
        mean: The mean of the queries that were evaluated.
        low: The lower end of the interval.
        high: The upper end of the interval.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """Judged candidates with neighbouring scores.

    Args:
        low: The least score of the bin.
        high: The greatest score of the bin.
        count: How many candidates are in it.
        score: Their mean score.
        relevant: The share of them that is relevant, from 0 to 1.
    """

    low: float
    high: float
    count: int
    score: float
    relevant: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """How far scores of 0 to 1 are probabilities of relevance, on the judged candidates.

    Args:
        ece: Expected calibration error: mean distance of score and share relevant over the bins, weighted by count.
        bins: The bins, by rising score; empty ones are left out.
    """

    ece: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Depth:
    """The measures of a system if only the first candidates enter it; the others follow in the first stage's order.

    Args:
        depth: How many candidates of each query enter.
        measures: Measure -> mean over queries.
    """

    depth: int
    measures: Mapping[str, MeanEstimate]


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """One way to order the candidates: the first stage, or a reranker.

    Args:
        name: Unique in the evaluation.
        label: How traces call the reranker; the name for the first stage.
        config: Config that builds it; ``None`` for the first stage and for rerankers no config can express.
        scale: Scale of its scores.
        measures: Measure -> mean over queries.
        p50: Median seconds per query; ``None`` for the first stage.
        p95: Seconds that 95 % of the queries do not exceed (nearest rank).
        texts: Texts that were scored.
        tokens: Tokens read by the model, where known.
        cost: US dollars, where known.
        estimated: Which of these figures are our estimates.
        truncated: Share of the texts of which only the beginning was read; ``None`` where unknown.
        errors: Queries on which it failed; they count with the first stage's order.
        degraded: Queries whose answer was not quite what was asked for.
        failures: Kind of failure -> how many queries have it.
        depths: The depth curve; empty where a score may depend on the other candidates.
        reliability: How far its scores are probabilities; ``None`` unless its scale is from 0 to 1.
        workers: How many queries ran at a time; with more than one, the seconds are those under load.
        problems: What went wrong and why, such as queries on which it failed.
    """

    name: str
    label: str
    config: Any = None
    scale: str | None = None
    measures: Mapping[str, MeanEstimate]
    p50: float | None = None
    p95: float | None = None
    texts: int = 0
    tokens: int | None = None
    cost: float | None = None
    estimated: tuple[str, ...] = ()
    truncated: float | None = None
    errors: int = 0
    degraded: int = 0
    failures: Mapping[Failure, int] = field(default_factory=dict)
    depths: tuple[Depth, ...] = ()
    reliability: Reliability | None = None
    workers: int = 1
    problems: tuple[Problem, ...] = ()

    __repr__ = short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A system compared with another on the same queries.

    Args:
        system: Name of the system.
        baseline: Name of the system it is compared with.
        measure: The measure.
        difference: Mean of the paired differences (paired bootstrap, 10,000 samples).
        p: Two-sided p-value of the paired randomisation test.
        p_adjusted: The same, corrected for all comparisons of its family (Holm).
        helped: Queries on which the system is better.
        hurt: Queries on which it is worse.
        unchanged: Queries on which both are equal.
    """

    system: str
    baseline: str
    measure: str
    difference: MeanEstimate
    p: float
    p_adjusted: float
    helped: int
    hurt: int
    unchanged: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """The queries that have one value of one field.

    Args:
        field: Name of the field: one of the queries' or documents' metadata, or a computed one (``query length``,
             ``first relevant rank``, ``text length``).
        value: Its value, or the range of its values, in words.
        queries: How many there are.
        measures: System -> measure -> mean.
        comparisons: Each reranker against the first stage.
    """

    field: str
    value: str
    queries: int
    measures: Mapping[str, Mapping[str, float]]
    comparisons: tuple[Comparison, ...]

    __repr__ = short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentRanks:
    """A relevant document of a query: its grade, and its rank in each system (``None``: no candidate)."""

    id: str
    grade: int
    ranks: Mapping[str, int | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The results for one query.

    Args:
        id: Its id.
        text: The query.
        candidates: How many candidates it has.
        relevant: How many relevant documents are known.
        slices: Field -> value, as in `Slice`.
        measures: System -> measure -> value.
        failures: System -> failure, for the systems that failed here.
        places: The relevant documents, at most ten, by their best rank.
        seconds: System -> seconds it took.
    """

    id: str
    text: str
    candidates: int
    relevant: int
    slices: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)
    places: tuple[DocumentRanks, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    __repr__ = short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """The judged queries of the evaluation.

    Args:
        name: Name of the collection.
        fingerprint: SHA-256 over everything that decides a figure.
        queries: How many queries there are.
        candidates: Mean number of candidates per query.
        judged: Share of the candidates that have a judgment.
        relevant: Lowest grade of a relevant document.
        ceiling: Measure -> what a perfect order of the candidates would give.
        problems: What was left out or corrected.
        sources: Where it was read from, one line each.
    """

    name: str
    fingerprint: str
    queries: int
    candidates: float
    judged: float
    relevant: int
    ceiling: Mapping[str, float]
    problems: tuple[Problem, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSettings:
    """The settings of the evaluation.

    Args:
        measures: Names as in ir-measures; the verdict is based on the first one.
        depth: How many candidates of a query entered the rerankers at most.
        top_k: How many hits would reach the LLM.
        samples: Bootstrap and randomisation samples.
        seed: Their seed.
    """

    measures: tuple[str, ...]
    depth: int
    top_k: int
    samples: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The recommendation: rerank, do not, or judge more queries first.

    Args:
        rerank: Whether to rerank here; ``None`` where these queries do not decide it.
        system: With which system; ``None`` for none.
        depth: How many candidates should enter.
        top_k: How many hits to keep.
        more_queries: About how many further queries would decide it; ``None`` where it is decided.
        words: The same in a sentence.
        reasons: Why, one sentence each.
    """

    rerank: bool | None
    system: str | None = None
    depth: int | None = None
    top_k: int | None = None
    more_queries: int | None = None
    words: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The result of an evaluation; ``systems[0]`` is the first stage.

    ``stopped`` names the configs that could not be evaluated, each with the reason.
    """

    time: str
    version: str
    data: Data
    settings: EvaluationSettings
    systems: tuple[System, ...]
    comparisons: tuple[Comparison, ...]
    slices: tuple[Slice, ...]
    verdict: Verdict
    outcomes: tuple[Outcome, ...]
    stopped: Mapping[str, str] = field(default_factory=dict)

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        """Return the verdict and a table of the systems for notebooks."""
        from rag_rerank.text.html import section, table

        measures = self.settings.measures
        rows = (
            (
                system.name,
                *(_mean_text(system.measures.get(name)) for name in measures),
                "" if system.p50 is None else f"{system.p50 * 1000:,.0f}",
                "" if system.cost is None else f"{system.cost:.4g}",
                "" if system.truncated is None else f"{system.truncated:.0%}",
                f"{system.errors:,} failed, {system.degraded:,} degraded" if system.errors or system.degraded else "",
            )
            for system in self.systems
        )
        heading = ("system", *(f"#{name}" for name in measures), "#p50 ms", "#$", "#texts cut", "calls")
        return section(
            f"Evaluation on {self.data.name}: {self.data.queries:,} queries",
            (
                self.verdict.words,
                *self.verdict.reasons,
                *(f"Stopped: {name}: {reason}" for name, reason in self.stopped.items()),
                *(f"Problem: {problem}" for problem in self.data.problems),
            ),
            table(heading, rows, len(self.systems), "systems"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; the first key names the layout."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """Rebuild an evaluation from `to_dict`, also after a round trip through JSON.

        Raises:
            InputError: The data are not an evaluation, have another layout, or something is missing or wrong; the
                message names the first place.
        """
        from pydantic import TypeAdapter, ValidationError

        schema = data.get("schema") if isinstance(data, Mapping) else None
        if schema != SCHEMA:
            reason = f"its schema is {schema!r:.80}" if schema else "it names no schema"
            raise InputError(f"not an evaluation that this version reads: {reason}, expected {SCHEMA!r}")
        try:
            return TypeAdapter(cls).validate_python({key: data[key] for key in data if key != "schema"})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(step) for step in first["loc"])
            raise InputError(f"the evaluation cannot be read at {where}: {first['msg']}") from None


def _mean_text(estimate: MeanEstimate | None) -> str:
    return "" if estimate is None else f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"

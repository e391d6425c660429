"""Check on this machine that a model gives the scores that were published for it, or at least the right order."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.local import catalogue
from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.backends.local.verification.record import VerificationRecord, delete_record, write_record
from rag_rerank.backends.local.verification.reference_scores import ReferenceScores, published_scores
from rag_rerank.backends.local.verification.tolerance import Precision, Range, as_published, raw_score_of
from rag_rerank.base import Reranker
from rag_rerank.diagnostics.disagreement import likely_causes
from rag_rerank.diagnostics.order_questions import FEW, order_questions
from rag_rerank.errors import TruncationWarning, VerificationError
from rag_rerank.trace import Usage

__all__ = ["ScoreComparison", "Status", "Verification", "estimated_usage", "verify"]

Status = Literal["verified", "order", "differs"]
"""``verified``: the reference scores agree. ``order``: the order is right; no value could be compared. ``differs``."""

_SHOWN = 3
"""Scores that an error message names."""

_PRECISIONS: Mapping[str, Precision] = {
    **{"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "auto": "bf16"},
    **{"fp32": "fp32", "fp16": "fp16", "int8": "int8", "int4": "int8"},
}
_KEPT_VECTORS: Mapping[str, Precision] = {"fp32": "fp32", "fp16": "fp32", "int8": "fp16", "int4": "int8"}
"""What the rounding of kept vectors amounts to: a raw score of the samples moved by at most 0.0002 in fp16, 0.003 in
int8 and 0.023 in int4."""

_QUANTIZED = ("int8", "uint8", "quant", "q4", "bnb4")


@dataclass(frozen=True, kw_only=True)
class ScoreComparison:
    """A published score, and the score here.

    Args:
        query: The query.
        text: The text.
        source: Where the score was published; empty for a question of this package, which has no published score.
        published: The number, as printed; ``None`` where only the order counts and no number was published.
        here: The score here, as that number would show it.
        range: What agrees with the number, on its own scale.
        agrees: Whether it does; ``None`` where the value decides nothing.
        difference: How far the raw score is from the published one; ``None`` where it has no logit.
    """

    query: str
    text: str
    source: str
    published: float | None
    here: float
    range: Range | None
    agrees: bool | None
    difference: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; an end without a bound is ``null``."""
        ends = None if self.range is None else [end if math.isfinite(end) else None for end in self.range]
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"range": ends}


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The outcome of `verify` for one reranker.

    Args:
        label: The name of the reranker in traces.
        model: The model, with its revision.
        scores: One comparison for each published score.
        orders: How many texts had to stand before another one.
        wrong_orders: Those that do not, one sentence each.
        contradictions: Pairs whose published scores contradict each other; one of them is enough there.
        causes: What probably is wrong, the likeliest first; empty where nothing is.
        usage: What the scoring cost.
        not_recorded: Why the outcome could not be kept for traces; empty where it was, or where nothing is kept.
    """

    label: str
    model: str | None
    scores: tuple[ScoreComparison, ...]
    orders: int
    wrong_orders: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    not_recorded: str = ""

    @property
    def status(self) -> Status:
        """Whether the reference scores agree, or only their order could be compared, or something differs."""
        if self.wrong_orders or any(row.agrees is False for row in self.scores):
            return "differs"
        return "verified" if any(row.agrees for row in self.scores) else "order"

    @property
    def passed(self) -> bool:
        """Whether nothing differs."""
        return self.status != "differs"

    @property
    def values(self) -> int:
        """How many scores were compared by their value."""
        return sum(row.agrees is not None for row in self.scores)

    @property
    def largest_difference(self) -> float | None:
        """The largest difference of a logit from its published number; ``None`` where none was compared."""
        return max((row.difference for row in self.scores if row.agrees and row.difference is not None), default=None)

    @property
    def error(self) -> VerificationError | None:
        """The error for what differs, with both numbers and the likely causes; ``None`` where nothing does."""
        if self.passed:
            return None
        numbered = [(i, row) for i, row in enumerate(self.scores, start=1) if row.agrees is False]
        facts = [f"score {i}: published {row.published:.6g}, here {row.here:.6g}" for i, row in numbered[:_SHOWN]]
        if len(numbered) > _SHOWN:
            facts.append(f"{len(numbered) - _SHOWN} more")
        facts += self.wrong_orders[: _SHOWN - min(len(facts), _SHOWN - 1)]
        return VerificationError(
            f"{self.label} differs from what was published for {self.model or 'it'}: {len(numbered)} of {self.values} "
            f"values, {len(self.wrong_orders)} of {self.orders} orders ({'; '.join(facts)}). "
            f"Likely: {'; or '.join(self.causes)}. Do not use its rankings before this is explained"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return {
            "label": self.label,
            "model": self.model,
            "status": self.status,
            "scores": [row.to_dict() for row in self.scores],
            "orders": self.orders,
            "wrong_orders": list(self.wrong_orders),
            "contradictions": list(self.contradictions),
            "causes": list(self.causes),
            "largest_difference": self.largest_difference,
            "usage": self.usage.to_dict(),
            "not_recorded": self.not_recorded,
        }


class _Scored(NamedTuple):
    """Reference scores with the raw scores here."""

    reference: ReferenceScores | None
    query: str
    texts: tuple[str, ...]
    here: tuple[float, ...]
    ranges: tuple[Range, ...]
    expected: tuple[float, ...]


def verify(reranker: Reranker, references: Sequence[ReferenceScores] | None = None) -> Verification:
    """Score published pairs by the reranker's normal path, and say whether the scores are the published ones.

    A local model with published scores is compared with them; a passed comparison is recorded for its traces
    (`rag_rerank.backends.local.verification.record`). For late-interaction models, providers, and scores of low trust
    only the order of a query's texts counts. Without published scores, plain questions are asked instead, each with one
    text that answers it.

    Args:
        reranker: A reranker without children. A local one is loaded for this, and closed again.
        references: Scores to compare with; by default the published ones.

    Raises:
        RerankError: Loading or scoring failed.
    """
    if isinstance(reranker, LocalReranker):
        return _verify_local(reranker, references)
    rows, _, usage = _score(reranker, references, "fp16") if references else _ask(reranker, FEW)
    return _outcome(reranker, rows, usage, by_value=False)


def estimated_usage(reranker: Reranker, references: Sequence[ReferenceScores] | None = None) -> Usage:
    """Return an estimate of what `verify` costs at a provider."""
    rows = [(row.query, row.texts) for row in references] if references else order_questions(FEW)
    return Usage.total(reranker.estimate(query, texts) for query, texts in rows)


def _verify_local(reranker: LocalReranker, references: Sequence[ReferenceScores] | None) -> Verification:
    local = reranker.resolved
    references = published_scores(local.model) if references is None else references
    by_instruction: dict[str | None, list[ReferenceScores]] = {}
    for row in references:
        by_instruction.setdefault(row.instruction, []).append(row)
    rows: list[_Scored] = []
    cut, usage = 0, Usage()
    for instruction, group in (by_instruction or {None: []}).items():
        with _plain_form(local, instruction) as form:
            here = _precision_of(form)
            scored, were_cut, cost = _score(form, group, here) if group else _ask(form, None)
        rows += scored
        cut, usage = cut + were_cut, usage + cost
    outcome = _outcome(reranker, rows, usage, cut=cut, by_value=bool(references), local=local)
    return replace(outcome, not_recorded=_record(local, outcome, bool(references)))


def _plain_form(reranker: LocalReranker, instruction: str | None) -> LocalReranker:
    """Return the reranker with the instruction of published scores, which may cut and must score."""
    changes: dict[str, Any] = {"on_overflow": "truncate", "on_long_query": "truncate", "on_unreadable": "score"}
    if any(f.name == "instruction" for f in fields(reranker)):
        changes["instruction"] = instruction
    return replace(reranker, **changes)


def _precision_of(reranker: LocalReranker) -> Precision:
    """Return the number format that a local model computes in, as far as its settings say it."""
    if isinstance(reranker, LateInteractionReranker):
        return _KEPT_VECTORS[reranker.precision]
    word = str(getattr(reranker, "dtype", None) or getattr(reranker, "precision", "fp32"))
    file = str(getattr(reranker, "file", None) or "").lower()
    if any(mark in file for mark in _QUANTIZED):
        return "int8"
    return "fp16" if "fp16" in file and word == "fp32" else _PRECISIONS.get(word, "bf16")


def _score(
    reranker: Reranker, references: Sequence[ReferenceScores], here: Precision
) -> tuple[list[_Scored], int, Usage]:
    """Score the pairs of reference scores; return them, how many texts were cut, and the cost."""
    rows, cut, usage = [], 0, Usage()
    for reference in references:
        scores, were_cut, cost = _raw_scores(reranker, reference.query, reference.texts)
        expected = tuple(raw_score_of(value, reference.kind, reference.shift) for value in reference.values)
        rows.append(_Scored(reference, reference.query, reference.texts, scores, reference.ranges(here), expected))
        cut, usage = cut + were_cut, usage + cost
    return rows, cut, usage


def _ask(reranker: Reranker, count: int | None) -> tuple[list[_Scored], int, Usage]:
    """Score the plain questions, whose first text has to be the best."""
    rows, cut, usage = [], 0, Usage()
    for query, texts in order_questions(count):
        scores, were_cut, cost = _raw_scores(reranker, query, texts)
        expected = (1.0, *(0.0 for _ in texts[1:]))
        rows.append(_Scored(None, query, texts, scores, tuple(Range(x, x) for x in expected), expected))
        cut, usage = cut + were_cut, usage + cost
    return rows, cut, usage


def _raw_scores(reranker: Reranker, query: str, texts: Sequence[str]) -> tuple[tuple[float, ...], int, Usage]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # the outcome says how many texts were cut
        ranking = reranker.rerank(query, list(texts))
    scores = {int(hit.id): math.nan if hit.raw_score is None else hit.raw_score for hit in ranking}
    cut = sum(hit.coverage is not None and hit.coverage.truncated for hit in ranking)
    return tuple(scores[i] for i in range(len(texts))), cut, ranking.usage


def _outcome(
    reranker: Reranker,
    rows: Sequence[_Scored],
    usage: Usage,
    *,
    by_value: bool,
    cut: int = 0,
    local: LocalReranker | None = None,
) -> Verification:
    ranges_of: dict[tuple[str, str], list[Range]] = {}
    for row in rows:
        if by_value and row.reference and row.reference.decides_by_value:
            for text, score_range in zip(row.texts, row.ranges, strict=True):
                ranges_of.setdefault((row.query, text), []).append(score_range)
    contradictory = {pair for pair, ranges in ranges_of.items() if not all(a.meets(b) for a in ranges for b in ranges)}
    comparisons = [
        comparison for row in rows for comparison in _comparisons(row, ranges_of, contradictory, by_value=by_value)
    ]
    orders, wrong = _orders(rows)
    outcome = Verification(
        label=reranker.label,
        model=getattr(local or reranker, "model_id", None),
        scores=tuple(comparisons),
        orders=orders,
        wrong_orders=tuple(wrong),
        contradictions=tuple(f"{query!r:.60} with {text!r:.60}" for query, text in sorted(contradictory)),
        usage=usage,
    )
    return outcome if outcome.passed else replace(outcome, causes=_causes(rows, cut, local))


def _comparisons(
    row: _Scored,
    ranges_of: Mapping[tuple[str, str], Sequence[Range]],
    contradictory: set[tuple[str, str]],
    *,
    by_value: bool,
) -> Iterator[ScoreComparison]:
    reference = row.reference
    for i, (text, here, score_range) in enumerate(zip(row.texts, row.here, row.ranges, strict=True)):
        if reference is None:
            yield ScoreComparison(
                query=row.query, text=text, source="", published=None, here=here, range=None, agrees=None
            )
            continue
        agrees, pair = None, (row.query, text)
        if by_value and reference.decides_by_value:
            agrees = any(r.holds(here) for r in ranges_of[pair]) if pair in contradictory else score_range.holds(here)
        expected = row.expected[i]
        show = [as_published(x, reference.kind, reference.shift) for x in (here, *score_range)]
        yield ScoreComparison(
            query=row.query,
            text=text,
            source=reference.source,
            published=reference.values[i],
            here=show[0],
            range=Range(*show[1:]),
            agrees=agrees,
            difference=abs(here - expected) if math.isfinite(expected) else None,
        )


def _orders(rows: Sequence[_Scored]) -> tuple[int, list[str]]:
    """Return how many texts must stand before another one, and sentences on those that do not."""
    count, wrong = 0, []
    for number, row in enumerate(rows, start=1):
        for i, better in enumerate(row.ranges):
            for j, worse in enumerate(row.ranges):
                if better.low > worse.high:
                    count += 1
                    if not row.here[i] > row.here[j]:
                        wrong.append(
                            f"question {number}: text {i + 1} must score more than text {j + 1}, and has "
                            f"{row.here[i]:.6g} against {row.here[j]:.6g}"
                        )
    return count, wrong


def _causes(rows: Sequence[_Scored], cut: int, local: LocalReranker | None) -> tuple[str, ...]:
    if local is None:
        return (
            "the provider serves another model than the one that is named; ranking.degraded says what it answered",
            "the query and the texts are exchanged, or the scale is another one: see answers_on",
        )
    pairs = [pair for row in rows for pair in zip(row.expected, row.here, strict=True)]
    finite = [(expected, here) for expected, here in pairs if math.isfinite(expected)]
    return likely_causes(
        [expected for expected, _ in finite],
        [here for _, here in finite],
        cut=cut,
        has_prompt=local.template_id is not None,
        revisions=_revision_cause(local),
    )


def _revision_cause(local: LocalReranker) -> str:
    row = catalogue.row_of(local.model)
    if row is None or row.revision is None or local.revision in (None, row.revision):
        return ""
    return f"the revision is {local.revision}, and the catalogue pins {row.revision[:12]}"


def _record(local: LocalReranker, outcome: Verification, has_references: bool) -> str:
    """Keep a passed comparison with published scores for the traces, and forget an earlier one that fails now."""
    name, key = local.verification_name, local.verification_key
    if not outcome.passed:
        delete_record(name, key)
    if not (outcome.passed and has_references):
        return ""
    is_by_value = outcome.status == "verified"
    record = VerificationRecord(
        model=outcome.model or name,
        key=key,
        scores=outcome.values if is_by_value else len(outcome.scores),
        values=is_by_value,
        largest_difference=outcome.largest_difference,
    )
    return write_record(name, record)

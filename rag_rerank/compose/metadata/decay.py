"""Decay: a prior on the age of texts, so that stale ones go down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import ClassVar, Literal, NamedTuple

from rag_rerank._checks import finite_positive, number, one_of, share
from rag_rerank.compose.wrapper import Wrapper
from rag_rerank.documentation import FRESHNESS
from rag_rerank.errors import ConfigError
from rag_rerank.execution.plan import Call, Plan, PlanResult
from rag_rerank.execution.ranking import best_first, renumber
from rag_rerank.text.dates import find_value, read_date, to_days
from rag_rerank.text.unicode import is_blank
from rag_rerank.types import Candidate, Hit, Ranking, Scale, present

__all__ = ["Decay"]

_SCALES: tuple[Scale, ...] = ("sigmoid", "calibrated", "relevance")
"""The scales with a meaning for a factor: log-odds, and numbers in 0..1."""

_IDS_IN_NOTE = 10


@dataclass(frozen=True, kw_only=True)
class Decay(Wrapper):
    """A reranker that lowers the scores of old texts: a prior on age, from a date in the metadata.

    The factor is 1 at age 0 and 1/2 after a half-life, and never below ``floor``. It changes the score according to the
    scale, which stays the reranker's:

    - ``sigmoid``: The odds are multiplied: ``raw_score + ln(factor)``, because the raw score is a log-odds. That is how
      evidence that does not depend on the query is added to it (Craswell et al., SIGIR 2005), and an exponential prior
      on age to a language model's score (Li and Croft, CIKM 2003). A text far above the others stays there.
    - ``calibrated``: ``score * factor``, also as the raw score. If the factor is the probability that a text of this
      age still holds, and does not depend on the query, this is the probability that it is relevant and still holds.
    - ``relevance``: ``score * factor``, as Elasticsearch's decay functions multiply a score.

    On other scales a factor means nothing: a cosine may be negative, BM25 has no upper bound, and places have no
    distances. There, put a `Calibrated` inside.

    Texts of one age keep their order, and so do texts that are all at the floor. A date in the future has age 0. A
    threshold on the scores applies to what comes out of here: relevant, and not too old.

    The trace says the moment that ages were counted from, how many dates were missing, unreadable or in the future, and
    in ``contributions`` each text's score before, its age, its factor and what that added to the raw score.

    The scores change from day to day, so `Cached` belongs inside, around the reranker.

    Args:
        reranker: The reranker whose scores are lowered, with a scale of ``sigmoid``, ``calibrated`` or ``relevance``.
        field: The metadata key with the date; one with dots is also a path into nested metadata. ISO dates and times,
            the dates of mails and PDF files, seconds and milliseconds since 1970, and Python's own dates are read. A
            date without a time zone is in UTC.
        half_life: The age in days at which the factor is 1/2, counted from ``offset`` on. Days for news, years for
            manuals; measure it on judged queries.
        shape: How the factor falls with ``x``, the age in half-lives. These are Elasticsearch's decay functions, with
            a decay of 0.5.

            - ``"exponential"``: ``0.5 ** x``: halved by each half-life. This is the default.
            - ``"linear"``: ``1 - x / 2``: the floor is reached within two half-lives.
            - ``"gaussian"``: ``0.5 ** (x * x)``: nearly flat for young texts, then steep.
        offset: The days during which a text counts as new; the age starts after them.
        floor: The lowest factor, more than 0 and at most 1, so that old texts that are right are not lost. The default
            is 0.1; 1 switches the prior off.
        missing: What happens to a text without a date, or with one that cannot be read. A note in the trace has the
            ids.

            - ``"keep"``: Its score stays as it is. This is the default, and Elasticsearch's.
            - ``"floor"``: It counts as very old.
        now: The moment that ages are counted from, as a date in quotes. By default the time of the call. Set it for
            tests and for collections of the past.

    Raises:
        ConfigError: The reranker's scale has no decay, or a value is not allowed.
    """

    kind: ClassVar[str] = "decay"

    field: str
    half_life: float
    shape: Literal["exponential", "linear", "gaussian"] = "exponential"
    offset: float = 0.0
    floor: float = 0.1
    missing: Literal["keep", "floor"] = "keep"
    now: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reranker.scale not in _SCALES:
            raise ConfigError(
                f"a decay needs scores of the scale {', '.join(_SCALES)}, and those of {self.reranker.label} are "
                f"{self.reranker.scale}; {_mend(self.reranker.scale)}",
                path="reranker",
                page=FRESHNESS,
            )
        if not isinstance(self.field, str) or not self.field.strip():
            raise ConfigError(f"expected a metadata key, got {self.field!r:.60}", path="field")
        finite_positive(self.half_life, "half_life")
        one_of(self.shape, ("exponential", "linear", "gaussian"), "shape")
        number(self.offset, "offset", least=0)
        share(self.floor, "floor")
        one_of(self.missing, ("keep", "floor"), "missing")
        if self.now is not None and (not isinstance(self.now, str) or read_date(self.now) is None):
            raise ConfigError(f"expected a date as a text, '2026-12-01', got {self.now!r:.60}", path="now")

    def factor(self, age: float) -> float:
        """Return the factor of an age in days."""
        x = max(0.0, age - self.offset) / self.half_life
        if self.shape == "linear":
            return max(self.floor, 1 - x / 2)
        return max(self.floor, math.pow(0.5, x if self.shape == "exponential" else x * x))

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        moment = (None if self.now is None else read_date(self.now)) or datetime.now(timezone.utc)
        ranking: Ranking = yield Call(self.reranker, query, candidates)
        scored = [hit for hit in ranking if hit.raw_score is not None]
        if not scored:
            return PlanResult(ranking.hits, ranking.scale, substituted=ranking.substituted)
        if ranking.scale not in _SCALES:
            reason = f"without a decay: another reranker answered, whose scores are {ranking.scale}"
            return PlanResult(ranking.hits, ranking.scale, (reason,), substituted=ranking.substituted)
        texts = [self._with_prior(hit, ranking.scale, moment) for hit in scored]
        unscored = [hit for hit in ranking if hit.raw_score is None]
        return PlanResult(
            renumber((*best_first(text.hit for text in texts), *unscored)),
            ranking.scale,
            notes=(f"ages are counted from {moment.isoformat()}", *self._notes(texts)),
            substituted=ranking.substituted,
            own_scores=True,
            contributions={text.hit.id: text.contributions for text in texts},
        )

    def _with_prior(self, hit: Hit, scale: Scale, moment: datetime) -> _AgedHit:
        value = find_value(hit.candidate.metadata, self.field)
        date = read_date(value)
        if date is None:
            problem: Problem | None = "missing" if _says_nothing(value) else "unreadable"
            factor, words = 1.0 if self.missing == "keep" else self.floor, "no date"
        else:
            days = to_days(moment - date)
            problem = "future" if days < 0 else None
            factor, words = self.factor(days), f"{max(0.0, days):.1f} days old"
        before = (hit.raw_score if scale == "sigmoid" else hit.score) or 0.0  # below a map, the raw score has any scale
        after = before + math.log(factor) if scale == "sigmoid" else before * factor
        aged = replace(hit, raw_score=after, score=present(after, scale))
        return _AgedHit(aged, {"score before": before, f"{words}, factor {factor:.4g}": after - before}, problem)

    def _notes(self, texts: Sequence[_AgedHit]) -> Iterator[str]:
        """Yield a note for each thing that is wrong with some dates."""
        rule = "their scores stay" if self.missing == "keep" else f"their factor is {self.floor:g}"
        for problem, words in (
            ("missing", f"have no {self.field!r}; {rule}"),
            ("unreadable", f"have no date in {self.field!r} that can be read; {rule}"),
            ("future", "have a date in the future; their age is 0"),
        ):
            if ids := [text.hit.id for text in texts if text.problem == problem]:
                yield f"{len(ids)} of {len(texts)} texts {words}: {_join_ids(ids)}"


Problem = Literal["missing", "unreadable", "future"]


class _AgedHit(NamedTuple):
    """A hit with its new score, the addends of that, and what is wrong with its date."""

    hit: Hit
    contributions: dict[str, float]
    problem: Problem | None


def _says_nothing(value: object) -> bool:
    """Whether there is no value: ``None``, a blank text, or NaN, which data frames have there."""
    is_nan = isinstance(value, float) and value != value
    return value is None or is_nan or (isinstance(value, str) and is_blank(value))


def _join_ids(ids: Sequence[str]) -> str:
    """Return the first ids of a note, and how many more there are."""
    first: Iterable[str] = ids[:_IDS_IN_NOTE]
    return ", ".join(first) + (f" and {len(ids) - _IDS_IN_NOTE} more" if len(ids) > _IDS_IN_NOTE else "")


def _mend(scale: Scale) -> str:
    if scale == "rank":
        return "name a reranker that gives scores"
    return "put {type: calibrated, reranker: ..., map: ...} around it first (rag-rerank calibrate makes the map)"

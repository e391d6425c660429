"""The data of a call: candidates, scores, hits and rankings.

All are frozen and picklable, and made of plain Python values without third-party imports.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, Literal, get_args, overload

from rag_rerank._checks import check_top_k, describe, finite, plain
from rag_rerank.errors import InputError
from rag_rerank.text.relevance import RelevantSpan, relevant
from rag_rerank.text.short_repr import short_repr
from rag_rerank.trace import Coverage, Trace, Usage

__all__ = [
    "SCALES",
    "SCALE_MEANINGS",
    "Candidate",
    "Coverage",
    "Hit",
    "Origin",
    "Ranking",
    "RelevantSpan",
    "Scale",
    "Scores",
    "Usage",
    "present",
]

Scale = Literal["calibrated", "sigmoid", "relevance", "similarity", "unbounded", "rank"]
"""The meaning of ``Hit.score``.

- ``calibrated``: a probability of relevance, fitted on judgments.
- ``sigmoid``: ``1 / (1 + exp(-logit))`` of a cross-encoder; in 0..1, monotone, not a probability.
- ``relevance``: a provider's number in 0..1; not comparable between models.
- ``similarity``: a cosine or a dot product.
- ``unbounded``: any real number (BM25, fused scores); only the order means something.
- ``rank``: a place, because the model gives no scores: 1 for the first of n, ``1 - 1/n`` for the second ...
"""

SCALES: tuple[Scale, ...] = get_args(Scale)

SCALE_MEANINGS: Mapping[Scale, str] = MappingProxyType(
    {
        "calibrated": "a probability of relevance, fitted on judgments",
        "sigmoid": "sigmoid of the model's logit: 0 to 1, but not a probability",
        "relevance": "the provider's own relevance, 0 to 1; not comparable between models",
        "similarity": "a similarity of vectors",
        "unbounded": "unbounded: only the order means something",
        "rank": "the place alone: 1 for the first text even if none is relevant",
    }
)
"""What a score on each scale means, in a few words."""

BLANK = "blank text"
"""Why a text with nothing to read has no score."""

UNREADABLE_TEXT = "a text that the model cannot read"
"""Why a text in a script or a language that is unknown to the model has no score."""

UNREADABLE_QUERY = "the model cannot read the query"
"""Why no text has a score where it is the query that the model cannot read."""


def present(raw: float, scale: Scale) -> float:
    """Return the presented score of a raw score: the float64 sigmoid of a logit, else the number itself."""
    if scale != "sigmoid":
        return raw
    if raw >= 0:
        return 1.0 / (1.0 + math.exp(-raw))
    small = math.exp(raw)
    return small / (1.0 + small)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that the first stage proposed for a query.

    Args:
        id: Not empty, and unique within one call.
        text: What the reranker reads.
        score: The first stage's score, if any; never mixed into the reranker's.
        metadata: Any data of the caller; passed on unchanged.
        vector: The embedding of the text, if the caller has one, as numbers; passed on unchanged, and read by
            `HostEmbeddingReranker` alone. It is no part of the candidate's value: ``==`` and ``repr`` leave it out.

    Raises:
        InputError: The id or the text is not a string, the score is not a finite number, or the metadata is not a
            mapping.
    """

    id: str
    text: str
    score: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    vector: Sequence[float] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            hint = f"; write str({self.id})" if isinstance(plain(self.id), int) else ""
            raise InputError(f"candidate id must be a non-empty string, got {describe(self.id)}{hint}")
        if not isinstance(self.text, str):
            raise InputError(f"candidate {self.id!r}: text must be a string, got {type(self.text).__name__}")
        if type(self.id) is not str or type(self.text) is not str:  # such as that of numpy
            object.__setattr__(self, "id", str.__str__(self.id))
            object.__setattr__(self, "text", str.__str__(self.text))
        if type(self.metadata) is not dict and not isinstance(self.metadata, Mapping):
            raise InputError(f"candidate {self.id!r}: metadata must be a mapping, got {type(self.metadata).__name__}")
        if self.score is not None:
            object.__setattr__(self, "score", finite(self.score, f"candidate {self.id!r}: score"))

    __repr__ = short_repr

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values (as far as ``metadata`` is)."""
        own = {} if self.vector is None else {"vector": [float(number) for number in self.vector]}
        return {"id": self.id, "text": self.text, "score": self.score, "metadata": dict(self.metadata), **own}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """Rebuild a candidate from `to_dict`."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores that a backend returns for a list of texts, in the order of the texts.

    Args:
        values: One raw score for each text, in their order: an fp32 logit, or the provider's number. Larger is more
            relevant. The value of a text in ``unscored`` is ignored.
        scale: The scale of the presented scores.
        usage: The cost of the scoring.
        coverage: One entry for each text; empty where the backend does not know it.
        requests: One trace node for each request or batch worth showing.
        notes: Remarks for the trace, one sentence each.
        cached: Positions of the values that came from a cache.
        unscored: Position -> reason, for texts that got no score.
        query_coverage: How much of the query was read beside the longest text, where it was cut.
        degraded: Why these are not quite the scores that were asked for; the ranking carries them on. No cache keeps
            such scores.
        spans: The relevant spans of each text, in text order and without overlaps; see ``Hit.spans`` for ``None`` and
            ``()``. Without entries where nobody asked for spans.
    """

    values: Sequence[float]
    scale: Scale
    usage: Usage = field(default_factory=Usage)
    coverage: Sequence[Coverage] = ()
    requests: tuple[Trace, ...] = ()
    notes: tuple[str, ...] = ()
    cached: Sequence[int] = ()
    unscored: Mapping[int, str] = field(default_factory=dict, hash=False)
    degraded: tuple[str, ...] = ()
    query_coverage: Coverage | None = None
    spans: Sequence[tuple[RelevantSpan, ...] | None] = ()

    __repr__ = short_repr


@dataclass(frozen=True, slots=True)
class Hit:
    """A candidate with its place in a ranking.

    Args:
        rank: 1 for the best.
        score: The presented score, on the ranking's ``scale``; ``None`` without a score.
        raw_score: The score that decided the rank: an fp32 logit, or the provider's number; ``None`` without a score.
        candidate: The caller's own object.
        coverage: How much of the text the model read, where that is known.
        unscored: Why there is no score (``"blank text"``), or ``None``.
        window: The best window of a long text (`Windows`), as characters ``text[start:end]``; ``None`` where the text
            was not split.
        spans: Its relevant spans, in text order, without overlaps. ``()`` means that the reranker looked for some and
            says that nothing in the text is relevant; ``None`` that nobody says anything, as a rule because nobody
            asked (see `RelevantSpans`).
    """

    rank: int
    score: float | None
    raw_score: float | None
    candidate: Candidate
    coverage: Coverage | None = None
    unscored: str | None = None
    window: tuple[int, int] | None = None
    spans: tuple[RelevantSpan, ...] | None = None

    __repr__ = short_repr

    @property
    def id(self) -> str:
        """The candidate's id."""
        return self.candidate.id

    @property
    def text(self) -> str:
        """The candidate's text."""
        return self.candidate.text

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; `from_dict` rebuilds the hit from them."""
        return {
            "rank": self.rank,
            "score": self.score,
            "raw_score": self.raw_score,
            "candidate": self.candidate.to_dict(),
            "coverage": None if self.coverage is None else self.coverage.to_dict(),
            "unscored": self.unscored,
            "window": None if self.window is None else list(self.window),
            "spans": None if self.spans is None else [span.to_dict() for span in self.spans],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Hit:
        """Rebuild a hit from `to_dict`."""
        coverage, window, spans = data["coverage"], data["window"], data.get("spans")
        return cls(
            **{
                **data,
                "candidate": Candidate.from_dict(data["candidate"]),
                "coverage": None if coverage is None else Coverage.from_dict(coverage),
                "window": None if window is None else tuple(window),
                "spans": None if spans is None else tuple(RelevantSpan(**span) for span in spans),
            }
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """The call that a ranking comes from.

    Args:
        ids: The ids of all its candidates, in incoming order.
        on_context: Functions that take each `Context` that is packed from the ranking: the observers of the call. They
            belong to this process, and a pickled copy has none.
    """

    ids: tuple[str, ...]
    on_context: tuple[Callable[[Any], None], ...] = ()

    def __reduce__(self) -> tuple[object, ...]:
        return (Origin, (self.ids,))

    def __deepcopy__(self, memo: dict[int, Any]) -> Origin:
        return self


@dataclass(frozen=True, slots=True)
class Ranking(Sequence[Hit]):
    """The hits of one query, best first; a sequence of `Hit`.

    Args:
        query: The query of the call.
        hits: Best first, ranks 1, 2, 3 ...; hits without a score come last.
        scale: The scale of the scores.
        trace: The steps of the call, over all candidates (a cutoff does not shorten it).
        usage: The cost of all steps.
        degraded: Why this is not quite what was asked for (a fallback answered, the time was up ...); empty if it is.
        substituted: Whether the scores are another reranker's than the one asked for (a fallback answered, or a member
            of an ensemble is missing), so that a threshold written for it does not apply. ``degraded`` says why.
        origin: The call that it comes from; ``None`` where it was made by hand or read from `to_dict`. It is no part of
            the ranking's value: ``==``, ``repr`` and `to_dict` leave it out.
        answerable: The probability that at least one of the candidates answers the query, all of them and not only
            those above a cutoff; see `Answerable`. ``None`` where nobody says.
    """

    query: str
    hits: tuple[Hit, ...]
    scale: Scale
    trace: Trace
    usage: Usage = field(default_factory=Usage)
    degraded: tuple[str, ...] = ()
    substituted: bool = False
    origin: Origin | None = field(default=None, compare=False, repr=False)
    answerable: float | None = None

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        """Return a table for notebooks: rank, move from the incoming place, score, coverage, beginning of the text.

        Where hits have spans, the relevant sentences are marked, by the rule of ``pack(trim="relevant")``.
        """
        from rag_rerank.text.html import MarkedText, move, section, table

        relevant_of = relevant({hit.id: hit.spans for hit in self.hits if hit.spans is not None})
        marks = {id: sorted((span.start, span.end) for span in spans) for id, spans in relevant_of.items()}
        first_ranks = {} if self.origin is None else {id: i for i, id in enumerate(self.origin.ids, start=1)}
        rows = (
            (
                str(hit.rank),
                move(first_ranks.get(hit.id), hit.rank),
                f"not scored: {hit.unscored}" if hit.score is None else f"{hit.score:.4g}",
                "" if hit.coverage is None else str(hit.coverage),
                hit.id,
                MarkedText(hit.text, marks[hit.id]) if hit.id in marks else hit.text,
            )
            for hit in self.hits
        )
        heading = ("#rank", "#move", f"#score ({self.scale})", "#tokens read", "id", "text")
        title = f"{len(self.hits):,} {'hit' if len(self.hits) == 1 else 'hits'} for “{self.query}”"
        return section(title, self._remarks(), table(heading, rows, len(self.hits), "hits"))

    def _remarks(self) -> Iterator[str]:
        """Yield what a reader must know of the scores: why they are degraded, what was cut, and the notes of steps."""
        if self.answerable is not None:
            yield f"Answerable: {self.answerable:.2f} is the probability that at least one candidate answers the query."
        yield from (f"Degraded: {reason}" for reason in self.degraded)
        if self.substituted:
            yield "Substituted: the scores are another reranker's, so a threshold for this one does not apply."
        if cut := sum(hit.coverage.truncated for hit in self.hits if hit.coverage is not None):
            yield f"Warning: only the beginning of {cut:,} of {len(self.hits):,} texts was read."
        yield from dict.fromkeys(f"Note: {note}" for step in self.trace.walk() for note in step.notes)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def top(self, k: int | None) -> Ranking:
        """Return the first ``k`` hits as a ranking; all of them for ``None``.

        Raises:
            InputError: ``k`` is not a whole number of at least 1.
        """
        k = check_top_k(k)
        return self if k is None or k >= len(self.hits) else replace(self, hits=self.hits[:k])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values (as far as the candidates' metadata is)."""
        return {
            "query": self.query,
            "hits": [hit.to_dict() for hit in self.hits],
            "scale": self.scale,
            "trace": self.trace.to_dict(),
            "usage": self.usage.to_dict(),
            "degraded": list(self.degraded),
            "substituted": self.substituted,
            "answerable": self.answerable,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Ranking:
        """Rebuild a ranking from `to_dict`."""
        return cls(
            query=data["query"],
            hits=tuple(Hit.from_dict(hit) for hit in data["hits"]),
            scale=data["scale"],
            trace=Trace.from_dict(data["trace"]),
            usage=Usage.from_dict(data["usage"]),
            degraded=tuple(data["degraded"]),
            substituted=data["substituted"],
            answerable=data.get("answerable"),
        )


def _set_state(ranking: Ranking, state: Sequence[Any]) -> None:
    """Rebuild a ranking from a pickle; one of an older release lacks the last fields, which get their defaults."""
    for f, value in zip_longest(fields(Ranking), state):
        object.__setattr__(ranking, f.name, value)


Ranking.__setstate__ = _set_state  # type: ignore[attr-defined]  # dataclass(slots=True) of Python 3.10 replaces a method

"""The record of one call: its query, its candidates with the scores of every step, and the JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rag_rerank.records.context_record import ContextRecord
from rag_rerank.text.short_repr import short_repr
from rag_rerank.trace import Coverage, StepScore, Trace, Usage
from rag_rerank.types import present

__all__ = ["BELOW_TOP_K", "SCHEMA", "Entry", "Record", "digest", "schema"]

SCHEMA = "rag_rerank.record/1"
"""Name and version of the layout. A reader refuses other versions."""

BELOW_TOP_K = "below top_k"
"""Why a ranked candidate was not returned."""


def digest(text: str) -> str:
    """Return the SHA-256 of a text in hexadecimal, lone surrogates included as they are."""
    from hashlib import sha256

    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One candidate of a recorded call.

    Args:
        id: The candidate's id.
        sha256: SHA-256 of its text, in hexadecimal.
        text: The text; ``None`` where texts are not recorded.
        metadata: The caller's metadata in plain JSON; ``None`` where texts are not recorded.
        first_rank: Its place in the incoming order; 1 for the first.
        first_score: The first stage's score, if any.
        rank: Its place in the ranking; 1 for the best, ``None`` if the call failed.
        score: The presented score, on the record's ``scale``.
        raw_score: The score that decided the rank.
        coverage: How much of the text was read.
        window: The best window of a long text, ``(start, end)`` in characters.
        dropped: Why it was not returned, or has no score; ``None`` for a hit with a score that was returned.
        visits: What each step did with it, in the order of the steps.
    """

    id: str
    sha256: str
    text: str | None = None
    metadata: Mapping[str, Any] | None = None
    first_rank: int
    first_score: float | None = None
    rank: int | None = None
    score: float | None = None
    raw_score: float | None = None
    coverage: Coverage | None = None
    window: tuple[int, int] | None = None
    dropped: str | None = None
    visits: tuple[StepScore, ...] = ()

    __repr__ = short_repr

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return {
            "id": self.id,
            "sha256": self.sha256,
            "text": self.text,
            "metadata": None if self.metadata is None else dict(self.metadata),
            "first_rank": self.first_rank,
            "first_score": self.first_score,
            "rank": self.rank,
            "score": self.score,
            "raw_score": self.raw_score,
            "coverage": None if self.coverage is None else self.coverage.to_dict(),
            "window": None if self.window is None else list(self.window),
            "dropped": self.dropped,
            "visits": [_step_score_dict(step_score) for step_score in self.visits],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Entry:
        """Rebuild an entry from `to_dict`."""
        coverage, window = data["coverage"], data["window"]
        return cls(
            **{
                **data,
                "coverage": None if coverage is None else Coverage.from_dict(coverage),
                "window": None if window is None else tuple(window),
                "visits": tuple(_step_score(step_score) for step_score in data["visits"]),
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One call of a reranker.

    Args:
        id: A unique id.
        time: The time of its start, ISO 8601 in UTC.
        version: Version of this package.
        reranker: Label of the reranker.
        query: The query; ``None`` where texts are not recorded.
        query_sha256: SHA-256 of the query, in hexadecimal.
        instruction: The instruction of the call; ``None`` where it has none of its own, or texts are not recorded.
        instruction_sha256: SHA-256 of that instruction, in hexadecimal. `to_dict` has both keys only where there is
            one.
        tags: The user's tags of the call; see `rag_rerank.tagged`.
        top_k: How many hits were asked for; ``None`` for all.
        scale: The scale of the entries' scores; ``None`` if the call failed.
        seconds: Wall time of the call, in seconds.
        usage: The cost of the call.
        degraded: Why the ranking is not quite what was asked for.
        substituted: Whether the scores are another reranker's.
        answerable: The probability that a candidate answers the query; ``None`` where nobody says, and `to_dict` has
            the key only where somebody does.
        error: Class and message of the error; ``None`` if the call did not fail.
        candidates: One entry for each candidate, in the order of the ranking; in incoming order if the call failed.
        trace: The steps, without the scores that the entries have; steps that scored windows stay whole.
        contexts: The contexts that were packed from the ranking. They are lines of their own in a file, and `read` puts
            them here; `to_dict` has them only where there are any.
    """

    id: str
    time: str
    version: str
    reranker: str
    query: str | None = None
    query_sha256: str
    instruction: str | None = None
    instruction_sha256: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    top_k: int | None = None
    scale: str | None = None
    seconds: float
    usage: Usage
    degraded: tuple[str, ...] = ()
    substituted: bool = False
    answerable: float | None = None
    error: str | None = None
    candidates: tuple[Entry, ...] = ()
    trace: Trace
    contexts: tuple[ContextRecord, ...] = ()

    __repr__ = short_repr

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; the first key names the layout."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "time": self.time,
            "version": self.version,
            "reranker": self.reranker,
            "query": self.query,
            "query_sha256": self.query_sha256,
            **(
                {"instruction": self.instruction, "instruction_sha256": self.instruction_sha256}
                if self.instruction_sha256 is not None
                else {}
            ),
            "tags": dict(self.tags),
            "top_k": self.top_k,
            "scale": self.scale,
            "seconds": self.seconds,
            "usage": self.usage.to_dict(),
            "degraded": list(self.degraded),
            "substituted": self.substituted,
            **({"answerable": self.answerable} if self.answerable is not None else {}),
            "error": self.error,
            "candidates": [entry.to_dict() for entry in self.candidates],
            "trace": self.trace.to_dict(),
            **({"contexts": [context.to_dict() for context in self.contexts]} if self.contexts else {}),
        }

    def outcome(self, entry: Entry) -> str | None:
        """Say in words what became of a candidate after the call, in the last context; ``None`` if nothing was packed.

        The last one is meant because a ranking that is packed again replaces the context before.
        """
        if not self.contexts:
            return None
        missing = BELOW_TOP_K if self.is_below_top_k(entry) else "not among the hits that were packed"
        return self.contexts[-1].outcome(entry.id) or missing

    def is_below_top_k(self, entry: Entry) -> bool:
        """Whether a candidate was ranked and not returned; ``Entry.dropped`` may have another reason, too."""
        return self.top_k is not None and entry.rank is not None and entry.rank > self.top_k

    def to_line(self) -> bytes:
        """Return the record as a line of a file, with its line feed."""
        import json

        return json.dumps(self.to_dict(), allow_nan=False).encode() + b"\n"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """Rebuild a record from `to_dict`; ``schema`` is not checked here."""
        values = {key: value for key, value in data.items() if key != "schema"}
        return cls(
            **{
                **values,
                "usage": Usage.from_dict(data["usage"]),
                "degraded": tuple(data["degraded"]),
                "candidates": tuple(Entry.from_dict(entry) for entry in data["candidates"]),
                "trace": Trace.from_dict(data["trace"]),
                "contexts": tuple(map(ContextRecord.from_dict, data.get("contexts", ()))),
            }
        )


def _step_score_dict(step_score: StepScore) -> dict[str, Any]:
    raw, scale = step_score.raw_score, step_score.scale
    return {
        "step": step_score.step,
        "rank": step_score.rank,
        "score": None if raw is None or scale is None else present(raw, scale),  # type: ignore[arg-type]
        "raw_score": raw,
        "scale": scale,
        "unscored": step_score.unscored,
        "coverage": None if step_score.coverage is None else step_score.coverage.to_dict(),
        "cached": step_score.cached,
    }


def _step_score(data: Mapping[str, Any]) -> StepScore:
    coverage = data["coverage"]
    return StepScore(
        step=data["step"],
        rank=data["rank"],
        raw_score=data["raw_score"],
        unscored=data["unscored"],
        scale=data["scale"],
        coverage=None if coverage is None else Coverage.from_dict(coverage),
        cached=data["cached"],
    )


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a record, for checks in other languages.

    Its ``$defs`` have ``context``, the schema of the lines whose ``schema`` is ``rag_rerank.context/1``.
    """
    data: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))
    return data

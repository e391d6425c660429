"""The trace of a call, returned with its ranking: a tree with one node for each step, without texts and secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from rag_rerank.text.short_repr import short_repr

__all__ = ["Coverage", "StepScore", "Trace", "Usage"]


@dataclass(frozen=True, slots=True)
class Coverage:
    """The part of one text that the model read, in the model's own tokens.

    Args:
        total: Tokens in the text, without query, template and special tokens.
        seen: Tokens of the text that the model read; less than ``total`` if the text was cut.
        estimated: Whether both are estimates of this library, because the model is on a server that does not say them.
    """

    total: int
    seen: int
    estimated: bool = False

    @property
    def truncated(self) -> bool:
        """Whether the model read less than the whole text."""
        return self.seen < self.total

    def __str__(self) -> str:
        """Return the tokens read of how many, with their share if it is not all."""
        return f"{self.seen:,} of {self.total:,}" + (f" ({self.seen / self.total:.0%})" if self.truncated else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        figures: dict[str, Any] = {"total": self.total, "seen": self.seen}
        return {**figures, "estimated": True} if self.estimated else figures

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Coverage:
        """Rebuild the object from the values of `to_dict`."""
        return cls(total=data["total"], seen=data["seen"], estimated=data.get("estimated", False))


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of a call. ``+`` adds usages; a figure is ``None`` as long as no step knows it.

    Args:
        texts: Texts that were scored; blank ones are never sent, cached ones count in ``cached``.
        requests: Requests sent to a provider, failed ones included.
        tokens: Tokens read by the model, padding excluded.
        search_units: Units billed by providers that count searches.
        cost: Money, in US dollars.
        cached: Texts whose score came from a cache.
        seconds: Time of scoring, summed over steps: more than the wall time if steps run in parallel.
        estimated: Names of the figures that are estimates of this library; the others were counted here or billed.
        output_tokens: Tokens that a language model wrote; ``None`` for models that write nothing.
    """

    texts: int = 0
    requests: int = 0
    tokens: int | None = None
    search_units: float | None = None
    cost: float | None = None
    cached: int = 0
    seconds: float = 0.0
    estimated: tuple[str, ...] = ()
    output_tokens: int | None = None

    def __add__(self, other: Usage) -> Usage:
        sums = {
            name: _sum(getattr(self, name), getattr(other, name))
            for name in (f.name for f in fields(self))
            if name != "estimated"
        }
        return Usage(**sums, estimated=tuple(sorted({*self.estimated, *other.estimated})))

    @classmethod
    def total(cls, usages: Iterable[Usage]) -> Usage:
        """Add up any number of usages."""
        return sum(usages, start=cls())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; ``output_tokens`` is there only where a model wrote something."""
        values = {f.name: getattr(self, f.name) for f in fields(self)} | {"estimated": list(self.estimated)}
        if self.output_tokens is None:
            del values["output_tokens"]
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Usage:
        """Rebuild the object from the values of `to_dict`."""
        return cls(**{**data, "estimated": tuple(data["estimated"])})


def _sum(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


class StepScore(NamedTuple):
    """One candidate in one step: its rank and raw score, or why it has none, and how much of its text was read.

    ``rank`` counts from 1 among the candidates that the step scored. ``cached`` says whether the score came from a
    cache.
    """

    step: str
    rank: int | None
    raw_score: float | None
    unscored: str | None
    scale: str | None = None
    coverage: Coverage | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """One step of a request, with the steps inside it.

    Args:
        step: Label of the reranker or request, such as ``"onnx:minilm"``.
        seconds: Wall time of the step.
        scale: Scale of the step's presented scores; ``None`` for a failed step, and for a request of a backend.
        kind: Registry name of the reranker, such as ``"onnx"`` or ``"cascade"``; ``None`` for a request of a backend.
        model: Model id with its revision, ``"org/name@revision"``; ``None`` without a model.
        template: Name of the prompt around query and text, for causal models.
        scores: Raw score by candidate id, best first. Empty for a composite whose scores are those of its children.
        unscored: Reason by candidate id, for candidates without a score in this step.
        coverage: Coverage by candidate id, if the backend knows it.
        query_coverage: How much of the query was read beside the longest text, where it was cut; else ``None``.
        contributions: Addends of the raw score by candidate id, in a step whose score is a sum of named parts: feature
            name -> what it adds. They sum to the raw score.
        cached: Ids of the candidates whose score came from a cache.
        usage: The cost of the step, children included.
        attempts: How often a request was sent; 0 if this step sends nothing.
        failures: Why earlier attempts failed, one text each.
        notes: Remarks, one sentence each.
        error: Why the step failed, or ``None``.
        children: Steps inside this one, in the order they ran.
    """

    step: str
    seconds: float = 0.0
    scale: str | None = None
    kind: str | None = None
    model: str | None = None
    template: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)
    unscored: Mapping[str, str] = field(default_factory=dict, hash=False)
    coverage: Mapping[str, Coverage] = field(default_factory=dict, hash=False)
    cached: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    attempts: int = 0
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None
    children: tuple[Trace, ...] = ()
    query_coverage: Coverage | None = None
    contributions: Mapping[str, Mapping[str, float]] = field(default_factory=dict, hash=False)

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        """Return a table of the steps for notebooks."""
        from rag_rerank.text.html import section, table

        rows = list(self._rows(0))
        heading = ("step", "#ms", "#scored", "scale", "remarks")
        title = f"Trace of {self.step}: {self.seconds * 1000:,.0f} ms"
        return section(title, (), table(heading, rows, len(rows), "steps"))

    def _rows(self, depth: int) -> Iterable[tuple[str, ...]]:
        """Yield the cells of this step and of those inside."""
        remarks = [f"failed: {self.error}"] if self.error else []
        remarks += [self.model] if self.model else []
        if cut := sum(coverage.truncated for coverage in self.coverage.values()):
            remarks.append(f"{cut:,} texts cut")
        remarks += [f"{len(self.unscored):,} not scored"] if self.unscored else []
        remarks += [f"{len(self.cached):,} from the cache"] if self.cached else []
        remarks += [f"{self.attempts} attempts"] if self.attempts > 1 else []
        remarks += [*self.failures, *self.notes]
        scored = f"{len(self.scores):,}" if self.scores else ""
        yield ("› " * depth + self.step, f"{self.seconds * 1000:,.0f}", scored, self.scale or "", "; ".join(remarks))
        for child in self.children:
            yield from child._rows(depth + 1)

    def walk(self) -> Iterable[Trace]:
        """Yield this node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def path(self, id: str) -> tuple[StepScore, ...]:
        """Return one candidate's score in each step that had it, in the order in which the steps ran."""
        return self.paths().get(id, ())

    def paths(self) -> dict[str, tuple[StepScore, ...]]:
        """Return the `path` of every candidate, by id."""
        paths: dict[str, list[StepScore]] = {}
        for node in self.walk():
            cached = frozenset(node.cached)
            for rank, (id, raw) in enumerate(node.scores.items(), start=1):
                step_score = StepScore(node.step, rank, raw, None, node.scale, node.coverage.get(id), id in cached)
                paths.setdefault(id, []).append(step_score)
            for id, reason in node.unscored.items():
                step_score = StepScore(node.step, None, None, reason, node.scale, node.coverage.get(id))
                paths.setdefault(id, []).append(step_score)
        return {id: tuple(path) for id, path in paths.items()}

    def render(self) -> str:
        """Draw the tree for people to read, one step per line."""
        return "\n".join(self._lines("", ""))

    def _lines(self, first: str, rest: str) -> Iterable[str]:
        facts = [f"{self.seconds * 1000:.0f} ms"]
        if self.scores or self.unscored:
            facts.append(f"{len(self.scores)} scored ({self.scale})")
        if self.unscored:
            facts.append(f"{len(self.unscored)} not scored")
        cut = sum(c.truncated for c in self.coverage.values())
        if cut:
            facts.append(f"{cut} cut")
        if self.query_coverage is not None:
            facts.append("query cut")
        if self.attempts > 1:
            facts.append(f"{self.attempts} attempts")
        if self.error:
            facts.append(f"failed: {self.error}")
        yield f"{first}{self.step}  {', '.join(facts)}"
        for note in (*self.failures, *self.notes):
            yield f"{rest}{'│' if self.children else ' '}  {note}"
        for child in self.children:
            last = child is self.children[-1]
            yield from child._lines(rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; ``query_coverage`` and ``contributions`` only where there are any."""
        values = {f.name: getattr(self, f.name) for f in fields(self)} | {
            "scores": dict(self.scores),
            "unscored": dict(self.unscored),
            "coverage": {id: c.to_dict() for id, c in self.coverage.items()},
            "cached": list(self.cached),
            "usage": self.usage.to_dict(),
            "failures": list(self.failures),
            "notes": list(self.notes),
            "children": [child.to_dict() for child in self.children],
        }
        if self.query_coverage is None:
            del values["query_coverage"]
        else:
            values["query_coverage"] = self.query_coverage.to_dict()
        if self.contributions:
            values["contributions"] = {id: dict(parts) for id, parts in self.contributions.items()}
        else:
            del values["contributions"]
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trace:
        """Rebuild the object from the values of `to_dict`."""
        query = data.get("query_coverage")
        return replace(
            cls(
                **{
                    **data,
                    "children": (),
                    "cached": tuple(data["cached"]),
                    "failures": tuple(data["failures"]),
                    "notes": tuple(data["notes"]),
                }
            ),
            coverage={id: Coverage.from_dict(c) for id, c in data["coverage"].items()},
            query_coverage=None if query is None else Coverage.from_dict(query),
            usage=Usage.from_dict(data["usage"]),
            children=tuple(cls.from_dict(child) for child in data["children"]),
        )

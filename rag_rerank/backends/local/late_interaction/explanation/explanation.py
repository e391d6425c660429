"""An explanation as data, as text for a terminal, and as HTML for a notebook or a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rag_rerank.backends.local.late_interaction.explanation import heat_map
from rag_rerank.backends.local.late_interaction.explanation.text_table import bar, columns, one_line
from rag_rerank.text.short_repr import short_repr
from rag_rerank.trace import Coverage
from rag_rerank.types import Scale

__all__ = ["SCHEMA", "SIGNAL_MEANINGS", "ExplainedToken", "Explanation", "SignalContribution", "TokenMatch"]

SCHEMA = 1
"""Version of the layout of `Explanation.to_dict`."""

TokenKind = Literal["text", "marker", "filler"]

SIGNAL_MEANINGS: Mapping[str, str] = {
    "cosine": "cosine of the mean vectors of query and text",
    "matched": "mean over the query of each token's three best similarities",
    "weighted": "mean of the best similarities, weighted by how informative a token is",
    "same": "like weighted, but only among equal tokens",
    "lexical": "how often the tokens of the query occur (BM25), where words are in several pieces",
    "weakest": "soft minimum of the best similarities: the part of the query that is met worst",
    "covered": "mean over the text of each token's best similarity to the query",
}
"""What each signal of the embedded model is, in a few words."""


@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """A token of a query or of a text that is compared.

    Args:
        text: How it reads: the characters of the query or the text, or the name of a special token.
        start: Its first code point in the caller's string; ``None`` for a token that is not of it.
        end: The code point after its last one; ``None`` likewise.
        kind: Where it comes from.

            - ``"text"``: From the caller's string.
            - ``"marker"``: A special token, or a word that the model wants before every query or text.
            - ``"filler"``: A token that fills a short query up, as ColBERT models do.
    """

    text: str
    start: int | None
    end: int | None
    kind: TokenKind = "text"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return {"text": self.text, "start": self.start, "end": self.end, "kind": self.kind}


@dataclass(frozen=True, slots=True)
class TokenMatch:
    """A token of the query, and the token of the text that is most similar to it.

    Args:
        query: The token of the query.
        text: The token of the text; ``None`` where the text has no token to compare.
        position: Place of that token in `Explanation.text_tokens`; ``None`` likewise.
        similarity: Their similarity, a cosine for all models that keep vectors of unit length; ``None`` likewise.
        weight: Share of the query's weight that its token has, by how informative it is; ``None`` for ColBERT models.
        contribution: What it adds to the raw score; ``None`` for ``embedded``, whose signals use it in several ways.
    """

    query: ExplainedToken
    text: ExplainedToken | None
    position: int | None
    similarity: float | None
    weight: float | None = None
    contribution: float | None = None


@dataclass(frozen=True, slots=True)
class SignalContribution:
    """One of the signals of ``embedded``, and what it adds to the logit.

    Args:
        name: Its name.
        value: Its value for this query and text.
        weight: Its factor, which training has set.
        contribution: ``weight * value``.
    """

    name: str
    value: float
    weight: float
    contribution: float

    @property
    def meaning(self) -> str:
        """What the signal measures, in a few words."""
        return SIGNAL_MEANINGS[self.name]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        values = {"value": self.value, "weight": self.weight, "contribution": self.contribution}
        return {"name": self.name, "meaning": self.meaning, **values}


@dataclass(frozen=True)
class Explanation:
    """Why a late-interaction model gives a text its score: which of its tokens answers which token of the query.

    ``print(explanation)`` shows a table, and a notebook shows a heat map.

    Args:
        reranker: Label of the reranker.
        query: The query, as the caller gave it.
        text: The text, as the caller gave it.
        score: The score that `rerank` shows.
        raw_score: The raw score of `rerank`: the logit of ``embedded``, the MaxSim of a ColBERT model.
        scale: The scale of ``score``.
        query_tokens: The tokens of the query that are compared.
        text_tokens: The tokens of the text that are compared.
        matches: The best match of each token of the query, in the order of ``query_tokens``. With a ColBERT model,
            their contributions add up to ``raw_score``.
        similarities: The similarity of each token of the query (rows) to each token of the text (columns).
        signals: The signals of ``embedded``; empty for ColBERT models. ``bias`` and their contributions add up to
            ``raw_score``.
        bias: What ``embedded`` adds to the contributions of its signals; 0.0 for ColBERT models.
        coverage: How much of the text was read.
        query_coverage: How much of the query was read.
        notes: What was cut, what the model cannot read, and what the similarities stand for, where that matters.
    """

    reranker: str
    query: str
    text: str
    score: float
    raw_score: float
    scale: Scale
    query_tokens: tuple[ExplainedToken, ...]
    text_tokens: tuple[ExplainedToken, ...]
    matches: tuple[TokenMatch, ...]
    similarities: tuple[tuple[float, ...], ...] = field(repr=False)
    signals: tuple[SignalContribution, ...] = ()
    bias: float = 0.0
    coverage: Coverage | None = None
    query_coverage: Coverage | None = None
    notes: tuple[str, ...] = ()

    __repr__ = short_repr

    def to_dict(self, *, similarities: bool = False) -> dict[str, Any]:
        """Return plain JSON-ready values; the first key names the layout.

        Args:
            similarities: Whether to add the similarity of each pair of tokens, which can be 100,000 numbers.
        """
        plain = {name: getattr(self, name) for name in ("reranker", "query", "text", "score", "raw_score", "scale")}
        matches = [
            {
                "query": place,
                "text": match.position,
                "similarity": match.similarity,
                "weight": match.weight,
                "contribution": match.contribution,
            }
            for place, match in enumerate(self.matches)
        ]
        values: dict[str, Any] = {
            "schema": SCHEMA,
            **plain,
            "query_tokens": [token.to_dict() for token in self.query_tokens],
            "text_tokens": [token.to_dict() for token in self.text_tokens],
            "matches": matches,
            "signals": [signal.to_dict() for signal in self.signals],
            "bias": self.bias,
            "coverage": None if self.coverage is None else self.coverage.to_dict(),
            "query_coverage": None if self.query_coverage is None else self.query_coverage.to_dict(),
            "notes": list(self.notes),
        }
        return values | ({"similarities": [list(row) for row in self.similarities]} if similarities else {})

    def __str__(self) -> str:
        """Return a table for a terminal: the best match of each token of the query, and the signals."""
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        """Return the text with its matches shaded, the best matches, a heat map and the signals, for notebooks."""
        of_words = [
            row for token, row in zip(self.query_tokens, self.similarities, strict=True) if token.kind == "text"
        ]
        strongest = [max(column) for column in zip(*of_words, strict=True)] if of_words else []
        spans = [
            (token.start, token.end, value)
            for token, value in zip(self.text_tokens, strongest, strict=False)
            if token.start is not None and token.end is not None
        ]
        tables = [heat_map.shaded_text(self.text, spans, heat_map.Shades(strongest))]
        heading, rows = self._match_rows()
        tables.append(heat_map.bar_table(heading, rows, [match.similarity for match in self._shown_matches]))
        places = [place for place, token in enumerate(self.query_tokens) if token.kind != "filler"]
        tables.append(
            heat_map.heat_map(
                [self.query_tokens[place].text for place in places],
                [token.text for token in self.text_tokens],
                [self.similarities[place] for place in places],
            )
        )
        if self.signals:
            tables.append(heat_map.bar_table(("signal", "#value", "#weight", "#adds", "meaning"), self._signal_rows()))
        return heat_map.section(f"Why this score: {self._score_line}", (f"Query: {self.query}", *self._remarks), tables)

    def to_html(self) -> str:
        """Return a page that loads nothing and runs no script, with what a notebook shows."""
        return heat_map.page(f"Explanation of {self.reranker}", self._repr_html_())

    @property
    def _score_line(self) -> str:
        if self.raw_score == self.score:
            return f"{self.score:.4f} ({self.scale})"
        return f"{self.score:.4f} ({self.scale} of {self.raw_score:.4f})"

    @property
    def _shown_matches(self) -> list[TokenMatch]:
        return [match for match in self.matches if match.query.kind != "filler"]

    @property
    def _remarks(self) -> Iterator[str]:
        yield from (f"Note: {note}" for note in self.notes)
        fillers = [match for match in self.matches if match.query.kind == "filler"]
        if fillers:
            total = sum(match.contribution or 0.0 for match in fillers)
            yield f"{len(fillers)} tokens that fill the query up add {total:.4f}."

    def _match_rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the heading and the rows of the best matches; a heading that begins with # is over numbers."""
        beside = ("#weight",) if self.signals else ("#adds",)
        rows: list[tuple[str, ...]] = []
        for match in self._shown_matches:
            answer = "no token to compare" if match.text is None else match.text.text
            number = "" if match.similarity is None else f"{match.similarity:.2f}"
            share = f"{match.weight:.0%}" if match.weight is not None else f"{match.contribution or 0.0:.4f}"
            rows.append((match.query.text, answer, share, number))
        return ("query", "best match", *beside, "#similarity"), rows

    def _signal_rows(self) -> list[tuple[str, ...]]:
        rows = [
            (one.name, f"{one.value:.3f}", f"{one.weight:.3f}", f"{one.contribution:+.3f}", one.meaning)
            for one in self.signals
        ]
        return [
            *rows,
            ("bias", "", "", f"{self.bias:+.3f}", ""),
            ("logit", "", "", f"{self.raw_score:+.3f}", "the sum"),
        ]

    def _lines(self) -> Iterator[str]:
        yield f"{one_line(self.reranker)}: {self._score_line}"
        yield f"query  {one_line(self.query)}"
        yield from (one_line(remark) for remark in self._remarks)
        yield ""
        heading, rows = self._match_rows()
        lines = columns([heading, *rows])
        yield next(lines)
        for line, match in zip(lines, self._shown_matches, strict=True):
            yield f"{line}  {bar(match.similarity or 0.0)}".rstrip()
        if self.signals:
            yield ""
            yield from columns([("signal", "#value", "#weight", "#adds", "meaning"), *self._signal_rows()])

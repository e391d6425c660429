"""Why a text has its score: the terms that it shares with the query, as data, on a terminal, and as HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rag_rerank.backends.local.kept_vectors.store import VectorStore
from rag_rerank.backends.local.kept_vectors.tasks import CallSettings, VectorBatch
from rag_rerank.backends.local.kept_vectors.text_explanation import TextExplanationTask
from rag_rerank.backends.local.late_interaction.explanation import heat_map
from rag_rerank.backends.local.late_interaction.explanation.text_table import bar, columns, one_line
from rag_rerank.backends.local.late_interaction.text_inputs import InputToken
from rag_rerank.backends.local.sparse.engine import SparseEngine
from rag_rerank.errors import InputError
from rag_rerank.text.short_repr import short_repr
from rag_rerank.text.unicode import valid_unicode
from rag_rerank.trace import Coverage
from rag_rerank.types import Scale

__all__ = ["SparseExplanation", "SparseExplanationTask", "TermMatch"]

SCHEMA = 1
"""Version of the layout of `SparseExplanation.to_dict`."""

_SHOWN = 30
"""Terms that a table shows; the last line counts the others."""


@dataclass(frozen=True, slots=True)
class TermMatch:
    """A term that the query and the text share.

    A term is a token of the model's vocabulary. SPLADE models give weights to terms that are not in the text as well;
    such a term is an expansion.

    Args:
        term: The token, as the vocabulary writes it: ``##ing`` continues a word.
        query_weight: Its weight in the query.
        text_weight: Its weight in the text.
        product: What it adds to the raw score: the two weights multiplied.
        in_query: Whether the query has this token. Not so for an expansion of the query.
        places: Where the text has this token: start and end in code points, of the part that the model reads. Empty for
            an expansion of the text.
    """

    term: str
    query_weight: float
    text_weight: float
    product: float
    in_query: bool
    places: tuple[tuple[int, int], ...]

    @property
    def in_text(self) -> bool:
        """Whether the text has this token."""
        return bool(self.places)

    @property
    def numbers(self) -> tuple[float, float, float]:
        """The weights in the query and in the text, and their product."""
        return self.query_weight, self.text_weight, self.product

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return {
            "term": self.term,
            "query_weight": self.query_weight,
            "text_weight": self.text_weight,
            "product": self.product,
            "in_query": self.in_query,
            "in_text": self.in_text,
            "places": [list(place) for place in self.places],
        }


@dataclass(frozen=True, repr=False)
class SparseExplanation:
    """The terms that make a text's score, those that add most first; their products add up to ``raw_score``.

    ``str()`` of it is a table for a terminal. In a notebook it shows the text with its terms shaded.

    Args:
        reranker: Name of the reranker.
        query: The query.
        text: The text.
        score: The score, as `rerank` gives it.
        raw_score: The raw score.
        scale: The scale of ``score``.
        terms: The shared terms.
        coverage: How much of the text was read.
        query_coverage: How much of the query was read.
        notes: What was cut, and what the model cannot read.
    """

    reranker: str
    query: str
    text: str
    score: float
    raw_score: float
    scale: Scale
    terms: tuple[TermMatch, ...]
    coverage: Coverage | None = None
    query_coverage: Coverage | None = None
    notes: tuple[str, ...] = ()

    __repr__ = short_repr

    def to_dict(self, *, similarities: bool = False) -> dict[str, Any]:
        """Return plain JSON-ready values; the first key names the layout.

        Args:
            similarities: Only ``False``: no tokens are compared with each other.

        Raises:
            InputError: ``similarities`` is true.
        """
        if similarities:
            raise InputError(f"{self.reranker} compares no pairs of tokens, so it has no similarities to show")
        plain = {name: getattr(self, name) for name in ("reranker", "query", "text", "score", "raw_score", "scale")}
        return {
            "schema": SCHEMA,
            **plain,
            "terms": [term.to_dict() for term in self.terms],
            "coverage": None if self.coverage is None else self.coverage.to_dict(),
            "query_coverage": None if self.query_coverage is None else self.query_coverage.to_dict(),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        """Return a table for a terminal: the terms, those that add most first."""
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        """Return the text with its terms shaded, and the table of terms, for notebooks."""
        spans = sorted((*place, match.product) for match in self.terms for place in match.places)
        text = valid_unicode(self.text)
        tables = [heat_map.shaded_text(text, spans, heat_map.Shades([value for _, _, value in spans]))]
        heading, rows = self._rows()
        tables.append(heat_map.bar_table(heading, rows, self._shares()))
        return heat_map.section(
            f"Why this score: {self.score:.4f} ({self.scale})", (f"Query: {self.query}", *self._remarks()), tables
        )

    def to_html(self) -> str:
        """Return a page that loads nothing and runs no script, with what a notebook shows."""
        return heat_map.page(f"Explanation of {self.reranker}", self._repr_html_())

    def _lines(self) -> Iterator[str]:
        yield f"{one_line(self.reranker)}: {self.score:.4f} ({self.scale})"
        yield f"query  {one_line(self.query)}"
        yield from map(one_line, self._remarks())
        yield ""
        heading, rows = self._rows()
        lines = columns([heading, *rows])
        yield next(lines)
        for line, share in zip(lines, self._shares(), strict=True):
            yield f"{line}  {bar(share)}".rstrip()

    def _remarks(self) -> Iterator[str]:
        yield from (f"Note: {note}" for note in self.notes)
        if not self.terms:
            yield "Note: query and text share no term"
        rest = self.terms[_SHOWN:]
        if rest:
            yield f"Note: {len(rest)} more terms add {sum(match.product for match in rest):.4f}"

    def _rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the heading and the rows of the terms; a heading that begins with # is over numbers."""
        first_terms = self.terms[:_SHOWN]
        origins = [_origin(match) for match in first_terms]
        rows = [
            (match.term, *((origin,) if any(origins) else ()), *(f"{number:.3f}" for number in match.numbers))
            for match, origin in zip(first_terms, origins, strict=True)
        ]
        return ("term", *(("expansion of",) if any(origins) else ()), "#query", "#text", "#adds"), rows

    def _shares(self) -> Sequence[float]:
        most = max((match.product for match in self.terms), default=0.0)
        return [max(match.product, 0.0) / most if most > 0 else 0.0 for match in self.terms[:_SHOWN]]


def _origin(match: TermMatch) -> str:
    """Return whose expansion a term is."""
    sides = [name for name, has in (("query", match.in_query), ("text", match.in_text)) if not has]
    return " and ".join(sides)


class SparseExplanationTask(TextExplanationTask):
    """A query and one text to explain by their terms."""

    def __init__(self, settings: CallSettings, engine: SparseEngine, store: VectorStore, query: str, text: str) -> None:
        super().__init__(settings, engine, store, query, text)
        self.engine = engine

    def finish(self, results: Sequence[tuple[VectorBatch, Any]], seconds: float, waited: float) -> SparseExplanation:
        """Return the explanation."""
        call, engine = self._comparison, self.engine
        scores = call.finish(results, seconds, waited)
        (key,) = call.rows.keys
        facts = call.rows.facts[key]
        text = engine.layout.terms(call.rows.rows[key], facts.count)
        in_query = {token.id for token in engine.tokenizer.query_tokens(self._valid_query) if token.start >= 0}
        text_tokens = engine.tokenizer.text_tokens(self._valid_text)
        terms = [
            TermMatch(
                engine.term(id),
                of_query,
                of_text,
                of_query * of_text,
                id in in_query,
                tuple(_places(text_tokens, id)),
            )
            for id, of_query, of_text in engine.matches(call.query_side(results), text)
        ]
        (value,) = scores.values
        return SparseExplanation(
            reranker=self.settings.reranker.label,
            query=self.query,
            text=self.text,
            score=float(value),
            raw_score=float(value),
            scale=scores.scale,
            terms=tuple(sorted(terms, key=lambda match: (-match.product, match.term))),
            coverage=facts.coverage,
            query_coverage=call.query_input.coverage,
            notes=tuple(dict.fromkeys(self._notes(facts))),
        )


def _places(tokens: Sequence[InputToken], id: int) -> Iterator[tuple[int, int]]:
    return ((token.start, token.end) for token in tokens if token.id == id and token.start >= 0)

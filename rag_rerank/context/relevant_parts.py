"""The relevant sentences of the hits, and the piece of a context that consists of some of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rag_rerank.context.result import MARK, Piece
from rag_rerank.documentation import SPANS
from rag_rerank.errors import ConfigError
from rag_rerank.text.relevance import relevant
from rag_rerank.text.sentences import Span
from rag_rerank.text.unicode import is_blank
from rag_rerank.types import Hit, Ranking, RelevantSpan


def relevant_by_hit(
    hits: Sequence[Hit], display_text: Mapping[str, str]
) -> tuple[dict[str, list[RelevantSpan]], list[str]]:
    """Return the relevant sentences of each hit whose spans are known, the most relevant first, and notes on the rest.

    A hit is kept as a whole where its spans are not known, or where its ``display_text`` does not contain its text, in
    which the spans are places.
    """
    usable = [hit for hit in hits if hit.text in display_text.get(hit.id, hit.text)]
    by_hit = relevant({hit.id: hit.spans for hit in usable if hit.spans is not None})
    without = len(hits) - len(by_hit)
    notes = [f"{without} of {len(hits)} hits have no relevant spans, so no sentence of theirs is left out"]
    return by_hit, notes if without else []


def check_spans(ranking: Ranking) -> None:
    """Raise `ConfigError` if nobody asked for the spans of a ranking.

    A ranking that is degraded may lack them for another reason, which it gives.
    """
    if any(hit.spans is not None for hit in ranking) or ranking.degraded or all(is_blank(hit.text) for hit in ranking):
        return
    raise ConfigError(
        "'relevant' needs the relevant spans of the hits, and no hit has any; put {type: spans, reranker: ...} around "
        "the reranker (in Python: RelevantSpans(reranker=...))",
        path="trim",
        page=SPANS,
    )


def piece_of(hit: Hit, text: str, places: Iterable[Span]) -> Piece:
    """Return the piece with these parts of a hit's text, and with what stands before it in its display text.

    Args:
        hit: The hit.
        text: Its text or its display text.
        places: Places in the hit's text, in any order.
    """
    start = text.find(hit.text)
    heading = text[:start].rstrip()
    parts: list[Span] = [(0, len(heading))] if heading else []
    for first, end in sorted(places):
        first, end = start + first, start + end
        if parts and is_blank(text[parts[-1][1] : first]):
            parts[-1] = (parts[-1][0], end)
        else:
            parts.append((first, end))
    if len(parts) == 1 and is_blank(text[: parts[0][0]]) and is_blank(text[parts[0][1] :]):
        return Piece(text=text, hits=(hit,))
    gaps = tuple(parts) if len(parts) > 1 else ()
    joined_text = MARK.join(text[first:end] for first, end in parts)
    return Piece(text=joined_text, hits=(hit,), trimmed=(parts[0][0], parts[-1][1]), parts=gaps)

"""What the limits of a server do to a call: how many requests its texts need, and notes on what is cut or rounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rag_rerank.backends.api.base import split
from rag_rerank.backends.api.dialects.dialect import Dialect
from rag_rerank.backends.api.pricing import pair_tokens, text_tokens
from rag_rerank.trace import Coverage
from rag_rerank.types import Scores

__all__ = ["estimate_coverage", "find_ties", "note_long_texts", "split_texts"]

_FILL = 0.5  # share of a limit of tokens that is filled: numbers and code have up to twice the tokens of our estimate


def split_texts(row: Dialect, query: str, texts: Sequence[str], most_texts: int, empty_body: int) -> list[range]:
    """Divide texts into requests that a server takes.

    Args:
        row: The server's dialect.
        query: The query.
        texts: The texts.
        most_texts: Texts in a request at most.
        empty_body: Bytes of a request's body without texts.
    """
    most_bytes = max(row.most_bytes - empty_body, 1)
    shares = [row.text_bytes(query, text) / most_bytes for text in texts]
    if row.most_tokens is not None:
        room = row.most_tokens * _FILL
        shares = [max(share, count / room) for share, count in zip(shares, pair_tokens(query, texts), strict=True)]
    return split(shares, most_texts, 1.0)


def note_long_texts(row: Dialect, query: str, texts: Sequence[str], tokens_read: int | None) -> tuple[str, ...]:
    """Return a note on texts that a server cuts; ``tokens_read`` is its window, where that is known."""
    most = tokens_read or row.usual_window
    longer = sum(tokens > most for tokens in pair_tokens(query, texts)) if most else 0
    if not longer:
        return ()
    cuts = f"and {row.title} cuts them"
    if tokens_read is None:
        cuts = f"and {row.title} cuts what its model does not read, without a word; give window, the model's"
    return (f"by estimate {longer} texts with the query are longer than {most} tokens, {cuts}",)


def estimate_coverage(query: str, texts: Sequence[str], tokens_read: int | None) -> Sequence[Coverage]:
    """Return how much of each text is read, by estimate; empty where nothing is cut or the window is not known."""
    if tokens_read is None:
        return ()
    room = max(0, tokens_read - text_tokens(query))
    return [Coverage(total, min(total, room), estimated=True) for total in map(text_tokens, texts)]


def find_ties(row: Dialect, scores: Scores) -> tuple[str, ...]:
    """Return a note on texts that tie because the server rounds its scores."""
    if row.decimals is None:
        return ()
    values = [value for i, value in enumerate(scores.values) if i not in scores.unscored]
    ties = sum(count for count in Counter(values).values() if count > 1)
    if not ties:
        return ()
    why = f"{row.title} rounds scores to {row.decimals} decimals"
    return (f"{ties} texts have the score of another: {why}, and ties keep the order of the candidates",)

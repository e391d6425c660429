"""How much of each text a prompt holds: texts are cut to their budget, and windows hold as many as fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rag_rerank.backends.api.llm.prompts import FRAME_TOKENS, spaced_control_tokens
from rag_rerank.backends.api.pricing import text_tokens
from rag_rerank.errors import InputTooLong
from rag_rerank.text.unicode import may_cut
from rag_rerank.trace import Coverage

__all__ = ["PromptTexts", "fit_texts"]

_RULES_TOKENS = 320
"""Tokens of the longest template, its markers and the question, by estimate."""

_LEAST_TOKENS = 16
"""Tokens that a text must have room for."""

_BYTES = 4
"""UTF-8 bytes that count as one token; see `text_tokens`."""


@dataclass(frozen=True, slots=True)
class PromptTexts:
    """Texts as prompts hold them.

    Args:
        texts: One for each text of the call.
        most: How many fit into one prompt.
        coverage: How much of each text is there; empty where nothing was cut.
        notes: Notes for the trace.
    """

    texts: tuple[str, ...]
    most: int
    coverage: tuple[Coverage, ...] = ()
    notes: tuple[str, ...] = ()


def fit_texts(
    query: str,
    texts: Sequence[str],
    *,
    together: int,
    least: int,
    max_text_tokens: int | None,
    context: int | None,
    cut: bool,
    instruction: str | None,
) -> PromptTexts:
    """Return the texts as they fit into prompts.

    A text has at most ``max_text_tokens``, and at most its share of a prompt with the fewest texts. Then a prompt holds
    as many texts as fit, even if they are the longest ones.

    Args:
        query: The query.
        texts: The texts.
        together: How many texts a prompt should hold.
        least: How many it must hold: 2 for an order, 1 for a grade.
        max_text_tokens: The most tokens of a text; ``None`` for no limit.
        context: The tokens of the model's context; ``None`` for no limit.
        cut: Whether longer texts are cut, and not refused.
        instruction: The instruction in the prompt.

    Raises:
        InputTooLong: The query leaves no room for texts, or a text is too long and may not be cut.
    """
    most_of_one = max_text_tokens
    room = 0
    if context is not None:
        room = context - _RULES_TOKENS - text_tokens(query) - text_tokens(instruction or "")
        share = room // least - _per_text()
        if share < _LEAST_TOKENS:
            raise InputTooLong(
                f"the query leaves {max(share, 0)} tokens for a text, by estimate; shorten it, or choose a model with "
                f"a longer context (now context={context})"
            )
        most_of_one = share if most_of_one is None else min(share, most_of_one)
    spaced = [spaced_control_tokens(text) for text in texts]
    notes = []
    if count := sum(new != old for new, old in zip(spaced, texts, strict=True)):
        notes.append(f"{count} texts held control tokens of chat templates, which were spaced")
    totals = [text_tokens(text) for text in spaced]
    coverage: tuple[Coverage, ...] = ()
    longer = [i for i, total in enumerate(totals) if most_of_one is not None and total > most_of_one]
    if longer and most_of_one is not None:
        if not cut:
            raise InputTooLong(
                f"it has {totals[longer[0]]} tokens by estimate, and a prompt holds {most_of_one} of a text; raise "
                'max_text_tokens or context, or let it be cut with on_overflow="truncate"',
                position=longer[0],
            )
        for i in longer:
            spaced[i] = _beginning(spaced[i], most_of_one)
        coverage = tuple(
            Coverage(total, min(total, text_tokens(text)), estimated=True)
            for total, text in zip(totals, spaced, strict=True)
        )
        notes.append(f"{len(longer)} texts were cut to {most_of_one} tokens, by estimate")
    most = together
    if context is not None:
        sizes = sorted((text_tokens(text) + _per_text() for text in spaced), reverse=True)
        most = max(least, next((i for i in range(min(together, len(sizes))) if sum(sizes[: i + 1]) > room), together))
        if most < min(together, len(texts)):
            notes.append(f"by context={context}, a prompt holds {most} texts, not {together}")
    return PromptTexts(tuple(spaced), most, coverage, tuple(notes))


def _per_text() -> int:
    return FRAME_TOKENS + 6  # its number in the answer too


def _beginning(text: str, tokens: int) -> str:
    """Return as much of the beginning of a text as has so many tokens, without parting a character."""
    end = len(text.encode()[: tokens * _BYTES].decode(errors="ignore"))
    while end > 1 and not may_cut(text, end):
        end -= 1
    return text[:end]

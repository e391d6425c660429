"""How many passages go in one request: as many as its tokens and questions allow, in requests of about one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rag_rerank.backends.api.pricing import text_tokens

__all__ = ["FILL", "RequestBudget", "cut_text", "plan_requests"]

FILL = 0.8
"""Share of a limit that is filled, because tokens are estimated. A request that is still too large is halved."""


@dataclass(frozen=True, slots=True)
class RequestBudget:
    """What one request may hold, in tokens by estimate.

    Args:
        most_texts: Passages, and so questions.
        state_tokens: Tokens of the state with the longest question.
        request_tokens: Tokens of the state with all questions.
        fixed_tokens: Tokens of the state without passages.
        question_tokens: Tokens of one question.
        wrapper_tokens: Tokens around one passage.
    """

    most_texts: int
    state_tokens: int
    request_tokens: int
    fixed_tokens: int
    question_tokens: int
    wrapper_tokens: int

    @property
    def text_tokens(self) -> int:
        """Tokens of a single passage for which there is room; below 1 if there is none."""
        return (
            min(self.state_tokens, self.request_tokens) - self.fixed_tokens - self.question_tokens - self.wrapper_tokens
        )

    def holds(self, count: int, tokens: int) -> bool:
        """Whether a request can hold so many passages, which have so many tokens."""
        state = self.fixed_tokens + tokens + count * self.wrapper_tokens
        questions = count * self.question_tokens
        return (
            count <= self.most_texts
            and state + self.question_tokens <= self.state_tokens
            and state + questions <= self.request_tokens
        )


def plan_requests(tokens: Sequence[int], budget: RequestBudget) -> list[range]:
    """Divide passages, in their order, into as few requests as possible.

    The scores of a request depend on its passages, so that requests of about one size are more alike than a full one
    and a small rest: where it needs no further request, they get equally many passages.

    Args:
        tokens: Tokens of each passage, none more than ``budget.text_tokens``.
        budget: What one request may hold.
    """
    ranges = _fill_requests(tokens, budget, budget.most_texts)
    even = _fill_requests(tokens, budget, -(-len(tokens) // len(ranges)))
    return even if len(even) == len(ranges) else ranges


def _fill_requests(tokens: Sequence[int], budget: RequestBudget, most_texts: int) -> list[range]:
    ranges, start, total = [], 0, 0
    for i, count in enumerate(tokens):
        if i > start and (i - start == most_texts or not budget.holds(i - start + 1, total + count)):
            ranges.append(range(start, i))
            start, total = i, 0
        total += count
    return [*ranges, range(start, len(tokens))]


def cut_text(text: str, tokens: int) -> str:
    """Return the beginning of a text that has so many tokens by estimate; it ends at a space where one is near."""
    if text_tokens(text) <= tokens:
        return text
    beginning = text.encode()[: 4 * tokens].decode(errors="ignore")
    words = beginning.rpartition(" ")[0]
    is_word_cut = not text[len(beginning)].isspace()
    return words if is_word_cut and 2 * len(words) > len(beginning) else beginning

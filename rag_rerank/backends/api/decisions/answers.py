"""What the answers of a decision model say: a number in 0..1 for each question, or a refusal, and nothing else.

An answer is read in the form of System One: ``{"type": "noul", "noul": 0.9}`` or ``{"type": "score", "score": 2.4,
"probabilities": {"0": 0.1, ...}}``; a refusal is ``{"type": "refusal"}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rag_rerank.backends.api.decisions.questions import Question
from rag_rerank.backends.api.exchange import as_number, get_field

__all__ = ["REFUSAL", "UnusableAnswer", "read_answers"]

REFUSAL = "the model refused to judge it"
"""Why a text has no score where the model did not answer its question."""

_ROUNDING = 1e-6
_SUM = 0.05  # how far probabilities may be from a sum of 1; Clef rounds each to four decimals
_LEVEL = 0.05  # how far an expected level may be from that of its probabilities


class UnusableAnswer(Exception):
    """An answer that says no number for a question; the message names the question and holds no text."""


def read_answers(questions: Sequence[Question], answers: Mapping[str, object], first: int) -> list[float | None]:
    """Return a number in 0..1 for each question, in their order; ``None`` for one that was refused.

    A level of a rubric becomes its share of the highest level.

    Args:
        questions: The questions, one for each text.
        answers: The answers by the names of the questions.
        first: Position of the first text, for messages.

    Raises:
        UnusableAnswer: Not exactly one answer for each question, an answer of another type, or a number that is not
            finite or outside its range; also an expected level that does not fit its probabilities.
    """
    missing = [first + i for i, question in enumerate(questions) if question.name not in answers]
    if missing:
        raise UnusableAnswer(f"no score for {len(missing)} of {len(questions)} texts, the first is text {missing[0]}")
    if len(answers) > len(questions):
        raise UnusableAnswer(f"{len(answers)} answers to {len(questions)} questions")
    return [_read(question, answers[question.name], f"text {first + i}") for i, question in enumerate(questions)]


def _read(question: Question, answer: object, text: str) -> float | None:
    kind, wish = get_field(answer, "type", None), "score" if question.levels else "noul"
    if kind == "refusal":
        return None
    if kind != wish:
        raise UnusableAnswer(f"the answer for {text} is not of the type {wish!r}")
    value = as_number(get_field(answer, wish, None))
    most = len(question.levels) - 1 if question.levels else 1
    if value is None:
        raise UnusableAnswer(f"the answer for {text} is no finite number")
    if not -_ROUNDING <= value <= most + _ROUNDING:
        raise UnusableAnswer(f"the answer for {text} is {value:g}, which is outside 0..{most}")
    if question.levels:
        _check_probabilities(len(question.levels), value, get_field(answer, "probabilities", None), text)
    return min(max(value / most, 0.0), 1.0)


def _check_probabilities(count: int, value: float, probabilities: object, text: str) -> None:
    """Check the probabilities of the levels, which some servers leave out, and the expected level with them."""
    if probabilities is None:
        return
    levels = [str(level) for level in range(count)]
    if not isinstance(probabilities, Mapping) or sorted(map(str, probabilities)) != sorted(levels):
        raise UnusableAnswer(f"the probabilities for {text} are not those of its {count} levels")
    by_level = {str(level): as_number(share) for level, share in probabilities.items()}
    shares = [share for share in map(by_level.__getitem__, levels) if share is not None]
    in_range = len(shares) == count and all(-_ROUNDING <= share <= 1 + _ROUNDING for share in shares)
    if not in_range or abs(sum(shares) - 1) > _SUM:
        raise UnusableAnswer(f"the probabilities for {text} are not numbers in 0..1 with the sum 1")
    expected = sum(level * share for level, share in enumerate(shares)) / sum(shares)
    if abs(expected - value) > _LEVEL:
        raise UnusableAnswer(f"the answer for {text} is {value:g}, and its probabilities give {expected:.3g}")

"""Questions of our own with one text that answers and others that do not, for models without published scores."""

from __future__ import annotations

from rag_rerank.diagnostics.sample_texts import SampleQuestion

__all__ = ["FEW", "order_questions"]

FEW = 3
"""How many questions a provider is asked, each in a request of its own, which may be billed."""

_QUESTIONS = (
    (
        "How high is the highest mountain of Africa?",
        "Kilimanjaro, the highest mountain of Africa, rises 5,895 m above the sea.",
        "The ferry to the island leaves twice a day in summer.",
        "Bread rises because yeast turns sugar into gas.",
    ),
    (
        "When does the library open on Sundays?",
        "On Sundays the library is open from 11 in the morning until 4 in the afternoon.",
        "The violin has four strings and is played with a bow.",
        "Steel contains less than two percent of carbon.",
    ),
    (
        "Which vitamin does the skin make in sunlight?",
        "In sunlight, human skin produces vitamin D.",
        "The first railway of the country was built to carry coal.",
        "A chess game begins with sixteen pieces on each side.",
    ),
    (
        "How do I undo the last commit in git?",
        "git reset --soft HEAD~1 undoes the last commit and keeps its changes.",
        "Penguins keep their eggs warm on their feet.",
        "The contract ends on the last day of the month.",
    ),
    (
        "Who painted the ceiling of the Sistine Chapel?",
        "Michelangelo painted the ceiling of the Sistine Chapel between 1508 and 1512.",
        "Rice is grown in fields that are under water for months.",
        "The train was late because of snow on the track.",
    ),
    (
        "What is the boiling point of water at sea level?",
        "At sea level, water boils at 100 degrees Celsius.",
        "The mayor opened the new bridge on Friday.",
        "Most owls hunt at night.",
    ),
)


def order_questions(count: int | None = None) -> tuple[SampleQuestion, ...]:
    """Return questions whose first text answers them, and whose other texts are about something else.

    Args:
        count: How many; by default all.
    """
    return tuple(SampleQuestion(query, texts) for query, *rest in _QUESTIONS[:count] for texts in [tuple(rest)])

"""The two wire formats of decision models: the body of a request, and where the answers are.

``systemone`` is that of TypeSafe (typesafe-sdk 0.7.5), ``openai`` that of OpenAI's Decisions API (openai 3.57.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rag_rerank.backends.api.decisions.answers import UnusableAnswer
from rag_rerank.backends.api.decisions.providers import WireName
from rag_rerank.backends.api.decisions.questions import Question, Questionnaire
from rag_rerank.backends.api.exchange import get_field
from rag_rerank.backends.api.http_transport import as_json

__all__ = ["WIRES", "Wire"]


@dataclass(frozen=True, slots=True)
class Wire:
    """One wire format.

    Args:
        question: Returns a question as it is sent.
        body: Returns the body of a request for a model.
        answers: Returns the answers in a body by the name of their question, in the form of System One.
    """

    question: Callable[[Question], dict[str, Any]]
    body: Callable[[str, Questionnaire], dict[str, Any]]
    answers: Callable[[Questionnaire, object], Mapping[str, object]]


def _systemone_question(question: Question) -> dict[str, Any]:
    if question.levels:
        return {"type": "score", "instructions": question.text, "criteria": list(question.levels)}
    criteria = {"true": question.yes, "false": question.no}
    return {"type": "noul", "instructions": question.text, "criteria": criteria}


def _systemone_body(model: str, questionnaire: Questionnaire) -> dict[str, Any]:
    questions = {question.name: _systemone_question(question) for question in questionnaire.questions}
    return {"state": questionnaire.state, "model": model, "questions": questions}


def _systemone_answers(questionnaire: Questionnaire, body: object) -> Mapping[str, object]:
    answers = get_field(body, "answers", None)
    if not isinstance(answers, Mapping):
        raise UnusableAnswer("it holds no answers by name")
    return answers


def _openai_question(question: Question) -> dict[str, Any]:
    if question.levels:
        levels = [dict(zip(("label", "description"), level.split(": ", 1), strict=False)) for level in question.levels]
        return {"type": "score", "name": question.name, "instructions": question.text, "levels": levels}
    instructions = f"{question.text}\nYes: {question.yes}\nNo: {question.no}"
    return {"type": "predicate", "name": question.name, "instructions": instructions}


def _openai_body(model: str, questionnaire: Questionnaire) -> dict[str, Any]:
    """Return a request whose notice comes from the developer, and whose data come from the user, as JSON text.

    Data as a part of its own type (``input_json``) may have 256 KiB at most.
    """
    state = dict(questionnaire.state)
    messages = [
        {"type": "message", "role": "developer", "content": state.pop("notice")},
        {"type": "message", "role": "user", "content": as_json(state).decode()},
    ]
    return {"model": model, "input": messages, "questions": [_openai_question(q) for q in questionnaire.questions]}


def _openai_answers(questionnaire: Questionnaire, body: object) -> Mapping[str, object]:
    answers, questions = get_field(body, "answers", None), questionnaire.questions
    if not isinstance(answers, list):
        raise UnusableAnswer("it holds no list of answers")
    if len(answers) != len(questions):
        raise UnusableAnswer(f"{len(answers)} answers to {len(questions)} questions")
    for question, answer in zip(questions, answers, strict=True):
        if get_field(answer, "name", None) not in (None, question.name):
            raise UnusableAnswer(f"the answer at the place of {question.name!r} has the name of another question")
    return {question.name: _as_systemone(answer) for question, answer in zip(questions, answers, strict=True)}


def _as_systemone(answer: Any) -> object:
    kind = get_field(answer, "type", None)
    if kind == "predicate":
        return {"type": "noul", "noul": get_field(answer, "probability", None)}
    if kind != "score":
        return answer
    rows = get_field(answer, "probabilities", None)
    score = {"type": "score", "score": get_field(answer, "score", None)}
    if not isinstance(rows, list):
        return score
    shares = [(str(get_field(row, "value", None)), get_field(row, "probability", None)) for row in rows]
    return {**score, "probabilities": dict(shares)}


WIRES: Mapping[WireName, Wire] = MappingProxyType(
    {
        "openai": Wire(_openai_question, _openai_body, _openai_answers),
        "systemone": Wire(_systemone_question, _systemone_body, _systemone_answers),
    }
)

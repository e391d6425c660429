"""Answers, read strictly: a ranking that is repaired to a permutation, a grade, a choice of two, a probability."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rag_rerank.backends.api.llm.completion import Completion

__all__ = ["Permutation", "Unusable", "read_choice", "read_grade", "read_ranking", "read_yes_no"]

_MOST_CHARACTERS = 20_000
"""Characters of an answer that are read, from its end: a ranking of 1,000 passages has 5,000."""

_MOST_OBJECTS = 64
"""Beginnings of JSON objects that are tried, from the last one on."""

_THOUGHTS = re.compile(r"^.*</(?:think|thinking|reasoning|thought)>", re.DOTALL | re.IGNORECASE)
"""What models of reasoning write before their answer, where the server does not take it out."""

_OPEN_LIST = re.compile(r'"ranking"\s*:\s*\[([^\[\]{}]*)\Z')
"""A ranking that was cut off."""

_ARROWS = re.compile(r"\[?\d{1,6}\]?(?: ?> ?\[?\d{1,6}\]?)+")
"""``[2] > [3] > [1]``: the form of RankGPT, which some models were trained on."""

_ARRAY = re.compile(r"\[ ?\d{1,6}(?: ?, ?\d{1,6})+ ?,? ?\]")
_NUMBER = re.compile(r"[0-9]{1,6}")
_WRAPPED = re.compile(r"\[?([0-9]{1,6})\]?")


class Unusable(Exception):
    """An answer that holds nothing of what was asked for; the text says what is absent, and quotes nothing."""


@dataclass(frozen=True, slots=True)
class Permutation:
    """A full ranking of the passages of one prompt, and what had to be repaired for it.

    Args:
        order: Positions in the prompt, the most relevant first; each exactly once.
        duplicates: How many numbers were given again, and ignored.
        foreign: How many were no number of a passage, and ignored.
        missing: How many passages were not named, and follow in their order.
    """

    order: tuple[int, ...]
    duplicates: int = 0
    foreign: int = 0
    missing: int = 0

    @property
    def repairs(self) -> int:
        """How many repairs there were."""
        return self.duplicates + self.foreign + self.missing


def read_ranking(completion: Completion, count: int) -> Permutation:
    """Read a ranking of ``count`` passages.

    It is the list ``ranking`` of the last JSON object that has one and is inside no other that has one; else the last
    JSON list of numbers; else the last run like ``[2] > [1]``. It is repaired to a permutation: numbers that occur
    again and numbers of no passage are ignored, and passages that are not named follow in their order.

    Raises:
        Unusable: It names no passage, or the model declined.
    """
    items = _find_ranking(_answer_text(completion))
    if items is None:
        raise Unusable("it holds no ranking")
    order: list[int] = []
    duplicates = foreign = 0
    for item in items:
        number = _as_number(item)
        if number is None or not 1 <= number <= count:
            foreign += 1
        elif number - 1 in order:
            duplicates += 1
        else:
            order.append(number - 1)
    if not order:
        raise Unusable("its ranking names none of the passages")
    rest = [i for i in range(count) if i not in set(order)]
    return Permutation((*order, *rest), duplicates, foreign, len(rest))


def read_grade(completion: Completion) -> float:
    """Return the grade, 0 to 3, as a number from 0 to 1.

    Raises:
        Unusable: There is no grade, or one out of range, or the model declined.
    """
    text = _answer_text(completion)
    grade = next((item["grade"] for *_, item in _objects(text) if "grade" in item), text.strip().strip("."))
    number = _as_number(grade)
    if number is None or not 0 <= number <= 3:
        raise Unusable("it holds no grade from 0 to 3")
    return number / 3


def read_choice(completion: Completion) -> str:
    """Return ``"A"`` or ``"B"``.

    Raises:
        Unusable: It is neither, or the model declined.
    """
    text = _answer_text(completion)
    choice = next((item["better"] for *_, item in _objects(text) if "better" in item), text)
    word = choice.strip().strip("\"'.*`").upper() if isinstance(choice, str) else ""
    word = word.removeprefix("PASSAGE").strip()
    if word not in ("A", "B"):
        raise Unusable("it chooses neither passage A nor passage B")
    return word


def read_yes_no(completion: Completion) -> float | None:
    """Return the probability of "yes" among "yes" and "no"; ``None`` where the endpoint gives no log-probabilities.

    It is taken at the first token that is likely to be one of the two. Spellings (``Yes``, ``yes``) are added up. Where
    one of the two is not among the likeliest tokens, it has at most the probability of the least likely one that is
    listed, and at most what the listed ones leave; it is counted with the lesser of the two bounds.

    Raises:
        Unusable: Neither word is among the likeliest tokens, or the model declined.
    """
    if completion.refusal:
        raise Unusable("the model declined to answer")
    if not completion.logprobs:
        return None
    for likeliest in completion.logprobs:
        shares = {"yes": 0.0, "no": 0.0}
        probabilities = [math.exp(min(value, 0.0)) for value in likeliest.values() if not math.isnan(value)]
        for token, value in likeliest.items():
            word = token.strip().strip("\"'.,*`").lower()
            if word in shares and not math.isnan(value):
                shares[word] += math.exp(min(value, 0.0))
        if not any(shares.values()):
            continue
        most = max(min([*probabilities, 1.0 - min(sum(probabilities), 1.0)]), 1e-12)
        yes, no = shares["yes"] or most, shares["no"] or most
        return yes / (yes + no)
    raise Unusable("neither yes nor no is among its likeliest tokens")


def _answer_text(completion: Completion) -> str:
    if completion.refusal:
        raise Unusable("the model declined to answer")
    text = _THOUGHTS.sub("", completion.text)[-_MOST_CHARACTERS:]
    if not text.strip():
        raise Unusable("it is empty")
    return text


def _find_ranking(text: str) -> Iterable[Any] | None:
    ranking: list[Any] | None = None
    begin = 0  # of the object that holds it
    for start, end, item in _objects(text):
        if isinstance(item.get("ranking"), list) and (ranking is None or end > begin):
            ranking, begin = item["ranking"], start  # an object around the last one goes before it
    if ranking is not None:
        return ranking
    if match := _OPEN_LIST.search(text):
        return _NUMBER.findall(match[1])
    words = " ".join(text.split())
    for pattern in (_ARRAY, _ARROWS):
        if runs := pattern.findall(words):
            return _NUMBER.findall(runs[-1])
    return None


def _objects(text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield the JSON objects in a text with their begins and ends, the one that begins last first."""
    decoder, start = json.JSONDecoder(), len(text)
    for _ in range(_MOST_OBJECTS):
        start = text.rfind("{", 0, start)
        if start < 0:
            return
        try:
            item, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(item, dict):
            yield start, end, item


def _as_number(item: object) -> int | None:
    """Return a whole number, also one in a string or in brackets; ``None`` for anything else."""
    if isinstance(item, int) and not isinstance(item, bool):
        return item
    match = _WRAPPED.fullmatch(item.strip()) if isinstance(item, str) else None
    return int(match[1]) if match else None

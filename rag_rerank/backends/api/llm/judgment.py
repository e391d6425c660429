"""The strategies: which prompts to ask, in which order, and how the answers become one value a text.

A strategy is a generator. It yields prompts that may be asked side by side, and is sent one answer for each: what the
prompt's ``read`` returned, `NoAnswer`, or, for a tolerant prompt, the error with which the request was rejected.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rag_rerank.backends.api.llm.answers import Permutation, read_choice, read_grade, read_ranking, read_yes_no
from rag_rerank.backends.api.llm.prompts import Prompt, write_prompt
from rag_rerank.backends.api.llm.windows import count_windows, slide
from rag_rerank.errors import RequestRejected, RequestTooLarge
from rag_rerank.execution.ranking import falling, reciprocal_ranks
from rag_rerank.trace import Usage

__all__ = ["Judgment", "Listwise", "NoAnswer", "NoLogprobs", "Pairwise", "Pointwise", "Strategy"]

_K = 60.0
"""The constant of reciprocal rank fusion, as in `Ensemble`."""

NO_GRADE = "the model gave no usable answer"
"""Why a text has no score."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A prompt without a usable answer, also when it was asked again."""

    reason: str


class NoLogprobs(Exception):
    """The endpoint gives no log-probabilities, and the config allows nothing else."""


@dataclass(slots=True)
class Judgment:
    """What a strategy found out.

    Args:
        values: One value for each text; larger is more relevant.
        unscored: Position -> reason, for texts without a usable answer.
        notes: Notes for the trace.
        degraded: Why this is not quite what was asked for.
        answers: How many prompts had a usable answer.
    """

    values: list[float]
    unscored: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    answers: int = 0


Prompts = Generator[list[Prompt], list[Any], Judgment]
Sorting = Generator[list[Prompt], list[Any], list[int]]


@dataclass(frozen=True, slots=True)
class Strategy(ABC):
    """What all strategies know: the query, the texts as prompts hold them, and the instruction."""

    query: str
    texts: Sequence[str]
    instruction: str | None = None

    @abstractmethod
    def requests(self) -> int:
        """Return how many requests there are at most, if every answer can be used."""

    @abstractmethod
    def first_prompts(self) -> list[Prompt]:
        """Return prompts whose mean length is about that of all."""

    def estimate(self) -> Usage:
        """Estimate requests and tokens, if every answer can be used."""
        prompts, requests = self.first_prompts(), self.requests()
        if not prompts:
            return Usage(texts=len(self.texts))
        share = requests / len(prompts)
        return Usage(
            texts=len(self.texts),
            requests=requests,
            tokens=round(share * sum(prompt.tokens for prompt in prompts)),
            output_tokens=round(share * sum(prompt.output_tokens for prompt in prompts)),
            estimated=("output_tokens", "tokens"),
        )

    @abstractmethod
    def plan(self) -> Prompts:
        """Yield prompts, and return the judgment."""


def _values(order: Sequence[int]) -> list[float]:
    """Return 1 for the first text in the order, and evenly less for each that follows."""
    values = [0.0] * len(order)
    for place, position in enumerate(order):
        values[position] = 1.0 - place / len(order)
    return values


@dataclass(frozen=True, slots=True)
class Listwise(Strategy):
    """Windows slide over the list from its end; several shuffled lists are fused by reciprocal rank.

    The fusion of rankings of shuffled lists is the permutation self-consistency of Tang et al. (arXiv 2310.07712), with
    reciprocal rank fusion in place of the Kemeny order.
    """

    window: int = 20
    stride: int = 10
    passes: int = 1
    shuffles: int = 0
    seed: int = 0

    def requests(self) -> int:
        """Return the number of windows of all passes and all orders."""
        return (1 + self.shuffles) * self.passes * count_windows(len(self.texts), self.window, self.stride)

    def plan(self) -> Prompts:
        """Rank each order, and fuse the rankings."""
        everything = list(range(len(self.texts)))
        judgment = Judgment(_values(everything))
        if len(everything) < 2:
            return judgment
        sortings = []
        for number in range(self.shuffles + 1):
            order = list(everything)
            if number:
                random.Random(f"{self.seed}/{number}").shuffle(order)
            sortings.append(self._slide(order, f", order {number + 1}" if self.shuffles else "", judgment))
        rankings = yield from _side_by_side(sortings)
        if len(rankings) == 1:
            judgment.values = _values(rankings[0])
        else:
            total = [0.0] * len(everything)
            for ranking in rankings:
                for position, share in reciprocal_ranks(ranking, _K).items():
                    total[position] += share
            judgment.values = _values(falling(total))
            judgment.notes.append(f"{len(rankings)} rankings, of different orders, were fused by reciprocal rank")
        return judgment

    def first_prompts(self) -> list[Prompt]:
        """Return the prompts of the first pass, as if each kept its order."""
        return [self._prompt(window, "") for window in slide(len(self.texts), self.window, self.stride)]

    def _prompt(self, inside: Sequence[int], step: str) -> Prompt:
        return write_prompt(
            "listwise",
            self.query,
            self.texts,
            inside,
            partial(read_ranking, count=len(inside)),
            step=step,
            instruction=self.instruction,
            tolerant=len(inside) > 2,
        )

    def _slide(self, order: list[int], name: str, judgment: Judgment) -> Sorting:
        window, stride = self.window, self.stride
        windows = repaired_answers = repairs = 0
        failures: list[str] = []
        for number in range(1, self.passes + 1):
            end = len(order)
            while True:
                start = max(0, end - window)
                inside = order[start:end]
                step = f"places {start + 1} to {end}" + (f", pass {number}" if self.passes > 1 else "") + name
                (answer,) = yield [self._prompt(inside, step)]
                if isinstance(answer, RequestTooLarge):
                    window = max(2, len(inside) // 2)
                    stride = max(1, min(stride, window // 2))
                    judgment.notes.append(f"a window of {len(inside)} texts was too large, so they hold {window} now")
                    continue
                if isinstance(answer, RequestRejected):
                    raise answer
                windows += 1
                if isinstance(answer, Permutation):
                    judgment.answers += 1
                    order[start:end] = [inside[i] for i in answer.order]
                    repaired_answers += bool(answer.repairs)
                    repairs += answer.repairs
                else:
                    failures.append(answer.reason)
                if start == 0:
                    break
                end -= stride
        if repaired_answers:
            judgment.notes.append(
                f"{repaired_answers} of {windows} answers{name} were repaired to a permutation ({repairs} repairs)"
            )
        if failures:
            reasons = ", ".join(dict.fromkeys(failures))
            judgment.degraded.append(f"{len(failures)} of {windows} windows{name} kept their order: {reasons}")
        return order


@dataclass(frozen=True, slots=True)
class Pairwise(Strategy):
    """The best rise to the top one after the other, by comparisons of neighbours in both orders.

    This is the sliding window of pairwise ranking prompting (PRP-Sliding-K, Qin et al., arXiv 2306.17563). Where the
    two orders disagree, the two keep their order.
    """

    top: int = 10

    def requests(self) -> int:
        """Return two for each comparison: a pair that was compared before is not asked about again."""
        count = len(self.texts)
        return 2 * sum(count - 1 - place for place in range(min(self.top, count - 1)))

    def plan(self) -> Prompts:
        """Compare neighbours from the end to the beginning, once for each place of the top."""
        order = list(range(len(self.texts)))
        judgment, swaps = Judgment(_values(order)), dict[tuple[int, int], bool]()
        unsure = failures = 0
        for place in range(min(self.top, len(order) - 1)):
            for i in range(len(order) - 2, place - 1, -1):
                first, second = order[i], order[i + 1]
                if (first, second) not in swaps:
                    answers = yield [self._prompt(first, second), self._prompt(second, first)]
                    choices = [answer for answer in answers if isinstance(answer, str)]
                    judgment.answers += len(choices)
                    failures += len(answers) - len(choices)
                    unsure += choices in (["A", "A"], ["B", "B"])
                    is_swap = choices == ["B", "A"]
                    swaps[first, second], swaps[second, first] = is_swap, choices == ["A", "B"]
                if swaps[first, second]:
                    order[i], order[i + 1] = second, first
        judgment.values = _values(order)
        if unsure:
            judgment.notes.append(f"for {unsure} pairs the two orders had different answers, so they kept their order")
        if failures:
            judgment.degraded.append(f"{failures} comparisons had no usable answer, and their pairs kept their order")
        return judgment

    def first_prompts(self) -> list[Prompt]:
        """Return the prompts about neighbours."""
        return [self._prompt(i, i + 1) for i in range(len(self.texts) - 1)]

    def _prompt(self, first: int, second: int) -> Prompt:
        return write_prompt(
            "pairwise",
            self.query,
            self.texts,
            [first, second],
            read_choice,
            step=f"texts {first} and {second}",
            instruction=self.instruction,
        )


@dataclass(frozen=True, slots=True)
class Pointwise(Strategy):
    """Each text by itself: the probability of "yes" by the token's log-probability, or a grade.

    Args:
        logprobs: Whether to ask for log-probabilities.
        grade: Whether to grade the texts where there are none.
    """

    logprobs: bool = True
    grade: bool = True

    def requests(self) -> int:
        """Return one for each text."""
        return len(self.texts)

    def plan(self) -> Prompts:
        """Ask about the first text, to see whether there are log-probabilities, and then about all others at once."""
        judgment = Judgment([0.0] * len(self.texts))
        everything = range(len(self.texts))
        answers: list[Any] = []
        if self.logprobs:
            (first,) = yield [self._prompt(0, tolerant=self.grade)]
            if first is None or isinstance(first, RequestRejected):
                if not self.grade:
                    raise NoLogprobs
                why = "gives no token log-probabilities" if first is None else "refuses to give token log-probabilities"
                judgment.notes.append(f"the endpoint {why}, so the texts were graded 0 to 3")
            else:
                rest = [self._prompt(i) for i in everything[1:]]
                answers = [first, *((yield rest) if rest else ())]
        if not answers:
            answers = yield [self._prompt(i, grade=True) for i in everything]
        for i, answer in enumerate(answers):
            if isinstance(answer, float):
                judgment.values[i] = answer
                judgment.answers += 1
            else:
                judgment.unscored[i] = NO_GRADE
        if judgment.unscored:
            reasons = dict.fromkeys(
                a.reason if isinstance(a, NoAnswer) else "no log-probabilities"
                for a in answers
                if not isinstance(a, float)
            )
            judgment.degraded.append(
                f"{len(judgment.unscored)} of {len(answers)} texts have no score, since the model's answers could not "
                f"be used: {', '.join(reasons)}"
            )
        return judgment

    def first_prompts(self) -> list[Prompt]:
        """Return the prompts about all texts."""
        return [self._prompt(i, grade=not self.logprobs) for i in range(len(self.texts))]

    def _prompt(self, position: int, *, grade: bool = False, tolerant: bool = False) -> Prompt:
        return write_prompt(
            "grade" if grade else "yes_no",
            self.query,
            self.texts,
            [position],
            read_grade if grade else read_yes_no,
            step=f"text {position}",
            instruction=self.instruction,
            tolerant=tolerant,
        )


def _side_by_side(sortings: Sequence[Sorting]) -> Generator[list[Prompt], list[Any], list[list[int]]]:
    """Run several sortings in step, so that their prompts are asked side by side."""
    orders: list[list[int]] = [[] for _ in sortings]
    waiting: dict[int, list[Prompt]] = {i: next(sorting) for i, sorting in enumerate(sortings)}
    while waiting:
        answers = yield [prompt for prompts in waiting.values() for prompt in prompts]
        later: dict[int, list[Prompt]] = {}
        for i, prompts in waiting.items():
            own, answers = answers[: len(prompts)], answers[len(prompts) :]
            try:
                later[i] = sortings[i].send(own)
            except StopIteration as end:
                orders[i] = end.value
        waiting = later
    return orders

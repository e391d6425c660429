"""Choose the tools that an agent's model sees: the most relevant ones, and those that it cannot do without."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rag_rerank._checks import whole_number
from rag_rerank.base import Reranker
from rag_rerank.errors import ConfigError, RerankError, did_you_mean
from rag_rerank.hosts.failure import OnFailure, check_on_failure, failure_text
from rag_rerank.hosts.items import make_ids
from rag_rerank.hosts.options import check_instruction_option
from rag_rerank.hosts.recent_values import RecentValues
from rag_rerank.text.sentences import QUESTION_MARKS, sentence_places
from rag_rerank.text.unicode import is_blank
from rag_rerank.types import Candidate, Ranking

__all__ = ["Choice", "KeptBecause", "ToolChoice", "ToolChooser", "tool_text", "turn_query"]

KeptBecause = Literal["relevant", "always_include", "called", "required", "all"]
"""Why the model sees a tool.

- ``relevant``: it is among the ``top_k`` most relevant ones.
- ``always_include``: the user named it.
- ``called``: the model called it in this turn.
- ``required``: the model must call it (``tool_choice``).
- ``all``: no choice was made.
"""

_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def tool_text(name: str, description: str, schema: Mapping[str, Any]) -> str:
    """Return the text of a tool that a reranker reads: its name in words, its description, and its arguments.

    Args:
        name: The tool's name: ``create_event``, ``createEvent``.
        description: What it does.
        schema: The JSON Schema of its arguments. Their names and descriptions are read.
    """
    words = re.sub(r"[\W_]+", " ", _CAPITAL.sub(" ", name)).strip()
    properties = schema.get("properties")
    arguments = []
    for argument, facts in properties.items() if isinstance(properties, Mapping) else ():
        about = facts.get("description") if isinstance(facts, Mapping) else None
        arguments.append(f"{str(argument).replace('_', ' ')}{f': {about}' if about else ''}")
    lines = (words, description.strip(), "; ".join(arguments))
    return "\n".join(line for line in lines if line)


def turn_query(message: str, before: str = "") -> str:
    """Return what the tools of a turn are compared with: the user's message, and the question that it answers.

    Args:
        message: The user's message.
        before: What the assistant said before it. If it ends with a question, the message may be an answer to it
            ("Yes, please"), which says nothing without the question.
    """
    places = sentence_places(before)
    question = before[slice(*places[-1])] if places else ""
    asks = question.rstrip(" \"'”’»)*_").endswith(QUESTION_MARKS)
    return f"{question}\n{message}" if asks and not is_blank(message) else message


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Which tools the model sees, and why.

    Args:
        reasons: The name of each tool that the model sees -> why, in the order in which it sees them.
        dropped: The names of the others, the most relevant first.
        ranking: The ranking of the tools, whose ids are their names (where two have one name, positions); ``None``
            where no choice was needed, or none was possible.
        degraded: Why it is not quite what was asked for; with no ``ranking``, all tools are kept.
    """

    reasons: Mapping[str, KeptBecause]
    dropped: tuple[str, ...]
    ranking: Ranking | None
    degraded: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the names and the reasons as plain values, without the ranking."""
        return {"kept": dict(self.reasons), "dropped": list(self.dropped), "degraded": list(self.degraded)}


class ToolChooser:
    """Chooses tools by a reranker: the rules that the adapters share.

    Args:
        reranker: What orders the tools.
        top_k: How many relevant tools to keep.
        always_include: Names of tools that are kept in any case, beside these.
        instruction: What relevance means, in words; see `Reranker.rerank`.
        on_failure: See `OnFailure`.

    Raises:
        ConfigError: An option is wrong.
    """

    def __init__(
        self,
        reranker: Reranker,
        *,
        top_k: int,
        always_include: Collection[str],
        instruction: str | None,
        on_failure: OnFailure,
    ) -> None:
        self.reranker = reranker
        self.top_k = whole_number(top_k, 1, "top_k")
        if isinstance(always_include, str) or not all(isinstance(name, str) for name in always_include):
            raise ConfigError("expected a list of names of tools", path="always_include")
        self.always_include = tuple(always_include)
        check_instruction_option(reranker, instruction)
        check_on_failure(on_failure)
        self._instruction = instruction
        self._on_failure: OnFailure = on_failure
        self._rankings = RecentValues[Ranking](64)

    def choose(self, query: str, tools: Sequence[tuple[str, str]], needed: Mapping[str, KeptBecause]) -> Choice:
        """Choose among tools. The same query and tools, in a later step of the turn, are not ranked again.

        Args:
            query: What the user wants.
            tools: The name and the text of each tool.
            needed: Names of tools that the model cannot do without -> why.

        Raises:
            ConfigError: ``always_include`` names a tool that there is not.
            RerankError: The reranker failed, and ``on_failure`` says to raise.
        """
        choice = Choice(self, query, tools, needed)
        key = choice.key(query)
        ranking = self._rankings.get(key)
        if choice.candidates and ranking is None:
            try:
                ranking = self.reranker.rerank(query, choice.candidates, instruction=self._instruction)
            except RerankError as error:
                choice.keep_all(failure_text(self.reranker, error, self._on_failure))
        return self._apply(choice, key, ranking)

    async def achoose(self, query: str, tools: Sequence[tuple[str, str]], needed: Mapping[str, KeptBecause]) -> Choice:
        """Do what `choose` does without blocking the event loop."""
        choice = Choice(self, query, tools, needed)
        key = choice.key(query)
        ranking = self._rankings.get(key)
        if choice.candidates and ranking is None:
            try:
                ranking = await self.reranker.arerank(query, choice.candidates, instruction=self._instruction)
            except RerankError as error:
                choice.keep_all(failure_text(self.reranker, error, self._on_failure))
        return self._apply(choice, key, ranking)

    def _apply(self, choice: Choice, key: bytes, ranking: Ranking | None) -> Choice:
        if ranking is not None:
            choice.apply(ranking)
            if not ranking.degraded:
                self._rankings.put(key, ranking)
        return choice


class Choice:
    """The choice among the tools of one call.

    Attributes:
        positions: The places of the tools that are kept.
        report: The same by name, with reasons.
        candidates: The tools to rank; none where there is nothing to choose.
    """

    def __init__(
        self,
        chooser: ToolChooser,
        query: str,
        tools: Sequence[tuple[str, str]],
        needed: Mapping[str, KeptBecause],
    ) -> None:
        self._names = [name for name, _ in tools]
        for name in chooser.always_include:
            if name not in self._names:
                raise ConfigError(f"there is no tool {name!r}{did_you_mean(name, self._names)}", path="always_include")
        self._top_k = chooser.top_k
        self._why: dict[int, KeptBecause] = {}
        for position, name in enumerate(self._names):
            if name in chooser.always_include:
                self._why[position] = "always_include"
            elif name in needed:
                self._why[position] = needed[name]
        optional = [i for i, name in enumerate(self._names) if name not in chooser.always_include]
        self._ids = dict(zip(make_ids([self._names[i] for i in optional]), optional, strict=True))
        self.candidates: list[Candidate] = []
        if len(optional) <= self._top_k:
            self.keep_all()
        elif is_blank(query):
            self.keep_all("there is no query to compare the tools with")
        else:
            self.candidates = [Candidate(id, tools[i][1]) for id, i in self._ids.items()]

    def key(self, query: str) -> bytes:
        """Return what identifies the ranking."""
        return RecentValues.key([query, *(part for c in self.candidates for part in (c.id, c.text))])

    def keep_all(self, reason: str | None = None) -> None:
        """Keep every tool."""
        self.positions = list(range(len(self._names)))
        degraded = () if reason is None else (f"all {len(self._names)} tools are kept: {reason}",)
        self._report(None, (), degraded)

    def apply(self, ranking: Ranking) -> None:
        """Keep the best tools and those that are needed, in their own order: an equal choice is an equal prompt."""
        order = [self._ids[hit.id] for hit in ranking]
        for position in order[: self._top_k]:
            self._why.setdefault(position, "relevant")
        self.positions = sorted(self._why)
        dropped = tuple(self._names[i] for i in order if i not in self._why)
        self._report(ranking, dropped, ranking.degraded)

    def _report(self, ranking: Ranking | None, dropped: tuple[str, ...], degraded: tuple[str, ...]) -> None:
        reasons: dict[str, KeptBecause] = {self._names[i]: self._why.get(i, "all") for i in self.positions}
        self.report = ToolChoice(reasons=reasons, dropped=dropped, ranking=ranking, degraded=degraded)

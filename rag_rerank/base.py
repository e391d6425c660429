"""The classes behind every reranker: what users hold, what backend authors write, what composites are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar, final

from rag_rerank._checks import check_top_k, plain_fields
from rag_rerank.errors import ConfigError
from rag_rerank.execution.calls import CompositeCall, PointwiseCall, as_candidates, offloaded_if_many
from rag_rerank.execution.deadline import (
    arun_in_thread,
    arun_with_deadline,
    check_interpreter,
    check_timeout,
    run_with_deadline,
    time_limit,
)
from rag_rerank.execution.driver import adrive, drive
from rag_rerank.execution.identity import identity_hash, plain_facts
from rag_rerank.execution.instruction import call_instruction, check_instruction, instruction_or
from rag_rerank.execution.observers import observed
from rag_rerank.execution.plan import Plan
from rag_rerank.execution.protocols import Observer
from rag_rerank.text.tokenizers import TextLimit
from rag_rerank.trace import Usage
from rag_rerank.types import Candidate, Ranking, Scale, Scores

__all__ = ["Composite", "PointwiseReranker", "Reranker"]

R = TypeVar("R", bound="Reranker")


@dataclass(frozen=True, kw_only=True)
class Reranker(ABC):
    """An object that orders candidates by their relevance to a query.

    Every reranker is a frozen dataclass whose fields are its config: ``build(to_config(r)) == r``. The constructor
    loads nothing; weights and connections come with the first call or with `warm_up`. Threads and event loops may share
    an instance. It pickles as its config.

    Args:
        name: The name in traces, records and messages. By default the type and the model, such as ``onnx:minilm``.
    """

    kind: ClassVar[str]
    """Name in the registry, and ``type`` in a config."""

    fields_without_effect: ClassVar[frozenset[str]] = frozenset({"name"})
    """Fields that cannot change a score. All others, also those that a subclass adds, are part of `identity`."""

    label_fields: ClassVar[tuple[str, ...]] = ("model",)
    """Fields that a name may hold after the type: `build` reads ``"type:model"``, and `label` writes it."""

    name: str | None = None

    def __post_init__(self) -> None:
        plain_fields(self)
        for f in fields(self):
            value = getattr(self, f.name)
            if f.init and isinstance(value, list):  # `children`, `==` and hash need a tuple
                object.__setattr__(self, f.name, tuple(value))
            is_list = f.init and str(f.type).startswith(("tuple[", "Sequence["))
            is_left_out = value is None and "None" in str(f.type)
            if is_list and not is_left_out and not isinstance(value, (list, tuple)):
                raise ConfigError(f"expected a list, got {type(value).__name__}", path=f.name)

    @property
    @abstractmethod
    def scale(self) -> Scale:
        """The scale of the scores of a normal answer."""

    @property
    def label(self) -> str:
        """The name of this reranker in traces."""
        values = (getattr(self, field, None) for field in self.label_fields)
        return self.name or ":".join((self.kind, *(str(value) for value in values if value)))

    @property
    def remote(self) -> bool:
        """Whether providers do all the work, so that this machine only waits."""
        return bool(self.children) and all(child.remote for child in self.children)

    @property
    def takes_instruction(self) -> bool:
        """Whether it follows an instruction, in the field ``instruction`` or in a call: for a composite, one inside."""
        return any(child.takes_instruction for child in self.children)

    @property
    def knows_text_limit(self) -> bool:
        """Whether `text_limits` knows how long a text may be. Loads nothing."""
        return bool(self.children) and all(child.knows_text_limit for child in self.children)

    def text_limits(self, query: str) -> tuple[TextLimit, ...]:
        """Return how long a text may be beside this query: a text within every limit is read whole.

        No limit at all means that texts of any length are read whole, if this reranker `knows_text_limit`. Loads what
        it needs to know.

        Raises:
            InputTooLong: The query leaves no room for any text.
        """
        return tuple(dict.fromkeys(limit for child in self.children for limit in child.text_limits(query)))

    def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> int | None:
        """Estimate how many of the texts, from the first on, this reranker can score in the time.

        ``None`` where it has no estimate of its own; `Deadline` then uses the times of earlier calls.
        """
        return None

    def estimate(self, query: str, texts: Sequence[str]) -> Usage:
        """Estimate the cost of a call with these texts before anything is sent; ``cost`` is ``None`` without a price.

        For a composite it is the sum over its children, each with all texts, unless the class knows better.

        Raises:
            AuthenticationError: A provider would be called, and there is no key for it.
        """
        if not self.children:
            return Usage(texts=len(texts))
        return Usage.total(child.estimate(query, texts) for child in self.children)

    @final
    def rerank(
        self,
        query: str,
        candidates: Iterable[Candidate | str],
        *,
        top_k: int | None = None,
        timeout: float | None = None,
        instruction: str | None = None,
    ) -> Ranking:
        """Order candidates by relevance, best first.

        Args:
            query: What the user wants to know; must not be blank.
            candidates: Candidates with unique ids, or plain strings (their ids are then their positions).
            top_k: How many hits to return; ``None`` for all.
            timeout: Seconds for the whole call, with all retries, fallbacks and waits inside it; ``None`` for no
                limit. With `Deadline`, a late call can do something other than raise.
            instruction: What relevance means here, in words: ``"prefer the latest guideline"``. It replaces the field
                ``instruction`` of each reranker that has one; a note in the trace names those that take none.

        Returns:
            A ranking of new hits around the caller's own candidate objects. No candidates give an empty ranking
            without a call to the backend; blank texts are not scored and come last.

        Raises:
            InputError: The query or the instruction is blank, ids occur twice, something is not a string, ``top_k`` is
                below 1, or ``timeout`` is not more than 0.
            ConfigError: There is an instruction, and no reranker inside takes one; see `takes_instruction`.
            DeadlineExceeded: The time was up before there was an answer.
            RerankError: Anything else that went wrong; see `rag_rerank.errors`.
        """
        check_interpreter()
        with time_limit(check_timeout(timeout)), call_instruction(check_instruction(self, instruction)):
            checked = as_candidates(query, candidates)
            query, top_k = str.__str__(query), check_top_k(top_k)
            with observed(self, query, checked, top_k) as report:
                ranking = report(self._rank(query, checked))
            return report.with_origin(ranking).top(top_k)

    @final
    async def arerank(
        self,
        query: str,
        candidates: Iterable[Candidate | str],
        *,
        top_k: int | None = None,
        timeout: float | None = None,
        instruction: str | None = None,
    ) -> Ranking:
        """Do what `rerank` does without blocking the event loop."""
        check_interpreter()
        with time_limit(check_timeout(timeout)), call_instruction(check_instruction(self, instruction)):
            fixed = tuple(candidates) if isinstance(candidates, list) else candidates  # the caller may change a list
            checked = await offloaded_if_many(fixed, as_candidates, query, fixed)
            query, top_k = str.__str__(query), check_top_k(top_k)
            with observed(self, query, checked, top_k) as report:
                ranking = report(await self._arank(query, checked))
            return report.with_origin(ranking).top(top_k)

    @abstractmethod
    def _rank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        """Rank checked candidates; errors carry their trace."""

    @abstractmethod
    async def _arank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        """Rank checked candidates without blocking the event loop."""

    @property
    def children(self) -> tuple[Reranker, ...]:
        """The rerankers directly inside, found in the fields (also inside field values that are dataclasses)."""
        return tuple(_rerankers(getattr(self, f.name) for f in fields(self)))

    def walk(self) -> Iterator[Reranker]:
        """Yield this reranker and all those inside it, each before those inside it."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The observers of this reranker's calls alone, at the top or inside a composite; by default none."""
        return ()

    @property
    def identity(self) -> str:
        """A hash of everything that decides the scores besides query and texts; another model or revision changes it.

        It covers every field except those in ``fields_without_effect``, what `_identity_facts` adds, and the children
        by their own identity, but not the release of this package. Model files may be fetched and read for it, once,
        but nothing is loaded.

        Raises:
            ConfigError: A field holds something that is not a plain value.
            ModelLoadError: The model's files cannot be found or read.
        """
        return self._identity()

    def _identity(self, version: str | None = None) -> str:
        """Return the `identity`; with a version, one that changes with the release of this package as well."""
        try:
            facts = plain_facts({**self._settings, **self._identity_facts()}, Reranker)
        except TypeError as error:
            raise ConfigError(f"{self.label} has no identity: {error}") from error
        return identity_hash(type(self), self.scale, facts, version=version)

    @property
    def _settings(self) -> dict[str, Any]:
        """The fields that may change a score: all but live objects and those in ``fields_without_effect``.

        Within a call, its instruction stands in place of that of the config.
        """
        counted = (f for f in fields(self) if f.init and not f.metadata.get("live"))
        settings = {f.name: getattr(self, f.name) for f in counted if f.name not in self.fields_without_effect}
        words = instruction_or(None) if self.takes_instruction else None
        return settings if words is None or self.children else {**settings, "instruction": words}

    def _identity_facts(self) -> Mapping[str, Any]:
        """Return further facts that decide a score; a fact under a field's name replaces the field."""
        return {}

    def warm_up(self) -> None:
        """Load now what the first call would load, in all children too. Calling it again costs nothing."""
        for child in self.children:
            child.warm_up()

    def close(self) -> None:
        """Release weights and connections, in all children too, even if one raises. A later call loads them again."""
        with ExitStack() as stack:
            for child in reversed(self.children):
                stack.callback(child.close)

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop, and release what belongs to the loop."""
        if not self.children:
            await arun_in_thread(self.close)
        async with AsyncExitStack() as stack:
            for child in reversed(self.children):
                stack.push_async_callback(child.aclose)

    def __enter__(self: R) -> R:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self: R) -> R:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self  # frozen: a copy could only load the same weights twice, or fail on an injected client

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@dataclass(frozen=True, kw_only=True)
class PointwiseReranker(Reranker):
    """A reranker that scores each text on its own: the base class of backends.

    Implement `score` (and `ascore` where the backend is natively async); sorting, ties, ids, blank texts, checks and
    the trace are done here.
    """

    enforces_deadline: ClassVar[bool] = False
    """Whether `score` and `ascore` keep the time limit by themselves (`rag_rerank.execution.deadline`), or take hardly
    any time. Others run on a thread of their own where a call has a limit."""

    @abstractmethod
    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text for the query: as many values as texts, in the same order.

        The texts are valid Unicode, none is blank, and there is at least one.
        """

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does without blocking the event loop; by default on a worker thread."""
        return await arun_in_thread(partial(self.score, query, texts))

    @property
    def model_id(self) -> str | None:
        """The model with its revision for the trace, ``"org/name@revision"``."""
        return getattr(self, "model", None)

    @property
    def template_id(self) -> str | None:
        """The name of the prompt around query and text, for the trace; ``None`` where there is no prompt."""
        return None

    @property
    def why_not_cacheable(self) -> str | None:
        """Why no cache may keep the scores; ``None`` where one may.

        A backend that returns ``None`` promises that a score depends on nothing but the query, its text and what
        `identity` covers: not on the other texts of the call, and not on the moment.
        """
        return "its class does not promise that a score depends on the query and its text alone"

    @final
    def _rank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        call = PointwiseCall(self, query, candidates)
        with call.attach_trace():
            if not call.texts:
                return call.ranking(None)
            scores = call.score() if self.enforces_deadline else run_with_deadline(self.label, call.score)
            return call.ranking(call.check(scores))

    @final
    async def _arank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        call = await offloaded_if_many(candidates, PointwiseCall, self, query, candidates)
        with call.attach_trace():
            if not call.texts:
                return await offloaded_if_many(candidates, call.ranking, None)
            work = call.ascore()
            scores = call.check(await (work if self.enforces_deadline else arun_with_deadline(self.label, work)))
            return await offloaded_if_many(candidates, call.ranking, scores)


@dataclass(frozen=True, kw_only=True)
class Composite(Reranker):
    """A reranker made of rerankers. Implement `_plan`: one generator, which runs on threads and on event loops.

    A plan yields a `Call` and is sent its `Ranking`; if the call fails, the error is raised at the ``yield``. It may
    yield `Parallel` for calls side by side, and `InThread` for slow work of its own. It returns a `PlanResult`. Traces,
    usage, deadlines and degraded reasons of the calls are collected for it.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class SecondOpinion(Composite):
    ...     kind: ClassVar[str] = "second-opinion"
    ...     scale = "unbounded"
    ...     first: Reranker
    ...     second: Reranker
    ...
    ...     def _plan(self, query, candidates):
    ...         ranking = yield Call(self.first, query, candidates)
    ...         if ranking[0].score < 0.5:
    ...             ranking = yield Call(self.second, query, candidates)
    ...         return PlanResult(ranking.hits, ranking.scale)
    """

    @abstractmethod
    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        """Yield the steps, and return the result; see the class."""

    @final
    def _rank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        call = CompositeCall(self, query)
        with call.attach_trace():
            return call.ranking(drive(self._plan(query, candidates), call.log, self.label))

    @final
    async def _arank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        call = CompositeCall(self, query)
        with call.attach_trace():
            return call.ranking(await adrive(self._plan(query, candidates), call.log, self.label))


def _rerankers(values: Any) -> Iterator[Reranker]:
    for value in values:
        if isinstance(value, Reranker):
            yield value
        elif isinstance(value, tuple):
            yield from _rerankers(value)
        elif is_dataclass(value) and not isinstance(value, type):
            yield from _rerankers(getattr(value, f.name) for f in fields(value))

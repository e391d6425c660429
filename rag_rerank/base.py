"""The three classes behind every reranker: what users hold, what backend authors write, what combinators are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, ParamSpec, TypeVar, final

from rag_rerank.errors import ConfigError, did_you_mean
from rag_rerank.execution import identity as identity_module
from rag_rerank.execution.calls import Request, Run, as_candidates
from rag_rerank.execution.deadline import ain_time, check_timeout, in_time, within
from rag_rerank.execution.driver import adrive, drive
from rag_rerank.execution.observers import Watcher, watched
from rag_rerank.execution.plan import Plan
from rag_rerank.text.tokenizers import Room
from rag_rerank.trace import Usage
from rag_rerank.types import Candidate, Ranking, Scale, Scores

__all__ = ["Composite", "PointwiseReranker", "Reranker"]

P = ParamSpec("P")
T = TypeVar("T")

_MANY = 500
"""Candidates whose checks and sorting take two milliseconds or more together."""


@dataclass(frozen=True, kw_only=True)
class Reranker(ABC):
    """Orders candidates by their relevance to a query.

    Every reranker is a frozen dataclass whose fields are its config: ``build(to_config(r)) == r``. Constructing
    one loads nothing; weights and connections come at the first call or at `warm_up`. One instance may be shared
    by threads and by event loops, and pickles as its config.

    Args:
        name: Label in traces; by default the registry name and the model.
    """

    kind: ClassVar[str]
    """Name in the registry, and ``type`` in a config."""

    neutral: ClassVar[frozenset[str]] = frozenset({"name"})
    """Fields that cannot change a score; all others, also those that a subclass adds, are in the `identity`."""

    name: str | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.init and isinstance(value, list):  # `parts`, `==` and hash want a tuple
                object.__setattr__(self, f.name, tuple(value))

    @property
    @abstractmethod
    def scale(self) -> Scale:
        """What the scores of a normal answer mean."""

    @property
    def label(self) -> str:
        """How traces call this reranker."""
        model = getattr(self, "model", None)
        return self.name or (f"{self.kind}:{model}" if model else self.kind)

    @property
    def remote(self) -> bool:
        """Whether all the work is done by providers, so that this machine only waits."""
        return bool(self.parts) and all(part.remote for part in self.parts)

    @property
    def measured(self) -> bool:
        """Whether `rooms` knows how long a text may be; asked without loading anything."""
        return bool(self.parts) and all(part.measured for part in self.parts)

    def rooms(self, query: str) -> tuple[Room, ...]:
        """Say how long a text may be beside this query: of a text that fits each room, nothing is cut.

        No room at all means that texts of any length are read whole, if this reranker is `measured`. Loads what it
        takes to know.

        Raises:
            InputTooLong: The query leaves no room for any text.
        """
        return tuple(dict.fromkeys(room for part in self.parts for room in part.rooms(query)))

    def fits(self, query: str, texts: Sequence[str], seconds: float) -> int | None:
        """Estimate how many of the texts, from the first on, this reranker can score in the time.

        ``None`` where it keeps no estimate of its own; `Deadline` then goes by how long earlier calls took.
        """
        return None

    def estimate(self, query: str, texts: Sequence[str]) -> Usage:
        """Estimate what a call with these texts costs, before anything is sent; ``cost`` is ``None`` without a price.

        Of what is made of rerankers it is the sum of its parts, each with all texts, unless its class knows better.

        Raises:
            AuthenticationError: A provider would be asked, and there is no key for it.
        """
        if not self.parts:
            return Usage(texts=len(texts))
        return Usage.total(part.estimate(query, texts) for part in self.parts)

    @final
    def rerank(
        self,
        query: str,
        candidates: Sequence[Candidate | str],
        *,
        top_k: int | None = None,
        timeout: float | None = None,
    ) -> Ranking:
        """Order candidates by relevance, best first.

        Args:
            query: What the user wants to know; must not be blank.
            candidates: Candidates with unique ids, or plain strings (their ids are then their positions).
            top_k: How many hits to return; ``None`` for all.
            timeout: Seconds for the whole call, with all retries, fallbacks and waits inside it; ``None`` for as
                long as it takes. `Deadline` can do something else than raise.

        Returns:
            A ranking of new hits around the caller's own candidate objects. No candidates give an empty ranking
            without a call to the backend; blank texts are not scored and stand last.

        Raises:
            InputError: The query is blank, ids occur twice, something is not a string, ``top_k`` is below 1, or
                ``timeout`` is no time.
            DeadlineExceeded: The time was up before there was an answer.
            RerankError: Whatever else went wrong; see `rag_rerank.errors`.
        """
        check_timeout(timeout)
        with within(timeout):
            prepared = as_candidates(query, candidates, top_k)
            with watched(self, query, prepared, top_k) as told:
                ranking = told(self._rank(query, prepared))
            return ranking.top(top_k)

    @final
    async def arerank(
        self,
        query: str,
        candidates: Sequence[Candidate | str],
        *,
        top_k: int | None = None,
        timeout: float | None = None,
    ) -> Ranking:
        """Do what `rerank` does without blocking the event loop."""
        check_timeout(timeout)
        with within(timeout):
            given = tuple(candidates) if isinstance(candidates, list) else candidates  # a list may change meanwhile
            prepared = await _beside(given, as_candidates, query, given, top_k)
            with watched(self, query, prepared, top_k) as told:
                ranking = told(await self._arank(query, prepared))
            return ranking.top(top_k)

    @abstractmethod
    def _rank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        """Rank checked candidates; errors carry their trace."""

    @abstractmethod
    async def _arank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        """Rank checked candidates without blocking the event loop."""

    @property
    def parts(self) -> tuple[Reranker, ...]:
        """The rerankers directly inside, found in the fields (also inside field values that are dataclasses)."""
        return tuple(_rerankers(getattr(self, f.name) for f in fields(self)))

    @property
    def watchers(self) -> tuple[Watcher, ...]:
        """Who watches the calls of this reranker alone, wherever it stands; by default nobody."""
        return ()

    @property
    def identity(self) -> str:
        """A hash of all that decides the scores besides query and texts; of another model or revision, another.

        It covers every field except those in ``neutral``, what `_facts` adds, and the parts by their own identity, but
        not the release of this package. Model files may be fetched and read for it, once, but nothing is loaded.

        Raises:
            ConfigError: A field holds something that has no plain value.
            ModelLoadError: The model's files cannot be found or read.
        """
        return identity_module.identity(self, self._settings | dict(self._facts()))

    @property
    def _settings(self) -> dict[str, Any]:
        """The fields that may change a score: all but live objects and those in ``neutral``."""
        named = (f.name for f in fields(self) if f.init and not f.metadata.get("live") and f.name not in self.neutral)
        return {name: getattr(self, name) for name in named}

    def _facts(self) -> Mapping[str, Any]:
        """Say what decides a score beyond the fields, or what stands behind a field (by its name)."""
        return {}

    def warm_up(self) -> None:
        """Load now what would be loaded at the first call, in all parts too. May be called again at no cost."""
        for part in self.parts:
            part.warm_up()

    def close(self) -> None:
        """Release weights and connections, those of all parts too, also when one raises. A later call loads anew."""
        with ExitStack() as stack:
            for part in reversed(self.parts):
                stack.callback(part.close)

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop, and release what belongs to it."""
        import asyncio

        if not self.parts:
            await asyncio.to_thread(self.close)
        async with AsyncExitStack() as stack:
            for part in reversed(self.parts):
                stack.push_async_callback(part.aclose)

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self  # frozen: a copy could only load the same weights twice, or fail on an injected client

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@dataclass(frozen=True, kw_only=True)
class PointwiseReranker(Reranker):
    """Scores each text on its own: what a backend author writes.

    Give `score` (and `ascore` where the backend is natively async); sorting, ties, ids, blank texts, checks and
    the trace are done here.
    """

    prompt: ClassVar[bool] = False
    """Whether `score` and `ascore` keep the time of the call by themselves (`rag_rerank.execution.deadline`), or take
    next to none. Others are watched, on a thread of their own, where a call has a limited time."""

    @abstractmethod
    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text for the query: as many values as texts, in the same order.

        The texts are valid Unicode, none is blank, and there is at least one.
        """

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does without blocking the event loop; by default on a worker thread."""
        import asyncio

        return await asyncio.to_thread(self.score, query, texts)

    @property
    def model_id(self) -> str | None:
        """Model with its revision for the trace, ``"org/name@revision"``."""
        return getattr(self, "model", None)

    @property
    def template_id(self) -> str | None:
        """Name of the prompt around query and text, for the trace; ``None`` for a model that reads them as they are."""
        return None

    @property
    def uncacheable(self) -> str | None:
        """Why no cache may keep the scores; ``None`` where one may.

        A backend that returns ``None`` promises that a score depends on nothing but the query, its text and what
        `fingerprint` covers: not on the other texts of the call, and not on the moment.
        """
        return "its class does not promise that a score depends on the query and its text alone"

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides a score besides the query and the text; of another model, another hash.

        It covers what `identity` covers and the release of this package. Model files may be fetched and read for it,
        once, but nothing is loaded.

        Raises:
            ConfigError: The scores cannot be cached; the message says why.
            ModelLoadError: The model's files cannot be found or read.
        """
        if self.uncacheable is not None:
            raise ConfigError(f"{self.label} cannot be cached: {self.uncacheable}")
        return identity_module.fingerprint(self, self._settings | dict(self._facts()))

    @final
    def _rank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        request = Request(self, query, candidates)
        with request.watched():
            if not request.texts:
                return request.ranking(None)
            work = partial(self.score, request.query, request.texts)
            return request.ranking(request.checked(work() if self.prompt else in_time(self.label, work)))

    @final
    async def _arank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        request = await _beside(candidates, Request, self, query, candidates)
        with request.watched():
            if not request.texts:
                return await _beside(candidates, request.ranking, None)
            work = self.ascore(request.query, request.texts)
            scores = request.checked(await (work if self.prompt else ain_time(self.label, work)))
            return await _beside(candidates, request.ranking, scores)


@dataclass(frozen=True, kw_only=True)
class Composite(Reranker):
    """A reranker made of rerankers: give `_plan`, a flow written once for threads and event loops."""

    @abstractmethod
    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        """Yield a `Call` for each ranking wanted (or `Together`), be sent it, and return a `Decision`."""

    @final
    def _rank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        run = Run(self, query)
        with run.watched():
            return run.ranking(drive(self._plan(query, candidates), run.journal, self.label))

    @final
    async def _arank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        run = Run(self, query)
        with run.watched():
            return run.ranking(await adrive(self._plan(query, candidates), run.journal, self.label))


async def _beside(candidates: object, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do work of some microseconds a candidate; on a thread where there are so many that the event loop would stand."""
    if not (isinstance(candidates, tuple) and len(candidates) > _MANY):
        return work(*args, **kwargs)
    import asyncio

    return await asyncio.to_thread(work, *args, **kwargs)


def check_reranker(value: object, path: str) -> None:
    """Raise `ConfigError` unless a field of a composite holds a reranker."""
    if not isinstance(value, Reranker):
        raise ConfigError(
            f"expected a Reranker, got {type(value).__name__}; rag_rerank.build makes one from a name or a config",
            path=path,
        )


def check_choice(value: object, choices: Collection[str], path: str) -> None:
    """Raise `ConfigError` unless a field holds one of these words."""
    if value not in choices:
        word = did_you_mean(value, choices) if isinstance(value, str) else f"; known: {', '.join(choices)}"
        raise ConfigError(f"unknown {path.rpartition('.')[2]} {value!r:.80}{word}", path=path)


def _rerankers(values: Any) -> Iterator[Reranker]:
    for value in values:
        if isinstance(value, Reranker):
            yield value
        elif isinstance(value, tuple):
            yield from _rerankers(value)
        elif is_dataclass(value) and not isinstance(value, type):
            yield from _rerankers(getattr(value, f.name) for f in fields(value))

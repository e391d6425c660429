"""The reranker behind a server: loaded once, and called by as many requests at once as the settings allow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from rag_rerank.base import Reranker
from rag_rerank.errors import InputError, RerankError
from rag_rerank.execution.deadline import arun_in_thread
from rag_rerank.serving.admission import Admission
from rag_rerank.serving.settings import ServerSettings
from rag_rerank.types import Candidate, Ranking

__all__ = ["ServedReranker"]

_logger = logging.getLogger("rag_rerank.serving")


class ServedReranker:
    """What the paths and the tools of a server share: the reranker, its limits, and the places for its callers.

    Args:
        reranker: What answers every request.
        settings: Keys and limits.
        on_failure: Called if the reranker cannot be warmed up. The error itself is logged, and each request gets it.
    """

    def __init__(
        self, reranker: Reranker, settings: ServerSettings, on_failure: Callable[[], None] | None = None
    ) -> None:
        self.reranker = reranker
        self.settings = settings
        self.admission = Admission(settings.concurrency, settings.max_queue)
        self._on_failure = on_failure
        self._warm: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start to warm the reranker up, and close it at the end."""
        self._warm = asyncio.create_task(self._warm_up())
        try:
            yield
        finally:
            await asyncio.wait([self._warm])
            await self.reranker.aclose()

    async def _warm_up(self) -> None:
        try:
            await arun_in_thread(self.reranker.warm_up)
        except RerankError as error:
            _logger.error("%s cannot be loaded: %s", self.reranker.label, error)
            if self._on_failure is not None:
                self._on_failure()
            raise

    @property
    def state(self) -> str:
        """``"loading"``, ``"ready"`` or ``"failed"``."""
        if self._warm is None or not self._warm.done():
            return "loading"
        return "failed" if self._warm.cancelled() or self._warm.exception() is not None else "ready"

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place and until the reranker is warm, and hold the place.

        Raises:
            Overloaded: Too many wait already.
            RerankError: The reranker cannot be loaded.
        """
        async with self.admission.place():
            assert self._warm is not None, "it is called within running()"
            await asyncio.shield(self._warm)
            yield

    async def rank(
        self, query: str, texts: Sequence[str | Candidate], *, top_k: int | None, instruction: str | None
    ) -> Ranking:
        """Rerank within a `place`.

        Raises:
            InputError: The query or the instruction is blank, or the reranker takes no instruction.
            RerankError: The reranker failed.
        """
        if instruction is not None and not self.reranker.takes_instruction:
            raise InputError(f"{self.reranker.label} takes no instruction; leave it out")
        return await self.reranker.arerank(
            query, texts, top_k=top_k, timeout=self.settings.timeout, instruction=instruction
        )

    def model_of(self, ranking: Ranking) -> str:
        """Return the name of the model that answered: the one that is served, or what took its place."""
        if ranking.substituted or not self.settings.model_names:
            models = [step.model for step in ranking.trace.walk() if step.model]
            return models[-1] if models else ranking.trace.step
        return self.settings.model_names[0]

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import settings
from langchain_core.callbacks import BaseCallbackHandler
from rag_rerank import PointwiseReranker, Scale, Scores, Secret, Usage, registry

settings.register_profile("untimed", deadline=None)  # no test here asserts a wall-clock time
settings.load_profile("untimed")


@dataclass(frozen=True, kw_only=True)
class RemoteReranker(PointwiseReranker):
    """What an API backend looks like to an adapter: a key, a client that may be injected, a native async call."""

    kind: ClassVar[str] = "remote"

    api_key: Secret | None = field(default=None, repr=False)
    client: Any = field(default=None, repr=False, compare=False, metadata={"live": True})

    @property
    def scale(self) -> Scale:
        return "relevance"

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return _scores(texts)

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        return _scores(texts)


def _scores(texts: Sequence[str]) -> Scores:
    assert threading.current_thread() is threading.main_thread(), "no call needs a worker thread here"
    return Scores([1 / (1 + len(text)) for text in texts], "relevance", Usage(texts=len(texts), requests=1))


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> type[RemoteReranker]:
    """Return a registered class of the kind of an API backend."""
    resolve = registry.resolve
    monkeypatch.setattr(
        registry, "resolve", lambda name, folder="": RemoteReranker if name == "remote" else resolve(name)
    )
    return RemoteReranker


class Runs(BaseCallbackHandler):
    """Keeps the tree of runs: who ran inside whom, and how it ended."""

    def __init__(self) -> None:
        self.names: dict[UUID, str] = {}
        self.parents: dict[str, str | None] = {}
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.errors: dict[str, BaseException] = {}

    def _start(self, run_id: UUID, parent_run_id: UUID | None, inputs: Any, kwargs: Any) -> None:
        name = kwargs["name"]
        self.names[run_id] = name
        self.parents[name] = None if parent_run_id is None else self.names[parent_run_id]
        self.inputs[name] = inputs

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        self._start(run_id, parent_run_id, inputs, kwargs)

    def on_retriever_start(
        self, serialized: Any, query: str, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        self._start(run_id, parent_run_id, query, kwargs)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.outputs[self.names[run_id]] = outputs

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.outputs[self.names[run_id]] = documents

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self.errors[self.names[run_id]] = error

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self.errors[self.names[run_id]] = error


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture(autouse=True)
def _no_tracing_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2", "LANGSMITH_API_KEY", "LANGCHAIN_API_KEY"):
        monkeypatch.delenv(variable, raising=False)

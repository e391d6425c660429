from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from llama_index.core.bridge.pydantic import Field
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
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


class Recorder(BaseEventHandler):
    """Keeps every event."""

    events: list[Any] = Field(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "Recorder"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self.events.append(event)


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """Return the list that fills with the host's events while a test runs."""
    root, recorder = get_dispatcher(), Recorder()
    root.add_event_handler(recorder)
    yield recorder.events
    root.event_handlers.remove(recorder)


@pytest.fixture
def spans() -> Iterator[SimpleSpanHandler]:
    """Return what fills with the host's spans while a test runs."""
    root, handler = get_dispatcher(), SimpleSpanHandler()
    root.add_span_handler(handler)
    yield handler
    root.span_handlers.remove(handler)

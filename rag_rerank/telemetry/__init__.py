"""OpenTelemetry spans and metrics of every call: ``rag_rerank.telemetry.instrument()`` switches them on.

A user's call is one span with the OpenInference attributes of a reranker, and what ran inside it hangs below. Without
the consent of ``texts=True`` nothing that was searched or read is in any span; in metrics nothing of it ever is.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING

from rag_rerank.errors import ConfigError
from rag_rerank.execution.observers import add_observer, remove_observer
from rag_rerank.execution.protocols import Observer
from rag_rerank.telemetry.metrics import Metrics
from rag_rerank.telemetry.spans import Spans

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["instrument", "uninstrument"]

_lock = threading.Lock()
_observers: tuple[Observer, ...] = ()


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    texts: bool = False,
    gen_ai: bool = False,
    max_documents: int | None = 10,
    tags: Collection[str] = (),
) -> None:
    """Make spans and metrics of all calls of this process from now on. Called again, the new settings replace the old.

    Args:
        tracer_provider: Who gets the spans; by default OpenTelemetry's global provider.
        meter_provider: Who gets the metrics; by default the global one.
        texts: Whether the query, the documents' texts and their metadata may be in spans.
        gen_ai: Whether spans also carry ``gen_ai.*`` attributes, whose names for reranking are a proposal and may
            change.
        max_documents: How many of the documents that came in, and of those that went out, a span lists with id and
            score; ``None`` for all. OpenTelemetry's SDK keeps 128 attributes a span unless told otherwise, and 10
            documents with their texts fit.
        tags: Names of the tags (`rag_rerank.tagged`) that become attributes, of metrics too: each value of a tag is a
            time series of its own.

    Raises:
        MissingExtraError: ``opentelemetry-api`` is not installed.
        ConfigError: ``max_documents`` is below 0, or ``tags`` is one text instead of several names.
    """
    if max_documents is not None and max_documents < 0:
        raise ConfigError(f"must be 0 or more, or None for all, got {max_documents}", path="max_documents")
    if isinstance(tags, str):
        raise ConfigError(f"must be a collection of names, got the text {tags!r:.80}", path="tags")
    named = tuple(tags)
    # metrics begin last and end first, so that their exemplars are recorded while the call's span is the current one
    watchers = (
        Spans(tracer_provider, texts=texts, gen_ai=gen_ai, max_documents=max_documents, tags=named),
        Metrics(meter_provider, tags=named),
    )
    _replace(watchers)


def uninstrument() -> None:
    """End what `instrument` began; calls that run still get the end of their spans. Without it nothing happens."""
    _replace(())


def _replace(watchers: tuple[Observer, ...]) -> None:
    global _observers
    with _lock:
        for watcher in _observers:
            remove_observer(watcher)
        for watcher in watchers:
            add_observer(watcher)
        _observers = watchers

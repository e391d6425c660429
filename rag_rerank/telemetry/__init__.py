"""OpenTelemetry spans and metrics of every call: ``rag_rerank.telemetry.instrument()`` switches them on.

A user's call is one span with the OpenInference attributes of a reranker, and the calls inside it are its children.
Queries and texts are in spans with ``texts=True`` only, and never in metrics.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING

from rag_rerank._checks import at_least
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
    max_documents: int | None = 10,
    tags: Collection[str] = (),
) -> None:
    """Make spans and metrics of all calls of this process from now on. A further call replaces the settings.

    Args:
        tracer_provider: Gets the spans; by default OpenTelemetry's global provider.
        meter_provider: Gets the metrics; by default the global one.
        texts: Whether spans hold the query, the texts of the documents and their metadata.
        max_documents: How many input documents, and how many output documents, a span lists with id and score;
            ``None`` for all. OpenTelemetry's SDK keeps 128 attributes a span by default, and 10 documents with their
            texts fit.
        tags: Names of the tags (`rag_rerank.tagged`) that become attributes, in metrics too: each value of a tag is a
            time series of its own.

    Raises:
        MissingExtraError: ``opentelemetry-api`` is not installed.
        ConfigError: ``max_documents`` is below 0, or ``tags`` is one text instead of several names.
    """
    if max_documents is not None:
        at_least(max_documents, 0, "max_documents")
    if isinstance(tags, str):
        raise ConfigError(f"must be a collection of names, got the text {tags!r:.80}", path="tags")
    names = tuple(tags)
    # metrics start last and end first, so that their exemplars are recorded while the call's span is the current one
    _replace(
        Spans(tracer_provider, texts=texts, max_documents=max_documents, tags=names),
        Metrics(meter_provider, tags=names),
    )


def uninstrument() -> None:
    """Undo `instrument`, if it was called; spans of calls that are running still end."""
    _replace()


def _replace(*observers: Observer) -> None:
    global _observers
    with _lock:
        for observer in _observers:
            remove_observer(observer)
        for observer in observers:
            add_observer(observer)
        _observers = observers
